// Package loopback is the door for browsers: a small HTTP server on 127.0.0.1
// that a sign-in page asks "is an authenticator here?" (GET /probe) and hands a
// challenge (POST /challenge).
//
// Every web page in every browser of this machine can reach it, and so can
// every program of every user. Therefore it refuses before it routes: a Host
// that is not ours (DNS rebinding), an Origin that is missing or not of an
// account's org, another user's browser, a request a page could send without
// asking (no JSON content type). What is left goes to the Agent.
//
// A page whose origin is not allowed learns nothing but that something listens:
// the refusal carries no CORS headers, and a probe's answer is the same for
// every account.
package loopback

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/ipc/peer"
)

// Limits. A browser needs milliseconds and one small request; whoever needs
// more is not one. Only a challenge may take long, and that is the person's
// time, not the client's.
const (
	maxHeader      = 16 << 10
	maxBody        = 16 << 10
	maxConnections = 512
	maxChallenges  = 64 // asked or being answered at once
	// From here on every answer closes its connection, so that kept but
	// unused ones cannot fill the house.
	busyConnections = maxConnections * 3 / 4

	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 10 * time.Second
	idleTimeout   = 30 * time.Second
)

// ErrNoFreePort says that every port of the list is taken.
var ErrNoFreePort = errors.New("no free port")

// Options of a Server; the zero value is fine.
type Options struct {
	Log *slog.Logger // nil: say nothing
}

// Server answers browsers. Make one with New; it serves one listener.
type Server struct {
	agent Agent
	log   *slog.Logger
	http  http.Server
	owner func(local, remote netip.AddrPort) (peer.Peer, error)

	hosts       [2]string // read-only once Serve has begun
	connections atomic.Int64
	slots       chan struct{} // one for each connection
	challenges  chan struct{} // one for each running challenge
}

// New makes a server that asks agent.
func New(agent Agent, o Options) *Server {
	s := &Server{
		agent:      agent,
		log:        o.Log,
		owner:      peer.OfTCP,
		slots:      make(chan struct{}, maxConnections),
		challenges: make(chan struct{}, maxChallenges),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.connState,
		ConnContext:       s.connContext,
		ErrorLog:          log.New(logWriter{s.log}, "", 0),
		// "OPTIONS *" would be answered before our checks.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// Listen opens the first free port of the list on 127.0.0.1. Port 0 picks a
// free one. When none is free the error is ErrNoFreePort.
func Listen(ports []int) (net.Listener, error) {
	var errs []error
	for _, port := range ports {
		l, err := listen(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return l, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("listen for browsers: %w: %w", ErrNoFreePort, errors.Join(errs...))
}

func listen(addr string) (net.Listener, error) {
	config := net.ListenConfig{Control: exclusive, KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	return config.Listen(context.Background(), "tcp4", addr)
}

// Serve answers on l until Shutdown and then returns nil. The port of l is the
// port that Host must name; an l that is not on 127.0.0.1 is refused.
func (s *Server) Serve(l net.Listener) error {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok || !addr.IP.Equal(net.IPv4(127, 0, 0, 1)) {
		return fmt.Errorf("serve browsers on %s: only 127.0.0.1 will do", l.Addr())
	}
	port := strconv.Itoa(addr.Port)
	s.hosts = [2]string{"localhost:" + port, "127.0.0.1:" + port}
	err := s.http.Serve(&boundedListener{Listener: l, slots: s.slots, closed: make(chan struct{})})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve browsers: %w", err)
}

// Shutdown stops listening, waits for running challenges until ctx ends, and
// then closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// boundedListener leaves further connections in the system's queue while
// maxConnections are open. A connection's slot comes back in connState.
type boundedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return c, err
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.connections.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.connections.Add(-1)
		<-s.slots
	}
}

// owner is looked up at most once a connection, and only when it is needed: a
// probe tells nothing, so it asks nothing.
type owner struct {
	local, remote net.Addr
	find          func(local, remote netip.AddrPort) (peer.Peer, error)
	once          sync.Once
	peer          peer.Peer
	err           error
}

type ownerKey struct{}

func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, ownerKey{}, &owner{local: c.LocalAddr(), remote: c.RemoteAddr(), find: s.owner})
}

func (o *owner) get() (peer.Peer, error) {
	o.once.Do(func() {
		local, ok1 := o.local.(*net.TCPAddr)
		remote, ok2 := o.remote.(*net.TCPAddr)
		if !ok1 || !ok2 {
			o.err = peer.ErrUnknown
			return
		}
		o.peer, o.err = o.find(local.AddrPort(), remote.AddrPort())
	})
	return o.peer, o.err
}

// logWriter takes net/http's own complaints: about clients, so never louder
// than debug.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("loopback http server", "complaint", string(p))
	return len(p), nil
}
