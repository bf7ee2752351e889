package daemon

import (
	"context"
	"net/http"
	"sync"
	"time"

	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
)

// holds are the reasons why for now nothing is asked and nothing is signed. The
// prompt queue has the strongest of them; everybody else asks the queue.
type holds struct {
	mu     sync.Mutex
	begun  map[string]api.Hold // by reason
	resume *time.Timer         // ends a pause
}

// strongest is the order of reasons.
var strongest = []string{api.HoldAsleep, api.HoldScreenLocked, api.HoldPaused}

// hold begins a hold for a reason, or changes when it ends by itself.
func (d *Daemon) hold(reason string, until time.Time) {
	d.holds.mu.Lock()
	defer d.holds.mu.Unlock()
	d.begin(reason, until)
}

// begin is hold; the caller holds the lock.
func (d *Daemon) begin(reason string, until time.Time) api.Hold {
	h := api.Hold{Reason: reason, Since: d.now().Round(0).UTC(), Until: until}
	if before, there := d.holds.begun[reason]; there {
		h.Since = before.Since
	}
	if d.holds.begun == nil {
		d.holds.begun = map[string]api.Hold{}
	}
	d.holds.begun[reason] = h
	d.tellHold()
	return h
}

// release ends a hold for a reason.
func (d *Daemon) release(reason string) {
	d.holds.mu.Lock()
	defer d.holds.mu.Unlock()
	d.end(reason)
}

// end is release; the caller holds the lock.
func (d *Daemon) end(reason string) {
	if _, there := d.holds.begun[reason]; there {
		delete(d.holds.begun, reason)
		d.tellHold()
	}
}

// tellHold tells the queue of prompts, if it comes to something else. The caller
// holds the lock.
func (d *Daemon) tellHold() {
	var now *prompt.Hold
	for _, reason := range strongest {
		if h, there := d.holds.begun[reason]; there {
			now = &prompt.Hold{Reason: h.Reason, Since: h.Since, Until: h.Until}
			break
		}
	}
	if before := d.prompts.Held(); before == nil || now == nil || *before != *now {
		d.prompts.SetHold(now)
	}
}

// holdView is a hold as front ends see it.
func holdView(h *prompt.Hold) *api.Hold {
	if h == nil {
		return nil
	}
	return &api.Hold{Reason: h.Reason, Since: h.Since, Until: h.Until}
}

// Pause asks nothing and signs nothing for a while.
func (f front) Pause(_ context.Context, p api.Pause) (api.Hold, error) {
	length := time.Duration(p.Seconds) * time.Second
	if p.Seconds <= 0 || p.Seconds > int(api.MaxPause/time.Second) {
		return api.Hold{}, &api.Error{Status: http.StatusBadRequest, Code: "bad_pause", Message: "a pause is between 1 second and 24 hours long"}
	}
	return f.d.pause(length), nil
}

// Unpause ends a pause.
func (f front) Unpause(context.Context) error {
	f.d.holds.mu.Lock()
	defer f.d.holds.mu.Unlock()
	f.d.unpause()
	return nil
}

// pause begins a pause in the place of one that there may be.
func (d *Daemon) pause(length time.Duration) api.Hold {
	d.holds.mu.Lock()
	defer d.holds.mu.Unlock()
	if d.holds.resume != nil {
		d.holds.resume.Stop()
	}
	if d.ctx.Err() == nil { // else it ends with the agent
		var timer *time.Timer
		timer = time.AfterFunc(length, func() {
			d.holds.mu.Lock()
			defer d.holds.mu.Unlock()
			if d.holds.resume == timer { // and no later one has begun
				d.unpause()
			}
		})
		d.holds.resume = timer
	}
	return d.begin(api.HoldPaused, d.now().Add(length).Round(0).UTC())
}

// unpause ends a pause. The caller holds the lock.
func (d *Daemon) unpause() {
	if d.holds.resume != nil {
		d.holds.resume.Stop()
		d.holds.resume = nil
	}
	d.end(api.HoldPaused)
}

// endPause ends a pause whose time has come by the clock on the wall. Its timer
// stands still while the computer sleeps.
func (d *Daemon) endPause() {
	d.holds.mu.Lock()
	defer d.holds.mu.Unlock()
	if h, there := d.holds.begun[api.HoldPaused]; there && !d.now().Before(h.Until) {
		d.unpause()
	}
}

// stopPause stops the timer of a pause, which ends with the agent.
func (d *Daemon) stopPause() {
	d.holds.mu.Lock()
	defer d.holds.mu.Unlock()
	if d.holds.resume != nil {
		d.holds.resume.Stop()
		d.holds.resume = nil
	}
}
