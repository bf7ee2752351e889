// Package notification shows notifications in the way of the desktop and tells
// what the person did with them.
//
// A notification is a convenience and no proof of a person: on a session bus any
// program of the user may serve or press it. So nothing here decides anything,
// and what comes back is the key of a button that was offered, for a note that
// stands, or nothing.
package notification

import (
	"context"
	"errors"
)

// Errors, for callers to branch on.
var (
	// ErrNone says that there is no way to notify on this desktop.
	ErrNone = errors.New("no notification service")
	// ErrGone says that the service has ended, changed hands, does not answer, or
	// talks nonsense. What it showed is not known any more.
	ErrGone = errors.New("the notification service does not work any more")
)

// Default is the key of a press on the note itself.
const Default = "default"

// ID names a note that was shown; the zero ID is none.
type ID uint32

// Button is something to press on a note.
type Button struct{ Key, Label string }

// Note is one notification. Its text is plain: whatever the service would take
// for markup is escaped here.
type Note struct {
	Title, Body string
	Buttons     []Button // in order, besides Default; shown when Server.Buttons
	Urgent      bool     // stays until it is closed
}

// Event is what became of a note.
type Event struct {
	Note ID
	Key  string // of the button that was pressed, or Default; "" when the note was closed
}

// Server shows notes. Its methods may be called at once.
type Server interface {
	// Buttons says whether notes have buttons that can be pressed.
	Buttons() bool
	// Show shows a note, in the place of another that stands, if replaces is not
	// zero.
	Show(ctx context.Context, n Note, replaces ID) (ID, error)
	// Close takes a note away.
	Close(ctx context.Context, id ID) error
	// Events are what becomes of the notes of this Server, in order.
	Events() <-chan Event
	// Gone is closed when the service has ended or changed hands.
	Gone() <-chan struct{}
	// Disconnect takes all notes of this Server away, and ends it.
	Disconnect()
}
