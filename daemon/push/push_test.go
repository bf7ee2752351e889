package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// An org that can wait is asked once per wait, and what it has is there at once.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		org := newWaits()
		w := run(t, &world{answer: org.answer})
		if asked := w.after(time.Hour); len(asked) > 67 {
			t.Fatalf("an idle hour took %d questions", len(asked))
		}
		if c := w.p.Channels()["acc1"]; c.State != Connected || c.Err != nil || time.Since(c.LastContact) > time.Minute {
			t.Fatalf("%+v", c)
		}
		one := challenge(t, "one", 1)
		before := time.Now()
		org.set(one)
		if got := w.tokensReceived(); len(got) != 1 || got[0] != one.Challenge || time.Since(before) != 0 {
			t.Fatalf("%d received after %v", len(got), time.Since(before))
		}
		w.after(10 * time.Minute) // it stays on the list and is not handed over again
		if got := w.tokensReceived(); len(got) != 1 || w.last.ETag != `"2"` || !w.last.Wait {
			t.Fatalf("%d received, last question %+v", len(got), w.last)
		}
	})
}

// A plain org is asked every ten seconds while somebody is there, every minute
// else, and at once when somebody comes.
func TestPlainOrg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, &world{answer: plain()})
		between(t, w.after(time.Hour), 48*time.Second, 72*time.Second)
		if c := w.p.Channels()["acc1"]; c.State != Polling || c.Every != unwatchedPace || !c.Until.After(time.Now()) {
			t.Fatalf("%+v", c)
		}
		w.settle()
		w.mu.Lock()
		w.watched = true
		w.mu.Unlock()
		w.p.Nudge()
		if asked := w.after(0); len(asked) != 1 || asked[0] != time.Since(w.start) {
			t.Fatalf("not asked at once: %v", asked)
		}
		between(t, w.after(10*time.Minute), 8*time.Second, 12*time.Second)
		// Somebody who is impatient is served, every few seconds.
		n := w.count()
		for range 600 {
			w.p.Nudge()
			time.Sleep(100 * time.Millisecond)
		}
		if asked := w.count() - n; asked < 15 || asked > 21 {
			t.Fatalf("%d questions in a minute of nudging", asked)
		}
	})
}

// between checks the gaps between questions.
func between(t *testing.T, asked []time.Duration, least, most time.Duration) {
	t.Helper()
	if len(asked) < 3 {
		t.Fatalf("asked %d times", len(asked))
	}
	shortest, longest := time.Hour, time.Duration(0)
	for i := range asked[1:] {
		gap := asked[i+1] - asked[i]
		shortest, longest = min(shortest, gap), max(longest, gap)
	}
	if shortest < least || longest > most {
		t.Fatalf("asked every %v to %v, want %v to %v", shortest, longest, least, most)
	}
	if shortest == longest {
		t.Fatal("not spread at all")
	}
}

// The org's word on when to come back holds, within reason, whoever is impatient.
func TestRateLimits(t *testing.T) {
	for name, row := range map[string]struct {
		err         error
		least, most time.Duration
	}{
		"until then":          {&okta.Error{HTTPStatus: 429, Code: okta.CodeTooManyRequests, RetryAt: in(90 * time.Second)}, 90 * time.Second, 92 * time.Second},
		"for ever":            {&okta.Error{HTTPStatus: 429, RetryAt: in(time.Hour)}, longestRateLimit, longestRateLimit + 2*time.Second},
		"in the past":         {&okta.Error{HTTPStatus: 429, RetryAt: in(-time.Hour)}, time.Second, 3 * time.Second},
		"without a word":      {&okta.Error{HTTPStatus: 429}, time.Second, 3 * time.Second},
		"busy":                {&okta.Error{HTTPStatus: 503, RetryAt: in(90 * time.Second)}, 90 * time.Second, 92 * time.Second},
		"at the token's door": {fmt.Errorf("token: %w", &okta.TokenError{HTTPStatus: 429, RetryAt: in(90 * time.Second)}), 90 * time.Second, 92 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := run(t, &world{answer: fails(row.err)})
				synctest.Wait()
				for w.count() < 2 {
					w.p.Nudge()
					time.Sleep(time.Second)
					synctest.Wait()
				}
				if gap := w.asked[1] - w.asked[0]; gap < row.least || gap > row.most {
					t.Fatalf("asked again after %v, want %v to %v", gap, row.least, row.most)
				}
			})
		})
	}
}

// in is a time of the bubbles, which all begin at the same one.
func in(d time.Duration) time.Time {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)
}

