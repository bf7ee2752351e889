package session

import (
	"context"
	"log/slog"
	"time"

	"countersign.dev/daemon/desktop/macos"
)

const (
	sourceMac = "macos"

	// sleepWithin is how long the computer's sleep is held up; macOS itself waits
	// thirty seconds.
	sleepWithin = 5 * time.Second
)

// New makes a watcher of this user's screen.
func New(o Options) Watcher {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &watcher{log: o.Log, in: newInbox()}
}

// watcher hears loginwindow and IOKit. Any program may post what loginwindow
// posts, so macOS is asked as well: see follow.
type watcher struct {
	log *slog.Logger
	in  *inbox
}

// Look asks macOS again.
func (w *watcher) Look() { w.in.put(newsChanged) }

// Watch watches until ctx ends.
func (w *watcher) Watch(ctx context.Context, h Handler) {
	// What happens from here on is in the box before macOS is asked.
	if stop, err := macos.ScreenNews(w.screen); err != nil {
		w.log.Warn("nothing will be heard of the screen", "error", err)
	} else {
		defer stop()
	}
	if stop, err := macos.PowerNews(w.power); err != nil {
		w.log.Warn("nothing will be heard of sleep", "error", err)
	} else {
		defer stop()
	}
	follow(ctx, sourceMac, w.in, func() glance {
		known, locked := macos.Screen()
		return glance{known, locked}
	}, h)
}

func (w *watcher) screen(locked bool) {
	if locked {
		w.in.put(newsLocked)
	} else {
		w.in.put(newsUnlocked)
	}
}

// power takes a message about power and says whether the system waits for an
// answer. Before sleep it waits until what has to be done is done.
func (w *watcher) power(message uint32) bool {
	m := macPower[message]
	if m.news == 0 {
		return m.waits
	}
	done := w.in.put(m.news)
	if m.waits {
		select {
		case <-done:
		case <-time.After(sleepWithin):
		}
	}
	return m.waits
}
