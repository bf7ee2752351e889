package challenge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// fixedKeys is an org's key, read before time is faked.
type fixedKeys struct{ jose.JWK }

func (k fixedKeys) Key(context.Context, string, string) (jose.JWK, error) { return k.JWK, nil }

var (
	errOffline = &client.Unreachable{Host: "org.example.com", Err: errors.New("network is unreachable")}
	errSlow    = &client.Unreachable{Host: "org.example.com", Slow: true, Err: context.DeadlineExceeded}
)

// line is the way to the org, in fake time: the n-th answer sent, from 0, fares
// as it says.
type line struct {
	*world
	start time.Time
	fares func(n int) error
	takes time.Duration // each try

	mu   sync.Mutex
	at   []time.Duration // when each try began
	sent []string
}

func (l *line) deliver(ctx context.Context, _ *account.Account, _ string, r okta.AnswerRequest) error {
	l.mu.Lock()
	n := len(l.at)
	l.at, l.sent = append(l.at, time.Since(l.start)), append(l.sent, r.ChallengeResponse)
	l.mu.Unlock()
	if l.takes > 0 {
		select {
		case <-time.After(l.takes):
		case <-ctx.Done():
			return &client.Unreachable{Host: "org.example.com", Slow: true, Err: ctx.Err()}
		}
	}
	return l.fares(n)
}

// tries lists when the answer was sent, in whole milliseconds.
func (l *line) tries() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.at)
}

// onLine runs a test in fake time with a person who approves at once. Whatever
// is sent is signed once.
func onLine(t *testing.T, test func(t *testing.T, l *line, org *oktatest.Org)) {
	t.Helper()
	org := oktatest.NewOrg(t)
	wire, err := client.New(org.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := wire.SigningKeys(t.Context(), org.URL)
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := &line{world: pushWorld(t, org), start: time.Now()}
		l.Pipeline.OrgKeys, l.Pipeline.Deliver = fixedKeys{keys[0]}, l.deliver
		l.asker.answer = decided(prompt.Approved)
		test(t, l, org)
		if n := l.keyring.signed.Load(); n != 1 || len(slices.Compact(slices.Clone(l.sent))) != 1 {
			t.Errorf("%d signatures, %d different answers", n, len(slices.Compact(l.sent)))
		}
	})
}

func seconds(at ...float64) (list []time.Duration) {
	for _, s := range at {
		list = append(list, time.Duration(s*float64(time.Second)))
	}
	return list
}

// An approved push meets a short outage: the same answer is sent again, at
// growing distances, and the person and the record learn how often.
func TestSentAgain(t *testing.T) {
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.fares = func(n int) error {
			return []error{errOffline, errSlow, &okta.Error{HTTPStatus: 503, Code: okta.CodeInternal}, &client.UnexpectedAnswer{Status: 502, Kind: client.KindHTML}, &okta.Error{HTTPStatus: 429, Code: okta.CodeTooManyRequests}, nil}[n]
		}
		got := l.pushed(t, org.PushChallenge("pfd-acc1", nil))
		if got != (Result{Approved, "delivered after 6 tries"}) {
			t.Fatalf("%+v", got)
		}
		if at := l.tries(); !slices.Equal(at, seconds(0, 1, 3, 7, 15, 31)) {
			t.Fatalf("sent at %v", at)
		}
		if !slices.Equal(l.asker.settle, []string{"approved"}) || len(l.records) != 2 ||
			l.records[0].Event != "challenge" || l.records[0].Outcome != "approved" ||
			l.records[1].Event != "answer_delivered" || l.records[1].Outcome != "approved" || l.records[1].Reason != "delivered after 6 tries" {
			t.Fatalf("told %v, recorded %+v", l.asker.settle, l.records)
		}
	})
}

