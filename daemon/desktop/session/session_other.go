//go:build !linux && !windows && !darwin

package session

import "context"

// New makes a watcher that learns nothing: it says so once.
func New(Options) Watcher { return blind{} }

type blind struct{}

func (blind) Watch(ctx context.Context, h Handler) {
	h.Screen(Screen{})
	<-ctx.Done()
}

func (blind) Look() {}
