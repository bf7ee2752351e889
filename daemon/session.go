package daemon

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"countersign.dev/daemon/desktop/session"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// ScreenLockIgnore is the Config.ScreenLock with which a locked screen holds
// nothing back.
const ScreenLockIgnore = "ignore"

// firstWord is how long after its start the agent waits to hear of the screen
// before it signs without asking: one that starts behind a locked screen must
// not take it for an open one.
const firstWord = time.Second

// settleIn is how long after its start the agent looks at the session, unless
// somebody wants to know before: first it answers who waits for it to be there.
const settleIn = 50 * time.Millisecond

// screen is what the agent knows of the person's screen.
type screen struct {
	watcher session.Watcher
	wanted  chan struct{} // closed by who wants to know
	want    func()

	mu    sync.Mutex // guards what follows
	now   session.Screen
	told  chan struct{} // closed at the first word
	until time.Time     // which is waited for no longer than this
}

func newScreen(w session.Watcher) *screen {
	s := &screen{watcher: w, told: make(chan struct{}), wanted: make(chan struct{})}
	s.want = sync.OnceFunc(func() { close(s.wanted) })
	return s
}

// note takes what was said last. changed says whether somebody else tells now.
func (s *screen) note(now session.Screen) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.told:
	default:
		close(s.told)
	}
	changed = s.now.Known != now.Known || strings.Join(s.now.Sources, " ") != strings.Join(now.Sources, " ")
	s.now = now
	return changed
}

// expect says that the watch begins.
func (s *screen) expect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now().Add(firstWord)
}

// await waits for the first word, for a moment.
func (s *screen) await(stopped <-chan struct{}) {
	s.want()
	s.mu.Lock()
	left := time.Until(s.until)
	s.mu.Unlock()
	select {
	case <-s.told:
		return
	default:
	}
	if left <= 0 {
		return
	}
	moment := time.NewTimer(left)
	defer moment.Stop()
	select {
	case <-s.told:
	case <-moment.C:
	case <-stopped:
	}
}

// view is what is known as front ends see it.
func (s *screen) view() api.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := api.Session{Screen: "unknown", Sources: s.now.Sources}
	switch {
	case s.now.Locked:
		v.Screen = "locked"
	case s.now.Known:
		v.Screen = "unlocked"
	}
	return v
}

// desk is the agent as the watcher of the person's session sees it.
type desk struct{ d *Daemon }

var _ session.Handler = desk{}

// watchSession watches until the agent stops.
func (d *Daemon) watchSession() {
	d.screen.expect()
	d.spawn(func() {
		settled := time.NewTimer(settleIn)
		defer settled.Stop()
		select {
		case <-settled.C:
		case <-d.screen.wanted:
		case <-d.ctx.Done():
			return
		}
		d.screen.watcher.Watch(d.ctx, desk{d})
	})
}

// Screen holds everything back while the screen is locked. First the hold, then
// what is forgotten: nothing is remembered anew behind it.
func (h desk) Screen(s session.Screen) {
	d := h.d
	changed := d.screen.note(s)
	switch {
	case !s.Locked:
		d.release(api.HoldScreenLocked)
	case d.config.ScreenLock != ScreenLockIgnore:
		d.hold(api.HoldScreenLocked, time.Time{})
	}
	if s.Locked {
		d.forget()
	}
	if changed {
		d.hub.publish(api.Event{Type: "status"})
	}
}

// Sleep holds everything back: what is asked now is answered by nobody.
func (h desk) Sleep() {
	h.d.hold(api.HoldAsleep, time.Time{})
	h.d.forget()
}

// Wake ends what has expired meanwhile, which the timers have not noticed: they
// stand still with the computer. Then the orgs are asked, over new connections.
func (h desk) Wake() {
	h.d.prompts.Sweep()
	h.d.endPause()
	if c := h.d.core.Load(); c != nil {
		c.push.Restart()
	}
	h.d.release(api.HoldAsleep)
}

// forget wipes what is kept of the person for their convenience: who comes to an
// open screen has to show anew who they are.
func (d *Daemon) forget() {
	d.lately.forget()
	if c := d.core.Load(); c != nil {
		c.verification.Forget()
	}
	d.presents.forget()
}

// lookAround sees to what nobody tells: that a bus has come, that a pause has
// ended while the computer slept. It is called whenever there is something to do
// anyway.
func (d *Daemon) lookAround() {
	d.screen.watcher.Look()
	d.endPause()
}

// held says whether nothing is to be signed unasked.
func (d *Daemon) held() bool {
	d.screen.await(d.ctx.Done())
	return d.prompts.Held() != nil
}

// session says whether somebody tells of the screen, and what holds the agent.
func (x *examination) session() {
	const name = "session"
	x.d.lookAround()
	now := x.d.screen.view()
	if h := x.d.prompts.Held(); h != nil {
		view := holdView(h)
		x.warn(name, fmt.Sprintf("%s (since %s)", describe.Hold(view, x.d.now()), describe.Ago(h.Since, x.d.now())), describe.HoldHint(view))
		return
	}
	told := describe.Sources(now)
	switch {
	case now.Screen == "unknown":
		x.warn(name, "nobody tells whether the screen is locked: sign-ins are shown and answered either way", "a desktop with logind or a screen saver tells; countersign pause holds everything back")
	case x.d.config.ScreenLock == ScreenLockIgnore:
		x.ok(name, "the screen is "+now.Screen+", says "+told+"; that holds nothing back (--screen-lock ignore)")
	default:
		x.ok(name, "the screen is "+now.Screen+", says "+told)
	}
}
