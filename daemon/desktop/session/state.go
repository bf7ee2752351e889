package session

import "slices"

// The names of the sources.
const (
	sourceLogind = "logind"
	sourceSaver  = "screensaver"
)

// state is what the sources have said. Its zero value is: nothing.
type state struct {
	logind   bool // it is there
	sessions map[string]*login
	savers   map[string]*saver
}

// login is a session of the person as logind has it.
type login struct {
	hint   bool // LockedHint: what the locker says
	locked bool // logind has asked for the lock, or was gone while hint said so
}

// saver is a screen saver, by the name of its service.
type saver struct {
	there  bool
	active bool // stays when it goes
}

// screen sums up what the sources say.
func (s *state) screen() Screen {
	var v Screen
	if s.logind && len(s.sessions) > 0 {
		v.Sources = append(v.Sources, sourceLogind)
	}
	for _, l := range s.sessions {
		v.Locked = v.Locked || l.hint || l.locked
	}
	for _, one := range s.savers {
		v.Locked = v.Locked || one.active
		if one.there && !slices.Contains(v.Sources, sourceSaver) {
			v.Sources = append(v.Sources, sourceSaver)
		}
	}
	v.Known = v.Locked || len(v.Sources) > 0
	return v
}

// login returns the session of that name, which is new if need be.
func (s *state) login(name string) *login {
	if s.sessions == nil {
		s.sessions = map[string]*login{}
	}
	if s.sessions[name] == nil {
		s.sessions[name] = &login{}
	}
	return s.sessions[name]
}

// hint takes what the locker says of a session.
func (s *state) hint(name string, locked bool) {
	if s.login(name).hint = locked; !locked {
		s.unlocked(name)
	}
}

// unlocked ends the lock that was asked for of a session: somebody who must know
// says that it has ended. Without a name it is all of them. So it ends what
// savers have said that are gone, and will never take it back.
func (s *state) unlocked(name string) {
	for n, l := range s.sessions {
		if name == "" || n == name {
			l.locked = false
		}
	}
	for _, one := range s.savers {
		if !one.there {
			one.active = false
		}
	}
}

// logindGone is the end of logind, or of the way to it.
func (s *state) logindGone() {
	s.logind = false
	for _, l := range s.sessions {
		l.locked, l.hint = l.locked || l.hint, false
	}
}

// saver returns the saver of that name, which is new if need be.
func (s *state) saver(name string) *saver {
	if s.savers == nil {
		s.savers = map[string]*saver{}
	}
	if s.savers[name] == nil {
		s.savers[name] = &saver{}
	}
	return s.savers[name]
}

func (s Screen) equal(o Screen) bool {
	return s.Known == o.Known && s.Locked == o.Locked && slices.Equal(s.Sources, o.Sources)
}
