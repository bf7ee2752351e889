package softkey

import (
	"context"
	"sync"
)

// Ask is what the key blinks for.
type Ask struct {
	Step        Step
	RP          string // relying party's ID, "" where there is none or only its hash is known
	Fingerprint bool   // wants an enrolled finger, or one to enrol; any other touch is a miss
}

// Finger is the owner's finger in a test's hands.
//
//	finger := softkey.NewFinger()
//	key := softkey.New(softkey.Options{Touch: finger.Touch})
//	…
//	ask, err := finger.Wanted(ctx) // blinks
//	ask.Touch()
type Finger struct{ asks chan *Wanted }

// NewFinger makes one that rests nowhere.
func NewFinger() *Finger { return &Finger{asks: make(chan *Wanted)} }

// Touch is for Options.Touch.
func (f *Finger) Touch(ctx context.Context, ask Ask) bool {
	w := &Wanted{Ask: ask, Over: ctx.Done(), answer: make(chan bool, 1)}
	select {
	case f.asks <- w:
	case <-ctx.Done():
		return false
	}
	select {
	case yes := <-w.answer:
		return yes
	case <-ctx.Done():
		return false
	}
}

// Wanted waits until the key blinks.
func (f *Finger) Wanted(ctx context.Context) (*Wanted, error) {
	select {
	case w := <-f.asks:
		return w, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Wanted is one test of user presence that is going on.
type Wanted struct {
	Ask
	Over   <-chan struct{} // closed when the key no longer waits
	answer chan bool
	once   sync.Once
}

// Touch touches the key.
func (w *Wanted) Touch() { w.once.Do(func() { w.answer <- true }) }

// TimeOut lets the time pass in which the key waits.
func (w *Wanted) TimeOut() { w.once.Do(func() { w.answer <- false }) }

// call is one command that is being carried out. k.mu is held, except while the
// owner is waited for.
type call struct {
	k       *Key
	ctx     context.Context
	step    Step
	fault   Fault
	waiting func(bool) // says that the owner is waited for, or no longer
	pull    func()     // pulls the key out
}

// touch tests user presence.
func (c *call) touch(rp string) error {
	return c.ask(Ask{Step: c.step, RP: rp})
}

func (c *call) ask(a Ask) error {
	if c.fault.unplug == unplugAtTouch {
		c.pull()
		c.k.mu.Unlock()
		<-c.ctx.Done()
		c.k.mu.Lock()
		return KeepAliveCancel
	}
	if c.k.o.Touch == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.k.o.TouchTime)
	defer cancel()
	u2f := c.k.power.u2f
	c.k.power.u2f = nil
	c.waiting(true)
	c.k.mu.Unlock()
	if u2f != nil { // one at a time
		u2f.cancel()
		<-u2f.answer
	}
	touched := c.k.o.Touch(ctx, a)
	c.k.mu.Lock()
	c.waiting(false)
	switch {
	case c.ctx.Err() != nil:
		return KeepAliveCancel
	case !touched:
		return UserActionTimeout
	}
	return nil
}
