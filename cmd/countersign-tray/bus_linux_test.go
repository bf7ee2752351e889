//go:build !gtktray

package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"countersign.dev/bus/bustest"
	"countersign.dev/ipc/api"
)

// colour is the most frequent colour of the icon that is not transparent.
func (i *icon) colour() (c [3]byte) {
	v, err := i.conn.Object(i.item.dest, i.item.path).GetProperty(itemIface + ".IconPixmap")
	if err != nil {
		return c
	}
	var maps []struct {
		W, H int32
		Pix  []byte
	}
	if v.Store(&maps) != nil || len(maps) == 0 {
		return c
	}
	count := map[[3]byte]int{}
	for p := maps[0].Pix; len(p) >= 4; p = p[4:] {
		if p[0] == 0xff { // alpha comes first
			count[[3]byte(p[1:4])]++
		}
	}
	for candidate, n := range count {
		if n > count[c] {
			c = candidate
		}
	}
	return c
}

// The message bus ends and comes again: the same process has its icon again.
func TestBusRestart(t *testing.T) {
	w := newWorld(t)
	p := w.panel()
	tray := w.tray()
	p.icon().see("No sign-in is waiting")
	w.bus.Stop()
	await(t, "it is noticed", func() bool { return strings.Contains(tray.words(), "has gone; waiting for it") })
	w.ask("a") // nobody can be shown it
	await(t, "it counts as nobody", func() bool { return len(w.agent.FrontEnds()) == 0 })
	w.bus.Start()
	i := w.panel().icon()
	i.press("Approve", w.decided("a"))
	var pid uint32
	if err := i.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, i.item.dest).Store(&pid); err != nil || int(pid) != tray.cmd.Process.Pid {
		t.Errorf("process %d has the icon, not %d: %v", pid, tray.cmd.Process.Pid, err)
	}
}

// Without a bus it waits, says so once, and stops when it is told to.
func TestNoBus(t *testing.T) {
	w := newWorld(t)
	w.bus.Stop()
	tray := w.tray()
	await(t, "it says so", func() bool { return strings.Contains(tray.words(), "waiting for the session's message bus") })
	stopped := w.tray() // its lock is held by the first, whether or not there is a bus
	<-stopped.exited
	w.bus.Start()
	w.panel().icon().see("No sign-in is waiting")
	if n := strings.Count(tray.words(), "session's message bus"); n != 1 {
		t.Errorf("said %d times: %s", n, tray.words())
	}
}

// A bus that hangs keeps nobody from stopping the tray.
func TestHangingBus(t *testing.T) {
	w := newWorld(t)
	p := w.panel()
	tray := w.tray()
	p.icon().see("No sign-in is waiting")
	var pid uint32
	if err := p.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, "org.freedesktop.DBus").Store(&pid); err != nil {
		t.Fatal(err)
	}
	bus, err := os.FindProcess(int(pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer bus.Signal(syscall.SIGCONT)
	// Each turns the icon, and all of them together do not fit into the socket.
	asked := func() int {
		w.agent.Lock()
		defer w.agent.Unlock()
		return len(w.agent.Asked)
	}
	for n := range 60 {
		before, hold := asked(), &api.Hold{Reason: api.HoldPaused}
		if n%2 == 1 {
			hold = nil
		}
		w.agent.SetHold(hold)
		await(t, "it is heard", func() bool { return asked() > before })
	}
	tray.end()
}

// The tray counts as a place where the person can be asked while there is a
// panel that shows it.
func TestFrontEnd(t *testing.T) {
	w := newWorld(t)
	w.tray()
	frontEnds := func(want ...string) {
		t.Helper()
		await(t, "front ends "+strings.Join(want, ","), func() bool {
			return w.agent.Subscribers() == 1 && slices.Equal(w.agent.FrontEnds(), want)
		})
	}
	frontEnds()
	p := w.panel()
	p.icon()
	frontEnds("tray")
	p.conn.Close()
	frontEnds()
	w.panel().icon()
	frontEnds("tray")
}

// The library looks for a panel first and listens for one second: what comes in
// between, it misses. The icon comes all the same.
func TestMissedRegistration(t *testing.T) {
	w := newWorld(t)
	p := w.panelMissing(1)
	w.tray()
	p.icon().see("No sign-in is waiting")
}

// look is a desktop that says whether it is light or dark.
type look struct{ scheme uint32 }

func (l *look) Read(namespace, key string) (dbus.Variant, *dbus.Error) {
	return dbus.MakeVariant(dbus.MakeVariant(l.scheme)), nil
}

// The icon suits the panel: as the desktop says, and as it changes its mind; and
// as the person says.
func TestTheme(t *testing.T) {
	w := newWorld(t)
	p := w.panel()
	desktop := bustest.Conn(t, w.bus.Address)
	const path = dbus.ObjectPath("/org/freedesktop/portal/desktop")
	if err := desktop.Export(&look{1}, path, "org.freedesktop.portal.Settings"); err != nil {
		t.Fatal(err)
	}
	w.tray()
	i := p.icon()
	changes := make(chan *dbus.Signal, 256)
	p.conn.Signal(changes)
	if err := p.conn.AddMatchSignal(dbus.WithMatchInterface(itemIface), dbus.WithMatchMember("NewIcon")); err != nil {
		t.Fatal(err)
	}
	is := func(what string, want [3]byte) {
		t.Helper()
		for late := time.After(patience); i.colour() != want; {
			select {
			case <-changes:
			case <-late:
				t.Fatalf("%s: the icon is %x", what, i.colour())
			}
		}
	}
	i.see("No sign-in is waiting")
	unknown, dark, light := [3]byte{0x7d, 0x87, 0x97}, [3]byte{0xe8, 0xec, 0xf2}, [3]byte{0x1b, 0x23, 0x30}
	is("nobody tells", unknown)
	if _, err := desktop.RequestName("org.freedesktop.portal.Desktop", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	is("dark", dark)
	if err := desktop.Export(&look{2}, path, "org.freedesktop.portal.Settings"); err != nil {
		t.Fatal(err)
	}
	if err := desktop.Emit(path, "org.freedesktop.portal.Settings.SettingChanged", "org.freedesktop.appearance", "color-scheme", dbus.MakeVariant(uint32(2))); err != nil {
		t.Fatal(err)
	}
	is("light", light)

	w.env = append(w.env, "DISPLAY=:77") // another session
	w.tray("--theme", "dark")
	i = p.icon()
	is("as was typed", dark)
}
