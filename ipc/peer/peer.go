// Package peer tells who is at the other end of a local connection: the user
// that opened it, proven by the kernel, and the program, as a hint only.
//
// Two parties ask. The local API must know that a command line or tray belongs
// to the agent's own user before it reads a byte (SO_PEERCRED and its cousins).
// The loopback server must know that a browser belongs to that user, because on
// a shared machine everybody reaches 127.0.0.1 (socket diagnostics on Linux).
//
// A Peer's user is a fact. Its executable is provenance "as claimed": a process
// of the same user can be made to run other code.
package peer

import (
	"errors"
	"os"
)

// ErrUnsupported says that this system has no way to name the owner of that
// kind of connection. The caller decides what an unknown peer may do.
var ErrUnsupported = errors.New("the owner of the connection cannot be read on this system")

// ErrUnknown says that the system can name owners but not this one, for
// example because the connection was already closed.
var ErrUnknown = errors.New("the owner of the connection is not known")

// Peer is the other end of a local connection. The zero Peer is nobody.
type Peer struct {
	// Known is set when the system vouched for UID.
	Known bool
	// UID is the user that opened the connection (Windows: always 0, the
	// pipe's access list admits only its owner).
	UID int
	// PID is the connecting process, 0 when it is not known.
	PID int
	// Executable is the program of PID as far as it can be told, or "".
	Executable string
}

// Self describes this process.
func Self() Peer {
	exe, _ := os.Executable()
	return Peer{Known: true, UID: ownUID(), PID: os.Getpid(), Executable: exe}
}

// Mine says whether the peer is known to be the user of this process.
func (p Peer) Mine() bool { return p.Known && p.UID == ownUID() }

// ownUID is os.Getuid, or 0 where users have no numbers.
func ownUID() int { return max(os.Getuid(), 0) }
