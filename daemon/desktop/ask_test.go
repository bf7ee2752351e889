package desktop

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/ipc/api"
)

const pin = "314159"

// inDialog is a world where the dialog of a prompt is open.
func inDialog(t *testing.T, change func(*api.Prompt), test func(w *world)) {
	t.Helper()
	inWorld(t, func(w *world) {
		w.have(nil, w.window)
		w.start()
		p := prompt("p1", "Payroll")
		change(&p)
		w.ask(p)
		test(w)
	})
}

// refuses makes the agent refuse decisions, one after the other; then it takes
// them.
func (w *world) refuses(errs ...*api.Error) {
	w.agent.answer = func(_ context.Context, id string, d api.Decision) (api.PromptOutcome, error) {
		if len(errs) > 0 {
			err := errs[0]
			errs = errs[1:]
			if err != nil {
				return api.PromptOutcome{}, err
			}
		}
		o := api.PromptOutcome{ID: id, Outcome: map[string]string{"approve": "approved", "deny": "denied"}[d.Action]}
		w.agent.close(o)
		return o, nil
	}
}

func TestWrongNumber(t *testing.T) {
	inDialog(t, number, func(w *world) {
		w.refuses(&api.Error{Code: "wrong_number", Message: "that is not one of the numbers shown"})
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if q := w.one().q; q.Problem != "Type the number that the page shows." || q.Entry != dialog.Number {
			t.Errorf("%+v", q)
		}
		w.wants() // nothing was typed
		w.answers(dialog.Answer{Verdict: dialog.Approve, Number: "41"})
		if q := w.one().q; q.Problem != "That is not one of the numbers shown." || q.Entry != dialog.Number {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve, Number: "42"})
		w.wants(decided{ID: "p1", Action: "approve", Number: "41"}, decided{ID: "p1", Action: "approve", Number: "42"})
		w.empty()
	})
}

// The number first, then the PIN; a wrong one is asked for again.
func TestNumberAndPIN(t *testing.T) {
	inDialog(t, func(p *api.Prompt) { number(p); verified(p) }, func(w *world) {
		w.refuses(&api.Error{Code: "wrong_pin", Message: "the PIN is wrong, 4 tries left", TriesLeft: 4})
		w.answers(dialog.Answer{Verdict: dialog.Approve, Number: "42"})
		if q := w.one().q; q.Entry != dialog.PIN || q.Optional || q.Problem != "" || q.Heading != "Sign in to Payroll?" {
			t.Errorf("%+v", q)
		}
		w.wants()
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if q := w.one().q; q.Entry != dialog.PIN || q.Problem != "Type your PIN." {
			t.Errorf("%+v", q)
		}
		w.wants()
		wrong := api.PIN("271828")
		w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: wrong})
		if q := w.one().q; q.Entry != dialog.PIN || q.Problem != "The PIN is wrong, 4 tries left." {
			t.Errorf("%+v", q)
		}
		if strings.Trim(string(wrong), "\x00") != "" {
			t.Error("the PIN is left in memory")
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN(pin)})
		w.wants(decided{ID: "p1", Action: "approve", Number: "42", PIN: "271828"}, decided{ID: "p1", Action: "approve", Number: "42", PIN: pin})
		w.empty()
	})
}

// What the dialog says of the PIN is what is true when it opens.
func TestTriesLeftAreOfNow(t *testing.T) {
	inDialog(t, func(p *api.Prompt) { number(p); verified(p) }, func(w *world) {
		p := w.agent.waiting["p1"]
		p.TriesLeft = 2
		w.agent.waiting["p1"] = p
		w.answers(dialog.Answer{Verdict: dialog.Approve, Number: "42"})
		if f := w.one().q.Facts; !strings.Contains(f[len(f)-1].Value, "2 tries left") {
			t.Errorf("%v", f)
		}
	})
}

func TestLockedPIN(t *testing.T) {
	inDialog(t, verified, func(w *world) {
		w.refuses(&api.Error{Code: "pin_locked", Message: "too many wrong PINs: the PIN is locked until 14:03, in 2 min", Hint: "if you have forgotten it: countersign pin reset"})
		w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN(pin)})
		want := "The sign-in to Payroll as alice@example.com was not approved: too many wrong PINs: the PIN is locked until 14:03, in 2 min."
		if list := w.window.tells(); len(list) != 1 || !slices.Equal(list[0].lines, []string{want}) || len(w.window.asks()) != 0 {
			t.Errorf("%v", list)
		}
		w.window.tells()[0].answer <- dialog.Answer{}
		synctest.Wait()
		w.empty()
		// It can still be denied.
		p := w.agent.waiting["p1"]
		p.LockedUntil = time.Now().Add(time.Minute)
		w.agent.waiting["p1"] = p
		if err := w.d.Show(w.t.Context(), "p1"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if q := w.one().q; q.Entry != dialog.NoEntry {
			t.Errorf("%+v", q)
		}
		w.refuses(&api.Error{Code: "verification_required", Message: "the sign-in needs your verification"})
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if list := w.window.tells(); len(list) != 1 {
			t.Fatalf("%v", list)
		}
		w.window.tells()[0].answer <- dialog.Answer{}
		synctest.Wait()
		if err := w.d.Show(w.t.Context(), "p1"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		w.answers(dialog.Answer{Verdict: dialog.Deny})
		if got := w.agent.decisions(); got[len(got)-1].Action != "deny" {
			t.Errorf("%+v", got)
		}
		w.empty()
	})
}

