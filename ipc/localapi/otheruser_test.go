//go:build unix

package localapi_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/ipc/peer/peertest"
)

// TestMain lets the test binary be another user's client: it connects, asks,
// and prints what it got.
func TestMain(m *testing.M) {
	socket := os.Getenv("LOCALAPI_TEST_DIAL")
	if socket == "" {
		os.Exit(m.Run())
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Println("dial:", err)
		os.Exit(0)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
	answer, _ := io.ReadAll(c)
	fmt.Printf("answer: %q\n", answer)
	os.Exit(0)
}

// D1: another user who gets past the file modes is refused before a byte is
// read, and that is on record.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: cannot become another user; guard_test.go tests the refusal itself")
		return
	}
	var log syncBuffer
	socket := start(t, sample(), slog.New(slog.NewTextHandler(&log, nil)))
	base := filepath.Dir(filepath.Dir(socket))
	if got := peertest.RunAsOther(t, "LOCALAPI_TEST_DIAL="+socket); !strings.Contains(got, "permission denied") {
		t.Errorf("the file modes let another user in: %s", got)
	}
	for path, mode := range map[string]os.FileMode{base: 0o755, filepath.Dir(socket): 0o755, socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got := peertest.RunAsOther(t, "LOCALAPI_TEST_DIAL="+socket); !strings.Contains(got, `answer: ""`) {
		t.Errorf("another user got an answer: %s", got)
	}
	if !strings.Contains(log.String(), "local connection refused") || !strings.Contains(log.String(), "uid=65534") {
		t.Errorf("the refusal is not on record: %s", log.String())
	}
	if got := ask(t, socket, "GET", "/v1/status", ""); got.status != 200 {
		t.Errorf("the owner after that: %d", got.status)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
