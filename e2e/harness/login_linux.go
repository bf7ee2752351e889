package harness

import (
	"context"
	"fmt"
	"os"
	"os/user"

	"github.com/godbus/dbus/v5"
)

// login plays logind on the system bus of a desktop.
type login struct {
	process *Process
	conn    *dbus.Conn
	session dbus.ObjectPath
}

const (
	sessionID    = "c1"
	loginName    = "org.freedesktop.login1"
	loginPath    = dbus.ObjectPath("/org/freedesktop/login1")
	loginManager = loginName + ".Manager"
	loginSession = loginName + ".Session"
	mockIface    = "org.freedesktop.DBus.Mock"
)

func (d *Desktop) startLogin(ctx context.Context) (*login, error) {
	// The system's own Python is the one that the package is for.
	p, err := launch(d.dir, "logind", d.Env(), "/usr/bin/python3", "-m", "dbusmock", "--system", "-t", "logind")
	if err != nil {
		return nil, err
	}
	l := &login{process: p}
	err = d.System.Awaits(ctx, loginName)
	if err == nil {
		l.conn, err = d.System.Connect()
	}
	who := "somebody"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if err == nil {
		err = l.manager(ctx, mockIface+".AddSession", sessionID, "seat0", uint32(os.Geteuid()), who, true).Store(&l.session)
	}
	if err == nil {
		err = l.change(ctx, l.session, loginSession, "Type", "x11")
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("playing logind: %w\n%s", err, p.Tail())
	}
	return l, nil
}

func (l *login) close() {
	if l.conn != nil {
		l.conn.Close()
	}
	l.process.Kill()
}

func (l *login) manager(ctx context.Context, method string, args ...any) *dbus.Call {
	return l.conn.Object(loginName, loginPath).CallWithContext(ctx, method, 0, args...)
}

// change sets a property and tells of it.
func (l *login) change(ctx context.Context, path dbus.ObjectPath, iface, name string, value any) error {
	return l.conn.Object(loginName, path).CallWithContext(ctx, mockIface+".UpdateProperties", 0, iface,
		map[string]dbus.Variant{name: dbus.MakeVariant(value)}).Err
}

// Lock locks the screen: logind asks for it, the screen saver covers the screen
// and says so, also to logind. An agent believes logind on root's bus alone: where
// somebody else runs the tests, the screen saver has to do.
func (d *Desktop) Lock(ctx context.Context) error { return d.setLocked(ctx, "Lock", true) }

// Unlock unlocks the screen.
func (d *Desktop) Unlock(ctx context.Context) error { return d.setLocked(ctx, "Unlock", false) }

func (d *Desktop) setLocked(ctx context.Context, method string, locked bool) error {
	session := d.login.conn.Object(loginName, d.login.session)
	if err := session.CallWithContext(ctx, loginSession+"."+method, 0).Err; err != nil {
		return err
	}
	if err := session.CallWithContext(ctx, loginSession+".SetLockedHint", 0, locked).Err; err != nil {
		return err
	}
	return d.saver.set(locked)
}

// Sleep tells that the computer is about to sleep; it does not.
func (d *Desktop) Sleep(ctx context.Context) error { return d.prepareForSleep(ctx, true) }

// Wake tells that the computer has slept.
func (d *Desktop) Wake(ctx context.Context) error { return d.prepareForSleep(ctx, false) }

func (d *Desktop) prepareForSleep(ctx context.Context, soon bool) error {
	if err := d.login.change(ctx, loginPath, loginManager, "PreparingForSleep", soon); err != nil {
		return err
	}
	return d.login.manager(ctx, mockIface+".EmitSignal", loginManager, "PrepareForSleep", "b", []any{dbus.MakeVariant(soon)}).Err
}

// delaysSleep says whether somebody wants the computer to wait before it sleeps.
func (d *Desktop) delaysSleep(ctx context.Context) (bool, error) {
	var list []struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	err := d.login.manager(ctx, loginManager+".ListInhibitors").Store(&list)
	for _, i := range list {
		if i.What == "sleep" && i.Mode == "delay" {
			return true, err
		}
	}
	return false, err
}
