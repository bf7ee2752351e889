package session

import (
	"context"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"countersign.dev/bus/bustest"
)

const patience = 20 * time.Second

// heard is a handler that passes on what it is told.
type heard struct {
	t     *testing.T
	news  chan any // Screen, or "sleep", "wake"
	sleep chan struct{}
	stop  func() // ends the watch
}

func (h *heard) Screen(s Screen) { h.news <- s }
func (h *heard) Wake()           { h.news <- "wake" }
func (h *heard) Sleep() {
	h.news <- "sleep"
	if h.sleep != nil {
		<-h.sleep
	}
}

func (h *heard) next() any {
	h.t.Helper()
	select {
	case n := <-h.news:
		return n
	case <-time.After(patience):
		h.t.Fatal("nothing is told")
		return nil
	}
}

// screen waits for one thing to be told of the screen.
func (h *heard) screen(locked bool, sources ...string) {
	h.t.Helper()
	want := Screen{Known: locked || len(sources) > 0, Locked: locked, Sources: sources}
	if got, ok := h.next().(Screen); !ok || !got.equal(want) {
		h.t.Fatalf("told %+v, want %+v", got, want)
	}
}

func (h *heard) is(word string) {
	h.t.Helper()
	if got := h.next(); got != word {
		h.t.Fatalf("told %+v, want %s", got, word)
	}
}

func (h *heard) quiet() {
	h.t.Helper()
	select {
	case n := <-h.news:
		h.t.Fatalf("told %+v, and should not be", n)
	default:
	}
}

// clock is one that the test moves.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

func watch(t *testing.T, c *clock) (*heard, Watcher) {
	t.Helper()
	h := &heard{t: t, news: make(chan any, 64)}
	o := Options{SystemBusOwner: os.Geteuid()}
	if c != nil {
		o.Now = c.now
	}
	w := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Watch(ctx, h) }()
	h.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("it does not end")
		}
	}
	t.Cleanup(h.stop)
	return h, w
}

// nowhere is a place without buses.
func nowhere(t *testing.T) {
	t.Helper()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/at-all")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/at-all")
	t.Setenv("XDG_SESSION_ID", "")
}

// mockLogind has the user's session c1 with a screen.
func mockLogind(t *testing.T, address string) (*bustest.Mock, dbus.ObjectPath) {
	t.Helper()
	m := newLogind(t, address)
	return m, addSession(m, "c1", "x11")
}

func newLogind(t *testing.T, address string) *bustest.Mock {
	t.Helper()
	m := bustest.NewTemplate(t, address, "logind", login1, managerPath)
	m.Method(managerPath, manager, "GetUser", "u", "o", `
ret = '/org/freedesktop/login1/user/%d' % args[0]
if ret not in objects:
    `+bustest.Raise(login1+".NoSuchUser"))
	return m
}

func addSession(m *bustest.Mock, id, kind string) dbus.ObjectPath {
	var path string
	m.Get(&path, managerPath, "org.freedesktop.DBus.Mock.AddSession", id, "seat0", uint32(os.Geteuid()), "alice", true)
	m.Set(dbus.ObjectPath(path), sessionFace, map[string]any{"Type": kind})
	return dbus.ObjectPath(path)
}

func userPath() dbus.ObjectPath {
	return dbus.ObjectPath("/org/freedesktop/login1/user/" + strconv.Itoa(os.Geteuid()))
}

// shows makes logind show a session for the user.
func shows(m *bustest.Mock, s named) {
	m.Method(userPath(), userFace, "Show", "so", "", `
self.props['`+userFace+`']['Display'] = dbus.Struct((args[0], args[1]), signature='so')
self.EmitSignal('`+properties+`', 'PropertiesChanged', 'sa{sv}as', ['`+userFace+`', dbus.Dictionary({}, signature='sv'), dbus.Array(['Display'], signature='s')])`)
	m.Do(userPath(), userFace+".Show", s.ID, s.Path)
}

