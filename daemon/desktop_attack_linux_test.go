package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/bus/bustest"
	"countersign.dev/daemon/desktop"
	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
)

// ledger writes down which decisions the agent took: the first word that was
// valid. It stands between the desktop and the agent, and hears of the local
// API's decisions as well.
type ledger struct {
	desktop.Agent
	mu    sync.Mutex
	taken map[string][]string // outcomes by prompt
	by    map[string]int      // how many by whom
}

func (l *ledger) note(by, id string, o api.PromptOutcome, err error) {
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken[id] = append(l.taken[id], o.Outcome)
	l.by[by]++
}

func (l *ledger) Decide(ctx context.Context, id string, d api.Decision) (api.PromptOutcome, error) {
	o, err := l.Agent.Decide(ctx, id, d)
	l.note("desktop", id, o, err)
	return o, err
}

// B5: fifty prompts at once, decided at random by presses on notifications, in
// dialogs and over the local API. Each ends as the first valid decision for that
// very prompt said, and no other decision for it was taken. Presses and numbers
// that belong to another prompt are refused, and what has ended stays ended.
func TestB5FiftyOnTheDesktop(t *testing.T) {
	const prompts = 50
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	service := notified(t)
	book := &ledger{taken: map[string][]string{}, by: map[string]int{}}
	number := func(i int) string { return strconv.Itoa(100 + i) } // of prompt i; every third takes one
	windows := &fakeWindows{asked: func(ctx context.Context, q dialog.Question) (dialog.Answer, error) {
		i, _ := strconv.Atoi(strings.Trim(strings.TrimPrefix(q.Heading, "Sign in to App "), "?"))
		switch rand.IntN(6) {
		case 0:
			return dialog.Answer{}, nil
		case 1:
			return dialog.Answer{}, dialog.ErrFailed
		case 2:
			return dialog.Answer{Verdict: dialog.Deny}, nil
		case 3:
			return dialog.Answer{Verdict: dialog.Approve, Number: number(i + 3)}, nil // of another one
		default:
			return dialog.Answer{Verdict: dialog.Approve, Number: number(i)}, nil
		}
	}}
	c := onDesktop(t, windows)
	c.surfaces.Agent, c.surfaces.Now = book, calm()
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	book.Agent = asker{front{d}}
	a := runAgent(t, d, c)
	if s, err := a.client.Status(t.Context()); err != nil || !slices.Equal(s.FrontEnds, []string{"dialog", "notification"}) {
		t.Fatalf("%v, %v", s.FrontEnds, err)
	}

	var asking, driving sync.WaitGroup
	done := make(chan struct{})
	answers := make([]prompt.Answer, prompts)
	errs := make([]error, prompts)
	for i := range prompts {
		asking.Go(func() {
			p := prompt.Prompt{Account: "acc", Kind: "push", App: fmt.Sprint("App ", i), UserVerification: "none", ExpiresAt: time.Now().Add(time.Minute)}
			if i%3 == 0 {
				p.Numbers = []string{number(i), "1"}
			}
			answers[i], errs[i] = d.prompts.Ask(t.Context(), p)
			outcome := "denied"
			if answers[i].Approved() {
				outcome = "approved"
			}
			d.prompts.Settle(answers[i].Prompt, outcome, "")
		})
	}
	drive := func(seed uint64, step func(r *rand.Rand)) {
		r := rand.New(rand.NewPCG(seed, seed))
		driving.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					step(r)
				}
			}
		})
	}
	drive(seed, func(r *rand.Rand) { // who presses
		changed, list := service.Changed(), service.Shown()
		if len(list) == 0 {
			select {
			case <-changed:
			case <-done:
			}
			return
		}
		note, other := list[r.IntN(len(list))], list[r.IntN(len(list))]
		key := ""
		if n := len(note.Actions) / 2; n > 0 { // else it only tells
			key = note.Actions[2*r.IntN(n)]
		}
		if other.ID != note.ID && other.Key("Approve") != "" {
			service.Press(note.ID, other.Key("Approve")) // the button of another one
		}
		service.Press(note.ID, key)
		service.Press(note.ID, key) // a double click
		select {
		case <-changed:
		case <-done:
		case <-time.After(50 * time.Millisecond): // pressed what had gone already
		}
	})
	for n := range 2 {
		drive(seed+uint64(n)+1, func(r *rand.Rand) { // programs at the socket
			list, err := a.client.Prompts(t.Context(), "cli")
			if err != nil || len(list.Prompts) == 0 {
				return
			}
			p := list.Prompts[r.IntN(len(list.Prompts))]
			decision := api.Decision{Action: []string{"", "yes", "deny", "approve", "approve"}[r.IntN(5)], Number: []string{"", "7", "1"}[r.IntN(3)]}
			if strings.ContainsAny(p.App[len(p.App)-1:], "13579") && (decision.Action == "approve" || decision.Action == "deny") {
				decision.Action, decision.Number = "approve", "7" // leave some to the person
				if !p.NeedsNumber {
					return
				}
			}
			o, err := a.client.DecidePrompt(t.Context(), p.ID, decision)
			book.note("socket", p.ID, o, err)
		})
	}
	asking.Wait()
	close(done)
	driving.Wait()
	service.Await("nothing that asks", func(list []bustest.Shown) bool {
		return !slices.ContainsFunc(list, func(s bustest.Shown) bool { return len(s.Actions) > 0 })
	})

	book.mu.Lock()
	defer book.mu.Unlock()
	approved := 0
	for i, answer := range answers {
		outcome := map[prompt.Verdict]string{prompt.Approved: "approved", prompt.Denied: "denied"}[answer.Verdict]
		if errs[i] != nil || !slices.Equal(book.taken[answer.Prompt], []string{outcome}) {
			t.Errorf("App %d: %q, %v; decided: %q", i, outcome, errs[i], book.taken[answer.Prompt])
		}
		if answer.Approved() && i%3 == 0 && answer.Number != number(i) && answer.Number != "1" {
			t.Errorf("App %d was approved with the number %q", i, answer.Number)
		}
		if answer.Approved() {
			approved++
		}
		// It stays so: approved again, or by a press on what is gone.
		if _, err := a.client.DecidePrompt(t.Context(), answer.Prompt, api.Decision{Action: "approve", Number: "1"}); !refusedAs(err, "prompt_decided") {
			t.Errorf("App %d decided again: %v", i, err)
		}
	}
	t.Logf("approved %d; decided: %v", approved, book.by)
	if book.by["desktop"] < prompts/4 || book.by["socket"] == 0 {
		t.Errorf("only one side decided: %v", book.by)
	}
}