// A token that is not taken is renewed once; after that patience is all that is
// left.
func TestTokenRefused(t *testing.T) {
	for name, refusal := range map[string]error{
		"as an org does":   okta.NewError(okta.CodeInvalidToken),
		"as a proxy would": &client.UnexpectedAnswer{Status: 401, Kind: client.KindHTML},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := run(t, &world{answer: func(_ context.Context, n int, _ client.PendingRequest) (client.PendingList, error) {
					if n == 0 {
						return client.PendingList{}, refusal
					}
					return client.PendingList{}, nil
				}})
				synctest.Wait()
				if !slices.Equal(w.tokens, []bool{false, true}) || len(w.asked) != 2 || w.p.Channels()["acc1"].Err != nil {
					t.Fatalf("tokens %v, %d questions", w.tokens, len(w.asked))
				}
			})
			synctest.Test(t, func(t *testing.T) {
				w := run(t, &world{answer: fails(refusal)})
				w.after(time.Hour)
				if n := len(w.asked); n > 100 || n < 4 {
					t.Fatalf("%d questions in an hour of refusals", n)
				}
			})
		})
	}
}

// An outage is met with ever longer, never regular pauses; the network's return
// ends them, also when it comes in bursts.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		online := false
		w := run(t, &world{answer: func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
			if online {
				return client.PendingList{}, nil
			}
			return client.PendingList{}, errOffline
		}})
		asked := w.after(3 * time.Hour)
		if n := len(asked); n < 36 || n > 160 {
			t.Fatalf("%d questions in three hours without a network", n)
		}
		longest := time.Duration(0)
		for i := range asked[1:] {
			longest = max(longest, asked[i+1]-asked[i])
		}
		if longest > longestBackoff || longest < longestBackoff/2 {
			t.Fatalf("longest pause %v", longest)
		}
		if c := w.p.Channels()["acc1"]; c.State != BackingOff || !errors.Is(c.Err, errOffline) || c.LastContact != (time.Time{}) {
			t.Fatalf("%+v", c)
		}
		// The address is there before the route: the first try fails, and the
		// next is not minutes away.
		w.settle()
		before := w.count()
		w.network()
		synctest.Wait()
		online = true
		for range 10 {
			w.network()
		}
		w.after(2*calm + spacing)
		if c := w.p.Channels()["acc1"]; c.State != Polling || w.count()-before > 6 {
			t.Fatalf("%+v after %d more questions", c, w.count()-before)
		}
	})
}

// Where nobody tells of the network's return, the pauses stay short.
func TestOutageUnseen(t *testing.T) {
	for name, network := range map[string]func(context.Context, func()) error{
		"none":   nil,
		"broken": func(context.Context, func()) error { return errors.ErrUnsupported },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := run(t, &world{answer: fails(errOffline)}, func(c *Config) { c.Network = network })
				asked := w.after(3 * time.Hour)
				for i := range asked[1:] {
					if gap := asked[i+1] - asked[i]; gap > longestBackoffBlind {
						t.Fatalf("a pause of %v", gap)
					}
				}
			})
		})
	}
}

// A question that hangs on a network of before is asked anew on the one of now,
// and old connections are dropped first.
func TestNetworkChangesWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		org, dropped := newWaits(), 0
		w := run(t, &world{answer: org.answer}, func(c *Config) { c.Reconnect = func() { dropped++ } })
		w.after(10 * time.Second)
		w.network()
		if asked := w.after(time.Second); len(asked) != 1 || dropped != 1 {
			t.Fatalf("asked %v, dropped %d", asked, dropped)
		}
		if c := w.p.Channels()["acc1"]; c.Err != nil {
			t.Fatalf("%+v", c)
		}
	})
}

// The computer was asleep: whatever hangs or rests is begun anew, over new
// connections.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		org, dropped := newWaits(), 0
		w := run(t, &world{answer: org.answer}, func(c *Config) { c.Reconnect = func() { dropped++ } })
		w.after(10 * time.Second)
		w.p.Restart()
		if asked := w.after(time.Second); len(asked) != 1 || dropped != 1 {
			t.Fatalf("asked %v, dropped %d", asked, dropped)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := run(t, &world{answer: fails(errOffline)})
		w.after(3 * time.Hour)
		w.settle()
		w.p.Restart()
		if asked := w.after(time.Second); len(asked) == 0 {
			t.Fatalf("in a pause after errors: asked %v", asked)
		}
	})
	New(Config{}).Restart() // one that does not run
}

// Something in between cuts long waits: that is no outage.
func TestCutWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, &world{answer: func(ctx context.Context, _ int, _ client.PendingRequest) (client.PendingList, error) {
			held, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			<-held.Done()
			return client.PendingList{}, &client.UnexpectedAnswer{Status: 504, Kind: client.KindHTML}
		}})
		if n := len(w.after(time.Hour)); n < 100 {
			t.Fatalf("%d questions", n)
		}
	})
}

