package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
	"countersign.dev/tray"
)

// How long what is clicked may take. An answer goes to an organisation; a
// self-examination asks whoever it can.
const (
	answering = time.Minute
	examining = 2 * time.Minute
	doing     = 15 * time.Second
	// tooShort is a code that is not worth pasting any more: the next is waited for.
	tooShort = 3 * time.Second
)

// Click does what an entry is for, in the background. An answer is given to
// exactly the prompt that was shown: one that is gone, or is not what it was, is
// listed again and nothing else.
func (r *Runner) Click(a tray.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.life == nil || r.life.Err() != nil {
		return
	}
	var p api.Prompt
	limit := doing
	switch {
	case a.Kind == tray.Nothing:
		return
	case a.Kind == tray.Quit:
		r.o.Quit()
		return
	case a.Kind == tray.ShowDoctor:
		limit = examining
	case a.Kind == tray.CopyCode:
		limit = answering // a next code may have to be waited for
	case a.Decides() || a.Kind == tray.Show:
		var there bool
		if p, there = r.scene.Find(a); !there || slices.Contains(r.scene.Busy, p.ID) {
			r.wanted(prompts)
			return
		}
		if a.Decides() {
			limit = answering
			r.scene.Busy = append(slices.Clone(r.scene.Busy), p.ID)
		}
	}
	r.said = nil // what was said of the last click
	r.poke()
	life := r.life
	r.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(life, limit)
		defer cancel()
		said := r.do(ctx, a, p)
		if a.Decides() {
			r.change(func(s *tray.Scene) {
				s.Busy = slices.DeleteFunc(slices.Clone(s.Busy), func(id string) bool { return id == p.ID })
			})
		}
		r.say(said)
		r.want(everything)
	})
}

// do does it, and says what came of it, a line each.
func (r *Runner) do(ctx context.Context, a tray.Action, p api.Prompt) []string {
	agent := r.o.Agent
	var err error
	switch a.Kind {
	case tray.Approve:
		return r.decide(ctx, a, p, api.Decision{Action: "approve", Account: a.Account, Number: a.Number})
	case tray.Deny:
		return r.decide(ctx, a, p, api.Decision{Action: "deny"})
	case tray.Report:
		return r.decide(ctx, a, p, api.Decision{Action: "deny", Report: true})
	case tray.Show:
		if err = agent.ShowPrompt(ctx, p.ID); noWindow(err) {
			r.change(func(s *tray.Scene) { s.NoWindow = true })
			return []string{"No window can be shown here. Answer below, or in a terminal: countersign prompt watch"}
		}
	case tray.ShowDoctor:
		if err = agent.ShowDoctor(ctx); noWindow(err) {
			r.change(func(s *tray.Scene) { s.NoWindow = true })
			return []string{"No window can be shown here. In a terminal: countersign doctor"}
		}
	case tray.Acknowledge:
		_, err = agent.Acknowledge(ctx, a.Account)
	case tray.ResumePushes:
		_, err = agent.ResumePushes(ctx, a.Account)
	case tray.CopyCode:
		return r.copyCode(ctx, a.Code)
	case tray.Pause:
		_, err = agent.Pause(ctx, api.Pause{Seconds: int(a.For / time.Second)})
	case tray.Resume:
		err = agent.Unpause(ctx)
	}
	return failed(err)
}

func noWindow(err error) bool {
	e := (*api.Error)(nil)
	return errors.As(err, &e) && e.Code == "no_window"
}

// tooLate are refusals of an answer that say all there is to say.
var tooLate = map[string]bool{"prompt_unknown": true, "prompt_expired": true, "prompt_withdrawn": true, "prompt_superseded": true, "prompt_held": true, "prompt_decided": true}

// failed puts an error into words. Nothing is to be done about none.
func failed(err error) []string {
	if err == nil {
		return nil
	}
	e := (*api.Error)(nil)
	switch {
	case errors.As(err, &e) && (tooLate[e.Code] || e.Hint == ""):
		return []string{sentence(e.Message)}
	case errors.As(err, &e):
		return []string{sentence(e.Message), "hint: " + e.Hint}
	case errors.Is(err, context.DeadlineExceeded):
		return []string{"The agent did not answer in time"}
	}
	return []string{sentence(err.Error())}
}

// decide answers a prompt.
func (r *Runner) decide(ctx context.Context, a tray.Action, p api.Prompt, d api.Decision) []string {
	o, err := r.o.Agent.DecidePrompt(ctx, p.ID, d)
	if refused := (*api.Error)(nil); err != nil && !errors.As(err, &refused) {
		return append(failed(err), "Whether your answer counted, in a terminal: countersign audit")
	}
	if err != nil {
		return failed(err)
	}
	word, why := describe.Ended(o)
	said := []string{"It was " + word + ": " + describe.SignIn(p)}
	switch {
	case word == map[string]string{"approve": "approved", "deny": "denied"}[d.Action]:
		said[0] = sentence(word) + ": " + describe.SignIn(p)
	case word == "approved" || word == "denied":
		said[0] = "It was " + word + " already: " + describe.SignIn(p)
	case word == "expired":
		said[0] = "It had expired: " + describe.SignIn(p)
	}
	if why != "" {
		said = append(said, sentence(why))
	}
	if a.Kind == tray.Report && word == "denied" {
		said = append(said, "Reported. Further pushes of this account are held back until you let them through again.")
	}
	return said
}

// copyCode copies the code of this moment, or the next one where that is about
// to end.
func (r *Runner) copyCode(ctx context.Context, id string) []string {
	if r.o.Copy == nil {
		return []string{r.o.NoClipboard}
	}
	code, err := r.o.Agent.Code(ctx, id)
	if left := time.Duration(code.ExpiresInSeconds) * time.Second; err == nil && left < tooShort {
		if !pause(ctx, left+time.Second) { // the seconds are rounded down
			return failed(ctx.Err())
		}
		code, err = r.o.Agent.Code(ctx, id)
	}
	if err != nil {
		return failed(err)
	}
	if err := r.o.Copy(ctx, code.Code); err != nil {
		return []string{"The code could not be copied: " + err.Error(), "hint: countersign code get " + code.Name}
	}
	return []string{fmt.Sprintf("Copied the code of %s. It is good for %s.", code.Name, describe.Span(time.Duration(code.ExpiresInSeconds)*time.Second)),
		"The clipboard is cleared after half a minute."}
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
