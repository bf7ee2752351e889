package prompt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// told notes what the queue tells, in words.
type told struct{ words []string }

func (o *told) PromptOpened(p Pending) { o.words = append(o.words, "opened "+p.App) }
func (o *told) PromptClosed(c Outcome) { o.words = append(o.words, "closed") }
func (o *told) HoldChanged(h *Hold) {
	word := "back"
	if h != nil {
		word = "hold " + h.Reason
	}
	o.words = append(o.words, word)
}

// are compares what was told since the last time.
func (o *told) are(t *testing.T, want ...string) {
	t.Helper()
	if got := o.words; !slices.Equal(got, want) {
		t.Fatalf("told %q, want %q", got, want)
	}
	o.words = nil
}

func locked() *Hold { return &Hold{Reason: "screen_locked", Since: time.Now()} }

func named(app string) Prompt {
	p := question()
	p.App = app
	return p
}

// What waits is put away by a hold and told once more at its end, and once only.
func TestHoldPutsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &told{}
		b := New(nil, o)
		defer b.Attach("cli")()
		first, done := ask(t, b, t.Context(), named("First"))
		time.Sleep(time.Second)
		b.SetHold(nil) // nothing has begun, nothing ends
		o.are(t, "opened First")
		b.SetHold(locked())
		if h := b.Held(); h == nil || h.Reason != "screen_locked" {
			t.Fatalf("%+v", h)
		}
		if list := b.List(); len(list) != 0 || b.Len() != 1 {
			t.Fatalf("%+v, %d wait", list, b.Len())
		}
		ask(t, b, t.Context(), named("Second"))
		b.SetHold(&Hold{Reason: "asleep"})
		o.are(t, "hold screen_locked", "hold asleep")
		b.SetHold(nil)
		b.SetHold(nil)
		o.are(t, "back", "opened First", "opened Second")
		if list := b.List(); len(list) != 2 || b.Held() != nil {
			t.Fatalf("%+v", list)
		}
		if _, err := b.decide(first, Decision{Action: Approve}); err != nil {
			t.Fatal(err)
		}
		if got := <-done; !got.answer.Approved() {
			t.Fatalf("%+v", got)
		}
		o.are(t, "closed")
	})
}

// B3: nothing but a no is taken during a hold, and a no is taken from whoever
// has the id.
func TestB3NothingIsApprovedDuringAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		p := question()
		p.UserVerification = VerificationRequired
		id, done := ask(t, b, t.Context(), p)
		b.SetHold(locked())
		for _, d := range []Decision{
			{}, {Action: Approve}, {Action: Approve, Verification: proof(id)}, {Action: CancelVerification}, {Action: "yes"},
		} {
			if _, err := b.decide(id, d); !errors.Is(err, ErrOnHold) {
				t.Errorf("%+v: %v", d, err)
			}
			if _, err := b.Check(id, d); !errors.Is(err, ErrOnHold) {
				t.Errorf("check %+v: %v", d, err)
			}
		}
		if b.Len() != 1 {
			t.Fatal("a refused decision took the prompt away")
		}
		if _, err := b.decide("NOPE", Decision{Action: Approve}); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		if _, err := b.decide(id, Decision{Action: Deny, Report: true}); err != nil {
			t.Fatal(err)
		}
		if got := <-done; got.answer.Verdict != Denied || !got.answer.Report {
			t.Fatalf("%+v", got)
		}
	})
}

// proof is a verification for one prompt.
type proof string

func (p proof) For(id string) bool { return string(p) == id }

// A prompt that came during a hold was shown to nobody, whoever is attached: one
// that a page waits for ends after 30 seconds, unless the hold ends before that.
func TestUnseenDuringAHold(t *testing.T) {
	for _, row := range []struct {
		name    string
		there   bool          // somebody is attached before
		release time.Duration // 0: never
		front   func(*Broker)
		pushed  bool
		want    error
		after   time.Duration
	}{
		{"held on", true, 0, func(b *Broker) { b.Attach("tray") }, false, ErrNoFrontEnd, FrontEndWait},
		{"held on, attached then", false, 0, func(b *Broker) { time.Sleep(time.Second); b.Attach("tray") }, false, ErrNoFrontEnd, FrontEndWait},
		{"held on, listed then", false, 0, func(b *Broker) { b.List() }, false, ErrNoFrontEnd, FrontEndWait},
		{"unlocked in time", true, 29 * time.Second, func(b *Broker) { b.Attach("tray") }, false, ErrExpired, 5 * time.Minute},
		{"unlocked, and nobody there", false, 10 * time.Second, func(*Broker) {}, false, ErrNoFrontEnd, FrontEndWait},
		{"unlocked too late", true, 31 * time.Second, func(b *Broker) { b.Attach("tray") }, false, ErrNoFrontEnd, FrontEndWait},
		{"pushed: it waits", true, 0, func(b *Broker) { b.Attach("tray") }, true, ErrExpired, 5 * time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(nil, nil)
				if row.there {
					b.Attach("cli")
				}
				b.SetHold(locked())
				p := question()
				p.Pushed, p.IssuedAt = row.pushed, time.Now()
				start := time.Now()
				_, done := ask(t, b, t.Context(), p)
				row.front(b)
				if row.release > 0 {
					time.AfterFunc(time.Until(start.Add(row.release)), func() { b.SetHold(nil) })
				}
				if got := <-done; !errors.Is(got.err, row.want) || time.Since(start) != row.after || got.answer != (Answer{}) {
					t.Fatalf("%+v after %v, want %v after %v", got, time.Since(start), row.want, row.after)
				}
			})
		})
	}
	t.Run("seen before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := New(nil, nil)
			defer b.Attach("cli")()
			start := time.Now()
			_, done := ask(t, b, t.Context(), question())
			b.SetHold(locked())
			if got := <-done; !errors.Is(got.err, ErrExpired) || time.Since(start) != 5*time.Minute {
				t.Fatalf("%+v after %v", got, time.Since(start))
			}
		})
	})
}

