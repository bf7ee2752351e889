//go:build unix

package posture

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program of the system gets so much time, so much room, and little to know.
func TestRun(t *testing.T) {
	t.Setenv("COUNTERSIGN_CANARY", "canary")
	t.Setenv("LD_PRELOAD", "")
	out, err := run(t.Context(), "/bin/sh", "-c", "echo out; echo err >&2; pwd; env")
	if err != nil || !strings.Contains(out, "out\n") || !strings.Contains(out, "err\n") || !strings.Contains(out, "\n/\n") || !strings.Contains(out, "LC_ALL=C\n") {
		t.Errorf("%q, %v", out, err)
	}
	if strings.Contains(out, "canary") || strings.Contains(out, "LD_PRELOAD") {
		t.Errorf("it sees %q", out)
	}
	for name, script := range map[string]string{
		"fails":      "echo half; exit 3",
		"hangs":      "exec 9>FIFO; echo x >&9; sleep 60; sleep 60",
		"leaves one": "exec 9>FIFO; echo x >&9; sleep 60 & exit 0",
		"floods":     "while :; do echo " + strings.Repeat("x", 4096) + "; done",
	} {
		limit := 300 * time.Millisecond
		if name == "floods" {
			limit = 10 * time.Second // long enough to print too much
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		held, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		out, err := run(ctx, "/bin/sh", "-c", strings.ReplaceAll(script, "FIFO", fifo))
		cancel()
		if out != "" || err == nil {
			t.Errorf("%s: %.20q, %v", name, out, err)
		}
		if took := time.Since(begun); took > 9*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		if name == "floods" && !errors.Is(err, errTooLong) && !strings.Contains(err.Error(), "signal: broken pipe") {
			t.Errorf("%s: %v", name, err)
		}
		// Whoever held the pipe has ended when it does.
		_ = held.SetReadDeadline(time.Now().Add(10 * time.Second))
		if left, err := io.ReadAll(held); err != nil || string(left) != "x\n" && strings.Contains(script, "FIFO") {
			t.Errorf("%s: its children live on: %q, %v", name, left, err)
		}
		held.Close()
	}
	if _, err := run(t.Context(), "/no/such/program"); err == nil {
		t.Error("no such program ran")
	}
}
