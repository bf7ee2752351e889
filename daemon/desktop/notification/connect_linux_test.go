package notification

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/bus/bustest"
)

const patience = 20 * time.Second

// onBus makes a private bus the session's, with a service on it.
func onBus(t *testing.T, can ...string) (address string, n *bustest.Notifications) {
	t.Helper()
	address = bustest.Start(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	return address, bustest.NewNotifications(t, address, can...)
}

func connect(t *testing.T) Server {
	t.Helper()
	s, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Disconnect)
	return s
}

// question is a note that can be answered.
func question(keys ...string) Note {
	n := Note{Title: "Sign in to Payroll?", Body: "from <b>here</b> & there", Urgent: true}
	for _, key := range keys {
		n.Buttons = append(n.Buttons, Button{Key: key, Label: strings.ToUpper(key)})
	}
	return n
}

func show(t *testing.T, s Server, n Note, replaces ID) ID {
	t.Helper()
	id, err := s.Show(t.Context(), n, replaces)
	if err != nil || id == 0 {
		t.Fatalf("%d, %v", id, err)
	}
	return id
}

func next(t *testing.T, s Server) Event {
	t.Helper()
	select {
	case e := <-s.Events():
		return e
	case <-time.After(patience):
		t.Fatal("nothing is told")
		return Event{}
	}
}

func gone(t *testing.T, s Server) {
	t.Helper()
	select {
	case <-s.Gone():
	case <-time.After(patience):
		t.Fatal("the service counts as there")
	}
}

func TestNote(t *testing.T) {
	_, n := onBus(t, "actions", "body", "body-markup")
	s := connect(t)
	if !s.Buttons() {
		t.Error("no buttons")
	}
	id := show(t, s, question(Default, "yes", "no"), 0)
	got := n.One()
	if got.ID != uint32(id) || got.App != "Countersign" || got.Summary != "Sign in to Payroll?" || got.Body != "from &lt;b&gt;here&lt;/b&gt; &amp; there" ||
		!slices.Equal(got.Actions, []string{"default", "DEFAULT", "yes", "YES", "no", "NO"}) || got.Expiry != 0 ||
		got.Hints["urgency"].Value() != byte(2) || got.Hints["desktop-entry"].Value() != "countersign-tray" {
		t.Errorf("%+v", got)
	}
	// In its place, and what is not urgent goes by itself.
	if again := show(t, s, Note{Title: "Denied"}, id); again != id {
		t.Errorf("%d in the place of %d", again, id)
	}
	if got = n.One(); got.Replaced != 1 || got.Summary != "Denied" || got.Expiry != -1 || got.Hints["urgency"].Value() != byte(1) || got.Hints["transient"].Value() != true {
		t.Errorf("%+v", got)
	}
	if err := errors.Join(s.Close(t.Context(), id), s.Close(t.Context(), id), s.Close(t.Context(), 77)); err != nil {
		t.Error(err)
	}
	n.None()
	// A note that has gone is not replaced: its number may be another program's.
	if show(t, s, question(), id) == id {
		t.Error("a note that has gone was replaced")
	}
}

// What the service cannot do is not asked of it.
func TestCapabilities(t *testing.T) {
	for _, row := range []struct {
		can     string
		buttons bool
		body    string
	}{
		{"actions body body-markup", true, "from &lt;b&gt;here&lt;/b&gt; &amp; there"},
		{"actions body", true, "from <b>here</b> & there"},
		{"body", false, "from <b>here</b> & there"},
		{"actions", false, "from <b>here</b> & there"}, // nobody could read what is approved
		{"", false, "from <b>here</b> & there"},
	} {
		t.Run(row.can, func(t *testing.T) {
			_, n := onBus(t, strings.Fields(row.can)...)
			if buttons, err := Look(t.Context()); err != nil || buttons != row.buttons {
				t.Errorf("%v, %v", buttons, err)
			}
			s := connect(t)
			show(t, s, question("yes"), 0)
			if got := n.One(); s.Buttons() != row.buttons || got.Body != row.body || len(got.Actions) > 0 != row.buttons {
				t.Errorf("%v, %+v", s.Buttons(), got)
			}
		})
	}
}