// E12: an org that says that it waits and answers at once, always the same or
// always something else, does not keep the machine busy.
func TestE12TightLoop(t *testing.T) {
	n := 0
	for name, row := range map[string]struct {
		answer func(t *testing.T) client.PendingList
		most   int // in an hour
	}{
		"something new and failures in turn": {func(t *testing.T) client.PendingList {
			if n++; n%2 == 0 {
				return client.PendingList{} // fails, see below
			}
			return client.PendingList{Waited: true, Challenges: []okta.PendingChallenge{challenge(t, fmt.Sprint(n), int64(n))}}
		}, 160},
		"unchanged": {func(*testing.T) client.PendingList {
			return client.PendingList{Waited: true, Unchanged: true, ETag: "x"}
		}, 75},
		"empty": {func(*testing.T) client.PendingList { return client.PendingList{Waited: true} }, 75},
		"always new": {func(t *testing.T) client.PendingList {
			n++
			return client.PendingList{Waited: true, Challenges: []okta.PendingChallenge{challenge(t, fmt.Sprint(n), int64(n))}}
		}, 80},
		"no ETag": {func(t *testing.T) client.PendingList {
			return client.PendingList{Waited: true, Challenges: []okta.PendingChallenge{challenge(t, "same", 1)}}
		}, 75},
		"new, slowly": {func(t *testing.T) client.PendingList {
			n++
			time.Sleep(waited - 1)
			return client.PendingList{Waited: true, Challenges: []okta.PendingChallenge{challenge(t, fmt.Sprint(n), 1)}}
		}, 80},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := run(t, &world{answer: func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
					list := row.answer(t)
					if !list.Waited {
						return list, &client.Unreachable{Host: "org.example.com", Err: errors.New("refused")}
					}
					return list, nil
				}})
				if asked := len(w.after(time.Hour)); asked > row.most || asked < 30 {
					t.Fatalf("%d questions in an hour, want at most %d", asked, row.most)
				}
			})
		})
	}
}

// B8, E12: a long list. Odd entries are left out, the newest come first, and no
// more are taken up than a person could answer.
func TestHugeList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list []okta.PendingChallenge
		for i := range 64 {
			list = append(list, challenge(t, fmt.Sprint("tx", i), int64(i+1)), okta.PendingChallenge{PayloadVersion: okta.PayloadVersion, Challenge: fmt.Sprint("odd.", i, ".x")})
		}
		w := run(t, &world{answer: plain(list...), receive: func(ctx context.Context, _ string) bool { <-ctx.Done(); return false }})
		w.after(10 * time.Minute)
		got := w.tokensReceived()
		if len(got) != maxPending {
			t.Fatalf("%d taken up", len(got))
		}
		for i := range 64 {
			if newest := i >= 64-maxPending; slices.Contains(got, list[2*i].Challenge) != newest {
				t.Errorf("number %d: taken up: %v", i, !newest)
			}
		}
	})
}

func TestNewestFirst(t *testing.T) {
	a, b, c := challenge(t, "a", 10), challenge(t, "b", 30), challenge(t, "c", 20)
	if got := newestFirst([]okta.PendingChallenge{a, b, c}); !slices.Equal(got, []string{b.Challenge, c.Challenge, a.Challenge}) {
		t.Fatal("not by time")
	}
}

// What leaves the list is taken back, with the reason; what stays is not.
func TestAnsweredElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		org := newWaits()
		ended := map[string]error{}
		w := &world{answer: org.answer}
		w.receive = func(ctx context.Context, token string) bool {
			<-ctx.Done()
			w.mu.Lock()
			defer w.mu.Unlock()
			ended[token] = context.Cause(ctx)
			return true
		}
		run(t, w)
		one, two := challenge(t, "one", 1), challenge(t, "two", 2)
		org.set(one, two)
		w.tokensReceived()
		org.set(two)
		w.tokensReceived()
		w.mu.Lock()
		if len(ended) != 1 || !errors.Is(ended[one.Challenge], prompt.ErrElsewhere) {
			t.Errorf("%v", ended)
		}
		w.mu.Unlock()
		w.stop()
		if len(ended) != 2 || errors.Is(ended[two.Challenge], prompt.ErrElsewhere) {
			t.Errorf("after the stop: %v", ended)
		}
	})
}

