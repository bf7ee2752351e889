package desktop

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/ipc/api"
)

func TestAnsweredOnTheNote(t *testing.T) {
	for label, want := range map[string]decided{
		"Approve":        {ID: "p1", Action: "approve"},
		"Deny":           {ID: "p1", Action: "deny"},
		"This wasn't me": {ID: "p1", Action: "deny", Report: true},
	} {
		t.Run(label, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				p := prompt("p1", "Payroll")
				p.Unusual, p.Repeats = []string{"New place: Lisbon"}, 2
				w.ask(p)
				list := w.server.shown()
				if len(list) != 1 || list[0].Title != "Sign in to Payroll?" || !list[0].Urgent ||
					!slices.Equal(labels(list[0]), []string{"Open", "Approve", "Deny", "This wasn't me"}) {
					t.Fatalf("%+v", list)
				}
				want := "New place: Lisbon\nid.example.com, alice@example.com\nFrom Lisbon, Firefox on Linux, 203.0.113.7\nNow, " +
					p.CreatedAt.Local().Format("15:04") + "; asked 3 times"
				if list[0].Body != want {
					t.Errorf("%q", list[0].Body)
				}
				w.server.press(t, "Sign in to Payroll?", label)
				w.empty()
			})
			inWorld(t, func(w *world) {
				w.start()
				w.ask(prompt("p1", "Payroll"))
				w.server.press(t, "Sign in to Payroll?", label)
				w.wants(want)
				w.empty()
				if !w.server.left {
					t.Error("the connection outlives what it is for")
				}
			})
		})
	}
	inWorld(t, func(w *world) { // nobody at this computer waits for more than a push
		w.start()
		p := prompt("p1", "Payroll")
		p.Kind = "signed_nonce"
		w.ask(p)
		if n := w.server.shown()[0]; !slices.Equal(labels(n), []string{"Open", "Approve", "Deny"}) {
			t.Errorf("%q", labels(n))
		}
	})
}

// What a note can do about a prompt, with and without buttons and windows.
func TestSurfaces(t *testing.T) {
	for _, row := range []struct {
		name              string
		change            func(*api.Prompt)
		buttons, windows  bool
		labels            string // of the note; "none": there is no note
		line              string // the last one of it
		dialogs           int
		frontEnds, absent string
	}{
		{"all", nil, true, true, "Open,Approve,Deny,This wasn't me", "", 0, "dialog,notification", ""},
		{"no window", nil, true, false, "Approve,Deny,This wasn't me", "", 0, "notification", "dialog"},
		{"number", number, true, true, "Open", "Open this to type the number that the page shows.", 0, "dialog,notification", ""},
		{"number, no window", number, true, false, "Deny,This wasn't me", "To answer, on a terminal: countersign prompt watch", 0, "notification", "dialog"},
		{"verification", verified, true, true, "Open", "Open this to show that it is you.", 0, "dialog,notification", ""},
		{"preferred", preferred, true, true, "Open", "Open this to show that it is you.", 0, "dialog,notification", ""},
		{"unheard of", unheardOf, true, true, "Open", "Open this to show that it is you.", 0, "dialog,notification", ""},
		{"choices", choices, true, true, "Open", "Open this to choose the account.", 0, "dialog,notification", ""},
		{"long message", long, true, true, "Open", "Open this to answer.", 0, "dialog,notification", ""},
		{"no buttons", nil, false, true, "none", "", 1, "dialog,notification", ""},
		{"no buttons, no window", nil, false, false, "", "To answer, on a terminal: countersign prompt watch", 0, "", "notification,dialog"},
	} {
		t.Run(row.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				server, window := newFakeServer(row.buttons), w.window
				if !row.windows {
					window = nil
				}
				w.have(server, window)
				w.start()
				p := prompt("p1", "Payroll")
				if row.change != nil {
					row.change(&p)
				}
				w.ask(p)
				list := server.shown()
				if row.labels == "none" {
					if len(list) != 0 {
						t.Errorf("%+v", list)
					}
				} else if len(list) != 1 || strings.Join(labels(list[0]), ",") != row.labels || !strings.HasSuffix(list[0].Body, row.line) {
					t.Errorf("%+v", list)
				}
				if row.windows && len(window.asks()) != row.dialogs {
					t.Errorf("%d dialogs", len(window.asks()))
				}
				if got := strings.Join(w.agent.frontEnds(), ","); got != row.frontEnds {
					t.Errorf("attached: %s", got)
				}
				var absent []string
				for _, a := range w.d.Missing(w.t.Context()) {
					absent = append(absent, a.Name)
					if a.Why == "" {
						t.Errorf("%s: no word why", a.Name)
					}
				}
				if got := strings.Join(absent, ","); got != row.absent {
					t.Errorf("missing: %s", got)
				}
			})
		})
	}
}

