package session

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"

	"countersign.dev/bus/bustest"
)

// B4: only the services themselves are believed, not who speaks in their names.
func TestB4ForgedLocks(t *testing.T) {
	nowhere(t)
	system, session := bustest.Start(t), bustest.StartSession(t)
	logind, c1 := mockLogind(t, system)
	const gnome = "org.gnome.ScreenSaver"
	saver := bustest.NewTemplate(t, session, "gnome_screensaver", gnome, "/org/gnome/ScreenSaver")
	h, _ := watch(t, nil)
	first := h.next().(Screen)
	if first.Locked || len(first.Sources) != 2 {
		t.Fatalf("%+v", first)
	}
	onSystem, onSession := bustest.Conn(t, system), bustest.Conn(t, session)
	forge := func(locked bool) {
		t.Helper()
		signal := map[bool]string{true: "Lock", false: "Unlock"}[locked]
		bustest.Forge(t, onSystem, c1, sessionFace, signal)
		bustest.Forge(t, onSystem, c1, properties, "PropertiesChanged", sessionFace, map[string]dbus.Variant{lockedHint: dbus.MakeVariant(locked)}, []string{})
		bustest.Forge(t, onSystem, managerPath, manager, "PrepareForSleep", true)
		bustest.Forge(t, onSession, "/org/gnome/ScreenSaver", gnome, "ActiveChanged", locked)
	}
	forge(true)
	logind.Do(c1, sessionFace+".Lock")
	h.screen(true, sourceLogind, sourceSaver) // the first thing that is told is this
	forge(false)
	logind.Do(c1, sessionFace+".SetLockedHint", true)
	saver.Do("/org/gnome/ScreenSaver", gnome+".SetActive", true)
	saver.Do("/org/gnome/ScreenSaver", gnome+".SetActive", false) // ends the request, not the hint
	forge(false)
	logind.Do(c1, sessionFace+".SetLockedHint", false)
	h.screen(false, sourceLogind, sourceSaver)
	h.quiet()
}

// What goes on elsewhere wakes nobody: it does not even come here.
func TestOthersBusinessIsNotHeard(t *testing.T) {
	nowhere(t)
	address := bustest.Start(t)
	m, c1 := mockLogind(t, address)
	got := between(t, address)
	h, _ := watch(t, nil)
	h.screen(false, sourceLogind)
	m.Do(c1, sessionFace+".Lock")
	h.screen(true, sourceLogind)
	before := got.Load()
	for range 50 {
		c7 := dbus.ObjectPath("/org/freedesktop/login1/session/c7")
		m.Emit(managerPath, manager, "SessionNew", "so", "c7", c7)
		m.Emit(managerPath, manager, "SessionRemoved", "so", "c7", c7)
		m.Emit(c7[:len(c7)-1]+"1", sessionFace, "PauseDevice", "uus", uint32(1), uint32(1), "pause")
	}
	m.Do(c1, sessionFace+".Unlock")
	h.screen(false, sourceLogind)
	if n := got.Load() - before; n == 0 || n > 1000 {
		t.Errorf("%d bytes came for one signal", n)
	}
}

// between puts itself between the agent and the system bus, and counts what the
// agent is sent.
func between(t *testing.T, address string) *atomic.Int64 {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(dir, "bus"))
	var got atomic.Int64
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("unix", strings.TrimPrefix(address, "unix:path="))
			if err != nil {
				c.Close()
				continue
			}
			context.AfterFunc(ctx, func() { c.Close(); up.Close() })
			work.Go(func() { defer up.Close(); _, _ = io.Copy(up, c) })
			work.Go(func() { defer c.Close(); _, _ = io.Copy(io.MultiWriter(counter{&got}, c), up) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		work.Wait()
		os.RemoveAll(dir)
	})
	return &got
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
