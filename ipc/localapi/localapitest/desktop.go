package localapitest

import (
	"context"
	"net/http"
	"slices"
	"time"

	"countersign.dev/ipc/api"
)

// ShowPrompt notes what was shown; NoWindow refuses.
func (a *Agent) ShowPrompt(_ context.Context, id string) error {
	a.Lock()
	defer a.Unlock()
	if !slices.ContainsFunc(a.PromptsHeld, func(p api.Prompt) bool { return p.ID == id }) {
		return notFound("prompt")
	}
	return a.show(id)
}

// ShowDoctor notes that the report was shown, as "doctor".
func (a *Agent) ShowDoctor(context.Context) error {
	a.Lock()
	defer a.Unlock()
	return a.show("doctor")
}

// show is either; the caller holds the lock.
func (a *Agent) show(what string) error {
	if a.NoWindow {
		return &api.Error{Status: http.StatusConflict, Code: "no_window", Message: "there is no way to show a window here", Hint: "countersign prompt watch"}
	}
	a.Shown = append(a.Shown, what)
	return a.Fail
}

// Pause holds.
func (a *Agent) Pause(_ context.Context, p api.Pause) (api.Hold, error) {
	if p.Seconds <= 0 || time.Duration(p.Seconds)*time.Second > api.MaxPause {
		return api.Hold{}, &api.Error{Status: http.StatusBadRequest, Code: "bad_pause", Message: "a pause is between 1 second and 24 hours long"}
	}
	now := time.Now().UTC()
	h := api.Hold{Reason: api.HoldPaused, Since: now, Until: now.Add(time.Duration(p.Seconds) * time.Second)}
	a.SetHold(&h)
	a.Lock()
	defer a.Unlock()
	return h, a.Fail
}

// Unpause ends a pause.
func (a *Agent) Unpause(context.Context) error {
	a.Lock()
	paused := a.hold != nil && a.hold.Reason == api.HoldPaused
	a.Unlock()
	if paused {
		a.SetHold(nil)
	}
	a.Lock()
	defer a.Unlock()
	return a.Fail
}

// SetHold begins a hold, or ends it, as the agent does: the list is empty
// meanwhile, and what waits comes again afterwards.
func (a *Agent) SetHold(h *api.Hold) {
	a.Lock()
	defer a.Unlock()
	a.hold = h
	a.tell(api.Event{Type: "hold", Hold: h})
	if h != nil {
		return
	}
	for i := len(a.PromptsHeld) - 1; i >= 0; i-- {
		p := a.PromptsHeld[i]
		a.tell(api.Event{Type: "prompt", Prompt: &p})
	}
}
