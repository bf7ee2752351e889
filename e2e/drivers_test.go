package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
)

// driver builds one of the drivers behind make, and prepares it to run on the
// programs under test with its temporary files in a folder of its own.
func driver(t *testing.T, name string) (cmd *exec.Cmd, temp string) {
	t.Helper()
	// Several stories in one: at the pace of a busy machine, too.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 4*storyTime, fmt.Errorf("the driver took longer than %v", 4*storyTime))
	t.Cleanup(cancel)
	binary := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	temp, err := os.MkdirTemp("", "cs-") // short: sockets are made below it
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(temp) })
	cmd = exec.CommandContext(ctx, binary)
	cmd.Env = append(os.Environ(), "COUNTERSIGN_BIN="+filepath.Dir(programs.Org), "TMPDIR="+temp, "DISPLAY=", "WAYLAND_DISPLAY=")
	return cmd, temp
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range left {
		t.Errorf("left behind: %s", e.Name())
	}
}

// make demo: enrolment and sign-in without a question, each step with its
// time, and nothing left behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	cmd, temp := driver(t, "demo")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the demo failed: %v\n%s", err, out)
	}
	for _, line := range []string{`account enrolled +\d+ ms  alice@example\.com`, `challenge +\d+ ms`, `prompt approve --number \d\d`,
		`code get alice@example\.com: \d{6}`, `PIN typed, signed in +\d+ ms`, `(?m)^Signed in four times: alice@example\.com`} {
		if !regexp.MustCompile(line).Match(out) {
			t.Errorf("the report lacks %q:\n%s", line, out)
		}
	}
	mustBeEmpty(t, temp)
}

// make run: it says what to open and type, that works, a sign-in that asks is
// shown in the terminal, and Ctrl-C ends everything within two seconds.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	cmd, temp := driver(t, "run")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	lines := make(chan string, 200)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			lines <- s.Text()
		}
	}()
	said := map[string]string{}
	for said["socket"] == "" {
		line := nextLine(t, ctx, lines)
		if f := strings.Fields(line); len(f) >= 2 {
			said[f[0]] = f[len(f)-1]
			if socket, ok := strings.CutPrefix(f[len(f)-1], "COUNTERSIGN_SOCKET="); ok {
				said["socket"] = socket
			}
		}
	}
	page := newPage(t)
	must(t, page.Open(ctx, said["asks"]))
	must(t, page.Identify(ctx, said["user"]))
	must(t, page.EnterPassword(ctx, said["password"]))
	must(t, page.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
	plugged := false
	for line := ""; !strings.HasPrefix(line, "Sign in to "); line = nextLine(t, ctx, lines) {
		plugged = plugged || strings.HasPrefix(line, "A security key in software is plugged in.")
	}
	if !plugged {
		t.Error("no word of the security key")
	}
	approve := exec.CommandContext(ctx, programs.CLI, "prompt", "approve", "--socket", said["socket"])
	if out, err := approve.CombinedOutput(); err != nil {
		t.Fatalf("approving: %v\n%s", err, out)
	}
	must(t, page.WaitForText(ctx, "Signed in to demo-strict"))
	must(t, page.WaitForText(ctx, harness.Alice))
	must(t, page.Open(ctx, said["open"]))

	began := time.Now()
	must(t, cmd.Process.Signal(syscall.SIGINT))
	for range lines {
	}
	must(t, cmd.Wait())
	stopped = true
	if took := time.Since(began); took > harness.StopPromise {
		t.Errorf("stopping took %v", took)
	}
	mustBeEmpty(t, temp)
}

func nextLine(t *testing.T, ctx context.Context, lines <-chan string) string {
	t.Helper()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatal("it ended by itself")
		}
		return line
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	}
	return ""
}
