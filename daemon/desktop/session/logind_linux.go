package session

import (
	"context"
	"os"
	"slices"

	"countersign.dev/bus"
)

// Names of logind's interface, org.freedesktop.login1(5).
const (
	login1       = "org.freedesktop.login1"
	managerPath  = bus.ObjectPath("/org/freedesktop/login1")
	manager      = login1 + ".Manager"
	sessionFace  = login1 + ".Session"
	userFace     = login1 + ".User"
	properties   = "org.freedesktop.DBus.Properties"
	lockedHint   = "LockedHint"
	noSuchObject = bus.ObjectPath("/")
)

// logind is what is known of it over one connection.
type logind struct {
	*watcher
	part      *part
	bus       *bus.Kept
	user      bus.ObjectPath // whose changes are heard; "" before
	heard     []bus.Match    // of the sessions
	inhibitor *os.File       // makes logind wait for us before it sleeps
}

// seat is a session of logind's.
type seat struct {
	id   string
	path bus.ObjectPath
}

// attendSystem hears of logind. Only what concerns this user's session and the
// sleep of the computer is asked for: sessions of others and of timers come and
// go all day long.
func (w *watcher) attendSystem(ctx context.Context, p *part) error {
	connecting, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	k, err := bus.KeepSystem(connecting, w.SystemBusOwner)
	if err != nil {
		return err
	}
	defer k.Close()
	l := &logind{watcher: w, part: p, bus: k}
	defer l.sleepFreely()
	if err := k.Follow(connecting, login1, bus.Match{Path: managerPath, Interface: manager, Member: "PrepareForSleep"}); err != nil {
		return err
	}
	cancel() // its timer would wake us
	l.changed(ctx)
	w.hear(ctx, p, k, func(n bus.News) { l.news(ctx, n) }, func() { l.elect(ctx) })
	return nil
}

// changed looks at logind, which has come, or notes that it has gone.
func (l *logind) changed(ctx context.Context) {
	if !l.bus.There(login1) {
		l.sleepFreely()
		l.change(func(*state) { l.systemGone() })
		l.settled(l.part, true) // the bus will tell when it comes
		return
	}
	l.change(func(s *state) { s.logind = true })
	l.inhibit(ctx)
	l.elect(ctx)
	// After the inhibitor: a sleep that began before is seen here, a later one is told.
	var sleeping bool
	if err := l.property(ctx, managerPath, manager, "PreparingForSleep", &sleeping); err == nil {
		l.sleep(sleeping)
		if sleeping {
			l.sleepFreely()
		}
	}
}

func (l *logind) news(ctx context.Context, n bus.News) {
	if n.Signal == nil {
		l.changed(ctx)
		return
	}
	switch s := n.Signal; s.Name {
	case manager + ".PrepareForSleep":
		var sleeping bool
		if bus.Store(s.Body, &sleeping) != nil {
			return
		}
		l.sleep(sleeping)
		if sleeping {
			l.sleepFreely()
		} else {
			l.inhibit(ctx)
		}
	case manager + ".SessionRemoved":
		l.elect(ctx)
	case sessionFace + ".Lock", sessionFace + ".Unlock":
		l.change(func(st *state) {
			if st.sessions[string(s.Path)] == nil {
				return
			}
			if s.Name == sessionFace+".Unlock" {
				st.unlocked(string(s.Path))
			} else {
				st.login(string(s.Path)).locked = true
			}
		})
	case properties + ".PropertiesChanged":
		l.propertiesChanged(ctx, s)
	}
}

func (l *logind) propertiesChanged(ctx context.Context, s *bus.Signal) {
	var face string
	var now map[string]bus.Variant
	var stale []string
	if bus.Store(s.Body, &face, &now, &stale) != nil {
		return
	}
	if face == userFace && s.Path == l.user {
		l.elect(ctx)
		return
	}
	if face != sessionFace {
		return
	}
	locked, told := now[lockedHint].Value().(bool)
	if !told && slices.Contains(stale, lockedHint) {
		told = l.property(ctx, s.Path, sessionFace, lockedHint, &locked) == nil
	}
	if told {
		l.change(func(st *state) {
			if st.sessions[string(s.Path)] != nil {
				st.hint(string(s.Path), locked)
			}
		})
	}
}

// elect chooses the sessions whose lock counts, and reads how they are. What
// cannot be read leaves things as they are until somebody looks again.
func (l *logind) elect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	elected, err := l.elected(ctx)
	if err == nil {
		err = l.hearSessions(ctx, elected)
	}
	hints := map[string]bool{}
	for _, s := range elected {
		var hint bool
		if err == nil {
			err = l.property(ctx, s.path, sessionFace, lockedHint, &hint)
		}
		hints[string(s.path)] = hint
	}
	if err != nil {
		l.Log.Debug("the session is not known", "error", err)
		l.settled(l.part, false)
		return
	}
	l.change(func(st *state) {
		for path := range st.sessions {
			if _, still := hints[path]; !still {
				delete(st.sessions, path)
			}
		}
		for path, hint := range hints {
			st.login(path).hint = hint
		}
	})
	l.settled(l.part, len(elected) > 0)
}