// What may help a little later is tried again, a few times.
func TestTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		org := newWaits()
		good := challenge(t, "good", 1)
		bad := challenge(t, "bad", 2)
		n := 0
		w := run(t, &world{answer: org.answer, receive: func(_ context.Context, token string) bool {
			if token == good.Challenge {
				n++
				return n < 3
			}
			return true
		}})
		org.set(good, bad)
		w.after(5 * time.Minute)
		if n != 3 || len(w.tokensReceived()) != 3+maxTries {
			t.Fatalf("%d and %d deliveries", n, len(w.received)-n)
		}
	})
}

// The org suspends and forgives: asked rarely, and back by itself. It is gone:
// the book hears the proof, and only from the org.
func TestSuspendedAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		suspended := true
		w := run(t, &world{answer: func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
			if suspended {
				return client.PendingList{}, okta.NewError(okta.CodeEnrolmentSuspended)
			}
			return client.PendingList{}, nil
		}})
		between(t, w.after(3*time.Hour), suspendedPace*4/5, suspendedPace*6/5)
		if c := w.p.Channels()["acc1"]; c.State != Suspended || len(w.refused) == 0 || w.succeeded != 0 {
			t.Fatalf("%+v", c)
		}
		suspended = false
		w.after(suspendedPace * 6 / 5)
		if w.succeeded == 0 || w.p.Channels()["acc1"].State != Polling {
			t.Fatal("it does not recover by itself")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := run(t, &world{answer: fails(&client.UnexpectedAnswer{Status: 410, Kind: client.KindHTML})})
		w.after(time.Hour)
		if len(w.refused) != 0 || len(w.p.Channels()) != 1 {
			t.Fatalf("a proxy's page was believed: %v", w.refused)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := run(t, &world{answer: fails(okta.NewError(okta.CodeEnrolmentDeleted))})
		synctest.Wait()
		if len(w.refused) == 0 || !w.refused[0].Gone() {
			t.Fatalf("%v", w.refused)
		}
		w.mu.Lock()
		w.accounts[0] = pushAccount("acc1")
		w.accounts[0].State = account.Gone
		w.mu.Unlock()
		w.p.Changed()
		if asked := w.after(time.Hour); len(asked) != 0 || len(w.p.Channels()) != 0 {
			t.Fatalf("a gone account is asked for: %v", asked)
		}
	})
}

// One listener for each account that can be pushed to, at its present address.
func TestAccountsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		org := newWaits()
		w := run(t, &world{answer: org.answer, accounts: []*account.Account{}})
		change := func(list ...*account.Account) int {
			w.mu.Lock()
			w.accounts = list
			w.mu.Unlock()
			w.p.Changed()
			synctest.Wait()
			return len(w.p.Channels())
		}
		codes, enrolling, nowhere := pushAccount("codes"), pushAccount("enrolling"), pushAccount("nowhere")
		codes.Methods[0].Type = okta.MethodTOTP
		enrolling.State = account.Enrolling
		nowhere.Methods[0].PendingURL = ""
		if n := change(codes, enrolling, nowhere); n != 0 || len(w.asked) != 0 {
			t.Fatalf("%d listeners, %d questions", n, len(w.asked))
		}
		if n := change(pushAccount("one"), pushAccount("two")); n != 2 || len(w.asked) != 2 {
			t.Fatalf("%d listeners, %d questions", n, len(w.asked))
		}
		moved := pushAccount("two")
		moved.Methods[0].PendingURL += "/elsewhere"
		if n := change(pushAccount("one"), moved); n != 2 || len(w.asked) != 3 {
			t.Fatalf("%d listeners, %d questions", n, len(w.asked))
		}
		if n := change(); n != 0 {
			t.Fatalf("%d listeners", n)
		}
		if asked := w.after(time.Hour); len(asked) != 0 {
			t.Fatalf("asked for nobody: %v", asked)
		}
	})
}

// A locked key store, or an org that gives no token, is patience as well.
func TestNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, &world{answer: plain(), authorize: func(bool) error { return errors.New("locked") }})
		w.after(time.Hour)
		if len(w.asked) != 0 || len(w.tokens) > 100 || w.p.Channels()["acc1"].State != BackingOff {
			t.Fatalf("%d questions, %d tokens", len(w.asked), len(w.tokens))
		}
	})
}

// The org is told once, after the first contact.
func TestAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		online := false
		w := run(t, &world{answer: func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
			if !online {
				return client.PendingList{}, errOffline
			}
			return client.PendingList{}, nil
		}}, func(c *Config) {
			c.Announce = func(context.Context, *account.Account) error { told++; return errors.New("not now") }
		})
		if w.after(time.Minute); told != 0 {
			t.Fatal("told before any contact")
		}
		online = true
		if w.after(time.Hour); told != 1 {
			t.Fatalf("told %d times", told)
		}
	})
}