// B3: a press counts once, for a note that stands and a button that it has.
func TestB3OnlyOfferedButtons(t *testing.T) {
	_, n := onBus(t, "actions", "body")
	n.Silent() // as dunst is: nothing is said of a note that was pressed
	s := connect(t)
	pressed := show(t, s, question(Default, "yes"), 0)
	n.Press(uint32(pressed), "yes")
	if e := next(t, s); e != (Event{pressed, "yes"}) {
		t.Fatalf("%+v", e)
	}
	n.None() // closed by us

	shut := show(t, s, question("yes"), 0)
	n.Dismiss(uint32(shut), 2)
	if e := next(t, s); e != (Event{Note: shut}) {
		t.Fatalf("%+v", e)
	}
	closed := show(t, s, question("yes"), 0)
	if err := s.Close(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	replaced := show(t, s, question("old"), 0)
	replaced = show(t, s, question("new"), replaced)
	const path, press = "/org/freedesktop/Notifications", "org.freedesktop.Notifications.ActionInvoked"
	stands := show(t, s, question(Default, "yes"), 0)
	for _, id := range []ID{0, pressed, shut, closed, 4711, 1<<32 - 1} {
		for _, key := range []string{"yes", Default, ""} {
			n.Press(uint32(id), key)
		}
		n.Dismiss(uint32(id), 2)
	}
	for _, key := range []string{"", "no", "YES", "yes ", "Approve", "approve", "inline-reply", "activate"} {
		n.Press(uint32(stands), key)
	}
	n.Press(uint32(replaced), "old")
	n.Emit(path, press)
	n.Emit(path, press, uint32(stands))
	n.Emit(path, press, "yes", uint32(stands))
	n.Emit(path, press, int64(stands), "yes")
	n.Emit("/elsewhere", press, uint32(stands), "yes")
	n.Emit(path, "org.example.Notifications.ActionInvoked", uint32(stands), "yes")
	n.Emit(path, "org.freedesktop.Notifications.ActivationToken", uint32(stands), "yes")
	n.Emit(path, "org.freedesktop.Notifications.NotificationReplied", uint32(stands), "yes")
	// Nothing of that was heard, and the notes stand.
	n.Press(uint32(stands), Default)
	n.Press(uint32(stands), "yes") // twice
	n.Press(uint32(replaced), "new")
	if one, other := next(t, s), next(t, s); one != (Event{stands, Default}) || other != (Event{replaced, "new"}) {
		t.Fatalf("%+v, %+v", one, other)
	}
	n.None()
}

// B4: a stranger on the bus presses nothing, by whatever name and address.
func TestB4ForgedSignals(t *testing.T) {
	address, n := onBus(t, "actions", "body")
	stranger := bustest.Conn(t, address)
	before := bustest.Everybody(t, stranger)
	s := connect(t)
	id := show(t, s, question(Default, "yes", "no"), 0)
	var us string
	for _, name := range bustest.Everybody(t, stranger) {
		if !slices.Contains(before, name) {
			us = name
		}
	}
	forge := func(from func(args ...any) error) {
		t.Helper()
		for _, args := range [][]any{{uint32(id), "yes"}, {uint32(id), Default}, {uint32(id), uint32(2)}} {
			if err := from(args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, member := range []string{"ActionInvoked", "NotificationClosed"} {
		forge(func(args ...any) error {
			return stranger.Emit("/org/freedesktop/Notifications", "org.freedesktop.Notifications."+member, args...)
		})
		forge(func(args ...any) error { // straight to us, whatever we listen to
			return bustest.EmitTo(stranger, us, "/org/freedesktop/Notifications", "org.freedesktop.Notifications."+member, args...)
		})
	}
	n.Press(uint32(id), "no") // the service itself
	if e := next(t, s); e != (Event{id, "no"}) {
		t.Fatalf("%+v", e)
	}
}

// B4: who takes the name of the service over gets nothing of what stands, and
// what they say of it counts for nothing.
func TestB4ImpostorService(t *testing.T) {
	address, n := onBus(t, "actions", "body")
	s := connect(t)
	id := show(t, s, question(Default, "yes"), 0)
	impostor := bustest.NewNotifications(t, address, "actions", "body")
	impostor.Press(uint32(id), "yes")
	gone(t, s)
	n.Press(uint32(id), "yes") // nor the old one, which has lost its name
	for e := range s.Events() {
		t.Errorf("%+v was heard", e)
	}
	if _, err := s.Show(t.Context(), question(), 0); !errors.Is(err, ErrGone) {
		t.Errorf("shown by an impostor: %v", err)
	}
	s.Disconnect()
	if list := impostor.Shown(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	// Nor is it believed when the name comes back.
	n.Take()
	if _, err := s.Show(t.Context(), question(), 0); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}

// A service that does not work is said to have gone, within the time of a call.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, n *bustest.Notifications, s Server) error{
		"hangs": func(t *testing.T, n *bustest.Notifications, s Server) error {
			left := show(t, s, question("yes"), 0)
			n.Hang()
			_, err := s.Show(t.Context(), question(), 0)
			s.Disconnect()
			n.Resume() // what was left there is closed when it is well again
			n.Await("the old note to go", func(list []bustest.Shown) bool {
				return !slices.ContainsFunc(list, func(s bustest.Shown) bool { return s.ID == uint32(left) })
			})
			return err
		},
		"hangs while closing": func(t *testing.T, n *bustest.Notifications, s Server) error {
			id := show(t, s, question(), 0)
			n.Hang()
			return s.Close(t.Context(), id)
		},
		"dies": func(t *testing.T, n *bustest.Notifications, s Server) error {
			show(t, s, question(), 0)
			n.Quit()
			gone(t, s)
			_, err := s.Show(t.Context(), question(), 0)
			return err
		},
		"dies under a call": func(t *testing.T, n *bustest.Notifications, s Server) error {
			n.Hang()
			asked := make(chan error, 1)
			go func() { _, err := s.Show(t.Context(), question(), 0); asked <- err }()
			n.Quit()
			return <-asked
		},
		"numbers two notes alike": func(t *testing.T, n *bustest.Notifications, s Server) error {
			n.Number(func(uint32) uint32 { return 5 })
			show(t, s, question("yes"), 0)
			_, err := s.Show(t.Context(), question("no"), 0)
			return err
		},
		"gives no number": func(t *testing.T, n *bustest.Notifications, s Server) error {
			n.Number(func(uint32) uint32 { return 0 })
			_, err := s.Show(t.Context(), question(), 0)
			return err
		},
		"floods": func(t *testing.T, n *bustest.Notifications, s Server) error {
			var ids []ID
			for range 50 {
				ids = append(ids, show(t, s, question("yes"), 0))
			}
			for _, id := range ids { // nobody reads them
				n.Press(uint32(id), "yes")
			}
			for flooded := false; !flooded; {
				n.Press(1, "yes")
				select {
				case <-s.Gone():
					flooded = true
				default:
				}
			}
			_, err := s.Show(t.Context(), question(), 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, n := onBus(t, "actions", "body")
			s := connect(t)
			if strings.HasPrefix(name, "hangs") {
				answerWithin = 200 * time.Millisecond
				defer func() { answerWithin = 2 * time.Second }()
			}
			if err := fault(t, n, s); !errors.Is(err, ErrGone) {
				t.Errorf("%v", err)
			}
			gone(t, s)
			n.Resume()
		})
	}
}

// One that refuses a note is there all the same.
func TestRefusedNote(t *testing.T) {
	_, n := onBus(t, "actions", "body")
	s := connect(t)
	n.Refuse("org.freedesktop.Notifications.Error.ExcessNotificationGeneration")
	if _, err := s.Show(t.Context(), question(), 0); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	n.Refuse("")
	show(t, s, question(), 0)
}

// Nothing is left on the screen, nor of the agent on the bus.
func TestDisconnect(t *testing.T) {
	address, n := onBus(t, "actions", "body")
	stranger := bustest.Conn(t, address)
	before := len(bustest.Everybody(t, stranger))
	s := connect(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { show(t, s, question(fmt.Sprint(i)), 0) })
	}
	wg.Wait()
	if list := n.Shown(); len(list) != 20 {
		t.Fatalf("%+v", list)
	}
	s.Disconnect()
	s.Disconnect()
	if list := n.Shown(); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
	if e, open := <-s.Events(); open {
		t.Errorf("%+v", e)
	}
	gone(t, s)
	if after := len(bustest.Everybody(t, stranger)); after != before {
		t.Errorf("%d names before, %d afterwards", before, after)
	}
	if _, err := s.Show(t.Context(), question(), 0); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}

// A service that hangs holds nobody up who wants to leave.
func TestDisconnectFromOneThatHangs(t *testing.T) {
	_, n := onBus(t, "actions", "body")
	s := connect(t)
	show(t, s, question(), 0)
	n.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	if _, err := s.Show(ctx, question(), 0); err == nil {
		t.Error("shown")
	}
	s.Disconnect()
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %s", took)
	}
}

// Who only looks starts nothing.
func TestLook(t *testing.T) {
	t.Run("no bus", func(t *testing.T) {
		for _, address := range []string{"", "unix:path=" + filepath.Join(t.TempDir(), "none"), "autolaunch:"} {
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
			t.Setenv("XDG_RUNTIME_DIR", "")
			nobody(t)
		}
	})
	t.Run("no service", func(t *testing.T) {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", bustest.Start(t))
		nobody(t)
	})
	t.Run("startable", func(t *testing.T) {
		address := bustest.Start(t)
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		trace := filepath.Join(t.TempDir(), "started")
		bustest.Startable(t, address, service, "/bin/sh -c 'touch "+trace+"; exit 1'")
		t.Setenv("WAYLAND_DISPLAY", "")
		t.Setenv("DISPLAY", "")
		if _, err := Look(t.Context()); !errors.Is(err, ErrNone) {
			t.Errorf("without a display: %v", err)
		}
		t.Setenv("DISPLAY", ":1")
		if buttons, err := Look(t.Context()); err != nil || !buttons {
			t.Errorf("%v, %v", buttons, err)
		}
		if _, err := os.Stat(trace); err == nil {
			t.Error("the service was started to look")
		}
		if _, err := Connect(t.Context()); !errors.Is(err, ErrNone) {
			t.Errorf("one that ends at once: %v", err)
		}
		if _, err := os.Stat(trace); err != nil {
			t.Error("the service was not started to be used")
		}
	})
	t.Run("hangs", func(t *testing.T) {
		_, n := onBus(t)
		n.Hang()
		answerWithin = 200 * time.Millisecond
		defer func() { answerWithin = 2 * time.Second }()
		if _, err := Look(t.Context()); !errors.Is(err, ErrNone) {
			t.Errorf("%v", err)
		}
		n.Resume()
	})
}

func nobody(t *testing.T) {
	t.Helper()
	if _, err := Look(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	if s, err := Connect(t.Context()); !errors.Is(err, ErrNone) || s != nil {
		t.Errorf("%v, %v", s, err)
	}
}
