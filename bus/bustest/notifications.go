//go:build linux

package bustest

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	notifications     = "org.freedesktop.Notifications"
	notificationsPath = dbus.ObjectPath("/org/freedesktop/Notifications")
)

// Shown is a notification as the service was asked for it.
type Shown struct {
	ID                       uint32
	App, Icon, Summary, Body string
	Actions                  []string // keys and labels in turn
	Hints                    map[string]dbus.Variant
	Expiry                   int32
	Replaced                 int // how often it was replaced
}

// Label is that of a button; empty when there is none.
func (s Shown) Label(key string) string {
	for i := 0; i+1 < len(s.Actions); i += 2 {
		if s.Actions[i] == key {
			return s.Actions[i+1]
		}
	}
	return ""
}

// Key is that of the button with a label; empty when there is none.
func (s Shown) Key(label string) string {
	for i := 0; i+1 < len(s.Actions); i += 2 {
		if s.Actions[i+1] == label {
			return s.Actions[i]
		}
	}
	return ""
}

// Notifications is a notification service (Desktop Notifications Specification
// 1.2), whose notes the test presses and closes.
type Notifications struct {
	t    testing.TB
	conn *dbus.Conn

	mu      sync.Mutex
	changed chan struct{} // closed at each change
	can     []string
	shown   map[uint32]Shown
	last    uint32
	asked   int           // notifications
	hang    chan struct{} // while not nil, nothing is answered before it is closed
	refuse  *dbus.Error
	number  func(id uint32) uint32 // what Notify answers
	silent  bool                   // CloseNotification is not signalled
}

// NewNotifications starts the service on a bus, with these capabilities. It
// takes the name over from another one.
func NewNotifications(t testing.TB, address string, can ...string) *Notifications {
	t.Helper()
	n := &Notifications{t: t, conn: Conn(t, address), can: can, shown: map[uint32]Shown{}, changed: make(chan struct{})}
	if err := n.conn.Export(served{n}, notificationsPath, notifications); err != nil {
		t.Fatal(err)
	}
	n.Take()
	t.Cleanup(n.Resume)
	return n
}

// Take takes the name of the service, which another one may take again.
func (n *Notifications) Take() {
	n.t.Helper()
	flags := dbus.NameFlagAllowReplacement | dbus.NameFlagReplaceExisting | dbus.NameFlagDoNotQueue
	if reply, err := n.conn.RequestName(notifications, flags); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		n.t.Fatalf("%v, %v", reply, err)
	}
}

// Quit ends the service.
func (n *Notifications) Quit() { n.conn.Close() }

// Hang makes the service answer nothing until Resume.
func (n *Notifications) Hang() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hang = make(chan struct{})
}

// Resume ends a Hang.
func (n *Notifications) Resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hang != nil {
		close(n.hang)
		n.hang = nil
	}
}

// Refuse makes Notify fail with an error of that name; "" ends that.
func (n *Notifications) Refuse(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = nil
	if name != "" {
		n.refuse = dbus.NewError(name, nil)
	}
}

// Number makes Notify answer something else than the number.
func (n *Notifications) Number(f func(id uint32) uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.number = f
}

// Silent makes the service say nothing of what it closes when it is asked to, as
// some do after a press.
func (n *Notifications) Silent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = true
}

// Shown are the notes that stand, by number.
func (n *Notifications) Shown() []Shown {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list()
}

func (n *Notifications) list() []Shown {
	return slices.SortedFunc(maps.Values(n.shown), func(x, y Shown) int { return int(x.ID) - int(y.ID) })
}

// Changed is closed when the notes that stand change next.
func (n *Notifications) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Asked is how many notifications were asked for, replacements as well.
func (n *Notifications) Asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// Await waits until the notes that stand are as wanted.
func (n *Notifications) Await(what string, wanted func([]Shown) bool) []Shown {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		list, changed := n.list(), n.changed
		n.mu.Unlock()
		if wanted(list) {
			return list
		}
		select {
		case <-changed:
		case <-deadline:
			n.t.Fatalf("waited in vain for %s; there are %+v", what, list)
		}
	}
}

// One waits for the one note that stands.
func (n *Notifications) One() Shown {
	n.t.Helper()
	return n.Await("one notification", func(s []Shown) bool { return len(s) == 1 })[0]
}

// None waits until no note stands.
func (n *Notifications) None() {
	n.t.Helper()
	n.Await("no notification", func(s []Shown) bool { return len(s) == 0 })
}

// Press says that a button was pressed, whether it is there or not.
func (n *Notifications) Press(id uint32, key string) { n.emit("ActionInvoked", id, key) }

// Dismiss closes a note for a reason: 1 it expired, 2 the person closed it.
func (n *Notifications) Dismiss(id uint32, reason uint32) {
	n.mu.Lock()
	n.remove(id)
	n.mu.Unlock()
	n.emit("NotificationClosed", id, reason)
}

func (n *Notifications) emit(member string, args ...any) {
	n.Emit(notificationsPath, notifications+"."+member, args...)
}

// Emit sends any signal of the service.
func (n *Notifications) Emit(path dbus.ObjectPath, name string, args ...any) {
	if err := n.conn.Emit(path, name, args...); err != nil && !errors.Is(err, dbus.ErrClosed) {
		n.t.Error(err)
	}
}

// remove and tell: the caller holds the lock.
func (n *Notifications) remove(id uint32) {
	delete(n.shown, id)
	n.tell()
}

func (n *Notifications) tell() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// wait waits while the service hangs.
func (n *Notifications) wait() {
	n.mu.Lock()
	hang := n.hang
	n.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

// served are the methods on the bus.
type served struct{ n *Notifications }

// GetCapabilities is of the interface.
func (s served) GetCapabilities() ([]string, *dbus.Error) {
	s.n.wait()
	return s.n.can, nil
}

// GetServerInformation is of the interface.
func (s served) GetServerInformation() (name, vendor, version, spec string, _ *dbus.Error) {
	return "test", "test", "1", "1.2", nil
}

// Notify is of the interface.
func (s served) Notify(app string, replaces uint32, icon, summary, body string, actions []string, hints map[string]dbus.Variant, expiry int32) (uint32, *dbus.Error) {
	n := s.n
	n.wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.refuse != nil {
		return 0, n.refuse
	}
	before, stands := n.shown[replaces]
	id := replaces
	if !stands {
		n.last++
		id = n.last
	} else {
		before.Replaced++
	}
	n.shown[id] = Shown{ID: id, App: app, Icon: icon, Summary: summary, Body: body, Actions: actions, Hints: hints, Expiry: expiry, Replaced: before.Replaced}
	n.tell()
	if n.number != nil {
		return n.number(id), nil
	}
	return id, nil
}

// CloseNotification is of the interface.
func (s served) CloseNotification(id uint32) *dbus.Error {
	n := s.n
	n.wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.shown[id]; !there {
		return dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", nil)
	}
	n.remove(id)
	if !n.silent {
		n.emit("NotificationClosed", id, uint32(3))
	}
	return nil
}

// EmitTo sends a signal to one connection, which gets it whatever it listens to.
func EmitTo(c *dbus.Conn, to string, path dbus.ObjectPath, name string, args ...any) error {
	dot := strings.LastIndexByte(name, '.')
	m := &dbus.Message{Type: dbus.TypeSignal, Body: args, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(to), dbus.FieldPath: dbus.MakeVariant(path),
		dbus.FieldInterface: dbus.MakeVariant(name[:dot]), dbus.FieldMember: dbus.MakeVariant(name[dot+1:]),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(args...)),
	}}
	return c.Send(m, nil).Err
}
