//go:build linux

package bus

import (
	"net"
	"sync"
	"sync/atomic"
)

// line is the connection, and tells when the library's reader has left it.
type line struct {
	net.Conn
	reading atomic.Bool // the reader runs
	once    sync.Once
	ended   chan struct{}
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err != nil {
		l.once.Do(func() { close(l.ended) })
	}
	return n, err
}
