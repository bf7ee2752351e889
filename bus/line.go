//go:build linux

package bus

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// line is the connection, and tells when the library's reader has left it.
type line struct {
	net.Conn
	reading atomic.Bool // the reader runs
	once    sync.Once
	ended   chan struct{}
	send    atomic.Int64 // nanoseconds that a write may take; 0: as long as the connection may last
}

// stay makes the connection last until it is closed; from now on a write may
// take so long.
func (l *line) stay(send time.Duration) {
	_ = l.SetDeadline(time.Time{})
	l.send.Store(int64(send))
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err != nil {
		l.once.Do(func() { close(l.ended) })
	}
	return n, err
}

func (l *line) Write(p []byte) (int, error) {
	if limit := l.send.Load(); limit > 0 {
		_ = l.SetWriteDeadline(time.Now().Add(time.Duration(limit)))
		defer func() { _ = l.SetWriteDeadline(time.Time{}) }() // no timer is left that wakes somebody
	}
	return l.Conn.Write(p)
}