func TestPreferredVerification(t *testing.T) {
	for _, typed := range []string{"", pin} {
		inDialog(t, preferred, func(w *world) {
			if q := w.one().q; q.Entry != dialog.PIN || !q.Optional {
				t.Errorf("%+v", q)
			}
			w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN(typed)})
			w.wants(decided{ID: "p1", Action: "approve", PIN: typed})
			w.empty()
		})
	}
	// A finger that nobody wants to give: gone on without.
	inDialog(t, func(p *api.Prompt) { preferred(p); p.VerificationMethods = []string{"fingerprint"} }, func(w *world) {
		w.agent.answer = func(ctx context.Context, id string, d api.Decision) (api.PromptOutcome, error) {
			if d.Verification != "" {
				<-ctx.Done()
				return api.PromptOutcome{}, ctx.Err()
			}
			o := api.PromptOutcome{ID: id, Outcome: "approved"}
			w.agent.close(o)
			return o, nil
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		w.window.tells()[0].answer <- dialog.Answer{}
		synctest.Wait()
		if q := w.one().q; q.Problem != "You have not shown that it is you. You may go on without." || q.Entry != dialog.NoEntry {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		w.wants(decided{ID: "p1", Action: "approve", By: "fingerprint"}, decided{ID: "p1", Action: "approve"})
		w.empty()
	})
	// One that is not there.
	inDialog(t, func(p *api.Prompt) { preferred(p); p.VerificationMethods = []string{"fingerprint"} }, func(w *world) {
		w.refuses(&api.Error{Code: "verification_timed_out", Message: "nobody showed that it is you"})
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if q := w.one().q; q.Problem != "Nobody showed that it is you." {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		w.wants(decided{ID: "p1", Action: "approve", By: "fingerprint"}, decided{ID: "p1", Action: "approve"})
		w.empty()
	})
}

// A moment ago the person was verified: nothing is typed, unless that is over.
func TestVerifiedAMomentAgo(t *testing.T) {
	inDialog(t, func(p *api.Prompt) { verified(p); p.Verified = true }, func(w *world) {
		if q := w.one().q; q.Entry != dialog.NoEntry {
			t.Errorf("%+v", q)
		}
		w.refuses(&api.Error{Code: "verification_required", Message: "the sign-in needs your verification"})
		p := w.agent.waiting["p1"]
		p.Verified = false
		w.agent.waiting["p1"] = p
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if q := w.one().q; q.Entry != dialog.PIN || q.Problem != "The sign-in needs your verification." {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN(pin)})
		w.wants(decided{ID: "p1", Action: "approve"}, decided{ID: "p1", Action: "approve", PIN: pin})
	})
}

func byFinger(p *api.Prompt) {
	p.UserVerification, p.VerificationMethods = "required", []string{"fingerprint", "pin"}
}

// While a finger is waited for, a window says so; whoever closes it cancels.
func TestFingerprint(t *testing.T) {
	wait := func(w *world) chan error {
		c := make(chan error, 1)
		w.agent.answer = func(ctx context.Context, id string, _ api.Decision) (api.PromptOutcome, error) {
			select {
			case err := <-c:
				if err != nil {
					return api.PromptOutcome{}, err
				}
				o := api.PromptOutcome{ID: id, Outcome: "approved"}
				w.agent.close(o)
				return o, nil
			case <-ctx.Done():
				return api.PromptOutcome{}, &api.Error{Code: "verification_cancelled", Message: "the verification was cancelled"}
			}
		}
		return c
	}
	touch := func(w *world) *ask {
		t.Helper()
		list := w.window.tells()
		if len(list) != 1 || !slices.Equal(list[0].lines, []string{"Sign in to Payroll?", "Touch the fingerprint reader to approve."}) {
			t.Fatalf("%+v", list)
		}
		return list[0]
	}
	inDialog(t, byFinger, func(w *world) {
		finger := wait(w)
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		touch(w)
		finger <- &api.Error{Code: "not_verified", Message: "you were not recognised, 2 tries left"}
		synctest.Wait()
		if q := w.one().q; q.Problem != "You were not recognised, 2 tries left." || len(w.window.tells()) != 0 {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		finger <- nil
		w.empty()
		w.wants(decided{ID: "p1", Action: "approve", By: "fingerprint"}, decided{ID: "p1", Action: "approve", By: "fingerprint"})
	})
	inDialog(t, byFinger, func(w *world) { // closed: cancelled, and nothing more is said
		wait(w)
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		touch(w).answer <- dialog.Answer{}
		w.empty()
	})
	inDialog(t, byFinger, func(w *world) { // decided elsewhere: nobody waits for a finger any more
		wait(w)
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		touch(w)
		w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "denied"})
		w.empty()
		time.Sleep(afterwards)
		synctest.Wait()
		w.empty()
	})
	inDialog(t, byFinger, func(w *world) { // the reader is not there after all: the PIN is
		finger := wait(w)
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		finger <- &api.Error{Code: "verification_unavailable", Message: "there is no reader"}
		synctest.Wait()
		if q := w.one().q; q.Entry != dialog.PIN || q.Problem != "There is no reader." {
			t.Errorf("%+v", q)
		}
	})
	inDialog(t, byFinger, func(w *world) { // held back under way
		wait(w)
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		w.agent.holdBack(&api.Hold{Reason: api.HoldScreenLocked})
		w.empty()
	})
}