type named struct {
	ID   string
	Path dbus.ObjectPath
}

func TestLogindLocks(t *testing.T) {
	nowhere(t)
	m, c1 := mockLogind(t, bustest.Start(t))
	h, _ := watch(t, nil)
	h.screen(false, sourceLogind)
	// A request to lock counts at once, and until somebody says otherwise.
	m.Do(c1, sessionFace+".Lock")
	h.screen(true, sourceLogind)
	m.Do(c1, sessionFace+".Unlock")
	h.screen(false, sourceLogind)
	m.Do(c1, sessionFace+".Lock")
	h.screen(true, sourceLogind)
	m.Do(c1, sessionFace+".SetLockedHint", true)
	m.Do(c1, sessionFace+".SetLockedHint", false)
	h.screen(false, sourceLogind)
	// A locker that nobody asked.
	m.Do(c1, sessionFace+".SetLockedHint", true)
	h.screen(true, sourceLogind)
	m.Do(c1, sessionFace+".Unlock") // is asked to open, and has not
	m.Do(c1, sessionFace+".SetLockedHint", false)
	h.screen(false, sourceLogind)
	h.quiet()
}

// logind goes while the screen is locked: it has not said that it is open, nor
// does one that comes back and has forgotten.
func TestLogindGoesWhileLocked(t *testing.T) {
	nowhere(t)
	address := bustest.Start(t)
	m, c1 := mockLogind(t, address)
	m.Do(c1, sessionFace+".SetLockedHint", true)
	h, _ := watch(t, nil)
	h.screen(true, sourceLogind)
	m.Stop()
	h.screen(true)
	emit := goLogind(t, address, c1)
	h.screen(true, sourceLogind)
	emit(sessionFace + ".Unlock")
	h.screen(false, sourceLogind)
}

// goLogind is a logind that has the session from the start, and no hint.
func goLogind(t *testing.T, address string, session dbus.ObjectPath) (emit func(signal string)) {
	t.Helper()
	c := bustest.Conn(t, address)
	type entry struct {
		ID         string
		UID        uint32
		User, Seat string
		Path       dbus.ObjectPath
	}
	uid := uint32(os.Geteuid())
	values := map[string]dbus.Variant{
		"Type": dbus.MakeVariant("x11"), "State": dbus.MakeVariant("active"), lockedHint: dbus.MakeVariant(false), "PreparingForSleep": dbus.MakeVariant(false),
		"User": dbus.MakeVariant(struct {
			UID  uint32
			Path dbus.ObjectPath
		}{uid, "/user"}),
	}
	get := func(_, name string) (dbus.Variant, *dbus.Error) { return values[name], nil }
	all := func(string) (map[string]dbus.Variant, *dbus.Error) { return values, nil }
	list := func() ([]entry, *dbus.Error) {
		return []entry{{"c1", uid, "alice", "seat0", session}}, nil
	}
	for _, path := range []dbus.ObjectPath{managerPath, session} {
		if err := c.ExportMethodTable(map[string]any{"Get": get, "GetAll": all}, path, properties); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.ExportMethodTable(map[string]any{"ListSessions": list}, managerPath, manager); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestName(login1, 0); err != nil {
		t.Fatal(err)
	}
	return func(signal string) {
		t.Helper()
		if err := c.Emit(session, signal); err != nil {
			t.Fatal(err)
		}
	}
}

// A lock from before, and sessions that are not the one that counts.
func TestWhichSession(t *testing.T) {
	for _, row := range []struct {
		name, env, display string
		kinds              map[string]string
		counts, not        string
	}{
		{"the one that this process is in", "c2", "c1", map[string]string{"c1": "x11", "c2": "wayland"}, "c2", "c1"},
		{"the one that logind shows", "", "c1", map[string]string{"c1": "x11", "c2": "wayland"}, "c1", "c2"},
		{"not one that is over", "c9", "c1", map[string]string{"c1": "x11", "c2": "wayland"}, "c1", "c2"},
		{"not one without a screen", "c2", "", map[string]string{"c1": "x11", "c2": "tty"}, "c1", "c2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			nowhere(t)
			m := newLogind(t, bustest.Start(t))
			path := map[string]dbus.ObjectPath{}
			for id, kind := range row.kinds {
				path[id] = addSession(m, id, kind)
			}
			t.Setenv("XDG_SESSION_ID", row.env)
			if row.display != "" {
				shows(m, named{row.display, path[row.display]})
			}
			m.Do(path[row.counts], sessionFace+".SetLockedHint", true)
			h, _ := watch(t, nil)
			h.screen(true, sourceLogind)
			m.Do(path[row.not], sessionFace+".Unlock")
			m.Do(path[row.not], sessionFace+".SetLockedHint", false)
			m.Do(path[row.counts], sessionFace+".SetLockedHint", false)
			h.screen(false, sourceLogind)
			m.Do(path[row.not], sessionFace+".Lock")
			m.Do(path[row.counts], sessionFace+".SetLockedHint", true)
			h.screen(true, sourceLogind)
			m.Do(path[row.counts], sessionFace+".SetLockedHint", false)
			h.screen(false, sourceLogind)
		})
	}
}

