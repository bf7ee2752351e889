// Package session tells when the person's screen is locked and when the
// computer sleeps, as the system says it.
package session

import "context"

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
