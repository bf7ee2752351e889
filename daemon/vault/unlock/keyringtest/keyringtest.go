// Package keyringtest runs a real desktop keyring for tests: gnome-keyring on a
// session bus of its own, in a home of its own. Nothing of the machine's desktop
// is touched, and both end with the test.
package keyringtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// patience bounds each wait for a program to do its part on a busy machine.
const patience = 30 * time.Second

// busConfig is a session bus that starts nothing by itself: else a call that
// finds no keyring would make it start a second, locked one.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// Session is a session bus that a keyring may be on. Its methods are for the
// test's own goroutine.
type Session struct {
	t       testing.TB
	home    string
	run     string
	address string
	keyring *exec.Cmd // nil while there is none
}

// New starts a bus without a keyring and makes it this process's session bus,
// which its children get from the environment.
func New(t testing.TB) *Session {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the Secret Service is Linux's")
	}
	for tool, pack := range map[string]string{"dbus-daemon": "dbus", "dbus-send": "dbus", "gnome-keyring-daemon": "gnome-keyring"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("needs %s (Debian: apt install %s)", tool, pack)
		}
	}
	base, err := os.MkdirTemp("", "kr") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	s := &Session{t: t, home: filepath.Join(base, "home"), run: filepath.Join(base, "run")}
	for _, dir := range []string{s.home, s.run} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(s.run, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, filepath.Join(s.run, "bus")), 0o600); err != nil {
		t.Fatal(err)
	}
	bus := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address=1")
	bus.Env = s.environment()
	bus.Stderr = t.Output()
	out, err := bus.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(bus) })
	line := bufio.NewScanner(out)
	if !line.Scan() {
		t.Fatalf("the bus did not start: %v", line.Err())
	}
	s.address = line.Text()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", s.address)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // for keyring helpers: a second each otherwise
	return s
}

func (s *Session) environment() []string {
	return []string{
		"HOME=" + s.home, "XDG_RUNTIME_DIR=" + s.run, "XDG_DATA_HOME=" + filepath.Join(s.home, "share"), "XDG_DATA_DIRS=" + s.run,
		"PATH=" + os.Getenv("PATH"), "DBUS_SESSION_BUS_ADDRESS=" + s.address,
	}
}

// Start starts the keyring as a login with that password does. The first one
// makes the keyring; a wrong one later leaves it locked.
func (s *Session) Start(password string) {
	s.t.Helper()
	if s.keyring != nil {
		s.t.Fatal("the keyring runs already")
	}
	c := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	c.Env = s.environment()
	in, err := c.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.keyring = c
	s.t.Cleanup(s.Stop)
	if _, err := in.Write([]byte(password)); err != nil {
		s.t.Fatal(err)
	}
	in.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for {
		_, err := s.call(ctx, "org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetNameOwner", "string:org.freedesktop.secrets")
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the keyring did not come: %v", err)
		}
	}
}

// Stop ends the keyring, as a logout does.
func (s *Session) Stop() {
	if s.keyring == nil {
		return
	}
	end(s.keyring)
	s.keyring = nil
}

// Lock locks the login keyring, as a screen lock may.
func (s *Session) Lock() {
	s.t.Helper()
	const service = "org.freedesktop.secrets"
	if out, err := s.call(s.t.Context(), service, "/org/freedesktop/secrets", "org.freedesktop.Secret.Service.Lock",
		"array:objpath:/org/freedesktop/secrets/collection/login"); err != nil {
		s.t.Fatalf("lock the keyring: %v\n%s", err, out)
	}
}

var ownName = regexp.MustCompile(`destination=:1\.(\d+) `)

// Connections is how many programs have connected to the bus until now, this
// call included: the bus numbers them. A keyring helper is one of them.
func (s *Session) Connections() int {
	s.t.Helper()
	out, err := s.call(s.t.Context(), "org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId")
	m := ownName.FindSubmatch(out)
	if err != nil || m == nil {
		s.t.Fatalf("ask the bus: %v\n%s", err, out)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *Session) call(ctx context.Context, to, path, method string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := exec.CommandContext(ctx, "dbus-send", append([]string{"--session", "--print-reply", "--dest=" + to, path, method}, args...)...)
	c.Env = s.environment()
	return c.CombinedOutput()
}

// end asks a program to end and waits for it.
func end(c *exec.Cmd) {
	_ = c.Process.Signal(os.Interrupt)
	timer := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	_ = c.Wait()
}
