// Package loopback is the door for browsers: a small HTTP server on 127.0.0.1
// that a sign-in page asks "is an authenticator here?" (GET /probe) and hands a
// challenge (POST /challenge).
//
// Every web page in every browser of this machine can reach it, and so can
// every program of every user. Therefore it refuses before it routes: a Host
// that is not ours (DNS rebinding), an Origin that is missing or not of an
// account's org, another user's browser, a request a page could send without
// asking (no JSON content type). What is left goes to the Agent.
package loopback

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// Options of a Server; the zero value is fine.
type Options struct {
	Log *slog.Logger // nil: say nothing
}

// Server answers browsers. Make one with New.
type Server struct{}

// New makes a server that asks agent.
func New(agent Agent, o Options) *Server { return &Server{} }

// Listen opens the first free port of the list on 127.0.0.1. Port 0 picks a
// free one.
func Listen(ports []int) (net.Listener, error) { return nil, errors.New("not yet") }

// Serve answers on l until Shutdown and then returns nil. The port of l is the
// port that Host must name.
func (s *Server) Serve(l net.Listener) error { return errors.New("not yet") }

// Shutdown stops listening, waits for running challenges until ctx ends, and
// then closes what is left.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