// The person logs out and in again: the lock of the session that has ended is
// not that of the new one.
func TestSessionsComeAndGo(t *testing.T) {
	nowhere(t)
	c := &clock{}
	m := newLogind(t, bustest.Start(t))
	h, w := watch(t, c)
	h.screen(false)
	c1 := addSession(m, "c1", "x11") // nobody tells: logind does not know the user yet
	c.forward(lookEvery)
	w.Look()
	h.screen(false, sourceLogind)
	m.Do(c1, sessionFace+".Lock")
	h.screen(true, sourceLogind)
	c2 := addSession(m, "c2", "wayland")
	shows(m, named{"c2", c2})
	h.screen(false, sourceLogind)
	m.Do(c2, sessionFace+".Lock")
	h.screen(true, sourceLogind)
	m.Set(c2, sessionFace, map[string]any{"State": "closing"})
	m.Do(managerPath, "org.freedesktop.DBus.Mock.RemoveObject", string(c1))
	shows(m, named{"", noSuchObject})
	h.screen(false)
}

func TestSleep(t *testing.T) {
	nowhere(t)
	m, _ := mockLogind(t, bustest.Start(t))
	h, _ := watch(t, nil)
	h.screen(false, sourceLogind)
	h.sleep = make(chan struct{})
	inhibitors := func() int {
		var list []struct {
			What, Who, Why, Mode string
			UID, PID             uint32
		}
		m.Get(&list, managerPath, manager+".ListInhibitors")
		for _, i := range list {
			if i.What != "sleep" || i.Mode != "delay" || i.Who == "" || i.Why == "" {
				t.Errorf("inhibits %+v", i)
			}
		}
		return len(list)
	}
	until := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(patience); inhibitors() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d inhibitors, want %d", inhibitors(), n)
			}
		}
	}
	until(1)
	for range 2 {
		m.Emit(managerPath, manager, "PrepareForSleep", "b", true)
		h.is("sleep")
		if n := inhibitors(); n != 1 {
			t.Errorf("%d inhibitors while the agent puts things away", n)
		}
		h.sleep <- struct{}{}
		until(0)
		m.Emit(managerPath, manager, "PrepareForSleep", "b", false)
		h.is("wake")
		until(1)
	}
	// A watch that ends lets the computer sleep.
	other, _ := watch(t, nil)
	other.screen(false, sourceLogind)
	until(2)
	other.stop()
	until(1)
	// logind goes while the computer is about to sleep: nobody would say that it
	// is awake.
	m.Emit(managerPath, manager, "PrepareForSleep", "b", true)
	h.is("sleep")
	h.sleep <- struct{}{}
	m.Stop()
	h.is("wake")
	h.screen(false)
}

