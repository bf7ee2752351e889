//go:build unix

package posture

import (
	"context"
	"errors"
	"strings"
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
		"hangs":      "sleep 60",
		"leaves one": "sleep 60 & exit 0",
		"floods":     "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		begun := time.Now()
		if name == "floods" {
			ctx = t.Context()
		}
		out, err := run(ctx, "/bin/sh", "-c", script)
		cancel()
		if out != "" || err == nil {
			t.Errorf("%s: %.20q, %v", name, out, err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		if name == "floods" && !errors.Is(err, errTooLong) && !strings.Contains(err.Error(), "signal: broken pipe") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := run(t.Context(), "/no/such/program"); err == nil {
		t.Error("no such program ran")
	}
}
