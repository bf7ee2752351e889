package desktop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/ipc/api"
)

// approvals are the ids that were approved.
func (w *world) approvals() []string {
	var list []string
	for _, d := range w.agent.decisions() {
		if d.Action == "approve" {
			list = append(list, d.ID)
		}
	}
	return list
}

// B3: whatever is said to have become of a note, nothing but the button that
// approves this very prompt, and was offered, approves it.
func TestB3NothingElseApproves(t *testing.T) {
	keys := []string{
		"", " ", "approve", "approve-", "Approve", "APPROVE-p1", "approve-p", "approve-p1 ", " approve-p1", "approve p1", "approve-p2", "approve-p1\x00", "deny-approve-p1",
		"yes", "ok", "0", "1", "activate", "inline-reply", "deny", "deny-p2", "report-p2", "report", strings.Repeat("approve-p1", 1000),
	}
	for name, change := range map[string]func(*api.Prompt){
		"plain": func(*api.Prompt) {}, "number": number, "verification": verified, "preferred": preferred, "unheard of": unheardOf, "choices": choices, "long": long,
	} {
		t.Run(name, func(t *testing.T) {
			for _, key := range append(slices.Clone(keys), notification.Default, denyKey+"p1", reportKey+"p1", approveKey+"p1") {
				inWorld(t, func(w *world) {
					w.start()
					p := prompt("p1", "Payroll")
					change(&p)
					w.ask(p, prompt("p2", "Wiki"))
					id, note := w.server.find("Sign in to Payroll?")
					if name == "long" {
						id, note = w.server.find("Payroll asks")
					}
					if id == 0 {
						t.Fatalf("%+v", w.server.shown())
					}
					for _, foreign := range []notification.ID{0, 99, 1<<32 - 1} {
						w.server.emit(foreign, key)
					}
					w.server.emit(id, key)
					w.server.emit(id, key) // twice
					synctest.Wait()
					var want []string
					offered := slices.ContainsFunc(note.Buttons, func(b notification.Button) bool { return b.Key == approveKey+"p1" })
					if offered != (name == "plain") {
						t.Errorf("Approve is offered: %v", offered)
					}
					if key == approveKey+"p1" && offered {
						want = []string{"p1"}
					}
					if got := w.approvals(); !slices.Equal(got, want) {
						t.Errorf("%q approved %v", key, got)
					}
				})
			}
		})
	}
}

// B3: a press that comes when notes have just moved was not for what it hit: the
// second half of a double click, a note that slid under the pointer.
func TestB3NotesThatMove(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.agent.open(prompt("p1", "Payroll"))
		synctest.Wait()
		time.Sleep(still - time.Millisecond)
		w.server.press(t, "Sign in to Payroll?", "Approve")
		w.wants() // it had come a moment before
		w.answers(dialog.Answer{})
		time.Sleep(still)
		w.ask(prompt("p2", "Wiki"))
		w.server.press(t, "Sign in to Payroll?", "Approve")
		w.server.press(t, "Sign in to Wiki?", "Approve") // a double click
		w.wants(decided{ID: "p1", Action: "approve"})
		if got := w.one().q.Heading; got != "Sign in to Wiki?" {
			t.Errorf("%s", got)
		}
	})
	inWorld(t, func(w *world) { // without a window it is asked again
		w.have(w.server, nil)
		w.start()
		w.agent.open(prompt("p1", "Payroll"))
		synctest.Wait()
		w.server.press(t, "Sign in to Payroll?", "Approve")
		w.wants()
		time.Sleep(still)
		w.server.press(t, "Sign in to Payroll?", "Approve")
		w.wants(decided{ID: "p1", Action: "approve"})
	})
}

// B3: a no needs no calm.
func TestB3DenyAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.agent.open(prompt("p1", "Payroll"))
		synctest.Wait()
		w.server.press(t, "Sign in to Payroll?", "Deny")
		w.wants(decided{ID: "p1", Action: "deny"})
	})
}

// B3: a dialog that is closed, killed, crashes, expires or talks nonsense
// decides nothing, whatever it is about.
func TestB3DialogWithoutAnAnswer(t *testing.T) {
	for name, ends := range map[string]func(w *world, a *ask){
		"closed": func(_ *world, a *ask) { a.answer <- dialog.Answer{} },
		"typed, then closed": func(_ *world, a *ask) {
			a.answer <- dialog.Answer{Number: "42", PIN: api.PIN("314159"), Choice: "acc-1"}
		},
		"killed":   func(_ *world, a *ask) { a.fault <- dialog.ErrFailed },
		"gone":     func(_ *world, a *ask) { a.fault <- dialog.ErrNone },
		"nonsense": func(_ *world, a *ask) { a.answer <- dialog.Answer{Verdict: 99, Number: "42", PIN: api.PIN("314159")} },
		"expired":  func(*world, *ask) { time.Sleep(5 * time.Minute) },
		"hold":     func(w *world, _ *ask) { w.agent.holdBack(&api.Hold{Reason: api.HoldScreenLocked}) },
		"decided elsewhere, and pressed in a window that stays": func(w *world, a *ask) {
			w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "denied"})
			synctest.Wait()
			a.answer <- dialog.Answer{Verdict: dialog.Approve, Number: "42"}
		},
		"agent stops": func(w *world, _ *ask) { w.stop() },
	} {
		for kind, change := range map[string]func(*api.Prompt){
			"plain": func(*api.Prompt) {}, "number": number, "verification": verified, "preferred": preferred, "choices": choices,
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.have(nil, w.window)
					w.start()
					p := prompt("p1", "Payroll")
					change(&p)
					w.window.deaf = strings.Contains(name, "stays")
					w.ask(p)
					ends(w, w.one())
					synctest.Wait()
					if got := w.agent.decisions(); name != "nonsense" && len(got) != 0 || len(w.approvals()) != 0 {
						t.Errorf("%+v", got)
					}
				})
			})
		}
	}
}

