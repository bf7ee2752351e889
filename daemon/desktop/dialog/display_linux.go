package dialog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"countersign.dev/bus"
)

// passed are the variables that a program for windows gets to see: where the
// display and the session are, and what makes a window look like the others.
// What names code to load (LD_*, GTK_MODULES, QT_PLUGIN_PATH) or changes what an
// exit code means (ZENITY_*, DIALOG_*) is not among them (F10).
var passed = []string{
	"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME",
	"XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE", "XDG_DATA_DIRS", "GTK_THEME", "KDE_FULL_SESSION", "KDE_SESSION_VERSION",
}

// fixed are those that are the same everywhere. The windows are in English, and
// what is typed comes back in UTF-8 whatever the agent was started with.
var fixed = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}

// askManager bounds the question where the display is.
const askManager = 2 * time.Second

// environment is that of a program for windows. An agent that the user manager
// started before the desktop knows of no display: then the manager, which
// desktops tell, is asked.
func environment(ctx context.Context) ([]string, error) {
	return compose(os.Environ(), func() ([]string, error) { return managers(ctx) })
}

func compose(own []string, manager func() ([]string, error)) ([]string, error) {
	has := pick(own)
	if has["DISPLAY"] == "" && has["WAYLAND_DISPLAY"] == "" {
		list, err := manager()
		if err != nil {
			return nil, fmt.Errorf("%w: DISPLAY and WAYLAND_DISPLAY are not set, and the user manager does not tell: %w", ErrNone, err)
		}
		for name, value := range pick(list) {
			if has[name] == "" {
				has[name] = value
			}
		}
	}
	if has["DISPLAY"] == "" && has["WAYLAND_DISPLAY"] == "" {
		return nil, fmt.Errorf("%w: nobody is at a display", ErrNone)
	}
	if has["DBUS_SESSION_BUS_ADDRESS"] == "" {
		if _, err := os.Stat(filepath.Join(has["XDG_RUNTIME_DIR"], "bus")); err != nil {
			has["DBUS_SESSION_BUS_ADDRESS"] = "disabled:" // or GLib would start a bus, and leave it behind
		}
	}
	env := slices.Clone(fixed)
	for _, name := range passed {
		if has[name] != "" {
			env = append(env, name+"="+has[name])
		}
	}
	return env, nil
}

// pick takes the variables that are passed on out of a list.
func pick(list []string) map[string]string {
	has := map[string]string{}
	for _, one := range list {
		if name, value, ok := strings.Cut(one, "="); ok && slices.Contains(passed, name) && !strings.ContainsRune(value, 0) {
			has[name] = value
		}
	}
	return has
}

// managers is the environment that the user manager gives to what it starts.
func managers(ctx context.Context) ([]string, error) {
	const (
		service = "org.freedesktop.systemd1"
		path    = bus.ObjectPath("/org/freedesktop/systemd1")
	)
	ctx, cancel := context.WithTimeout(ctx, askManager)
	defer cancel()
	b, err := bus.Session(ctx)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := b.Find(ctx, service); err != nil {
		return nil, err
	}
	call := b.Call(ctx, path, "org.freedesktop.DBus.Properties.Get", service+".Manager", "Environment")
	if call.Err != nil {
		return nil, call.Err
	}
	var value bus.Variant
	if err := bus.Store(call.Body, &value); err != nil {
		return nil, err
	}
	list, ok := value.Value().([]string)
	if !ok {
		return nil, fmt.Errorf("the user manager's environment is a %T", value.Value())
	}
	return list, nil
}
