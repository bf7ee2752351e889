package panel

import (
	"slices"
	"sync"
	"time"

	"countersign.dev/tray"
)

// board maps a menu to lines that the system has, or is given now.
type board struct {
	make    func(parent item, title string) (item, <-chan struct{})
	rule    func() // a separator, after all that there is
	clicked func(tray.Action)

	mu       sync.Mutex // guards what follows
	sections [len(tray.Sections)][]*slot
	outline  []tray.Action // of the whole menu, in order
	moved    time.Time     // when the outline last changed
}

// slot is a line of the system's menu.
type slot struct {
	item    item
	submenu bool // it has, or will have, lines of its own; it cannot be both
	kids    []*slot

	shown   bool
	enabled bool
	title   string
	action  tray.Action
	since   time.Time // when action last changed
}

// build makes all lines of the first level, which cannot be added later, since
// others come after them.
func (b *board) build() {
	for i, section := range tray.Sections {
		if i > 0 {
			b.rule()
		}
		for _, rooms := range section {
			for range rooms.Number {
				s := b.add(nil, "", rooms.Submenus)
				s.hide(time.Time{})
				b.sections[i] = append(b.sections[i], s)
			}
		}
	}
}

// add makes a line and listens to it for as long as the program runs.
func (b *board) add(parent item, title string, submenu bool) *slot {
	s := &slot{submenu: submenu, title: escape(title), shown: true, enabled: true} // as new ones are
	var clicks <-chan struct{}
	s.item, clicks = b.make(parent, s.title)
	go func() {
		for range clicks {
			b.click(s)
		}
	}()
	return s
}

// apply shows a menu.
func (b *board) apply(menu []tray.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if o := outline(nil, menu); !slices.Equal(o, b.outline) {
		b.outline, b.moved = o, now
	}
	for i := range b.sections {
		part := menu
		if cut := slices.IndexFunc(menu, func(e tray.Entry) bool { return e.Separator }); cut >= 0 {
			part, menu = menu[:cut], menu[cut+1:]
		} else {
			menu = nil
		}
		fill(b.sections[i], part, now, b.fillKids)
	}
	// Telling the panel may take its time: until then what was there before is seen.
	told := time.Now()
	if b.moved.Equal(now) {
		b.moved = told
	}
	for _, section := range b.sections {
		settled(section, now, told)
	}
}

// settled says that the panel was told of what lines mean since then.
func settled(slots []*slot, then, told time.Time) {
	for _, s := range slots {
		if s.since.Equal(then) {
			s.since = told
		}
		settled(s.kids, then, told)
	}
}

// fillKids shows the lines of a submenu, and makes those that are missing.
func (b *board) fillKids(s *slot, entries []tray.Entry, now time.Time) {
	for _, e := range fill(s.kids, entries, now, b.fillKids) {
		k := b.add(s.item, e.Label, len(e.Children) > 0)
		s.kids = append(s.kids, k)
		k.show(e, now, b.fillKids)
	}
}

type filler func(*slot, []tray.Entry, time.Time)

// fill shows entries in slots, each in the next one of its kind, and hides the
// others. It returns the entries that there was no slot for.
func fill(slots []*slot, entries []tray.Entry, now time.Time, kids filler) (rest []tray.Entry) {
	for _, s := range slots {
		if len(entries) == 0 || s.submenu != (len(entries[0].Children) > 0) {
			s.hide(now)
			continue
		}
		s.show(entries[0], now, kids)
		entries = entries[1:]
	}
	return entries
}

// hide hides a line. Nothing else may be done to one that is to stay hidden: on
// some systems that shows it.
func (s *slot) hide(now time.Time) {
	s.forget(now)
	if s.shown {
		s.shown = false
		s.item.Hide()
	}
}

// forget makes a line, and those below it, do nothing.
func (s *slot) forget(now time.Time) {
	s.mean(tray.Action{}, now)
	for _, k := range s.kids {
		k.forget(now)
	}
}

// show makes a line say and do what the entry does.
func (s *slot) show(e tray.Entry, now time.Time, kids filler) {
	// What it did before, it does not do while it changes.
	s.mean(e.Action, now)
	if title := escape(e.Label); title != s.title {
		s.title = title
		s.item.SetTitle(title)
	}
	if enabled := e.Enabled(); enabled != s.enabled {
		if s.enabled = enabled; enabled {
			s.item.Enable()
		} else {
			s.item.Disable()
		}
	}
	if s.submenu {
		kids(s, e.Children, now)
	}
	if !s.shown {
		s.shown = true
		s.item.Show()
	}
}

// mean binds a line to an action.
func (s *slot) mean(a tray.Action, now time.Time) {
	if a != s.action {
		s.action, s.since = a, now
	}
}

// outline is what there is to do in a menu, line by line.
func outline(list []tray.Action, menu []tray.Entry) []tray.Action {
	for _, e := range menu {
		list = outline(append(list, e.Action), e.Children)
	}
	return list
}

// click passes on what a line does, unless it is too new for anybody to have
// meant it. An approval takes more: nothing at all has moved.
func (b *board) click(s *slot) {
	b.mu.Lock()
	a, since := s.action, s.since
	if a.Kind == tray.Approve && b.moved.After(since) {
		since = b.moved
	}
	b.mu.Unlock()
	if a.Kind == tray.Nothing || time.Since(since) < settle {
		return
	}
	b.clicked(a)
}