func number(p *api.Prompt)   { p.NeedsNumber, p.Numbers = true, []string{"17", "42", "93"} }
func verified(p *api.Prompt) { p.UserVerification, p.VerificationMethods = "required", []string{"pin"} }
func preferred(p *api.Prompt) {
	p.UserVerification, p.VerificationMethods = "preferred", []string{"pin"}
}
func unheardOf(p *api.Prompt) { p.UserVerification = "strict" }
func choices(p *api.Prompt) {
	p.Account, p.Choices = "", []api.Choice{{Account: "acc-1", User: "alice", UserVerification: "none"}, {Account: "acc-2", User: "bob", UserVerification: "required"}}
	p.UserVerification, p.VerificationMethods = "required", []string{"pin"}
}
func long(p *api.Prompt) {
	p.TransactionType, p.BindingMessage = "CIBA", strings.Repeat("Pay a little more. ", 10)
}

// A message is said whole, and approved on the note when it is short.
func TestMessage(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		p := prompt("p1", "Bank")
		p.TransactionType, p.BindingMessage = "CIBA", "Pay 300 to Bob?"
		w.ask(p)
		n := w.server.shown()[0]
		if n.Title != "Bank asks" || !strings.HasPrefix(n.Body, "Pay 300 to Bob?\n") || !slices.Contains(labels(n), "Approve") {
			t.Errorf("%+v", n)
		}
	})
}

// With nothing at all the agent is as it is without this front end, and what
// comes later is found when a prompt or somebody asks for it.
func TestNothingThere(t *testing.T) {
	inWorld(t, func(w *world) {
		server, window := w.server, w.window
		w.have(nil, nil)
		w.start()
		w.ask(prompt("p1", "Payroll"))
		if got := w.agent.frontEnds(); len(got) != 0 {
			t.Errorf("attached: %v", got)
		}
		if w.agent.listed != 0 {
			t.Error("prompts count as seen that nobody can see")
		}
		if err := w.d.Show(w.t.Context(), "p1"); !errors.Is(err, ErrNoWindow) {
			t.Error(err)
		}
		if err := w.d.ShowReport(w.t.Context(), "Doctor", nil); !errors.Is(err, ErrNoWindow) {
			t.Error(err)
		}
		w.have(nil, window)
		if got := w.d.FrontEnds(w.t.Context()); !slices.Equal(got, []string{Dialog}) {
			t.Errorf("%v", got)
		}
		synctest.Wait()
		if w.one().q.Heading != "Sign in to Payroll?" {
			t.Errorf("%+v", w.one().q)
		}
		w.answers(dialog.Answer{})
		w.have(server, window)
		time.Sleep(retryAfter) // it was asked for a moment ago
		if got := w.d.FrontEnds(w.t.Context()); !slices.Equal(got, []string{Dialog, Notification}) {
			t.Errorf("%v", got)
		}
		synctest.Wait()
		if got := w.titles(); !slices.Equal(got, []string{"Sign in to Payroll?"}) {
			t.Errorf("%v", got)
		}
		w.stop()
		w.empty()
		if got := w.agent.frontEnds(); len(got) != 0 {
			t.Errorf("attached by an agent that stopped: %v", got)
		}
		if err := w.d.Show(w.t.Context(), "p1"); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

// A prompt that waited before there was anybody to see it is shown.
func TestWaitedBefore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.agent.open(prompt("p1", "Payroll"))
		w.start()
		if got := w.titles(); !slices.Equal(got, []string{"Sign in to Payroll?"}) {
			t.Errorf("%v", got)
		}
		w.agent.dropAll() // too slow: it starts over
		synctest.Wait()
		w.agent.open(prompt("p2", "Wiki"))
		w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "expired"})
		synctest.Wait()
		if got := w.titles(); !slices.Equal(got, []string{"Sign in to Wiki?"}) {
			t.Errorf("%v", got)
		}
	})
}

