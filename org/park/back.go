package park

import (
	"crypto/tls"
	"net"
)

// Listener returns where connections come back whose callers have begun their
// next request. Serve it with the http.Server that they were taken from; it
// may then be closed like any listener, which begins to close the lot. While
// nobody accepts from it, connections are closed after their answer.
func (l *Lot) Listener() net.Listener { return listener{l} }

type listener struct{ *Lot }

func (b listener) Accept() (net.Conn, error) {
	b.mu.Lock()
	b.accepting = true
	b.mu.Unlock()
	select {
	case c := <-b.back:
		return c, nil
	case <-b.done:
		return nil, net.ErrClosed
	}
}

// Close does not wait, since a server closes its listeners under a lock.
func (b listener) Close() error { b.shut(); return nil }

func (listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "park" }
func (addr) String() string  { return "parked" }

// earlyConn is a connection of which something was read already.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// earlyTLS lets the server know that it is one of TLS.
type earlyTLS struct {
	earlyConn
	tls *tls.Conn
}

func (c *earlyTLS) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
func (c *earlyTLS) NetConn() net.Conn                    { return c.tls.NetConn() }

func withEarly(c net.Conn, early []byte) net.Conn {
	if len(early) == 0 {
		return c
	}
	if t, ok := c.(*tls.Conn); ok {
		return &earlyTLS{earlyConn{c, early}, t}
	}
	return &earlyConn{c, early}
}

// drained unwraps a connection that came back here once, so that wrappers do
// not pile up.
func drained(c net.Conn) net.Conn {
	switch e := c.(type) {
	case *earlyConn:
		if len(e.early) == 0 {
			return e.Conn
		}
	case *earlyTLS:
		if len(e.early) == 0 {
			return e.Conn
		}
	}
	return c
}
