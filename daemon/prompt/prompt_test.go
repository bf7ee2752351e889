package prompt

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"
)

func question() Prompt {
	return Prompt{
		Account: "acc1", Kind: "signed_nonce", App: "Demo", Org: "https://org.example.com",
		User: "alice@example.com", UserVerification: VerificationNone, ExpiresAt: time.Now().Add(5 * time.Minute),
	}
}

type asked struct {
	answer Answer
	err    error
}

// ask runs Ask in its own goroutine and returns the prompt's id.
func ask(t *testing.T, b *Broker, ctx context.Context, p Prompt) (id string, done <-chan asked) {
	t.Helper()
	c := make(chan asked, 1)
	go func() {
		a, err := b.Ask(ctx, p)
		c <- asked{a, err}
	}()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, e := range b.pending {
		if e.view.App == Clean(p.App, maxName) {
			id = k
		}
	}
	return id, c
}

func TestDecisions(t *testing.T) {
	for _, row := range []struct {
		name     string
		decision Decision
		choices  bool
		number   bool
		refused  error
		verdict  Verdict
	}{
		{name: "approve", decision: Decision{Action: "approve"}, verdict: Approved},
		{name: "deny", decision: Decision{Action: "deny"}, verdict: Denied},
		{name: "deny and report", decision: Decision{Action: "deny", Report: true}, verdict: Denied},
		{name: "naming the account", decision: Decision{Action: "approve", Account: "acc1"}, verdict: Approved},
		{name: "choice", decision: Decision{Action: "approve", Account: "acc2"}, choices: true, verdict: Approved},
		{name: "denying all choices", decision: Decision{Action: "deny"}, choices: true, verdict: Denied},
		{name: "number", decision: Decision{Action: "approve", Number: "42"}, number: true, verdict: Approved},
		// B3: a deny, a typo or a new action must never approve.
		{name: "zero decision", decision: Decision{}, refused: ErrUnknownAction},
		{name: "upper case", decision: Decision{Action: "APPROVE"}, refused: ErrUnknownAction},
		{name: "blank", decision: Decision{Action: "approve "}, refused: ErrUnknownAction},
		{name: "default", decision: Decision{Action: "default"}, refused: ErrUnknownAction},
		{name: "closed", decision: Decision{Action: "closed"}, refused: ErrUnknownAction},
		{name: "approve and report", decision: Decision{Action: "approve", Report: true}, refused: ErrUnknownAction},
		{name: "other account", decision: Decision{Action: "approve", Account: "acc9"}, refused: ErrWrongAccount},
		{name: "no choice", decision: Decision{Action: "approve"}, choices: true, refused: ErrAccountNeeded},
		{name: "foreign choice", decision: Decision{Action: "approve", Account: "acc9"}, choices: true, refused: ErrWrongAccount},
		{name: "no number", decision: Decision{Action: "approve"}, number: true, refused: ErrNumberRequired},
		{name: "a number not shown", decision: Decision{Action: "approve", Number: "43"}, number: true, refused: ErrWrongNumber},
		{name: "part of a number", decision: Decision{Action: "approve", Number: "4"}, number: true, refused: ErrWrongNumber},
		{name: "another spelling", decision: Decision{Action: "approve", Number: "08"}, number: true, refused: ErrWrongNumber},
		{name: "all numbers", decision: Decision{Action: "approve", Number: "17 42 8"}, number: true, refused: ErrWrongNumber},
		{name: "denying with a wrong number", decision: Decision{Action: "deny", Number: "43"}, number: true, verdict: Denied},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(nil, nil)
				defer b.Attach("cli")()
				p := question()
				if row.number {
					p.Numbers = []string{"17", "42", "8"}
				}
				if row.choices {
					p.Account, p.Choices = "", []Choice{{"acc1", "a", VerificationNone}, {"acc2", "b", VerificationNone}}
				}
				id, done := ask(t, b, t.Context(), p)
				_, err := b.decide(id, row.decision)
				if !errors.Is(err, row.refused) || (err == nil) != (row.refused == nil) {
					t.Fatalf("decide: %v, want %v", err, row.refused)
				}
				if row.refused != nil {
					if b.Len() != 1 {
						t.Fatal("a refused decision took the prompt away")
					}
					got := <-done // expires by itself
					if got.answer.Approved() || !errors.Is(got.err, ErrExpired) {
						t.Fatalf("after a refused decision: %+v", got)
					}
					return
				}
				got := <-done
				if got.err != nil || got.answer.Verdict != row.verdict || got.answer.Prompt != id {
					t.Fatalf("got %+v", got)
				}
				if want := row.decision.Number; row.verdict == Approved && got.answer.Number != want || row.verdict == Denied && got.answer.Number != "" {
					t.Fatalf("number %q", got.answer.Number)
				}
				if row.decision.Account != "" && got.answer.Account != row.decision.Account {
					t.Fatalf("account %q", got.answer.Account)
				}
			})
		})
	}
}