// A press on the note opens the dialog; one that is closed brings the note back.
func TestOpenedAndClosed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		p := prompt("p1", "Payroll")
		number(&p)
		w.ask(p)
		for range 3 {
			w.server.press(t, "Sign in to Payroll?", "Open")
			q := w.one().q
			if q.Title != "Countersign" || q.Heading != "Sign in to Payroll?" || q.Entry != dialog.Number || !q.Report || !q.Until.Equal(p.ExpiresAt) || len(q.Facts) < 4 {
				t.Fatalf("%+v", q)
			}
			if len(w.server.shown()) != 0 {
				t.Error("asked for twice on the screen")
			}
			w.answers(dialog.Answer{})
			if got := w.titles(); len(got) != 1 {
				t.Errorf("%v", got)
			}
		}
		w.wants()
		// Put away: it comes no more by itself, and can be opened from elsewhere.
		id, _ := w.server.find("Sign in to Payroll?")
		_ = w.server.Close(w.t.Context(), id)
		w.server.emit(id, "")
		synctest.Wait()
		w.empty()
		if err := w.d.Show(w.t.Context(), "p1"); err != nil {
			t.Error(err)
		}
		if err := w.d.Show(w.t.Context(), "p1"); err != nil {
			t.Error(err) // it is open
		}
		if err := w.d.Show(w.t.Context(), "p2"); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		synctest.Wait()
		w.answers(dialog.Answer{Verdict: dialog.Approve, Number: " 4 2 "})
		w.wants(decided{ID: "p1", Action: "approve", Number: "42"})
		w.empty()
	})
}

// Where nothing can be clicked, dialogs come by themselves, one after the other.
func TestOneDialogAtATime(t *testing.T) {
	inWorld(t, func(w *world) {
		w.have(nil, w.window)
		w.start()
		w.ask(prompt("p1", "Payroll"), prompt("p2", "Wiki"), prompt("p3", "Mail"))
		for _, app := range []string{"Payroll", "Wiki", "Mail"} {
			if got := w.one().q.Heading; got != "Sign in to "+app+"?" {
				t.Fatalf("%s", got)
			}
			w.answers(dialog.Answer{})
		}
		w.empty() // none comes a second time by itself
		if err := errors.Join(w.d.Show(w.t.Context(), "p3"), w.d.Show(w.t.Context(), "p1")); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(w.window.asks()); n != 2 {
			t.Errorf("%d dialogs", n)
		}
		w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "denied"})
		synctest.Wait()
		if got := w.one().q.Heading; got != "Sign in to Mail?" {
			t.Errorf("%s", got)
		}
	})
}

func TestTooManyWindows(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		for i := range maxDialogs + 1 {
			id := fmt.Sprint("p", i)
			w.ask(prompt(id, "App "+id))
			if err := w.d.Show(w.t.Context(), id); (err != nil) != (i == maxDialogs) || err != nil && !errors.Is(err, ErrTooManyWindows) {
				t.Errorf("%d: %v", i, err)
			}
			synctest.Wait()
		}
	})
}

