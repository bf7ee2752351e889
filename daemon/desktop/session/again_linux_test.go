package session

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

type deaf struct{}

func (deaf) Screen(Screen) {}
func (deaf) Sleep()        {}
func (deaf) Wake()         {}

// A connection that is lost after it has stood is made again at once: what the
// bus says in between would be missed until somebody looks. One that is lost
// right away is not.
func TestLostConnection(t *testing.T) {
	c := &clock{}
	w := New(Options{Now: c.now}).(*watcher)
	attended := make(chan int)
	n := 0
	var asked atomic.Bool
	w.parts = []*part{{name: "a", gone: func() {}, again: make(chan struct{}, 1), attend: func(ctx context.Context, p *part) error {
		if n++; n > 2 && !asked.Load() {
			t.Error("made again and again")
		}
		select {
		case attended <- n:
		case <-ctx.Done():
			return ctx.Err()
		}
		if n == 1 {
			c.forward(lookEvery)
		}
		return errors.New("cut")
	}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Watch(ctx, deaf{}) }()
	for want := 1; want <= 2; want++ {
		select {
		case got := <-attended:
			if got != want {
				t.Fatalf("%d, want %d", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("connection %d is not made", want)
		}
	}
	// The third takes somebody who looks.
	asked.Store(true)
	c.forward(lookEvery)
	w.Look()
	<-attended
	cancel()
	<-done
}
