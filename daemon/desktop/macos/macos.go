// Package macos calls the frameworks of macOS without cgo: the few things that
// the desktop needs of Core Foundation, Core Graphics and IOKit. Elsewhere it is
// no more than what a window is described by.
//
// Nothing is loaded before it is needed, and a function that a system lacks is an
// error and no crash.
package macos

import "time"

// Alert is a window of CFUserNotification: a few texts, one entry, one choice
// and up to three buttons.
type Alert struct {
	Header, Message           string
	Default, Alternate, Other string   // the buttons; "" for none
	Field                     string   // the label of an entry; "" for none
	Secure                    bool     // the entry does not show what is typed
	Choices                   []string // of a pop-up, the first is picked at first
	MaxTyped                  int
	Until                     time.Time
}

// Reply is what came back. What was typed is the caller's to clear; the system
// has had a copy, which nobody can.
type Reply struct {
	Flags uint64
	Typed []byte
}
