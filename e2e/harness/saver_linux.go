package harness

import (
	"fmt"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
)

// saver plays a screen saver on the session bus.
type saver struct {
	conn   *dbus.Conn
	active atomic.Bool
}

const (
	saverName = "org.freedesktop.ScreenSaver"
	saverPath = dbus.ObjectPath("/org/freedesktop/ScreenSaver")
)

// GetActive is asked by those who come later.
func (s *saver) GetActive() (bool, *dbus.Error) { return s.active.Load(), nil }

func (b *Bus) playSaver() (*saver, error) {
	c, err := b.Connect()
	if err != nil {
		return nil, err
	}
	s := &saver{conn: c}
	if err = c.ExportMethodTable(map[string]any{"GetActive": s.GetActive}, saverPath, saverName); err == nil {
		_, err = c.RequestName(saverName, dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("playing the screen saver: %w", err)
	}
	return s, nil
}

// set says that the screen is covered, or free.
func (s *saver) set(active bool) error {
	s.active.Store(active)
	return s.conn.Emit(saverPath, saverName+".ActiveChanged", active)
}