// What expired or was withdrawn meanwhile is not shown again.
func TestGoneDuringAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &told{}
		b := New(nil, o)
		defer b.Attach("cli")()
		short := named("Short")
		short.ExpiresAt = time.Now().Add(time.Minute)
		_, expired := ask(t, b, t.Context(), short)
		ctx, cancel := context.WithCancel(t.Context())
		_, withdrawn := ask(t, b, ctx, named("Withdrawn"))
		b.SetHold(locked())
		o.words = nil
		cancel()
		if got := <-withdrawn; !errors.Is(got.err, ErrWithdrawn) {
			t.Fatalf("%+v", got)
		}
		if got := <-expired; !errors.Is(got.err, ErrExpired) {
			t.Fatalf("%+v", got)
		}
		b.SetHold(nil)
		o.are(t, "closed", "closed", "back")
	})
}

// B7: the computer sleeps for eight hours, in which the timers stand still and
// the clock on the wall does not. Who wakes it finds nothing of yesterday, and
// what is still good.
func TestB7SweepAfterASleep(t *testing.T) {
	for name, wake := range map[string]func(b *Broker){
		"somebody tells":            func(b *Broker) { b.Sweep(); b.SetHold(nil) },
		"only the lock has its end": func(b *Broker) { b.SetHold(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var slept time.Duration
				o := &told{}
				b := New(func() time.Time { return time.Now().Add(slept) }, o)
				defer b.Attach("cli")()
				old, done := ask(t, b, t.Context(), named("Yesterday"))
				long := named("Long")
				long.ExpiresAt = time.Now().Add(24 * time.Hour)
				ask(t, b, t.Context(), long)
				b.SetHold(&Hold{Reason: "asleep"})
				o.words = nil
				slept = 8 * time.Hour
				wake(b)
				synctest.Wait()
				select {
				case got := <-done:
					if !errors.Is(got.err, ErrExpired) || got.answer != (Answer{}) {
						t.Fatalf("%+v", got)
					}
				default:
					t.Fatal("still waits")
				}
				o.are(t, "closed", "back", "opened Long")
				if _, err := b.decide(old, Decision{Action: Approve}); !errors.Is(err, ErrExpired) {
					t.Fatal(err)
				}
				if list := b.List(); len(list) != 1 || list[0].App != "Long" {
					t.Fatalf("%+v", list)
				}
			})
		})
	}
}

// B1: bombing behind a locked screen is one prompt that counts them, and none of
// it is held against the person, who saw nothing.
func TestB1BombingDuringAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &told{}
		b := New(nil, o)
		defer b.Attach("cli")()
		b.SetHold(locked())
		for range 100 {
			push(t, b, pushed("Demo"))
		}
		b.SetHold(nil)
		opened := 0
		for _, word := range o.words {
			if word == "opened Demo" {
				opened++
			}
		}
		if list := b.List(); opened != 1 || len(list) != 1 || list[0].Repeats != 99 {
			t.Fatalf("%d announced, %+v", opened, list)
		}
		if n := len(b.pushed["acc1"]); n != 1 {
			t.Fatalf("%d counted", n)
		}
	})
}

// B5: fifty prompts, decided at random while holds come and go at random. No
// approval is taken while one stands for sure, and none is lost.
func TestB5RacingHolds(t *testing.T) {
	b := New(nil, nil)
	defer b.Attach("cli")()
	const n = 50
	answers := make(chan asked, n)
	for i := range n {
		go func() {
			p := named(fmt.Sprint(i))
			p.Account = fmt.Sprint("acc", i%3)
			a, err := b.Ask(t.Context(), p)
			answers <- asked{a, err}
		}()
	}
	for b.Len() < n {
		time.Sleep(time.Millisecond)
	}
	ids := b.ids()
	// A hold stands for sure in odd times.
	var times atomic.Int64
	stop := make(chan struct{})
	var work sync.WaitGroup
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	work.Go(func() {
		for !stopped() {
			b.SetHold(locked())
			times.Add(1)
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			times.Add(1)
			b.SetHold(nil)
			time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
		}
		b.SetHold(nil)
	})
	var approvals, denials atomic.Int64
	for range 4 {
		work.Go(func() {
			for !stopped() {
				action := []Action{Approve, Approve, Approve, Approve, Deny}[rand.IntN(5)]
				before := times.Load()
				_, err := b.decide(ids[rand.IntN(n)], Decision{Action: action})
				if after := times.Load(); err == nil && action == Approve && before == after && before%2 == 1 {
					t.Error("approved during a hold")
				}
				switch {
				case err == nil && action == Approve:
					approvals.Add(1)
				case err == nil:
					denials.Add(1)
				}
			}
		})
	}
	approved, denied := int64(0), int64(0)
	for range n {
		switch a := <-answers; a.answer.Verdict {
		case Approved:
			approved++
		case Denied:
			denied++
		default:
			t.Errorf("lost: %+v", a)
		}
	}
	close(stop)
	work.Wait()
	if approved != approvals.Load() || denied != denials.Load() || approved+denied != n || b.Len() != 0 {
		t.Errorf("%d of %d approvals, %d of %d denials arrived", approved, approvals.Load(), denied, denials.Load())
	}
}
