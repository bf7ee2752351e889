// Package localapi is the door for the user's own programs: HTTP/1.1 and JSON
// on a unix socket (a named pipe on Windows), served to the command line, the
// tray and scripts.
//
// Only the agent's own user gets in: the socket is 0600 in a 0700 folder, and
// the kernel names the user of every connection before a byte is read.
// Browsers do not get in even if the API were reachable by TCP one day: the
// Host must be "agent", and requests with browser headers are refused.
//
// One table (routes.go) holds every path; dispatching, decoding and the
// description at /v1/openapi.json all come from it.
package localapi

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"countersign.dev/ipc/paths"
	"countersign.dev/ipc/peer"
)

// Limits. The callers are few and the user's own; the limits are for their bugs.
const (
	maxHeader      = 16 << 10
	maxBody        = 64 << 10
	maxConnections = 128

	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 10 * time.Second // of one document or one event
	idleTimeout   = 2 * time.Minute
)

// ErrPathTooLong says that the system cannot hold the socket's path.
type ErrPathTooLong = paths.TooLongError

// ErrInUse says that another agent answers at the socket.
var ErrInUse = errors.New("another agent is running there")

// Options of a Server; the zero value is fine.
type Options struct {
	Log     *slog.Logger // nil: say nothing
	Version string       // of the program, for the description of the API
}

// Server serves one Agent. Make one with New; it serves one listener.
type Server struct {
	agent   Agent
	log     *slog.Logger
	version string
	http    http.Server
	owner   func(net.Conn) (peer.Peer, error)

	// quit ends event streams: they would keep Shutdown waiting for ever.
	quit    context.Context
	endQuit context.CancelFunc

	openAPI func() []byte
}

// New makes a server for agent.
func New(agent Agent, o Options) *Server {
	s := &Server{agent: agent, log: o.Log, version: o.Version, owner: peer.OfConn}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.quit, s.endQuit = context.WithCancel(context.Background())
	s.openAPI = sync.OnceValue(func() []byte { return describe(s.version) })
	s.http = http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  readTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		ConnContext:                  connContext,
		ErrorLog:                     log.New(logWriter{s.log}, "", 0),
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// Listen opens the socket at path, readable by its owner only, and replaces
// the socket of an agent that is gone. Errors: *ErrPathTooLong, ErrInUse.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return l, nil
}

// Serve answers on l until Shutdown and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(&guardedListener{Listener: l, server: s, slots: make(chan struct{}, maxConnections), closed: make(chan struct{})})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the local API: %w", err)
}

// Shutdown stops listening, ends event streams, waits for other requests until
// ctx ends, and then closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.endQuit()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// guardedListener hands on only connections of the agent's own user, and a
// bounded number of them.
type guardedListener struct {
	net.Listener
	server *Server
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *guardedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		p, err := l.server.owner(c)
		if err == nil && p.Mine() {
			return &conn{Conn: c, peer: p, release: sync.OnceFunc(func() { <-l.slots })}, nil
		}
		// D1: a user who got past the file modes.
		l.server.log.Warn("local connection refused", "known", p.Known, "uid", p.UID, "pid", p.PID, "error", err)
		c.Close()
	}
}

func (l *guardedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn knows who opened it and gives its slot back.
type conn struct {
	net.Conn
	peer    peer.Peer
	release func()
}

func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}

type peerKey struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, peerKey{}, c.peer)
	}
	return ctx
}

// logWriter takes net/http's own complaints about clients.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("local api http server", "complaint", string(p))
	return len(p), nil
}
