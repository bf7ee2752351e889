package prompt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func pushed(app string) Prompt {
	p := question()
	p.Kind, p.App, p.Pushed, p.IssuedAt = "push", app, true, time.Now()
	return p
}

// asking is one push under way.
type asking struct {
	id   string
	done <-chan asked
}

func push(t *testing.T, b *Broker, p Prompt) asking {
	t.Helper()
	done := make(chan asked, 1)
	before := b.ids()
	go func() {
		a, err := b.Ask(t.Context(), p)
		done <- asked{a, err}
	}()
	synctest.Wait()
	for _, id := range b.ids() {
		if !slices.Contains(before, id) {
			return asking{id, done}
		}
	}
	return asking{"", done}
}

// ids lists what is pending without being a front end.
func (b *Broker) ids() (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.pending {
		ids = append(ids, id)
	}
	return ids
}

func (a asking) ended(t *testing.T, why error) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-a.done:
		if got.answer != (Answer{}) || !errors.Is(got.err, why) {
			t.Fatalf("ended with %+v, %v; want %v", got.answer, got.err, why)
		}
	default:
		t.Fatalf("still waits, want %v", why)
	}
}

// B1: repeats are one prompt that counts them. B5: the newest is the one that
// can be answered, and a decision meant for an older one decides nothing.
func TestB1RepeatsCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		first := push(t, b, pushed("Demo"))
		second := push(t, b, pushed("Demo"))
		first.ended(t, ErrSuperseded)
		if list := b.List(); len(list) != 1 || list[0].ID != second.id || list[0].Repeats != 1 {
			t.Fatalf("%+v", list)
		}
		for _, d := range []Decision{{Action: Approve}, {Action: Deny}} {
			if _, err := b.Decide(t.Context(), first.id, d); !errors.Is(err, ErrSuperseded) {
				t.Fatal(err)
			}
		}
		if _, err := b.decide(second.id, Decision{Action: Approve}); err != nil {
			t.Fatal(err)
		}
		if got := <-second.done; !got.answer.Approved() || got.answer.Prompt != second.id {
			t.Fatalf("%+v", got)
		}
	})
}

func TestOlderNeverReplacesNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		p := pushed("Demo")
		newer := push(t, b, p)
		p.IssuedAt = p.IssuedAt.Add(-time.Second)
		push(t, b, p).ended(t, ErrSuperseded)
		if list := b.List(); len(list) != 1 || list[0].ID != newer.id || list[0].Repeats != 1 {
			t.Fatalf("%+v", list)
		}
		if _, err := b.decide(newer.id, Decision{Action: Deny}); err != nil {
			t.Fatal(err)
		}
	})
}

// Only what is the same to the person collapses, and only what was pushed: a
// page that waits gets its own question.
func TestWhatIsNoRepeat(t *testing.T) {
	for name, change := range map[string]func(*Prompt){
		"app":         func(p *Prompt) { p.App = "Other" },
		"org":         func(p *Prompt) { p.Org = "https://other.example.com" },
		"account":     func(p *Prompt) { p.Account = "acc2" },
		"message":     func(p *Prompt) { p.Message = "Pay 200?" },
		"transaction": func(p *Prompt) { p.Transaction = "CIBA" },
		"a page asks": func(p *Prompt) { p.Pushed = false },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(nil, nil)
				defer b.Attach("cli")()
				push(t, b, pushed("Demo"))
				p := pushed("Demo")
				change(&p)
				if push(t, b, p).id == "" || b.Len() != 2 {
					t.Fatalf("%d prompts", b.Len())
				}
			})
		})
	}
}

