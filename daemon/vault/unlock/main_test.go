package unlock

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"countersign.dev/daemon/internal/statefile"
)

// TestMain lets the test binary be the child of a test: role says which.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // for helpers: a second each otherwise
	switch os.Getenv("UNLOCK_TEST_ROLE") {
	case "":
		os.Exit(m.Run())
	case "print-env":
		// What an agent looks like right after its start.
		address, present := os.LookupEnv("DBUS_SESSION_BUS_ADDRESS")
		fmt.Printf("%q %t goroutines=%d\n", address, present, runtime.NumGoroutine())
	}
}

// child runs this test binary again in a role, with exactly this environment.
func child(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append([]string{"UNLOCK_TEST_ROLE=" + role, "PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE")}, env...)
	return cmd
}

func newDir(t *testing.T) *statefile.Dir {
	t.Helper()
	d, err := statefile.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// An agent must not talk to the session bus when it starts, and must not
// launch one: the keyring library would do both.
func TestStartLeavesSessionBusAlone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has the initialiser that connects")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connected := make(chan struct{}, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Close()
			connected <- struct{}{}
		}
	}()
	launched := filepath.Join(dir, "launched")
	launcher := "#!/bin/sh\ntouch " + launched + "\n"
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte(launcher), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, env, want string }{
		{"a bus", "DBUS_SESSION_BUS_ADDRESS=unix:path=" + socket, fmt.Sprintf("%q true goroutines=1", "unix:path="+socket)},
		{"no address", "HOME=" + dir, `"" false goroutines=1`},
		{"autolaunch", "DBUS_SESSION_BUS_ADDRESS=autolaunch:", `"autolaunch:" true goroutines=1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := child(t, "print-env", c.env, "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			// The environment is whole again once main runs.
			if got := strings.TrimSpace(string(out)); got != c.want {
				t.Errorf("after start: %s, want %s", got, c.want)
			}
		})
	}
	select {
	case <-connected:
		t.Error("start connected to the session bus")
	default:
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("start ran dbus-launch")
	}
}

// A bus that takes the connection and says nothing must not hold the agent up.
func TestSilentBusMeetsDeadline(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+socket)

	start := time.Now()
	m, err := Choose(t.Context(), newDir(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind() != File || m.Fallback() == nil {
		t.Errorf("chose %s (fallback %v), want file", m.Kind(), m.Fallback())
	}
	if took := time.Since(start); took > probeTimeout+2*time.Second {
		t.Errorf("took %v", took)
	}
}
