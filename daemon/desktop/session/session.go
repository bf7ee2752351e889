// Package session tells when the person's screen is locked and when the
// computer sleeps, as the system says it.
//
// Refuse first: the screen is locked as soon as one source says so, and until
// that source says otherwise. A source that goes away while it says "locked" has
// not said otherwise. On Linux the sources are logind, on the system bus, and
// the screen saver, on the session bus; a request to lock the session counts as
// the lock, whether or not a locker heeds it. Where one never says that it has
// ended, `loginctl unlock-session` does.
//
// Where nobody tells, nothing is known, and that is no error.
package session

import (
	"context"
	"log/slog"
	"time"
)

// Screen is what is known of the screen. The zero value is: nothing.
type Screen struct {
	Known   bool
	Locked  bool     // by any of the sources
	Sources []string // who tells: "logind", "screensaver"
}

// Handler is told of changes, one call at a time.
type Handler interface {
	// Screen is called at first and when it changes.
	Screen(s Screen)
	// Sleep is called before the computer sleeps, which waits for its return, but
	// not for long.
	Sleep()
	// Wake is called when it has slept.
	Wake()
}

// Watcher watches until ctx ends.
type Watcher interface {
	Watch(ctx context.Context, h Handler)
	// Look makes a watcher that has lost a bus, or never had it, try again.
	Look()
}

// Options are what a watcher is made of. The zero value is right but in tests.
type Options struct {
	Log            *slog.Logger
	SystemBusOwner int              // user id; root's
	Now            func() time.Time // nil: time.Now
}

// lookEvery is how often a watcher tries to get to a bus, at most.
const lookEvery = 10 * time.Second