// elected finds the sessions: the one that this process is in, if it has a
// screen; else the one that logind shows for the user; else all of the user's
// that have a screen. An agent that the user's systemd runs is in no session.
func (l *logind) elected(ctx context.Context) ([]seat, error) {
	uid := uint32(os.Geteuid())
	if id := os.Getenv("XDG_SESSION_ID"); id != "" {
		s := seat{id: id}
		if l.manager(ctx, "GetSession", id).Store(&s.path) == nil && l.mine(ctx, s.path, uid) {
			return []seat{s}, nil
		}
	}
	var path bus.ObjectPath
	if l.manager(ctx, "GetUser", uid).Store(&path) == nil {
		if l.user == "" {
			m := bus.Match{Path: path, Interface: properties, Member: "PropertiesChanged", Arg0: userFace}
			if err := l.bus.Hear(ctx, login1, m); err != nil {
				return nil, err
			}
			l.user = path
		}
		var display struct {
			ID   string
			Path bus.ObjectPath
		}
		if l.property(ctx, path, userFace, "Display", &display) == nil && display.ID != "" && display.Path != noSuchObject {
			return []seat{{display.ID, display.Path}}, nil
		}
	}
	var all []struct {
		ID   string
		UID  uint32
		User string
		Seat string
		Path bus.ObjectPath
	}
	if err := l.manager(ctx, "ListSessions").Store(&all); err != nil {
		return nil, err
	}
	var list []seat
	for _, s := range all {
		if s.UID == uid && l.mine(ctx, s.Path, uid) {
			list = append(list, seat{s.ID, s.Path})
		}
	}
	return list, nil
}

// mine says whether a session is one of the user's that has a screen and is not
// about to end.
func (l *logind) mine(ctx context.Context, path bus.ObjectPath, uid uint32) bool {
	var p map[string]bus.Variant
	if l.bus.Call(ctx, login1, path, properties+".GetAll", sessionFace).Store(&p) != nil {
		return false
	}
	var user struct {
		UID  uint32
		Path bus.ObjectPath
	}
	if v, ok := p["User"]; !ok || v.Store(&user) != nil || user.UID != uid {
		return false
	}
	kind, _ := p["Type"].Value().(string)
	state, _ := p["State"].Value().(string)
	return slices.Contains([]string{"x11", "wayland", "mir"}, kind) && state != "closing"
}

// hearSessions hears of these sessions and of no others. Asking comes before
// reading: a change in between is told.
func (l *logind) hearSessions(ctx context.Context, sessions []seat) error {
	var wanted []bus.Match
	for _, s := range sessions {
		wanted = append(wanted,
			bus.Match{Path: s.path, Interface: sessionFace, Member: "Lock"},
			bus.Match{Path: s.path, Interface: sessionFace, Member: "Unlock"},
			bus.Match{Path: s.path, Interface: properties, Member: "PropertiesChanged", Arg0: sessionFace},
			bus.Match{Path: managerPath, Interface: manager, Member: "SessionRemoved", Arg0: s.id})
	}
	for _, m := range wanted {
		if !slices.Contains(l.heard, m) {
			if err := l.bus.Hear(ctx, login1, m); err != nil {
				return err
			}
			l.heard = append(l.heard, m)
		}
	}
	for _, m := range slices.Clone(l.heard) {
		if !slices.Contains(wanted, m) {
			if err := l.bus.Unhear(ctx, login1, m); err != nil {
				return err
			}
			l.heard = slices.DeleteFunc(l.heard, func(h bus.Match) bool { return h == m })
		}
	}
	return nil
}

func (l *logind) manager(ctx context.Context, method string, args ...any) *bus.Call {
	return l.bus.Call(ctx, login1, managerPath, manager+"."+method, args...)
}

func (l *logind) property(ctx context.Context, path bus.ObjectPath, face, name string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	var v bus.Variant
	if err := l.bus.Call(ctx, login1, path, properties+".Get", face, name).Store(&v); err != nil {
		return err
	}
	return v.Store(into)
}

// inhibit makes logind wait for us before the computer sleeps, for five seconds
// at most. Without that it is told all the same, perhaps too late.
func (l *logind) inhibit(ctx context.Context) {
	if l.inhibitor != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	f, err := l.bus.File(ctx, login1, managerPath, manager+".Inhibit", "sleep", "Countersign", "Put away what waits for you", "delay")
	if err != nil {
		l.Log.Info("the computer's sleep does not wait for the agent", "error", err)
		return
	}
	l.inhibitor = f
}

// sleepFreely lets the computer sleep.
func (l *logind) sleepFreely() {
	if l.inhibitor != nil {
		l.inhibitor.Close()
		l.inhibitor = nil
	}
}

// sleep tells the handler that the computer is about to sleep, or awake again.
func (w *watcher) sleep(asleep bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setAsleep(asleep)
}

// setAsleep is sleep; the caller holds the lock.
func (w *watcher) setAsleep(asleep bool) {
	if w.asleep == asleep {
		return
	}
	if w.asleep = asleep; asleep {
		w.h.Sleep()
	} else {
		w.h.Wake()
	}
}

// systemGone is the end of logind or of the system bus: nobody will say that the
// computer is awake, so it is. The caller holds the lock.
func (w *watcher) systemGone() {
	w.state.logindGone()
	w.setAsleep(false)
}
