package session

import (
	"context"
	"fmt"

	"countersign.dev/bus"
)

// savers are the services of screen savers: the name of each is that of its
// interface, too. They have GetActive and ActiveChanged in common; desktops have
// one or two of them.
var savers = []struct {
	name string
	path bus.ObjectPath
}{
	{"org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver"},
	{"org.gnome.ScreenSaver", "/org/gnome/ScreenSaver"},
	{"org.cinnamon.ScreenSaver", "/org/cinnamon/ScreenSaver"},
	{"org.mate.ScreenSaver", "/org/mate/ScreenSaver"},
	{"org.xfce.ScreenSaver", "/org/xfce/ScreenSaver"},
}

func (w *watcher) attendSession(ctx context.Context, p *part) error {
	connecting, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	k, err := bus.KeepSession(connecting)
	if err != nil {
		return err
	}
	defer k.Close()
	for _, s := range savers {
		if err := k.Follow(connecting, s.name, bus.Match{Interface: s.name, Member: "ActiveChanged"}); err != nil {
			return fmt.Errorf("follow %s: %w", s.name, err)
		}
	}
	cancel() // its timer would wake us
	for _, s := range savers {
		w.saverChanged(ctx, k, s.name, s.path)
	}
	w.settled(p, true)
	w.hear(ctx, p, k, func(n bus.News) { w.saverNews(ctx, k, n) }, nil)
	return nil
}

func (w *watcher) saverNews(ctx context.Context, k *bus.Kept, n bus.News) {
	if n.Signal == nil {
		for _, s := range savers {
			if s.name == n.Service {
				w.saverChanged(ctx, k, s.name, s.path)
			}
		}
		return
	}
	var active bool
	if n.Signal.Name != n.Service+".ActiveChanged" || bus.Store(n.Signal.Body, &active) != nil {
		return
	}
	w.change(func(s *state) {
		one := s.saver(n.Service)
		one.there, one.active = true, active
		if !active {
			s.unlocked("")
		}
	})
}

// saverChanged looks at a saver that has come, or notes that it has gone. One
// that cannot say whether it is active is none.
func (w *watcher) saverChanged(ctx context.Context, k *bus.Kept, name string, path bus.ObjectPath) {
	there, active := k.There(name), false
	if there {
		ctx, cancel := context.WithTimeout(ctx, callWait)
		err := k.Call(ctx, name, path, name+".GetActive").Store(&active)
		cancel()
		if err != nil {
			w.Log.Debug("a screen saver does not answer", "service", name, "error", err)
			there = false
		}
	}
	w.change(func(s *state) {
		one := s.saver(name)
		if one.there = there; there {
			one.active = active
		}
	})
}

// sessionGone is the end of the session bus. The caller holds the lock.
func (w *watcher) sessionGone() {
	for _, one := range w.state.savers {
		one.there = false
	}
}