// One of several accounts is chosen, and what it needs is asked for.
func TestChoices(t *testing.T) {
	inDialog(t, choices, func(w *world) {
		q := w.one().q
		if q.Entry != dialog.NoEntry || !slices.Equal(q.Choices, []dialog.Choice{{ID: "acc-1", Name: "alice (acc-1)"}, {ID: "acc-2", Name: "bob (acc-2)"}}) {
			t.Fatalf("%+v", q)
		}
		for _, none := range []string{"", "acc-3"} {
			w.answers(dialog.Answer{Verdict: dialog.Approve, Choice: none})
			if q := w.one().q; q.Problem != "Choose the account." {
				t.Errorf("%+v", q)
			}
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve, Choice: "acc-2"})
		if q := w.one().q; q.Entry != dialog.PIN || len(q.Choices) != 0 {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN(pin)})
		w.wants(decided{ID: "p1", Account: "acc-2", Action: "approve", PIN: pin})
	})
	inDialog(t, choices, func(w *world) {
		w.answers(dialog.Answer{Verdict: dialog.Approve, Choice: "acc-1"})
		w.wants(decided{ID: "p1", Account: "acc-1", Action: "approve"}) // which takes nothing more
	})
	inDialog(t, choices, func(w *world) {
		w.answers(dialog.Answer{Verdict: dialog.Deny})
		w.wants(decided{ID: "p1", Action: "deny"})
	})
}

// An agent that stops puts everything away, whatever is under way.
func TestStops(t *testing.T) {
	inWorld(t, func(w *world) {
		w.agent.answer = func(ctx context.Context, _ string, _ api.Decision) (api.PromptOutcome, error) {
			<-ctx.Done()
			return api.PromptOutcome{}, ctx.Err()
		}
		w.start()
		w.ask(prompt("p1", "Payroll"), prompt("p2", "Wiki"), prompt("p3", "Mail"))
		w.server.press(t, "Sign in to Payroll?", "Deny")
		w.server.press(t, "Sign in to Wiki?", "Open")
		if err := w.d.ShowReport(w.t.Context(), "Doctor", nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		began := time.Now()
		w.stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s", took)
		}
		w.empty()
	})
}

// A security key is touched; its PIN is asked for when it wants one, again while it
// is wrong, and what may be mended is asked about again.
func TestSecurityKeyInTheDialog(t *testing.T) {
	byKey := func(p *api.Prompt) { p.UserVerification, p.VerificationMethods = "required", []string{"security_key"} }
	inDialog(t, byKey, func(w *world) {
		w.refuses(
			&api.Error{Code: "no_key", Message: "no security key is plugged in"},
			&api.Error{Code: "key_pin_needed", Message: "this takes the PIN of the security key"},
			&api.Error{Code: "wrong_key_pin", Message: "the PIN of the security key is wrong, 7 tries left"},
		)
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if q := w.one().q; q.Entry != dialog.NoEntry || q.Problem != "No security key is plugged in." {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if q := w.one().q; q.Entry != dialog.PIN || !q.OfKey || q.Optional || q.Problem != "" {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve})
		if q := w.one().q; q.Problem != "Type your PIN." {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN("0000")})
		if q := w.one().q; q.Entry != dialog.PIN || !q.OfKey || q.Problem != "The PIN of the security key is wrong, 7 tries left." {
			t.Errorf("%+v", q)
		}
		w.answers(dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN("2580")})
		w.empty()
		by := decided{ID: "p1", Action: "approve", By: "security_key"}
		wrong, right := by, by
		wrong.PIN, right.PIN = "0000", "2580"
		w.wants(by, by, wrong, right)
	})
}