// Nothing is sent when the challenge is over, and a try that is under way then
// is cut. What came of it is said.
func TestNotSentAfterExpiry(t *testing.T) {
	for _, takes := range []time.Duration{0, 10 * time.Second} {
		onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
			l.takes, l.fares = takes, func(int) error { return errOffline }
			token := org.PushChallenge("pfd-acc1", func(c *okta.Challenge) { c.ExpiresAt = c.IssuedAt + 100 })
			got := l.pushed(t, token)
			at := l.tries()
			want := fmt.Sprintf("could not be delivered before it expired (tries: %d): ", len(at))
			if got.Outcome != OrgUnreachable || !strings.HasPrefix(got.Reason, want) {
				t.Fatalf("%+v", got)
			}
			if end := time.Since(l.start); end != 100*time.Second {
				t.Errorf("given up after %v", end)
			}
			if takes == 0 && !slices.Equal(at, seconds(0, 1, 3, 7, 15, 31, 61, 91)) {
				t.Errorf("sent at %v", at)
			}
			if last := l.records[len(l.records)-1]; last.Event != "challenge" || last.Outcome != "org_unreachable" || !strings.HasPrefix(last.Reason, want) || !slices.Equal(l.asker.settle, []string{"refused"}) {
				t.Errorf("told %v, recorded %+v", l.asker.settle, last)
			}
			// Neither later nor after a restart.
			sent := len(at)
			if got := l.pushed(t, token); got.Outcome != OrgUnreachable || len(l.tries()) != sent {
				t.Errorf("%+v", got)
			}
			keys := l.Pipeline.OrgKeys
			l.world.start(t)
			l.Pipeline.OrgKeys, l.Pipeline.Deliver = keys, l.deliver
			if got := l.pushed(t, token); got.Outcome != AlreadyAnswered || len(l.tries()) != sent {
				t.Errorf("after a restart: %+v", got)
			}
		})
	}
	// A challenge may live an hour; an answer does not.
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.fares = func(int) error { return errOffline }
		l.pushed(t, org.PushChallenge("pfd-acc1", func(c *okta.Challenge) { c.ExpiresAt = c.IssuedAt + 3000 }))
		if end := time.Since(l.start); end != okta.ChallengeLifetime {
			t.Errorf("given up after %v", end)
		}
	})
}

// By our clock, which is ahead, the challenge is over: sent once, since the org
// still lists it, and not again.
func TestClockAheadSendsOnce(t *testing.T) {
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.clock, l.fares = 6*time.Minute, func(int) error { return errOffline }
		got := l.pushed(t, org.PushChallenge("pfd-acc1", nil))
		if got.Outcome != OrgUnreachable || len(l.tries()) != 1 {
			t.Fatalf("%+v, sent at %v", got, l.tries())
		}
	})
}

// What an org says to an answer is final, unless it says that it is busy or
// broken: anything else might be an answer taken twice.
func TestOrgsWordIsFinal(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		want Outcome
	}{
		"refused":          {&okta.Error{HTTPStatus: 400, Code: "E0000001"}, OrgRefused},
		"conflict":         {&okta.Error{HTTPStatus: 409}, OrgRefused},
		"timeout, it says": {&okta.Error{HTTPStatus: 408}, OrgUnreachable},
		"gone":             {&okta.Error{HTTPStatus: 410, Code: okta.CodeEnrolmentDeleted}, OrgRefused},
		"suspended":        {&okta.Error{HTTPStatus: 503, Code: okta.CodeUserSuspended}, OrgRefused},
		"a page":           {&client.UnexpectedAnswer{Status: 404, Kind: client.KindHTML}, OrgRefused},
		"a page, taken":    {&client.UnexpectedAnswer{Status: 200, Kind: client.KindHTML}, OrgUnreachable},
		"sent elsewhere":   {&client.UnexpectedAnswer{Status: 302, Kind: client.KindRedirect}, OrgUnreachable},
		"never sent":       {client.ErrForeignURL, OrgUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			for first := range 2 {
				onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
					l.fares = func(n int) error {
						if n < first {
							return errSlow
						}
						return row.err
					}
					got := l.pushed(t, org.PushChallenge("pfd-acc1", nil))
					if got.Outcome != row.want || len(l.tries()) != first+1 {
						t.Fatalf("%+v after %d tries", got, len(l.tries()))
					}
					// The org takes an answer once: an earlier one may be why.
					if perhaps := strings.Contains(got.Reason, "an earlier one may have arrived"); perhaps != (first > 0 && row.want == OrgRefused) {
						t.Fatalf("%q", got.Reason)
					}
				})
			}
		})
	}
}

