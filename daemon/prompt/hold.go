package prompt

import "time"

// Hold says why nobody is to be asked for now: the screen is locked, the person
// wants a pause, the computer is about to sleep.
type Hold struct {
	Reason string
	Since  time.Time
	Until  time.Time // when it ends by itself; zero when it does not
}

// SetHold begins a hold, changes it, or with nil ends it. While it lasts, no
// prompt is shown and nothing but a denial is taken; prompts that come wait for
// its end, or expire. What was shown before is to be put away by the front ends,
// which hear of the hold; what still waits at the end is shown anew.
func (b *Broker) SetHold(h *Hold) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h == nil && b.hold == nil {
		return
	}
	if h == nil {
		b.sweep() // it may have lasted over a sleep of which nobody told
	}
	b.hold = h
	b.observer.HoldChanged(h)
	if h != nil {
		return
	}
	b.show()
	for _, e := range b.inOrder() {
		b.observer.PromptOpened(e.view)
	}
}

// Held returns the hold; nil when there is none.
func (b *Broker) Held() *Hold {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hold
}

// Sweep ends the prompts that have expired. Their own timers do so as well, but
// those stand still while the computer sleeps.
func (b *Broker) Sweep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweep()
}

// sweep is Sweep; the caller holds the lock.
func (b *Broker) sweep() {
	for _, e := range b.inOrder() {
		if b.expired(e) {
			b.end(e, ErrExpired)
		}
	}
}

// show notes that what waits is seen by the front ends that there are. The
// caller holds the lock.
func (b *Broker) show() {
	if b.hold != nil || len(b.attached) == 0 {
		return
	}
	for _, e := range b.pending {
		e.seen = true
	}
}

// holds refuses a decision during a hold. Saying no is always possible. The
// caller holds the lock.
func (b *Broker) holds(d Decision) error {
	if b.hold != nil && d.Action != Deny {
		return ErrOnHold
	}
	return nil
}