// B1: two hundred requests within a minute are three prompts; the others are
// held back without a sound and left to expire.
func TestB1Bombing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counter := &opened{}
		b := New(nil, counter)
		defer b.Attach("cli")()
		var last asking
		held := 0
		for range 200 {
			a := push(t, b, pushed("Demo"))
			if a.id == "" {
				a.ended(t, ErrHeld)
				held++
			} else {
				last = a
			}
			time.Sleep(PushedWindow / 201)
		}
		if counter.n != MaxPushed || held != 200-MaxPushed {
			t.Fatalf("%d prompts, %d held", counter.n, held)
		}
		if list := b.List(); len(list) != 1 || list[0].ID != last.id || list[0].Repeats != 199 {
			t.Fatalf("%+v", list)
		}
		// Denied ones count, another account's do not.
		if _, err := b.decide(last.id, Decision{Action: Deny}); err != nil {
			t.Fatal(err)
		}
		push(t, b, pushed("Demo")).ended(t, ErrHeld)
		other := pushed("Demo")
		other.Account = "acc2"
		if push(t, b, other).id == "" {
			t.Fatal("one account's bombing held back another's request")
		}
		// A minute later the person can be asked again.
		time.Sleep(PushedWindow)
		if push(t, b, pushed("Demo")).id == "" {
			t.Fatal("held back for ever")
		}
	})
}

type opened struct{ n int }

func (o *opened) PromptOpened(Pending) { o.n++ }
func (*opened) PromptClosed(Outcome)   {}
func (*opened) HoldChanged(*Hold)      {}

// Somebody who approves is not bombed.
func TestApprovedDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		for range 3 * MaxPushed {
			a := push(t, b, pushed("Demo"))
			if _, err := b.decide(a.id, Decision{Action: Approve}); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.pushed) != 0 {
			t.Fatalf("%v remembered", b.pushed)
		}
	})
}

// Nobody is there: nobody is bothered, the newest waits until it expires, and
// nothing piles up.
func TestPushedWaitsForAFrontEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		for range 2 * MaxPushed {
			push(t, b, pushed("Demo"))
		}
		time.Sleep(2 * FrontEndWait)
		if list := b.List(); len(list) != 1 || list[0].Repeats != 2*MaxPushed-1 {
			t.Fatalf("%+v", list)
		}
		if len(b.pushed["acc1"]) != 1 {
			t.Fatalf("%d counted", len(b.pushed["acc1"]))
		}
		time.Sleep(5 * time.Minute)
		if b.Len() != 0 || b.crowded("acc1") || len(b.pushed) != 0 {
			t.Fatal("something is left")
		}
	})
}

// A push that was answered elsewhere closes with that reason.
func TestAnsweredElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		ctx, cancel := context.WithCancelCause(t.Context())
		id, done := ask(t, b, ctx, pushed("Demo"))
		cancel(fmt.Errorf("list: %w", ErrElsewhere))
		if got := <-done; !errors.Is(got.err, ErrElsewhere) || !errors.Is(got.err, ErrWithdrawn) || got.answer.Approved() {
			t.Fatalf("%+v", got)
		}
		if _, err := b.Decide(t.Context(), id, Decision{Action: Approve}); !errors.Is(err, ErrElsewhere) {
			t.Fatal(err)
		}
		if errors.Is(ErrWithdrawn, ErrElsewhere) {
			t.Fatal("every withdrawal counts as answered elsewhere")
		}
	})
}

// Reporting one takes away what else was pushed for the account, and only that.
func TestHoldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		gone := push(t, b, pushed("Demo"))
		other := pushed("Demo")
		other.Account = "acc2"
		push(t, b, other)
		page := question()
		page.App = "Page"
		push(t, b, page)
		b.HoldBack("acc1")
		gone.ended(t, ErrHeld)
		if _, err := b.Decide(t.Context(), gone.id, Decision{Action: Approve}); !errors.Is(err, ErrReported) {
			t.Fatal(err)
		}
		if b.Len() != 2 {
			t.Fatalf("%d left", b.Len())
		}
		// One that was on its way here meanwhile comes too late, too.
		push(t, b, pushed("Other")).ended(t, ErrHeld)
		b.LetThrough("acc1")
		push(t, b, pushed("Other"))
		if b.Len() != 3 {
			t.Fatalf("%d after letting through, want 3", b.Len())
		}
	})
}

