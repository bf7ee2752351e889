// Package desktop is what the tray must know of the desktop that it is on: is
// there a panel that shows icons, is it light or dark, does the message bus
// still stand, and is this the only tray here.
package desktop

import (
	"errors"

	"countersign.dev/tray/icon"
)

// ErrLost says that the session's message bus has gone.
var ErrLost = errors.New("the session's message bus has gone")

// ErrTaken says that there is a tray here already.
var ErrTaken = errors.New("there is a tray here already")

// Hears are told what is found out, at first and when it changes. They must not
// wait.
type Hears struct {
	// Seen says whether a panel shows the icon.
	Seen func(bool)
	// Theme says what kind of panel it is.
	Theme func(icon.Theme)
}
