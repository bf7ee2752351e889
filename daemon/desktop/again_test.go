package desktop

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/ipc/api"
)

// B5: whoever is in the middle of an answer is told that another sign-in has
// come in the place of theirs: what they go on typing would be for that one.
func TestB5ReplacedDialogSaysSo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		first := prompt("p1", "Payroll")
		verified(&first)
		w.ask(first)
		w.server.press(t, "Sign in to Payroll?", "Open")
		synctest.Wait()
		if got := w.one().q.Problem; got != "" {
			t.Errorf("at first: %q", got)
		}
		again := prompt("p2", "Payroll")
		verified(&again)
		again.Location = "Elsewhere"
		w.agent.close(api.PromptOutcome{ID: "p1", Outcome: "expired", Reason: Superseded})
		w.ask(again)
		if got := w.one().q.Problem; !strings.Contains(got, "another sign-in") {
			t.Errorf("a dialog in the place of another says: %q", got)
		}
		w.answers(dialog.Answer{})
		w.server.press(t, "Sign in to Payroll?", "Open")
		synctest.Wait()
		if got := w.one().q.Problem; got != "" {
			t.Errorf("opened by the person: %q", got)
		}
	})
}

// A service that starts anew shows again what waits, also where there is no
// window and nothing else happens.
func TestServiceComesBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.have(w.server, nil)
		w.start()
		w.ask(prompt("p1", "Payroll"))
		old := w.server
		w.have(newFakeServer(true), nil)
		old.fail()
		synctest.Wait()
		if got := w.titles(); len(got) != 0 {
			t.Fatalf("at once: %v", got)
		}
		time.Sleep(retryAfter)
		synctest.Wait()
		if got := w.titles(); len(got) != 1 || got[0] != "Sign in to Payroll?" {
			t.Errorf("after a while: %v", got)
		}
	})
}

// The note that speaks for the rest comes again for others, also when they look
// like those that it was put away for.
func TestRestComesAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		crowd := func(round int) {
			for i := range maxNotes + 1 {
				w.ask(prompt(fmt.Sprintf("p%d-%d", round, i), fmt.Sprint("App ", i)))
			}
			if len(w.titles()) != maxNotes+1 {
				t.Fatalf("round %d: %v", round, w.titles())
			}
		}
		crowd(1)
		id, _ := w.server.find("1 more sign-in waits")
		w.server.emit(id, "")
		synctest.Wait()
		for i := range maxNotes + 1 {
			w.agent.close(api.PromptOutcome{ID: fmt.Sprintf("p1-%d", i), Outcome: "expired"})
		}
		synctest.Wait()
		crowd(2)
	})
}

// A service that hangs while it is looked at keeps nobody who wants to know of
// something else, and no prompt.
func TestLookHangs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.have(nil, w.window)
		w.d.o.Look = func(ctx context.Context) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}
		w.start()
		began := time.Now()
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		got := w.d.FrontEnds(ctx)
		if took := time.Since(began); took > time.Second {
			t.Errorf("who wants to know waited %s", took)
		}
		if !slices.Equal(got, []string{Dialog}) {
			t.Errorf("known meanwhile: %v", got)
		}
		began = time.Now()
		w.agent.open(prompt("p1", "Payroll"))
		synctest.Wait()
		if len(w.window.asks()) != 1 || time.Since(began) > 0 {
			t.Errorf("%d dialogs are open after %s", len(w.window.asks()), time.Since(began))
		}
		time.Sleep(lookWithin)
		synctest.Wait()
		// It is left alone for a while.
		began = time.Now()
		if missing := w.d.Missing(w.t.Context()); time.Since(began) > 0 || len(missing) != 1 || missing[0].Name != Notification || missing[0].Why == "" {
			t.Errorf("%+v after %s", missing, time.Since(began))
		}
	})
}