func TestScreenSavers(t *testing.T) {
	nowhere(t)
	address := bustest.StartSession(t)
	h, _ := watch(t, nil)
	h.screen(false)
	const gnome, free = "org.gnome.ScreenSaver", "org.freedesktop.ScreenSaver"
	m := bustest.NewTemplate(t, address, "gnome_screensaver", gnome, "/org/gnome/ScreenSaver")
	h.screen(false, sourceSaver)
	m.Do("/org/gnome/ScreenSaver", gnome+".SetActive", true)
	h.screen(true, sourceSaver)
	m.Do("/org/gnome/ScreenSaver", gnome+".SetActive", false)
	h.screen(false, sourceSaver)
	// One that is active from the start.
	stop := goSaver(t, address, free, "/org/freedesktop/ScreenSaver", func() bool { return true })
	h.screen(true, sourceSaver)
	// It goes without a word: it has not said that the screen is open.
	stop()
	m.Stop()
	h.screen(true)
	// It comes back and says so.
	goSaver(t, address, free, "/org/freedesktop/ScreenSaver", func() bool { return false })
	h.screen(false, sourceSaver)
}

// goSaver is a screen saver that says at once how it is.
func goSaver(t *testing.T, address, name string, path dbus.ObjectPath, active func() bool) (stop func()) {
	t.Helper()
	c := bustest.Conn(t, address)
	if err := c.ExportMethodTable(map[string]any{"GetActive": func() (bool, *dbus.Error) { return active(), nil }}, path, name); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestName(name, 0); err != nil {
		t.Fatal(err)
	}
	return func() { c.Close() }
}

// A screen saver that cannot say whether it is active is none, and one that
// hangs keeps nobody.
func TestOddScreenSavers(t *testing.T) {
	nowhere(t)
	logind, c1 := mockLogind(t, bustest.Start(t))
	address := bustest.StartSession(t)
	bustest.NewMock(t, address, "org.gnome.ScreenSaver", "/org/gnome/ScreenSaver", "org.gnome.ScreenSaver")
	end := make(chan struct{})
	defer close(end)
	goSaver(t, address, "org.mate.ScreenSaver", "/org/mate/ScreenSaver", func() bool { <-end; return true })
	logind.Do(c1, sessionFace+".SetLockedHint", true)
	h, _ := watch(t, nil)
	h.screen(true, sourceLogind)
	logind.Do(c1, sessionFace+".SetLockedHint", false)
	h.screen(false, sourceLogind)
}

// Buses that come later, go, and come again; all without a timer of our own.
func TestBusesComeAndGo(t *testing.T) {
	nowhere(t)
	system, session := bustest.Run(t), bustest.Run(t)
	c := &clock{}
	h, w := watch(t, c)
	h.screen(false)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", system.Address)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", session.Address)
	w.Look() // too soon after the first try
	mockLogind(t, system.Address)
	m := bustest.NewTemplate(t, session.Address, "gnome_screensaver", "org.gnome.ScreenSaver", "/org/gnome/ScreenSaver")
	h.quiet()
	c.forward(lookEvery)
	w.Look()
	both := map[string]bool{}
	for range 2 {
		s := h.next().(Screen)
		for _, source := range s.Sources {
			both[source] = true
		}
	}
	if !both[sourceLogind] || !both[sourceSaver] {
		t.Fatalf("%v", both)
	}
	m.Do("/org/gnome/ScreenSaver", "org.gnome.ScreenSaver.SetActive", true)
	h.screen(true, sourceLogind, sourceSaver)
	session.Stop()
	h.screen(true, sourceLogind)
	session.Start()
	bustest.NewTemplate(t, session.Address, "gnome_screensaver", "org.gnome.ScreenSaver", "/org/gnome/ScreenSaver")
	c.forward(lookEvery)
	w.Look()
	h.screen(false, sourceLogind, sourceSaver)
	system.Stop()
	h.screen(false, sourceSaver)
}
