//go:build !gtktray

package desktop

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"countersign.dev/bus"
	"countersign.dev/tray/icon"
)

// Where panels are met, and where a desktop says whether it is light or dark.
const (
	watcher     = "org.kde.StatusNotifierWatcher"
	watcherPath = bus.ObjectPath("/StatusNotifierWatcher")
	portal      = "org.freedesktop.portal.Desktop"
	portalPath  = bus.ObjectPath("/org/freedesktop/portal/desktop")
	settings    = "org.freedesktop.portal.Settings"
	appearance  = "org.freedesktop.appearance"
	scheme      = "color-scheme"
)

const (
	asking    = 5 * time.Second
	settled   = time.Second // after a panel has come, its list of icons has ours
	attempts  = 3           // to see to it
	firstWait = 200 * time.Millisecond
	lastWait  = 30 * time.Second
)

// Await waits until the session's message bus answers, and says once that it
// waits. An error is ctx's.
func Await(ctx context.Context, say func(string)) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		connecting, cancel := context.WithTimeout(ctx, asking)
		k, err := bus.KeepSession(connecting)
		cancel()
		if err == nil {
			k.Close()
			return nil
		}
		if ctx.Err() == nil && say != nil {
			say("waiting for the session's message bus: " + err.Error())
			say = nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// Watch tells of the desktop until ctx ends, or the bus does: ErrLost. It starts
// no service.
func Watch(ctx context.Context, h Hears) error {
	connecting, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	k, err := bus.KeepSession(connecting)
	if err != nil {
		return ErrLost
	}
	defer k.Close()
	hosts := bus.Match{Path: watcherPath, Interface: watcher, Member: "StatusNotifierHostRegistered"}
	fewer := bus.Match{Path: watcherPath, Interface: watcher, Member: "StatusNotifierHostUnregistered"}
	if err := k.Follow(connecting, watcher, hosts, fewer); err != nil {
		return ErrLost
	}
	ours := fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", os.Getpid()) // as the library calls it
	if err := k.Follow(connecting, ours); err != nil {
		return ErrLost
	}
	tells := h.Theme != nil && !alwaysDark()
	if tells {
		if err := k.Follow(connecting, portal, bus.Match{Path: portalPath, Interface: settings, Member: "SettingChanged", Arg0: appearance}); err != nil {
			return ErrLost
		}
		h.Theme(theme(ctx, k))
	} else if h.Theme != nil {
		h.Theme(icon.Dark)
	}
	cancel() // its timer would wake us
	var look <-chan time.Time
	left := 0
	panel := func() {
		there := seen(ctx, k)
		h.Seen(there)
		if look, left = nil, attempts; there {
			look = time.After(settled)
		}
	}
	panel()
	for {
		select {
		case <-look:
			look = nil
			if left--; !register(ctx, k, ours) && left > 0 {
				look = time.After(settled)
			}
		case n := <-k.News():
			switch {
			case n.Service == watcher:
				panel()
			case n.Service == portal && tells:
				h.Theme(theme(ctx, k))
			}
		case <-k.Done():
			return ErrLost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// seen says whether there is a panel. A watcher that does not say whether it has
// one is taken for one.
func seen(ctx context.Context, k *bus.Kept) bool {
	if !k.There(watcher) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	var v bus.Variant
	if k.Call(ctx, watcher, watcherPath, "org.freedesktop.DBus.Properties.Get", watcher, "IsStatusNotifierHostRegistered").Store(&v) != nil {
		return k.There(watcher)
	}
	host, ok := v.Value().(bool)
	return host || !ok
}

// register sees to it that the panel's list of icons has ours, and says whether
// that is so. The library asks for a place first and listens for panels second: it
// misses one that comes in between. Who does not tell its list is left alone.
func register(ctx context.Context, k *bus.Kept, ours string) bool {
	owner := k.Owner(ours)
	if owner == "" || !k.There(watcher) {
		return false // not yet, or not any more
	}
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	var v bus.Variant
	if k.Call(ctx, watcher, watcherPath, "org.freedesktop.DBus.Properties.Get", watcher, "RegisteredStatusNotifierItems").Store(&v) != nil {
		return true
	}
	items, ok := v.Value().([]string)
	if !ok || listed(items, owner, ours) {
		return true
	}
	return k.Call(ctx, watcher, watcherPath, watcher+".RegisterStatusNotifierItem", ours).Err == nil
}

// listed says whether a panel's list has an icon of one of these names. Panels
// write the name, or the name and the path of the object.
func listed(items []string, names ...string) bool {
	return slices.ContainsFunc(items, func(item string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			rest, ok := strings.CutPrefix(item, name)
			return ok && (rest == "" || rest[0] == '/' || rest[0] == '@')
		})
	})
}

// theme asks what the desktop prefers. Panels follow that where they follow
// anything.
func theme(ctx context.Context, k *bus.Kept) icon.Theme {
	if !k.There(portal) {
		return icon.Any
	}
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	var v bus.Variant
	if k.Call(ctx, portal, portalPath, settings+".ReadOne", appearance, scheme).Store(&v) != nil &&
		k.Call(ctx, portal, portalPath, settings+".Read", appearance, scheme).Store(&v) != nil { // before ReadOne there was only this
		return icon.Any
	}
	for range 2 { // Read wraps it twice
		if inner, ok := v.Value().(bus.Variant); ok {
			v = inner
		}
	}
	switch v.Value() {
	case uint32(1):
		return icon.Dark
	case uint32(2):
		return icon.Light
	}
	return icon.Any
}

// alwaysDark is a desktop whose panel is dark whatever it says of windows.
func alwaysDark() bool {
	return slices.Contains(strings.Split(os.Getenv("XDG_CURRENT_DESKTOP"), ":"), "GNOME")
}
