package localapitest

import (
	"context"
	"net/http"
	"slices"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

// Prompts lists what waits.
func (a *Agent) Prompts(_ context.Context, frontEnd string) (api.PromptList, error) {
	a.Lock()
	defer a.Unlock()
	a.Asked = append(a.Asked, frontEnd)
	if a.hold != nil {
		return api.PromptList{Prompts: []api.Prompt{}, Hold: a.hold}, a.Fail
	}
	return api.PromptList{Prompts: append([]api.Prompt{}, a.PromptsHeld...)}, a.Fail
}

// Ask adds a prompt and tells the subscribers.
func (a *Agent) Ask(p api.Prompt) {
	a.Lock()
	defer a.Unlock()
	a.PromptsHeld = append([]api.Prompt{p}, a.PromptsHeld...)
	if a.hold == nil {
		a.tell(api.Event{Type: "prompt", Prompt: &p})
	}
}

// DecidePrompt ends a prompt as asked, or as Outcomes says.
func (a *Agent) DecidePrompt(_ context.Context, id string, d api.Decision, p peer.Peer) (api.PromptOutcome, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return api.PromptOutcome{}, a.Fail
	}
	i := slices.IndexFunc(a.PromptsHeld, func(p api.Prompt) bool { return p.ID == id })
	if i < 0 {
		return api.PromptOutcome{}, notFound("prompt")
	}
	if a.hold != nil && d.Action != "deny" {
		return api.PromptOutcome{}, &api.Error{Status: http.StatusConflict, Code: "on_hold", Message: "nothing is approved for now: the screen is locked, or the agent is paused", Hint: "countersign status"}
	}
	if err := a.verified(a.PromptsHeld[i], d); err != nil {
		return api.PromptOutcome{}, err
	}
	d.PIN = slices.Clone(d.PIN) // the server clears its own
	a.PromptsHeld = slices.Delete(a.PromptsHeld, i, i+1)
	if err := a.TooLate[id]; err != nil {
		return api.PromptOutcome{}, err
	}
	if a.Decided == nil {
		a.Decided, a.DecidedBy = map[string]api.Decision{}, map[string]peer.Peer{}
	}
	a.Decided[id], a.DecidedBy[id] = d, p
	o, ok := a.Outcomes[id]
	if !ok {
		o = api.PromptOutcome{ID: id, Outcome: map[string]string{"approve": "approved", "deny": "denied", "cancel_verification": "refused"}[d.Action]}
	}
	a.tell(api.Event{Type: "prompt_closed", Outcome: &o})
	return o, nil
}