// A few notes, and one that speaks for the rest.
func TestManyPrompts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		for i := range 8 {
			w.ask(prompt(fmt.Sprint("p", i), fmt.Sprint("App ", i)))
		}
		list := w.server.shown()
		rest, n := w.server.find("3 more sign-ins wait")
		if len(list) != maxNotes+1 || rest == 0 || n.Body != "App 2, App 1, App 0" || !slices.Equal(labels(n), []string{"Open"}) {
			t.Fatalf("%+v", list)
		}
		if id, _ := w.server.find("Sign in to App 7?"); id == 0 {
			t.Error("the newest is not among them")
		}
		w.agent.close(api.PromptOutcome{ID: "p7", Outcome: "expired"})
		w.agent.close(api.PromptOutcome{ID: "p0", Outcome: "expired"})
		synctest.Wait()
		if rest, _ := w.server.find("1 more sign-in waits"); rest == 0 || len(w.server.shown()) != maxNotes+1 {
			t.Errorf("%v", w.titles())
		}
		w.server.press(t, "1 more sign-in waits", "Open")
		if got := w.one().q.Heading; got != "Sign in to App 1?" {
			t.Errorf("%s", got)
		}
		if len(w.server.shown()) != maxNotes {
			t.Errorf("%v", w.titles())
		}
		w.answers(dialog.Answer{})
		// Put away, it stays away until there is something new to say.
		rest, _ = w.server.find("1 more sign-in waits")
		_ = w.server.Close(w.t.Context(), rest)
		w.server.emit(rest, "")
		synctest.Wait()
		if len(w.server.shown()) != maxNotes {
			t.Errorf("%v", w.titles())
		}
		w.ask(prompt("p8", "App 8"))
		if rest, _ := w.server.find("2 more sign-ins wait"); rest == 0 {
			t.Errorf("%v", w.titles())
		}
	})
}

// A repeat takes the place of the note, and of the dialog if one was open.
func TestRepeats(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.ask(prompt("p1", "Payroll"))
		first, _ := w.server.find("Sign in to Payroll?")
		again := prompt("p2", "Payroll")
		again.Repeats = 1
		w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "expired", Reason: Superseded})
		w.ask(again)
		second, n := w.server.find("Sign in to Payroll?")
		if len(w.server.shown()) != 1 || first != second || !strings.HasSuffix(n.Body, "asked 2 times") {
			t.Fatalf("%d, %d, %+v", first, second, n)
		}
		w.server.press(t, n.Title, "Open")
		again = prompt("p3", "Payroll")
		again.Repeats = 2
		w.agent.close(api.PromptOutcome{ID: "p2", Outcome: "expired", Reason: Superseded})
		w.ask(again)
		if len(w.server.shown()) != 0 {
			t.Errorf("%v", w.titles())
		}
		w.answers(dialog.Answer{Verdict: dialog.Deny})
		w.wants(decided{ID: "p3", Action: "deny"})
		w.empty()
		// One that nobody replaces after all goes.
		w.ask(prompt("p4", "Payroll"))
		w.agent.close(api.PromptOutcome{ID: "p4", Outcome: "expired", Reason: Superseded})
		w.ask(prompt("p5", "Wiki"))
		if got := w.titles(); !slices.Equal(got, []string{"Sign in to Wiki?"}) {
			t.Errorf("%v", got)
		}
	})
}

// During a hold there is nothing on the screen, and nothing can be put there.
func TestHold(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.ask(prompt("p1", "Payroll"), prompt("p2", "Wiki"))
		if err := errors.Join(w.d.Show(w.t.Context(), "p2"), w.d.ShowReport(w.t.Context(), "Doctor", []string{"all is well"})); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(w.window.asks()) != 1 || len(w.window.tells()) != 1 || w.window.tells()[0].lines[0] != "all is well" {
			t.Fatalf("%v, %v", w.window.asks(), w.window.tells())
		}
		w.agent.holdBack(&api.Hold{Reason: api.HoldScreenLocked})
		w.empty()
		if err := w.d.Show(w.t.Context(), "p1"); !errors.Is(err, ErrHeld) {
			t.Error(err)
		}
		if err := w.d.ShowReport(w.t.Context(), "Doctor", nil); !errors.Is(err, ErrHeld) {
			t.Error(err)
		}
		w.agent.holdBack(&api.Hold{Reason: api.HoldPaused}) // somebody sits there
		synctest.Wait()
		if err := w.d.ShowReport(w.t.Context(), "Doctor", nil); err != nil {
			t.Error(err)
		}
		w.agent.holdBack(nil)
		synctest.Wait()
		if got := w.titles(); len(got) != 2 {
			t.Errorf("%v", got)
		}
		w.wants()
	})
}
