package prompt

import (
	"slices"
	"time"
)

// Pushed prompts come from afar, as often as whoever knows a password likes
// (B1). So the queue holds one of a kind, and the person sees a few a minute.

// kind is what makes two pushed prompts repeats of each other.
type kind struct{ account, app, org, kind, transaction, message string }

func (e *entry) kind() kind {
	v := &e.view
	return kind{v.Account, v.App, v.Org, v.Kind, v.Transaction, v.Message}
}

// collapse makes room for a pushed prompt: an older one of its kind ends, with
// an id that approves nothing any more. An error says why e is not to be shown;
// then the one that waits counts it. The caller holds the lock.
func (b *Broker) collapse(e *entry) error {
	if b.held[e.view.Account] {
		return ErrReported
	}
	old := b.repeated(e)
	if old != nil && e.view.IssuedAt.Before(old.view.IssuedAt) {
		old.view.Repeats++
		return ErrSuperseded
	}
	if b.crowded(e.view.Account) {
		if old != nil {
			old.view.Repeats++
		}
		return ErrHeld
	}
	if old != nil {
		e.view.Repeats = old.view.Repeats + 1
		b.end(old, ErrSuperseded)
	}
	return nil
}

// HoldBack ends the pushed prompts of an account that wait for the person, once
// a sign-in of it was reported, and keeps further ones away until LetThrough.
// Remembering that over a restart is the caller's part.
func (b *Broker) HoldBack(account string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[account] = true
	for _, e := range b.pending {
		if e.view.Pushed && e.view.Account == account {
			b.end(e, ErrReported)
		}
	}
}

// LetThrough ends what HoldBack has begun.
func (b *Broker) LetThrough(account string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.held, account)
}

// repeated finds the pending prompt that e repeats.
func (b *Broker) repeated(e *entry) *entry {
	for _, old := range b.pending {
		if old.view.Pushed && old.kind() == e.kind() {
			return old
		}
	}
	return nil
}

// crowded says whether the person has had enough pushed prompts of an account:
// those of the last while that wait, or were seen and not approved.
func (b *Broker) crowded(account string) bool {
	list := slices.DeleteFunc(b.pushed[account], func(e *entry) bool { return time.Since(e.opened) >= PushedWindow })
	if len(list) == 0 {
		delete(b.pushed, account)
		return false
	}
	b.pushed[account] = list
	return len(list) >= MaxPushed
}

// forgive takes a prompt that was approved, or that nobody saw, off the count.
func (b *Broker) forgive(e *entry) {
	list := slices.DeleteFunc(b.pushed[e.view.Account], func(x *entry) bool { return x == e })
	if b.pushed[e.view.Account] = list; len(list) == 0 {
		delete(b.pushed, e.view.Account)
	}
}

// ofAccount counts the pending prompts of one account.
func (b *Broker) ofAccount(account string) (n int) {
	for _, e := range b.pending {
		if e.view.Account == account {
			n++
		}
	}
	return n
}
