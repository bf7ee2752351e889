// Package localapi is the door for the user's own programs: HTTP/1.1 and JSON
// on a unix socket (a named pipe on Windows), served to the command line, the
// tray and scripts.
//
// Only the agent's own user gets in: the socket is 0600 in a 0700 folder, and
// the kernel names the user of every connection before a byte is read.
// Browsers do not get in even if the API were reachable by TCP one day: the
// Host must be "agent", and requests with browser headers are refused.
package localapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
)

// ErrPathTooLong says that the system cannot hold the socket's path.
type ErrPathTooLong struct {
	Path  string
	Limit int // longest path in bytes
}

func (e *ErrPathTooLong) Error() string {
	return fmt.Sprintf("the path %s has %d bytes, this system allows %d", e.Path, len(e.Path), e.Limit)
}

// ErrInUse says that another agent answers at the socket.
var ErrInUse = errors.New("another agent is running there")

// Options of a Server; the zero value is fine.
type Options struct {
	Log     *slog.Logger // nil: say nothing
	Version string       // of the program, for the description of the API
}

// Server serves one Agent. Make one with New.
type Server struct{}

// New makes a server for agent.
func New(agent Agent, o Options) *Server { return &Server{} }

// Listen opens the socket at path, readable by its owner only, and replaces
// the socket of an agent that is gone. Errors: *ErrPathTooLong, ErrInUse.
func Listen(path string) (net.Listener, error) { return nil, errors.New("not yet") }

// Serve answers on l until Shutdown and then returns nil.
func (s *Server) Serve(l net.Listener) error { return errors.New("not yet") }

// Shutdown stops listening, ends event streams, waits for other requests until
// ctx ends, and then closes what is left.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