// B5: pushes that replace each other while several front ends decide at random.
// Whatever was approved was approved under its own id, with one of its own
// numbers.
func TestB5RacingPushes(t *testing.T) {
	b := New(nil, nil)
	defer b.Attach("cli")()
	const n = 50
	type result struct {
		numbers []string
		answer  Answer
	}
	results := make(chan result, n)
	for i := range n {
		go func() {
			p := pushed(string(rune('A' + i%10)))
			p.Account = fmt.Sprint("acc", i%25)
			p.Numbers = []string{fmt.Sprint(100 + 3*i), fmt.Sprint(101 + 3*i), fmt.Sprint(102 + 3*i)}
			a, err := b.Ask(t.Context(), p)
			if err != nil && a != (Answer{}) {
				t.Errorf("an answer beside %v", err)
			}
			results <- result{p.Numbers, a}
		}()
	}
	var mu sync.Mutex
	approved := map[string]string{} // id -> number
	stop := make(chan struct{})
	var deciders sync.WaitGroup
	for range 4 {
		deciders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				list := b.List()
				for _, p := range list {
					number := list[rand.IntN(len(list))].Numbers[rand.IntN(3)] // perhaps another prompt's
					action := []Action{Approve, Deny, "maybe"}[rand.IntN(3)]
					_, err := b.decide(p.ID, Decision{Action: action, Number: number})
					if err == nil && action == Approve {
						mu.Lock()
						approved[p.ID] = number
						mu.Unlock()
					}
				}
			}
		})
	}
	for range n {
		r := <-results
		if !r.answer.Approved() {
			continue
		}
		for len(approvedNumber(&mu, approved, r.answer.Prompt)) == 0 { // the decider is about to note it
			runtime.Gosched()
		}
		if got := approvedNumber(&mu, approved, r.answer.Prompt); got != r.answer.Number || !slices.Contains(r.numbers, got) {
			t.Errorf("%+v, decided with %q, of %v", r.answer, got, r.numbers)
		}
	}
	close(stop)
	deciders.Wait()
}

func approvedNumber(mu *sync.Mutex, approved map[string]string, id string) string {
	mu.Lock()
	defer mu.Unlock()
	return approved[id]
}

// B2, B3: over random decisions, an approval comes of the exact word and one of
// the numbers, of nothing else.
func TestOnlyTheExactDecisionApproves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dice := rand.New(rand.NewPCG(1, 2))
		pick := func(of ...string) string { return of[dice.IntN(len(of))] }
		approvals := 0
		for range 3000 {
			b := New(nil, nil)
			p := question()
			p.Numbers = []string{"12", "34", "56"}
			ctx, cancel := context.WithCancel(t.Context())
			id, done := ask(t, b, ctx, p)
			d := Decision{
				Action: Action(pick("approve", "approve", "approve", "deny", "Approve", "approve\n", "yes", "true", "1", "")),
				Number: pick("12", "34", "56", "1", "123", " 12", "12 ", "012", "", "12,34,56", "\uff11\uff12"),
				Report: dice.IntN(8) == 0, Account: pick("", "", "acc1", "acc9"),
			}
			target := pick(id, id, id, id+"x", "")
			want := target == id && d.Action == Approve && slices.Contains(p.Numbers, d.Number) && !d.Report && d.Account != "acc9"
			_, err := b.decide(target, d)
			cancel()
			got := <-done
			if got.answer.Approved() != want || (err == nil) != (want || target == id && d.Action == Deny && d.Account != "acc9") {
				t.Fatalf("%+v for %q: %+v, %v", d, target, got, err)
			}
			if want {
				approvals++
			}
		}
		if approvals == 0 {
			t.Fatal("nothing was approved, so nothing was tried")
		}
	})
}
