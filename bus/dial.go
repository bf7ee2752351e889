//go:build linux

package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	usualSystem = "unix:path=/var/run/dbus/system_bus_socket"
	driver      = "org.freedesktop.DBus"
	driverPath  = dbus.ObjectPath("/org/freedesktop/DBus")
	afterwards  = 5 * time.Second // beyond a caller's deadline, to clean up
)

func systemAddress() string { return cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), usualSystem) }

// sessionAddress is that of this user's session bus, and the user.
func sessionAddress() (address string, owner int) {
	address = os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); address == "" && filepath.IsAbs(runtime) {
		address = "unix:path=" + url.PathEscape(filepath.Join(runtime, "bus")) // where systemd puts it
	}
	return address, os.Geteuid()
}

// link is a connection to a bus of which it was made sure whose it is.
type link struct {
	conn *dbus.Conn
	line *line
}

// hearer is whom the library hands messages to, in the order of their arrival.
type hearer interface {
	sift(m *dbus.Message) // first; drops what is not to be believed
	dbus.SignalHandler
}

func dial(ctx context.Context, address string, owner int, h hearer) (link, error) {
	l, err := connect(ctx, address, owner)
	if err != nil {
		return link{}, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	conn, err := dbus.NewConn(l, dbus.WithSignalHandler(h), dbus.WithIncomingInterceptor(h.sift))
	if err != nil {
		l.Close()
		return link{}, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err == nil {
		l.reading.Store(true)
		err = conn.Hello()
	}
	if err != nil {
		link{conn, l}.close()
		return link{}, fmt.Errorf("%w: %w", ErrNoBus, errors.Join(ctx.Err(), err))
	}
	return link{conn, l}, nil
}

// close ends the connection and waits for what read from it.
func (l link) close() {
	l.conn.Close()
	l.line.Close()
	if l.line.reading.Load() {
		<-l.line.ended
	}
}

// Done is closed when the connection has ended, from whichever side.
func (l link) Done() <-chan struct{} { return l.line.ended }

func (l link) driver(ctx context.Context, method string, args ...any) *dbus.Call {
	return l.conn.Object(driver, driverPath).CallWithContext(ctx, driver+"."+method, dbus.FlagNoAutoStart, args...)
}

// ownerChanges is the rule for what the bus says of who has a name.
func ownerChanges(name string) string {
	return fmt.Sprintf("type='signal',sender='%s',path='%s',interface='%s',member='NameOwnerChanged',arg0='%s'", driver, driverPath, driver, name)
}

// drop makes the library look away: a message without a type is none.
func drop(m *dbus.Message) { m.Type = 0 }

func connect(ctx context.Context, address string, owner int) (*line, error) {
	path, err := socket(address)
	if err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	uid, err := peer(c.(*net.UnixConn))
	if err == nil && uid != owner {
		err = fmt.Errorf("the bus at %s belongs to user %d, not to %d", path, uid, owner)
	}
	if err == nil {
		if deadline, ok := ctx.Deadline(); ok {
			err = c.SetDeadline(deadline.Add(afterwards))
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &line{Conn: c, ended: make(chan struct{})}, nil
}

// socket is the path in a bus address (D-Bus specification, "Server
// Addresses"): the first one of kind unix, "@" before an abstract name.
func socket(address string) (string, error) {
	for one := range strings.SplitSeq(address, ";") {
		members, ok := strings.CutPrefix(one, "unix:")
		if !ok {
			continue
		}
		for member := range strings.SplitSeq(members, ",") {
			key, value, _ := strings.Cut(member, "=")
			value, err := url.PathUnescape(value)
			switch {
			case err != nil || value == "":
			case key == "path":
				return value, nil
			case key == "abstract":
				return "@" + value, nil
			}
		}
	}
	return "", fmt.Errorf("no usable address of a bus in %q", address)
}

// peer is the user who opened the socket for listening.
func peer(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid := -1
	var failed error
	if err := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); failed == nil {
			uid = int(cred.Uid)
		}
	}); err != nil {
		return -1, err
	}
	return uid, failed
}
