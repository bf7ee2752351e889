//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The program under test is this binary, told so by its environment.
const asProgram = "COUNTERSIGN_ORG_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestSignalsStopTheServer(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		state := filepath.Join(t.TempDir(), "state")
		for round := range 2 { // the second start finds what the first left
			c := exec.CommandContext(t.Context(), os.Args[0], "serve", "--listen", "127.0.0.1:0", "--state", state, "--demo")
			c.Env = append(os.Environ(), asProgram+"=1")
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"ready":true,"url":"http://localhost:`) {
				t.Fatalf("ready line %q", lines.Text())
			}
			began := time.Now()
			if err := c.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if lines.Scan() {
				t.Errorf("more on stdout: %q", lines.Text())
			}
			if err := c.Wait(); err != nil || time.Since(began) > 2*time.Second {
				t.Errorf("%v, round %d: %v after %v", sig, round, err, time.Since(began))
			}
		}
	}
}
