// Package parktest serves a handler and a parking lot without a network, so
// that tests can wait in fake time (testing/synctest).
package parktest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/org/park"
)

// Server is a running server.
type Server struct {
	HTTP   *http.Server
	lot    *park.Lot
	t      testing.TB
	pipes  *pipes
	served sync.WaitGroup
}

// Serve starts a server in the test's bubble. The caller calls Close before the
// bubble ends.
func Serve(t testing.TB, h http.Handler, lot *park.Lot) *Server {
	s := &Server{
		HTTP: &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}, lot: lot, t: t,
		pipes: &pipes{conns: make(chan net.Conn), done: make(chan struct{})},
	}
	for _, l := range []net.Listener{s.pipes, lot.Listener()} {
		s.served.Go(func() { _ = s.HTTP.Serve(l) })
	}
	synctest.Wait()
	return s
}

// Close ends the server and the lot; what they leave running fails the bubble.
func (s *Server) Close() {
	s.lot.Close()
	_ = s.HTTP.Close()
	s.served.Wait()
}

// Caller is one connection to a server.
type Caller struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// Caller connects.
func (s *Server) Caller() *Caller {
	here, there := net.Pipe()
	s.pipes.conns <- there
	return &Caller{here, s.t, bufio.NewReader(here)}
}

// Get sends a request with these header lines. It returns once that is read.
func (c *Caller) Get(path string, lines ...string) {
	c.t.Helper()
	text := "GET " + path + " HTTP/1.1\r\nHost: localhost:8080\r\n"
	for _, l := range lines {
		text += l + "\r\n"
	}
	if _, err := io.WriteString(c, text+"\r\n"); err != nil {
		c.t.Error(err)
	}
}

// Answer waits for the next answer.
func (c *Caller) Answer() (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodGet})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(body)
}

// Want waits for an answer with this body.
func (c *Caller) Want(body string) *http.Response {
	c.t.Helper()
	resp, got := c.Answer()
	if got != body {
		c.t.Errorf("%q, want %q", got, body)
	}
	return resp
}

// WantEnd waits for the end of the connection.
func (c *Caller) WantEnd() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		c.t.Errorf("%q, %v; want the end of the connection", b, err)
	}
}

// WantQuiet finds that there is no answer once everybody has done what they
// can.
func (c *Caller) WantQuiet() {
	c.t.Helper()
	synctest.Wait()
	if err := c.SetReadDeadline(time.Now()); err != nil {
		c.t.Fatal(err)
	}
	if b, err := c.r.ReadByte(); err == nil {
		c.t.Errorf("an early answer: %q", b)
	}
	_ = c.SetReadDeadline(time.Time{})
}

// pipes is a listener without a network.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