func TestZeroAnswerApprovesNothing(t *testing.T) {
	if (Answer{}).Approved() || (Answer{Verdict: Denied}).Approved() || (Answer{Verdict: 7}).Approved() {
		t.Fatal("approved without an approval")
	}
}

// B5: approving an unknown, expired, withdrawn or decided prompt is an error.
func TestLateDecisions(t *testing.T) {
	approve := Decision{Action: "approve"}
	t.Run("unknown", func(t *testing.T) {
		if _, err := New(nil, nil).Decide(t.Context(), "NOPE", approve); !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := New(nil, nil)
			defer b.Attach("cli")()
			id, done := ask(t, b, t.Context(), question())
			if got := <-done; !errors.Is(got.err, ErrExpired) || got.answer != (Answer{}) {
				t.Fatalf("%+v", got)
			}
			if _, err := b.Decide(t.Context(), id, approve); !errors.Is(err, ErrExpired) {
				t.Fatal(err)
			}
		})
	})
	t.Run("withdrawn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := New(nil, nil)
			defer b.Attach("cli")()
			ctx, cancel := context.WithCancel(t.Context())
			id, done := ask(t, b, ctx, question())
			cancel()
			if got := <-done; !errors.Is(got.err, ErrWithdrawn) {
				t.Fatalf("%+v", got)
			}
			if _, err := b.Decide(t.Context(), id, approve); !errors.Is(err, ErrWithdrawn) {
				t.Fatal(err)
			}
		})
	})
	t.Run("decided", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := New(nil, nil)
			defer b.Attach("cli")()
			id, done := ask(t, b, t.Context(), question())
			if _, err := b.decide(id, Decision{Action: "deny"}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Decide(t.Context(), id, approve); !errors.Is(err, ErrDecided) {
				t.Fatal(err)
			}
			if got := <-done; got.answer.Approved() {
				t.Fatal("a denied prompt was approved afterwards")
			}
		})
	})
}

func TestFrontEndPresence(t *testing.T) {
	for _, row := range []struct {
		name string
		act  func(*Broker)
		want error
	}{
		{"nobody", func(*Broker) {}, ErrNoFrontEnd},
		{"a status look does not count", func(b *Broker) { b.Len() }, ErrNoFrontEnd},
		{"listed", func(b *Broker) { b.List() }, ErrExpired},
		{"looked at by a program", func(b *Broker) { b.Waiting() }, ErrNoFrontEnd},
		{"attached later", func(b *Broker) { b.Attach("tray") }, ErrExpired},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(nil, nil)
				start := time.Now()
				_, done := ask(t, b, t.Context(), question())
				row.act(b)
				got := <-done
				if !errors.Is(got.err, row.want) {
					t.Fatalf("%v, want %v", got.err, row.want)
				}
				if row.want == ErrNoFrontEnd && time.Since(start) != FrontEndWait {
					t.Fatalf("after %v", time.Since(start))
				}
			})
		})
	}
	t.Run("gone before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := New(nil, nil)
			detach := b.Attach("cli")
			detach()
			detach()
			if len(b.FrontEnds()) != 0 {
				t.Fatal(b.FrontEnds())
			}
			_, done := ask(t, b, t.Context(), question())
			if got := <-done; !errors.Is(got.err, ErrNoFrontEnd) {
				t.Fatal(got.err)
			}
		})
	})
}

// B7: time travel. The wall clock may jump either way while a prompt waits;
// the earlier end of the two clocks counts.
func TestClockJumps(t *testing.T) {
	for _, row := range []struct {
		name   string
		jump   time.Duration // of the wall clock
		wait   time.Duration // really elapsed
		refuse bool
	}{
		{"none", 0, time.Minute, false},
		{"resume after eight hours", 8 * time.Hour, time.Second, true},
		{"set back an hour", -time.Hour, time.Minute, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var shift time.Duration
				b := New(func() time.Time { return time.Now().Add(shift) }, nil)
				defer b.Attach("cli")()
				id, done := ask(t, b, t.Context(), question())
				shift = row.jump
				time.Sleep(row.wait)
				_, err := b.decide(id, Decision{Action: "approve"})
				if (err != nil) != row.refuse {
					t.Fatal(err)
				}
				if got := <-done; got.answer.Approved() == row.refuse {
					t.Fatalf("%+v", got)
				}
			})
		})
	}
	t.Run("set back does not prolong", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var shift time.Duration
			b := New(func() time.Time { return time.Now().Add(shift) }, nil)
			defer b.Attach("cli")()
			start := time.Now()
			_, done := ask(t, b, t.Context(), question())
			shift = -time.Hour
			if got := <-done; !errors.Is(got.err, ErrExpired) || time.Since(start) != 5*time.Minute {
				t.Fatalf("%v after %v", got.err, time.Since(start))
			}
		})
	})
}

