// Package dialog asks the person in a window of its own: details of a sign-in,
// the number that the page shows, a PIN.
//
// A window decides nothing by being closed, by running out of time or by
// crashing: the zero Answer is no answer. No button that approves is the one
// that Enter presses in a window that has just come up, and an approval that
// comes sooner than a person could have read the question is asked for again.
package dialog

import (
	"context"
	"errors"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// Errors of a Window. Both mean that nothing was answered.
var (
	ErrNone   = errors.New("no program for dialogs, or no display")
	ErrFailed = errors.New("the dialog failed") // crashed, was killed, said nonsense
)

// Verdict is what the person pressed. The zero value is nothing: the window was
// closed, or its time was up.
type Verdict uint8

// The verdicts.
const (
	Closed Verdict = iota
	Approve
	Deny
	Report // this wasn't me
)

// Entry is what the person types.
type Entry uint8

// The entries.
const (
	NoEntry Entry = iota
	Number        // that the sign-in page shows
	PIN           // without showing it
)

// Choice is one of several accounts.
type Choice struct{ ID, Name string }

// Question is one window.
type Question struct {
	Title    string   // of the window
	Unusual  []string // said first
	Heading  string   // what is asked
	Facts    []describe.Fact
	Problem  string   // e.g. that the last PIN was wrong; said near the entry
	Choices  []Choice // one of them is picked, when there are any
	Entry    Entry
	OfKey    bool // the PIN is that of the security key
	Optional bool // Approve goes on without an entry, too
	Report   bool // offers Report
	Until    time.Time
}

// Answer is what the person did. The zero Answer is nothing.
type Answer struct {
	Verdict Verdict
	Choice  string  // of Question.Choices
	Number  string  // typed, with Entry Number
	PIN     api.PIN // typed, with Entry PIN; the caller clears it
}

// Window shows windows, one at a time for each call. Its methods may be called
// at once.
type Window interface {
	// Name is that of the program or system that shows them, for status and
	// doctor.
	Name() string
	// Ask shows a question until the person answers, ctx ends or Until comes.
	Ask(ctx context.Context, q Question) (Answer, error)
	// Tell shows lines to read, e.g. a report, until they are closed or ctx ends.
	Tell(ctx context.Context, title string, lines []string) error
}
