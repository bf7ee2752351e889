package tpm

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A TPM behind a socket may have a queue for one caller. Who finds it full waits;
// it says nothing of how the TPM is doing.
func TestFullQueue(t *testing.T) {
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	s := socket(path)
	var waiting []net.Conn
	for len(waiting) < 64 { // until there is no place left
		conn, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		waiting = append(waiting, conn)
	}
	if len(waiting) == 64 {
		t.Fatal("the queue has no end")
	}
	if err := s.probe(); err != nil {
		t.Errorf("probe: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := s.send(ctx, make([]byte, headerSize)); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("send in time: %v", err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := s.send(t.Context(), make([]byte, headerSize))
		answered <- err
	}()
	for n := range len(waiting) + 1 {
		conn, _, err := syscall.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		if n == len(waiting) { // ours
			_, _ = syscall.Read(conn, make([]byte, headerSize))
			_, _ = syscall.Write(conn, []byte{0x80, 1, 0, 0, 0, headerSize, 0, 0, 0, 0})
		}
		syscall.Close(conn)
	}
	if err := <-answered; err != nil {
		t.Errorf("send: %v", err)
	}
}
