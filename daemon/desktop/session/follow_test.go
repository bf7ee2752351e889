package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// system is a system that says what a test wants it to.
type system struct {
	t      *testing.T
	in     *inbox
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	says  glance
	asks  int
	heard []string
}

func (s *system) ask() glance {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	return s.says
}

func (s *system) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, what)
}

func (s *system) Screen(v Screen) {
	what := "unknown"
	if v.Known {
		what = map[bool]string{false: "unlocked", true: "locked"}[v.Locked]
	}
	if v.Known != slices.Equal(v.Sources, []string{"test"}) {
		what += fmt.Sprintf(" by %q", v.Sources)
	}
	s.note(what)
}
func (s *system) Sleep() { s.note("sleep") }
func (s *system) Wake()  { s.note("wake") }

// begin starts to follow a system, inside a bubble.
func begin(t *testing.T, says glance) *system {
	ctx, cancel := context.WithCancel(t.Context())
	s := &system{t: t, in: newInbox(), cancel: cancel, ended: make(chan struct{}), says: says}
	go func() {
		defer close(s.ended)
		follow(ctx, "test", s.in, s.ask, s)
	}()
	synctest.Wait()
	return s
}

// answers changes what the system says when it is asked.
func (s *system) answers(known, locked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.says = glance{known, locked}
}

// tells has the system say something, and waits until it was heard.
func (s *system) tells(n news) {
	<-s.in.put(n)
	synctest.Wait()
}

// want checks what the handler was told since the last time.
func (s *system) want(what ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.heard, what) {
		s.t.Errorf("told %q, want %q", s.heard, what)
	}
	s.heard = nil
}

func (s *system) end() {
	s.cancel()
	<-s.ended
}

func TestFirst(t *testing.T) {
	for want, says := range map[string]glance{
		"unknown": {}, "unlocked": {known: true}, "locked": {known: true, locked: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := begin(t, says)
			s.want(want)
			s.end()
			s.want()
		})
	}
}

func TestLockAndUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, glance{known: true})
		s.want("unlocked")
		s.tells(newsLocked) // at once, though the answer lags
		s.want("locked")
		s.tells(newsLocked)
		s.want()
		s.answers(true, true)
		s.tells(newsChanged)
		s.want()
		s.answers(true, false)
		s.tells(newsUnlocked)
		s.want("unlocked")
		s.end()
	})
}

// An unlock that the system does not confirm is none; one that it confirms late
// is one.
func TestB4UnlockIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, glance{known: true, locked: true})
		s.want("locked")
		s.tells(newsUnlocked)
		time.Sleep(time.Hour)
		synctest.Wait()
		s.want()
		if asks := s.asks; asks != 2+len(asked) {
			t.Errorf("asked %d times", asks)
		}
		s.tells(newsUnlocked)
		time.Sleep(asked[0] + time.Millisecond)
		s.answers(true, false)
		time.Sleep(asked[1])
		synctest.Wait()
		s.want("unlocked")
		before := s.asks
		time.Sleep(time.Hour)
		if s.asks != before {
			t.Errorf("asks on: %d times, was %d", s.asks, before)
		}
		s.end()
	})
}

// A lock that comes while an unlock waits to be confirmed wins.
func TestLockedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, glance{known: true, locked: true})
		s.want("locked")
		s.tells(newsUnlocked)
		s.tells(newsLocked)
		s.answers(true, false) // of the unlock before
		time.Sleep(time.Minute)
		synctest.Wait()
		s.want()
		s.tells(newsChanged)
		s.want("unlocked")
		s.end()
	})
}

// A look right after the news of a lock does not end it by an old answer; a
// later one does, if the news of the end was missed.
func TestAnswersLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, glance{known: true})
		s.want("unlocked")
		s.tells(newsLocked)
		s.tells(newsChanged)
		s.want("locked")
		time.Sleep(lags)
		s.tells(newsChanged)
		s.want("unlocked")
		s.answers(true, true)
		s.tells(newsChanged)
		s.want("locked")
		s.end()
	})
}

// Where the system cannot be asked, its news is all there is; and what stood
// stands when it cannot be asked any more.
func TestCannotBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, glance{})
		s.want("unknown")
		s.tells(newsLocked)
		s.want("locked")
		time.Sleep(time.Minute)
		s.tells(newsChanged)
		s.want()
		s.tells(newsUnlocked)
		s.want("unlocked")
		s.end()
	})
}

func TestSleepAndWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, glance{known: true})
		s.want("unlocked")
		s.answers(true, true)
		s.tells(newsSleep)
		s.want("sleep")
		s.tells(newsWake)
		s.want("wake", "locked")
		s.end()
		s.in.put(newsSleep) // nobody listens, and nobody waits
	})
}

// Whoever waits for news to be dealt with is let go at the end.
func TestEndLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := &system{t: t, in: newInbox()}
		first, second := s.in.put(newsSleep), s.in.put(newsWake)
		follow(ctx, "test", s.in, s.ask, s)
		<-first
		<-second
	})
}

// All that is put in comes out in order, by however many.
func TestInbox(t *testing.T) {
	in := newInbox()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				in.put(newsLocked)
				in.put(newsUnlocked)
			}
		})
	}
	all.Wait()
	<-in.some
	if n := len(in.take()); n != 800 {
		t.Errorf("%d of 800", n)
	}
	in.put(newsSleep)
	in.put(newsWake)
	in.put(newsChanged)
	in.put(newsChanged)
	<-in.some
	if list := in.take(); len(list) != 3 || list[0].news != newsSleep || list[1].news != newsWake {
		t.Errorf("%v", list)
	}
}
