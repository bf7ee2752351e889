package harness

import (
	"fmt"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
)

// Notifications plays a notification service that nobody sees. Close it.
type Notifications struct {
	// Shown are the notifications that somebody wants to be seen.
	Shown chan ShownNote

	conn *dbus.Conn
	last atomic.Uint32
}

// ShownNote is a notification that is shown under a number.
type ShownNote struct {
	ID uint32
	Note
}

const notificationsPath = dbus.ObjectPath("/org/freedesktop/Notifications")

// PlayNotifications serves notifications with buttons on the bus.
func (b *Bus) PlayNotifications() (*Notifications, error) {
	c, err := b.Connect()
	if err != nil {
		return nil, err
	}
	n := &Notifications{Shown: make(chan ShownNote, 1000), conn: c}
	if err = c.Export(notificationService{n}, notificationsPath, notificationsName); err == nil {
		_, err = c.RequestName(notificationsName, dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("playing the notification service: %w", err)
	}
	return n, nil
}

// Close ends the service.
func (n *Notifications) Close() { n.conn.Close() }

// Press says that the person has pressed a button of a notification.
func (n *Notifications) Press(id uint32, key string) error {
	return n.conn.Emit(notificationsPath, notificationsName+".ActionInvoked", id, key)
}

// notificationService is what is on the bus, Desktop Notifications Specification 1.2.
type notificationService struct{ n *Notifications }

func (s notificationService) Notify(app string, replaces uint32, _, summary, body string, actions []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	id := replaces
	if id == 0 {
		id = s.n.last.Add(1)
	}
	select {
	case s.n.Shown <- ShownNote{id, Note{app, summary, body, actions}}:
	default: // nobody looks
	}
	return id, nil
}

func (s notificationService) CloseNotification(uint32) *dbus.Error { return nil }

func (s notificationService) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"actions", "body"}, nil
}

func (s notificationService) GetServerInformation() (name, vendor, version, spec string, err *dbus.Error) {
	return "played", "countersign.dev", "1", "1.2", nil
}
