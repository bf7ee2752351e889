package session

import (
	"context"
	"sync"
	"time"
)

// Windows and macOS tell of the screen in two ways: by news when it changes, and
// by an answer when they are asked. News can be made up by any program of the
// same user, and an answer can lag behind the news. So, refuse first: the news of
// a lock counts at once, and that of its end when the system, asked, agrees.

// news is what a system says by itself.
type news uint8

const (
	newsLocked news = iota + 1
	newsUnlocked
	newsChanged // something did: ask
	newsSleep
	newsWake
)

// glance is what a system says when it is asked.
type glance struct{ known, locked bool }

// lags is how long an answer may lag behind the news.
const lags = 3 * time.Second

// asked are the times, since the news of an unlocked screen, at which a system
// is asked again that still calls it locked.
var asked = []time.Duration{200 * time.Millisecond, time.Second, lags}

// inbox takes news from the thread of a system, which must not wait.
type inbox struct {
	mu   sync.Mutex
	list []item
	some chan struct{}
}

// item is one piece of news. done is closed when it has been dealt with.
type item struct {
	news news
	done chan struct{}
}

func newInbox() *inbox { return &inbox{some: make(chan struct{}, 1)} }

// put puts news in and returns what is closed when it has been dealt with.
func (in *inbox) put(n news) <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	if last := len(in.list) - 1; n == newsChanged && last >= 0 && in.list[last].news == n {
		return in.list[last].done // to ask once will do
	}
	done := make(chan struct{})
	in.list = append(in.list, item{n, done})
	select {
	case in.some <- struct{}{}:
	default:
	}
	return done
}

func (in *inbox) take() []item {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := in.list
	in.list = nil
	return list
}

// follower turns news and answers into what a Handler is told.
type follower struct {
	source string
	ask    func() glance
	h      Handler
	now    func() time.Time

	told   *Screen
	said   glance // what stands
	locked time.Time
	again  *time.Timer // nil: nobody waits for an answer to agree
	tries  int
}

// follow tells h until ctx ends.
func follow(ctx context.Context, source string, in *inbox, ask func() glance, h Handler) {
	f := &follower{source: source, ask: ask, h: h, now: time.Now}
	f.settle(ask())
	for {
		var again <-chan time.Time
		if f.again != nil {
			again = f.again.C
		}
		select {
		case <-ctx.Done():
			f.calm()
			for _, item := range in.take() {
				close(item.done)
			}
			return
		case <-in.some:
			for _, item := range in.take() {
				f.hear(item.news)
				close(item.done)
			}
		case <-again:
			f.again = nil
			f.agree()
		}
	}
}

func (f *follower) hear(n news) {
	switch n {
	case newsLocked:
		f.calm()
		f.locked = f.now()
		f.settle(glance{known: true, locked: true})
	case newsUnlocked:
		f.calm()
		f.agree()
	case newsChanged:
		f.look()
	case newsSleep:
		f.h.Sleep()
	case newsWake:
		f.h.Wake()
		f.look()
	}
}

// look asks. An answer that calls the screen unlocked may still lag behind the
// news of its lock.
func (f *follower) look() {
	g := f.ask()
	if !g.known || f.said.locked && !g.locked && f.now().Sub(f.locked) < lags {
		return
	}
	f.calm()
	f.settle(g)
}

// agree ends a lock if the system says so too, or cannot be asked.
func (f *follower) agree() {
	g := f.ask()
	if g.known && g.locked {
		if f.settle(g); f.tries < len(asked) {
			wait := asked[f.tries]
			if f.tries > 0 {
				wait -= asked[f.tries-1]
			}
			f.tries++
			f.again = time.NewTimer(wait)
		}
		return
	}
	f.calm()
	f.settle(glance{known: true})
}

// calm stops asking again.
func (f *follower) calm() {
	if f.again != nil {
		f.again.Stop()
	}
	f.again, f.tries = nil, 0
}

// settle tells what stands, if it is something else than before.
func (f *follower) settle(g glance) {
	f.said = g
	s := Screen{Known: g.known, Locked: g.locked}
	if g.known {
		s.Sources = []string{f.source}
	}
	if f.told == nil || !f.told.equal(s) {
		f.told = &s
		f.h.Screen(s)
	}
}
