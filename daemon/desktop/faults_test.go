package desktop

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/ipc/api"
)

// What does not count is said once; what does needs no words.
func TestFailuresAreSaid(t *testing.T) {
	for _, row := range []struct {
		outcome api.PromptOutcome
		err     error
		says    string
	}{
		{outcome: api.PromptOutcome{Outcome: "approved", Reason: "the org has not confirmed it yet"}},
		{api.PromptOutcome{Outcome: "refused", Reason: "the org does not want it"}, nil,
			"The sign-in to Payroll as alice@example.com was not approved: the org does not want it."},
		{api.PromptOutcome{}, &api.Error{Code: "prompt_expired", Message: "the prompt has expired", Hint: "start the sign-in again"},
			"The sign-in to Payroll as alice@example.com was not approved: the prompt has expired. Start the sign-in again."},
		{api.PromptOutcome{}, &api.Error{Code: "prompt_decided", Message: "the prompt was decided already"}, // with a yes, perhaps
			"Your answer to the sign-in to Payroll as alice@example.com did not count: the prompt was decided already."},
		{api.PromptOutcome{}, &api.Error{Code: "locked", Message: "the agent's state is locked", Hint: "countersign status"},
			"The sign-in to Payroll as alice@example.com was not approved: the agent's state is locked."},
		{api.PromptOutcome{}, errors.New("secret words"),
			"The sign-in to Payroll as alice@example.com was not approved: the agent could not do that; its log says why."},
		{api.PromptOutcome{}, &api.Error{Code: "on_hold", Message: "nothing is approved for now"}, ""},
	} {
		t.Run(row.says, func(t *testing.T) {
			answer := func(_ context.Context, id string, _ api.Decision) (api.PromptOutcome, error) {
				row.outcome.ID = id
				return row.outcome, row.err
			}
			inWorld(t, func(w *world) { // on the note
				w.agent.answer = answer
				w.start()
				w.ask(prompt("p1", "Payroll"))
				w.server.press(t, "Sign in to Payroll?", "Approve")
				w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "expired"})
				synctest.Wait()
				list := w.server.shown()
				if row.says == "" {
					w.empty()
				} else if len(list) != 1 || list[0].Title != "Countersign" || list[0].Body != row.says || list[0].Urgent || len(list[0].Buttons) != 0 {
					t.Errorf("%+v", list)
				}
				// Read, it leaves nothing.
				if id, _ := w.server.find("Countersign"); id != 0 {
					w.server.emit(id, "")
					synctest.Wait()
				}
				if !w.server.left {
					t.Error("the connection outlives what it is for")
				}
			})
			inWorld(t, func(w *world) { // in the dialog
				w.agent.answer = answer
				w.have(nil, w.window)
				w.start()
				w.ask(prompt("p1", "Payroll"))
				w.answers(dialog.Answer{Verdict: dialog.Approve})
				w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "expired"})
				synctest.Wait()
				list := w.window.tells()
				if row.says == "" {
					w.empty()
				} else if len(list) != 1 || list[0].q.Title != "Countersign" || !slices.Equal(list[0].lines, []string{row.says}) {
					t.Errorf("%+v", list)
				}
				time.Sleep(tellFor)
				w.empty()
			})
		})
	}
}

// Also when the org's word comes late, and nothing else is on the screen.
func TestLateFailureIsSaid(t *testing.T) {
	inWorld(t, func(w *world) {
		w.have(w.server, nil)
		w.agent.answer = func(_ context.Context, id string, _ api.Decision) (api.PromptOutcome, error) {
			w.agent.close(api.PromptOutcome{ID: id, Outcome: "approved"})
			time.Sleep(10 * time.Second)
			return api.PromptOutcome{ID: id, Outcome: "refused", Reason: "the org does not want it"}, nil
		}
		w.start()
		w.ask(prompt("p1", "Payroll"))
		w.server.press(t, "Sign in to Payroll?", "Approve")
		w.empty()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := w.titles(); !slices.Equal(got, []string{"Countersign"}) {
			t.Errorf("%v", got)
		}
	})
}

// A service that goes is looked for again, once; then dialogs do.
func TestServiceGoes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.ask(prompt("p1", "Payroll"))
		time.Sleep(retryAfter)
		old := w.server
		w.have(newFakeServer(true), w.window)
		old.fail()
		synctest.Wait()
		if got := w.titles(); len(got) != 1 || len(w.window.asks()) != 0 {
			t.Fatalf("%v", got)
		}
		w.server.fail() // at once again
		synctest.Wait()
		if got := w.one().q.Heading; got != "Sign in to Payroll?" {
			t.Error(got)
		}
		if w.connects != 2 {
			t.Errorf("connected %d times", w.connects)
		}
		if got := w.agent.frontEnds(); !slices.Equal(got, []string{Dialog}) {
			t.Errorf("attached: %v", got)
		}
	})
}

// A service that takes no notes, or whose call shows that it has gone.
func TestServiceRefuses(t *testing.T) {
	for _, fault := range []error{errors.New("too many"), notification.ErrGone} {
		inWorld(t, func(w *world) {
			w.server.fault = func() error { return fault }
			w.start()
			w.ask(prompt("p1", "Payroll"))
			w.answers(dialog.Answer{Verdict: dialog.Deny})
			w.wants(decided{ID: "p1", Action: "deny"})
			w.empty()
		})
	}
}

// A program for dialogs that has gone, or crashes, decides nothing, and does not
// come again and again.
func TestWindowFails(t *testing.T) {
	for _, fault := range []error{dialog.ErrFailed, dialog.ErrNone} {
		inWorld(t, func(w *world) {
			w.have(nil, w.window)
			w.start()
			w.ask(prompt("p1", "Payroll"))
			w.one().fault <- fault
			synctest.Wait()
			w.wants()
			w.empty()
			want := []string{Dialog}
			if fault == dialog.ErrNone {
				want = nil
			}
			if got := w.agent.frontEnds(); !slices.Equal(got, want) {
				t.Errorf("attached: %v", got)
			}
		})
	}
}