// B5: fifty prompts at once, decided at random by several front ends. Each
// caller gets the decision made for its own prompt.
func TestConcurrentPrompts(t *testing.T) {
	b := New(nil, nil)
	defer b.Attach("cli")()
	defer b.Attach("tray")()
	const n = 50
	type result struct {
		app    string
		answer Answer
	}
	results := make(chan result, n)
	for i := range n {
		go func() {
			p := question()
			p.App = string(rune('A'+i/26)) + string(rune('a'+i%26))
			a, _ := b.Ask(t.Context(), p)
			results <- result{p.App, a}
		}()
	}
	var mu sync.Mutex
	decided := map[string]Action{} // app -> action of the decision that was accepted
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				mu.Lock()
				full := len(decided) == n
				mu.Unlock()
				if full {
					return
				}
				for _, p := range b.List() {
					action := []Action{Approve, Deny, "maybe"}[rand.IntN(3)]
					if _, err := b.decide(p.ID, Decision{Action: action}); err == nil {
						mu.Lock()
						decided[p.App] = action
						mu.Unlock()
						b.Settle(p.ID, string(action), "")
					}
				}
			}
		})
	}
	got := map[string]Answer{}
	for range n {
		r := <-results
		got[r.app] = r.answer
	}
	wg.Wait()
	for app, a := range got {
		if a.Approved() != (decided[app] == Approve) {
			t.Errorf("%s: decided %q, answered %+v", app, decided[app], a)
		}
	}
}

func TestDecideReportsTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		id, done := ask(t, b, t.Context(), question())
		go func() {
			<-done
			b.Settle(id, "refused", "E0000212\x1b[31m")
			b.Settle(id, "approved", "second word")
		}()
		o, err := b.Decide(t.Context(), id, Decision{Action: "approve"})
		if err != nil || o.Outcome != "refused" || o.Reason != "E0000212[31m" {
			t.Fatalf("%+v, %v", o, err)
		}
		// An org that does not answer must not hold the person up for ever.
		id, _ = ask(t, b, t.Context(), question())
		start := time.Now()
		o, err = b.Decide(t.Context(), id, Decision{Action: "approve"})
		if err != nil || o.Outcome != "approved" || o.Reason == "" || time.Since(start) != settleWait {
			t.Fatalf("%+v, %v", o, err)
		}
	})
}

func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := New(nil, nil)
		other := question()
		other.Account = "acc2"
		for range MaxPerAccount {
			ask(t, b, ctx, question())
		}
		if _, err := b.Ask(ctx, question()); !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
		for range MaxPending - MaxPerAccount { // the others have their share
			ask(t, b, ctx, other)
		}
		other.Account = "acc3"
		if _, err := b.Ask(ctx, other); !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
		cancel()
	})
}

// B9: text injection into prompts.
func TestClean(t *testing.T) {
	for _, row := range [][2]string{
		{"Demo app", "Demo app"},
		{"  a \t b\r\n c ", "a b c"},
		{"a\x1b[2Jb\x07", "a[2Jb"},
		{"user\u202etxt.exe", "usertxt.exe"},
		{"\u2066isolate\u2069", "isolate"},
		{"zero\u200bwidth\ufeff", "zerowidth"},
		{"line\u2028sep\u2029par", "line sep par"},
		{"Zürich 東京 نص", "Zürich 東京 نص"},
		{"a\u0301\u0301\u0301\u0301\u0301b", "a\u0301\u0301b"},
		{"\u0301a", "a"},
		{"bad\xffutf8", "bad\ufffdutf8"},
		{"\u3164hidden\u2800name", "hidden name"},
		{"0123456789abc", "012345678…"},
		{"012345678 abc", "012345678…"},
		{"0123456789", "0123456789"},
	} {
		limit := 10
		if len(row[0]) > 13 || !strings.HasPrefix(row[0], "0") {
			limit = 80
		}
		if got := Clean(row[0], limit); got != row[1] {
			t.Errorf("Clean(%q) = %q, want %q", row[0], got, row[1])
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "Demo", "a\nb", "\u202ex", "a\u0301\u0301\u0301", "\xff\xfe", strings.Repeat("長", 200), "… …"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const limit = 20
		got := Clean(s, limit)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > limit {
			t.Fatalf("Clean(%q) = %q", s, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) || (unicode.IsSpace(r) && r != ' ') {
				t.Fatalf("Clean(%q) lets %U through", s, r)
			}
		}
		if strings.TrimSpace(got) != got || strings.Contains(got, "  ") {
			t.Fatalf("Clean(%q) = %q leaves blanks", s, got)
		}
		if again := Clean(got, limit); again != got {
			t.Fatalf("not stable: %q, then %q", got, again)
		}
	})
}
