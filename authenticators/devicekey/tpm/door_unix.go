//go:build unix

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const dialTimeout = time.Second

// socket is a TPM behind a unix socket, such as swtpm's. It takes a connection
// for each command: such a TPM serves one at a time, and others may have
// business with it.
type socket string

func (s socket) probe() error {
	conn, err := net.DialTimeout("unix", string(s), dialTimeout)
	if errors.Is(err, syscall.EAGAIN) {
		return nil // its queue is full: somebody is behind it
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// dial waits for a place in the queue, which may be for one caller alone.
func (s socket) dial(ctx context.Context) (net.Conn, error) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", string(s))
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

func (s socket) open() (port, error) { return s, nil }
func (socket) managed() bool         { return false }
func (socket) Close() error          { return nil }

func (s socket) send(ctx context.Context, command []byte) ([]byte, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, headerSize, 512)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	size := binary.BigEndian.Uint32(answer[2:])
	if size < headerSize || size > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	answer = append(answer, make([]byte, size-headerSize)...)
	if _, err := io.ReadFull(conn, answer[headerSize:]); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return answer, nil
}

// socketOr tells a socket from anything else at a path.
func socketOr(path string, other door) door {
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		return socket(path)
	}
	return other
}

func absent(err error) bool {
	return errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ECONNREFUSED)
}

func forbidden(error) bool { return false } // fs.ErrPermission says it

func occupied(err error) bool { return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EAGAIN) }
