package daemon

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"countersign.dev/bus/bustest"
	"countersign.dev/daemon/desktop/session"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// onThisDesktop is an agent that looks at the buses that the environment names.
func onThisDesktop(t *testing.T) Config {
	c := testConfig(t)
	c.session = session.New(session.Options{SystemBusOwner: os.Geteuid()})
	for name, value := range map[string]string{
		"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere/at-all", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere/at-all",
		"XDG_RUNTIME_DIR": "", "XDG_SESSION_ID": "", "DISPLAY": "", "WAYLAND_DISPLAY": "",
	} {
		t.Setenv(name, value)
	}
	return c
}

// No bus, no logind, no display: the agent starts, says so, and answers.
func TestWithoutADesktop(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, onThisDesktop(t))
	a.enrol(t, org)
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("silent: %d", got)
	}
	if s := a.status(t); s.Session.Screen != "unknown" || len(s.Session.Sources) != 0 || s.Hold != nil {
		t.Fatalf("%+v", s)
	}
	if got := check(t, a, "session"); got.State != "warning" || got.Hint == "" {
		t.Errorf("%+v", got)
	}
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedNone)
	if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve"}); err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
}

// A bus that accepts and says nothing delays one answer by a moment, and the end
// of the agent not at all.
func TestSilentBus(t *testing.T) {
	c := onThisDesktop(t)
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // what it has not accepted waits in its queue
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(dir, "bus"))
	org := oktatest.NewOrg(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	start := time.Now()
	for range 3 {
		if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
			t.Fatalf("%d", got)
		}
	}
	if took := time.Since(start); took > 2*firstWord {
		t.Errorf("took %s", took)
	}
	start = time.Now()
	if err := a.stop(); err != nil || time.Since(start) > stopWithin {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

// From logind to the page, and back.
func TestLogindHoldsTheAgent(t *testing.T) {
	c := onThisDesktop(t)
	const (
		path    = dbus.ObjectPath("/org/freedesktop/login1")
		manager = "org.freedesktop.login1.Manager"
		face    = "org.freedesktop.login1.Session"
	)
	m := bustest.NewTemplate(t, bustest.Start(t), "logind", "org.freedesktop.login1", path)
	var at string
	m.Get(&at, path, "org.freedesktop.DBus.Mock.AddSession", "c1", "seat0", uint32(os.Geteuid()), "alice", true)
	seat := dbus.ObjectPath(at)
	m.Set(seat, face, map[string]any{"Type": "x11"})
	org := oktatest.NewOrg(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	events := a.subscribed(t)
	held := func(reason string) {
		t.Helper()
		if h := nextHold(t, events); (h == nil) != (reason == "") || h != nil && h.Reason != reason {
			t.Fatalf("%+v, want %q", h, reason)
		}
	}
	m.Do(seat, face+".Lock")
	held(api.HoldScreenLocked)
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusServiceUnavailable {
		t.Fatalf("locked: %d", got)
	}
	m.Do(seat, face+".Unlock")
	held("")
	m.Emit(path, manager, "PrepareForSleep", "b", true)
	held(api.HoldAsleep)
	m.Emit(path, manager, "PrepareForSleep", "b", false)
	held("")
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("unlocked: %d", got)
	}
	if s := a.status(t); s.Session.Screen != "unlocked" {
		t.Fatalf("%+v", s.Session)
	}
}
