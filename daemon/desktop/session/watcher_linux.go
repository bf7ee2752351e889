package session

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/bus"
)

const (
	connectWait = 5 * time.Second
	callWait    = 3 * time.Second // a service that hangs keeps nobody longer
)

// New makes a watcher of this user's screen.
func New(o Options) Watcher {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &watcher{Options: o}
	w.parts = []*part{
		{name: "system", attend: w.attendSystem, gone: w.systemGone, again: make(chan struct{}, 1)},
		{name: "session", attend: w.attendSession, gone: w.sessionGone, again: make(chan struct{}, 1)},
	}
	return w
}

type watcher struct {
	Options
	parts []*part

	mu     sync.Mutex // guards what follows; held while the handler is told
	h      Handler
	state  state
	told   *Screen // nil before the first time
	asleep bool
}

// part is what is watched on one bus.
type part struct {
	name   string
	attend func(ctx context.Context, p *part) error // until the connection ends
	gone   func()
	again  chan struct{}

	tried   atomic.Int64 // unix nanoseconds of the last try, by Options.Now
	content atomic.Bool  // another try would find nothing more
	looked  bool         // once; guarded by watcher.mu
}

// Watch watches both buses. Each has its goroutine: a service that hangs on one
// must not keep the news of the other.
func (w *watcher) Watch(ctx context.Context, h Handler) {
	w.mu.Lock()
	w.h = h
	w.mu.Unlock()
	var work sync.WaitGroup
	for _, p := range w.parts {
		work.Go(func() { w.keep(ctx, p) })
	}
	work.Wait()
}

// Look has the parts try again that have reason to.
func (w *watcher) Look() {
	now := w.Now().UnixNano()
	for _, p := range w.parts {
		if p.content.Load() || (time.Duration(now-p.tried.Load())).Abs() < lookEvery {
			continue
		}
		select {
		case p.again <- struct{}{}:
		default:
		}
	}
}

// keep attends to a bus whenever it can be had. A connection that is lost is made
// again at once, and then when somebody says to look; no timer runs.
func (w *watcher) keep(ctx context.Context, p *part) {
	for {
		began := w.Now()
		w.try(p)
		err := p.attend(ctx, p)
		p.content.Store(false)
		if ctx.Err() != nil {
			return // what the sources said stands
		}
		w.change(func(*state) { p.gone(); p.looked = true })
		w.Log.Debug("a bus is not watched", "bus", p.name, "error", err)
		if w.Now().Sub(began) >= lookEvery {
			continue // it has stood: only the connection may be gone, and news with it
		}
		select {
		case <-ctx.Done():
			return
		case <-p.again:
		}
	}
}

// try notes a try to find what is not there yet.
func (w *watcher) try(p *part) { p.tried.Store(w.Now().UnixNano()) }

// change changes the state and tells the handler, if it comes to something else.
// At first it waits for both buses, unless the screen is locked.
func (w *watcher) change(do func(*state)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do(&w.state)
	now := w.state.screen()
	for _, p := range w.parts {
		if !p.looked && !now.Locked {
			return
		}
	}
	if w.told == nil || !w.told.equal(now) {
		w.told = &now
		w.h.Screen(now)
	}
}

// settled says that a part has learned what there is to learn for now.
func (w *watcher) settled(p *part, content bool) {
	p.content.Store(content)
	w.change(func(*state) { p.looked = true })
}

// hear passes on what a connection hears, until it ends.
func (w *watcher) hear(ctx context.Context, p *part, k *bus.Kept, news func(bus.News), again func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-k.News():
			news(n)
		case <-p.again:
			if again != nil {
				w.try(p)
				again()
			}
		case <-k.Done():
			for { // what came before the end
				select {
				case n := <-k.News():
					news(n)
				default:
					return
				}
			}
		}
	}
}