// B5: an approval that comes when the prompt has expired is refused, on the note,
// in the dialog and at the socket.
func TestB5ApprovedAfterExpiry(t *testing.T) {
	service := notified(t)
	late := make(chan struct{})
	windows := &fakeWindows{asked: func(context.Context, dialog.Question) (dialog.Answer, error) {
		<-late // a window that does not heed its time
		return dialog.Answer{Verdict: dialog.Approve}, nil
	}}
	c := onDesktop(t, windows)
	c.surfaces.Now = calm()
	a := startAgent(t, c)
	events := a.subscribed(t)
	asked := make(chan error, 2)
	ask := func(app string) (id string) {
		go func() {
			answer, err := a.prompts.Ask(t.Context(), prompt.Prompt{Account: "acc", Kind: "push", App: app, UserVerification: "none", ExpiresAt: time.Now().Add(time.Second)})
			if answer.Approved() {
				err = errors.New("approved")
			}
			asked <- err
		}()
		return nextPrompt(t, events).ID
	}
	first := ask("Payroll")
	note := service.One()
	second := ask("Wiki")
	service.Await("two notes", func(s []bustest.Shown) bool { return len(s) == 2 })
	if err := a.client.ShowPrompt(t.Context(), second); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-asked; !errors.Is(err, prompt.ErrExpired) {
			t.Error(err)
		}
	}
	service.Press(note.ID, note.Key("Approve"))
	close(late)
	for _, id := range []string{first, second} {
		if _, err := a.client.DecidePrompt(t.Context(), id, api.Decision{Action: "approve"}); !refusedAs(err, "prompt_expired") {
			t.Error(err)
		}
	}
	service.None()
}

// refusedAs says whether an error is the refusal with that code.
func refusedAs(err error, code string) bool {
	var refused *api.Error
	return errors.As(err, &refused) && refused.Code == code
}