// The network comes back: at once, and the pauses begin anew. A change while a
// try is under way counts, too.
func TestSentWhenTheNetworkReturns(t *testing.T) {
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.fares = func(n int) error {
			if n < 8 {
				return errOffline
			}
			return nil
		}
		time.AfterFunc(40*time.Second, l.NetworkChanged) // in the pause from 31 to 61
		if got := l.pushed(t, org.PushChallenge("pfd-acc1", nil)); got.Outcome != Approved {
			t.Fatalf("%+v", got)
		}
		if at := l.tries(); !slices.Equal(at, seconds(0, 1, 3, 7, 15, 31, 40, 41, 43)) {
			t.Fatalf("sent at %v", at)
		}
	})
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.takes, l.fares = 10*time.Second, func(n int) error { return []error{errSlow, nil}[n] }
		time.AfterFunc(5*time.Second, l.NetworkChanged)
		l.pushed(t, org.PushChallenge("pfd-acc1", nil))
		if at := l.tries(); !slices.Equal(at, seconds(0, 10)) {
			t.Fatalf("sent at %v", at)
		}
	})
}

// A busy org's Retry-After is obeyed, whatever the network does; not beyond the
// life of the challenge.
func TestRetryAfterIsObeyed(t *testing.T) {
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.fares = func(n int) error {
			if n > 0 {
				return nil
			}
			return &okta.Error{HTTPStatus: 429, Code: okta.CodeTooManyRequests, RetryAt: time.Now().Add(42 * time.Second)}
		}
		time.AfterFunc(5*time.Second, l.NetworkChanged)
		if got := l.pushed(t, org.PushChallenge("pfd-acc1", nil)); got.Outcome != Approved {
			t.Fatalf("%+v", got)
		}
		if at := l.tries(); !slices.Equal(at, seconds(0, 42)) {
			t.Fatalf("sent at %v", at)
		}
	})
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.fares = func(int) error {
			return &okta.Error{HTTPStatus: 503, RetryAt: time.Now().Add(24 * time.Hour)}
		}
		if got := l.pushed(t, org.PushChallenge("pfd-acc1", nil)); got.Outcome != OrgUnreachable || len(l.tries()) != 1 || time.Since(l.start) != 5*time.Minute {
			t.Fatalf("%+v after %v", got, time.Since(l.start))
		}
	})
}

// Who else ends it: the list that the push has left, and the agent's stop.
func TestNoLongerSent(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(l *line, leave context.CancelCauseFunc)
		says string
	}{
		{"left the list", func(_ *line, leave context.CancelCauseFunc) { leave(prompt.ErrElsewhere) }, "the org asks for it no more; no word that any of 3 tries arrived: "},
		{"account taken away", func(_ *line, leave context.CancelCauseFunc) { leave(nil) }, "could not be delivered before the agent stopped listening to the org (tries: 3): "},
		{"agent stops", func(l *line, _ context.CancelCauseFunc) { l.Stop() }, "could not be delivered before the agent stopped (tries: 3): "},
	} {
		t.Run(row.name, func(t *testing.T) {
			onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
				l.fares = func(int) error { return errOffline }
				ctx, leave := context.WithCancelCause(t.Context())
				time.AfterFunc(5*time.Second, func() { row.end(l, leave) })
				got := l.Receive(ctx, org.PushChallenge("pfd-acc1", nil), Transport{Kind: Push, Account: "acc1"})
				if got.Outcome != OrgUnreachable || !strings.HasPrefix(got.Reason, row.says) || time.Since(l.start) != 5*time.Second {
					t.Fatalf("%+v after %v", got, time.Since(l.start))
				}
			})
		})
	}
}

// A second delivery while the answer waits for the network joins, and a denial
// is sent again as an approval is.
func TestJoinedWhileSentAgain(t *testing.T) {
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.asker.answer = decided(prompt.Denied)
		l.fares = func(n int) error { return []error{errOffline, errOffline, nil}[n] }
		token := org.PushChallenge("pfd-acc1", nil)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if got := l.pushed(t, token); got != (Result{Denied, "delivered after 3 tries"}) {
					t.Errorf("%+v", got)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if l.asker.asked.Load() != 1 || len(l.tries()) != 3 {
			t.Errorf("asked %d times, sent %d", l.asker.asked.Load(), len(l.tries()))
		}
	})
}

// A page waits for our reply, and is told at once.
func TestPageIsSentOnce(t *testing.T) {
	onLine(t, func(t *testing.T, l *line, org *oktatest.Org) {
		l.fares = func(int) error { return errOffline }
		got := l.receive(t, org.Challenge(nil))
		if got.Outcome != OrgUnreachable || len(l.tries()) != 1 || time.Since(l.start) != 0 {
			t.Fatalf("%+v after %v", got, time.Since(l.start))
		}
	})
}