// B3: Report is a no, also from a window that was not asked for it.
func TestB3ReportIsADenial(t *testing.T) {
	for _, kind := range []string{"push", "signed_nonce"} {
		inWorld(t, func(w *world) {
			w.have(nil, w.window)
			w.start()
			p := prompt("p1", "Payroll")
			p.Kind = kind
			w.ask(p)
			w.answers(dialog.Answer{Verdict: dialog.Report, Number: "42", PIN: api.PIN("314159")})
			w.wants(decided{ID: "p1", Action: "deny", Report: kind == "push"})
		})
	}
}

// B5: the button of an older prompt, or of another one, approves neither that nor
// the one whose note it is.
func TestB5ButtonsOfAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.ask(prompt("p1", "Payroll"))
		id, _ := w.server.find("Sign in to Payroll?")
		again := prompt("p2", "Payroll")
		again.Repeats = 1
		w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "expired", Reason: Superseded})
		w.ask(again, prompt("p3", "Wiki"))
		other, _ := w.server.find("Sign in to Wiki?")
		w.server.emit(id, approveKey+"p1") // pressed before it was replaced
		w.server.emit(id, approveKey+"p3")
		w.server.emit(other, approveKey+"p2")
		synctest.Wait()
		w.wants()
	})
}

// B2: the number is in no note: what notes say does not depend on it, whatever
// else a prompt is about.
func TestB2NoNumberInANote(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	word := func() string {
		return []string{"", "Payroll", "Wiki <b>x</b>", "42", "a\u202eb", "new\nline", strings.Repeat("long ", 60)}[r.IntN(7)]
	}
	random := func() api.Prompt {
		p := prompt(fmt.Sprint("p", r.IntN(10)), word())
		p.Org, p.User, p.Origin, p.Location, p.IP, p.Client = word(), word(), word(), word(), word(), word()
		p.Kind = []string{"push", "signed_nonce", word()}[r.IntN(3)]
		p.UserVerification = []string{"none", "none", "preferred", "required", word()}[r.IntN(5)]
		p.TransactionType, p.BindingMessage = []string{"", "LOGIN", "CIBA"}[r.IntN(3)], word()
		p.Repeats = r.IntN(4)
		if r.IntN(4) == 0 {
			p.Unusual = []string{word(), word()}
		}
		if r.IntN(6) == 0 {
			choices(&p)
		}
		return p
	}
	s := &screen{}
	for i := range 2000 {
		s.server, s.window = newFakeServer(i%2 == 0), nil
		if i%3 > 0 {
			s.window = &fakeWindow{}
		}
		p := random()
		p.NeedsNumber = true
		it := &item{prompt: p, came: p.CreatedAt}
		note := func(numbers ...string) notification.Note {
			it.prompt.Numbers = numbers
			return s.note(it)
		}
		one, other := note("17", "42", "93"), note("55", "66", "77")
		if !reflect.DeepEqual(one, other) {
			t.Fatalf("seed %d: %+v and %+v", seed, one, other)
		}
		for _, b := range one.Buttons {
			if strings.HasPrefix(b.Key, approveKey) || strings.Contains(strings.ToLower(b.Label), "approve") {
				t.Fatalf("seed %d: %+v can be approved without the number", seed, one)
			}
		}
		// Numbers alone do it, whatever the prompt says of them.
		it.prompt.NeedsNumber = false
		if n := note("17"); slices.ContainsFunc(n.Buttons, func(b notification.Button) bool { return strings.HasPrefix(b.Key, approveKey) }) {
			t.Fatalf("seed %d: %+v", seed, n)
		}
		// Nor does the one that speaks for the rest tell it.
		it.prompt.Numbers = []string{"17"}
		a := s.crowd([]*item{it})
		it.prompt.Numbers = []string{"55"}
		if !reflect.DeepEqual(a, s.crowd([]*item{it})) {
			t.Fatalf("seed %d: %+v", seed, a)
		}
	}
}

// B2, C3: nor does the note approve a sign-in that takes a number or a
// verification, even if the key comes.
func TestB2NoteDoesNotApprove(t *testing.T) {
	for _, change := range []func(*api.Prompt){number, verified, preferred} {
		inWorld(t, func(w *world) {
			w.agent.answer = func(context.Context, string, api.Decision) (api.PromptOutcome, error) {
				t.Error("decided")
				return api.PromptOutcome{}, nil
			}
			w.start()
			p := prompt("p1", "Payroll")
			change(&p)
			w.ask(p)
			id, n := w.server.find("Sign in to Payroll?")
			if !slices.Equal(labels(n), []string{"Open"}) {
				t.Errorf("%q", labels(n))
			}
			w.server.emit(id, approveKey+"p1")
			synctest.Wait()
			if got := w.titles(); len(got) != 1 || len(w.window.asks()) != 0 {
				t.Errorf("%v", got)
			}
		})
	}
}
