package daemon

import (
	"context"
	"sync"
	"testing"

	"countersign.dev/daemon/desktop/session"
	"countersign.dev/ipc/api"
)

// fakeSession is a session that the test locks.
type fakeSession struct {
	silent bool // says nothing at first

	mu    sync.Mutex                        // guards what follows
	said  map[session.Handler]chan struct{} // closed after the first word
	looks int
}

// first is closed when the first word was said to somebody.
func (f *fakeSession) first(h session.Handler) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said == nil {
		f.said = map[session.Handler]chan struct{}{}
	}
	if f.said[h] == nil {
		f.said[h] = make(chan struct{})
	}
	return f.said[h]
}

func (f *fakeSession) Watch(ctx context.Context, h session.Handler) {
	if !f.silent {
		h.Screen(session.Screen{})
		close(f.first(h))
	}
	<-ctx.Done()
}

func (f *fakeSession) Look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
}

// lock and unlock are the person at the screen.
func (a *agent) lock()   { a.screenIs(true) }
func (a *agent) unlock() { a.screenIs(false) }

func (a *agent) screenIs(locked bool) {
	a.heardFirst()
	desk{a.Daemon}.Screen(session.Screen{Known: true, Locked: locked, Sources: []string{"logind"}})
}

// heardFirst waits until the session has said its first word, which is not to
// come after the test's.
func (a *agent) heardFirst() {
	if f := a.config.session.(*fakeSession); !f.silent {
		a.screen.want()
		<-f.first(desk{a.Daemon})
	}
}

// nextHold waits for the event of a hold, or of its end.
func nextHold(t *testing.T, events <-chan api.Event) *api.Hold {
	t.Helper()
	for e := range events {
		if e.Type == "hold" {
			return e.Hold
		}
	}
	t.Fatal("the events ended without a hold")
	return nil
}

func (a *agent) status(t *testing.T) api.Status {
	t.Helper()
	s, err := a.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
