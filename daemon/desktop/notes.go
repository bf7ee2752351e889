package desktop

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// The keys of buttons name the prompt that they were shown for: a press that
// comes late, when another prompt has taken the place of the note, is none.
const (
	approveKey = "approve-"
	denyKey    = "deny-"
	reportKey  = "report-"
)

const (
	// still is for how long notes must have neither come nor gone before one of
	// them approves: what has just moved under the pointer was not read, and the
	// second half of a double click is for nobody.
	still = 500 * time.Millisecond
	// readable is the longest message, in characters, that a note shows whole
	// everywhere.
	readable = 80
)

// arrange makes the screen be as it should be. It is called after everything
// that happens.
func (s *screen) arrange() {
	if s.hold != nil || len(s.items) == 0 {
		s.takeAway(&s.rest)
		s.restAway = false // who comes next has not been put away
		if s.word == 0 && s.parked == nil && s.deciding == 0 {
			s.disconnect()
		}
		return
	}
	if s.connect(); s.connecting {
		return // what cannot be notified of is asked by dialog, and it is not known yet
	}
	s.openNext()
	if s.server == nil {
		return
	}
	list := s.waiting()
	own := list[:min(maxNotes, len(list))]
	rest := list[len(own):]
	for _, it := range s.items {
		if it.note != 0 && !slices.Contains(own, it) {
			s.takeAway(&it.note)
		}
	}
	for _, it := range own {
		if s.server == nil {
			return // lost under way
		}
		s.put(&it.note, &it.shown, s.note(it), func() { it.refused = true })
	}
	if len(rest) == 0 {
		s.takeAway(&s.rest)
		s.restAway = false
	} else if s.server != nil {
		if n := s.crowd(rest); !s.restAway || !same(s.restNote, n) {
			s.restAway = false
			s.put(&s.rest, &s.restNote, n, func() {})
		}
	}
	s.openNext() // what was refused
}

// waiting are the prompts that a note should speak of, newest first: the newest
// is the one that the person is most likely to have caused.
func (s *screen) waiting() []*item {
	var list []*item
	for _, it := range s.items {
		if it.dialog == nil && !it.deciding && !it.dismissed && !it.refused {
			list = append(list, it)
		}
	}
	slices.SortFunc(list, func(x, y *item) int { return y.age(x) })
	return list
}

// age compares by when prompts came, older first.
func (it *item) age(other *item) int {
	return cmp.Or(it.prompt.CreatedAt.Compare(other.prompt.CreatedAt), strings.Compare(it.prompt.ID, other.prompt.ID))
}

// put shows a note, or makes the one that stands say something else.
func (s *screen) put(id *notification.ID, shown *notification.Note, n notification.Note, refused func()) {
	if *id != 0 && same(*shown, n) {
		return
	}
	got, err := s.server.Show(s.ctx, n, *id)
	if err != nil {
		*id = 0
		if !s.failed(err) {
			refused()
		}
		return
	}
	*id, *shown = got, n
	s.moved = s.o.Now()
}

func same(a, b notification.Note) bool {
	return a.Title == b.Title && a.Body == b.Body && a.Urgent == b.Urgent && slices.Equal(a.Buttons, b.Buttons)
}

// takeAway closes a note, if there is one.
func (s *screen) takeAway(id *notification.ID) {
	if *id == 0 {
		return
	}
	old := *id
	*id = 0
	if s.server != nil {
		s.moved = s.o.Now()
		s.failed(s.server.Close(s.ctx, old))
	}
}

// pressed handles what became of a note.
func (s *screen) pressed(e notification.Event) {
	switch e.Note {
	case 0:
		return
	case s.word:
		s.word = 0
		return
	case s.rest:
		s.rest, s.restAway = 0, e.Key == ""
		if list := s.waiting(); e.Key == notification.Default && len(list) > maxNotes {
			s.open(list[maxNotes])
		}
		return
	}
	for _, it := range s.items {
		if it.note == e.Note {
			s.pressedOn(it, e.Key)
			return
		}
	}
}

func (s *screen) pressedOn(it *item, key string) {
	offered := slices.ContainsFunc(it.shown.Buttons, func(b notification.Button) bool { return b.Key == key })
	if key != "" && !offered {
		return // nothing that was asked
	}
	it.note = 0 // either way it is no more on the screen
	calm := s.o.Now().Sub(s.moved) >= still
	s.moved = s.o.Now()
	switch key {
	case notification.Default:
		s.open(it)
	case approveKey + it.prompt.ID:
		if !calm {
			s.open(it) // or else the note comes again
			return
		}
		s.decide(it, api.Decision{Action: "approve"})
	case denyKey + it.prompt.ID:
		s.decide(it, api.Decision{Action: "deny"})
	case reportKey + it.prompt.ID:
		s.decide(it, api.Decision{Action: "deny", Report: true})
	case "":
		it.dismissed = true
	}
}

// decide hands a press over. The prompt's end is told by an event; what is left
// to say is that it did not work.
func (s *screen) decide(it *item, d api.Decision) {
	it.deciding = true
	s.deciding++
	s.work.Go(func() {
		o, err := s.o.Agent.Decide(s.ctx, it.prompt.ID, d)
		s.post(func() {
			it.deciding = false
			s.deciding--
			var refused *api.Error
			if errors.As(err, &refused) && takesMore[refused.Code] {
				s.open(it)
				return
			}
			if sentence := failure(it.prompt, d, o, err); sentence != "" && s.hold == nil {
				s.say(sentence)
			}
		})
	})
}

// takesMore are the refusals that a dialog can do something about.
var takesMore = map[string]bool{"verification_required": true, "number_required": true, "account_needed": true}

// say tells how a decision failed, in a note, or in a window.
func (s *screen) say(sentence string) {
	if s.server == nil {
		if s.window != nil {
			w, life := s.window, s.life
			s.work.Go(func() { tell(life, w, []string{sentence}) })
		}
		return
	}
	id, err := s.server.Show(s.ctx, notification.Note{Title: title, Body: sentence}, s.word)
	if s.word = 0; !s.failed(err) && err == nil {
		s.word = id
	}
}

// title is that of windows, and of notes that ask nothing.
const title = "Countersign"

// direct says whether a press on a note may approve: only what takes nothing but
// a yes, and can be read in full there.
func direct(p api.Prompt) bool {
	return !p.NeedsNumber && len(p.Numbers) == 0 && p.UserVerification == "none" && len(p.Choices) == 0 && utf8.RuneCountInString(p.BindingMessage) <= readable
}

// note says what a prompt asks. The number is for the page to show and for the
// person to bring: it is not in here (B2).
func (s *screen) note(it *item) notification.Note {
	p := it.prompt
	p.ExpiresAt = time.Time{} // the note stands: "ends in 4 minutes" would not stay true
	n := notification.Note{Title: describe.Question(p), Urgent: true}
	lines := describe.Unusual(p)
	if p.TransactionType == "CIBA" {
		n.Title = describe.Clean(p.App, readable) + " asks"
		lines = append(lines, describe.Clean(p.BindingMessage, describe.MaxMessage))
	}
	facts := map[string]string{}
	for _, f := range describe.Facts(p, it.came) {
		facts[f.Name] = f.Value
	}
	lines = append(lines, join(facts["organisation"], facts["account"]))
	if from := facts["from"]; from != "" {
		lines = append(lines, "From "+from)
	}
	lines = append(lines, upper(facts["when"]))

	buttons, windows, straight := s.server.Buttons(), s.window != nil, direct(it.prompt)
	if buttons && windows {
		n.Buttons = append(n.Buttons, notification.Button{Key: notification.Default, Label: "Open"})
	}
	if buttons && straight {
		n.Buttons = append(n.Buttons, notification.Button{Key: approveKey + p.ID, Label: "Approve"})
	}
	if buttons && (straight || !windows) {
		n.Buttons = append(n.Buttons, notification.Button{Key: denyKey + p.ID, Label: "Deny"})
		if p.Kind == "push" {
			n.Buttons = append(n.Buttons, notification.Button{Key: reportKey + p.ID, Label: "This wasn't me"})
		}
	}
	switch {
	case buttons && straight:
	case !buttons || !windows:
		lines = append(lines, "To answer, on a terminal: countersign prompt watch")
	case p.NeedsNumber:
		lines = append(lines, "Open this to type the number that the page shows.")
	case len(p.Choices) > 0:
		lines = append(lines, "Open this to choose the account.")
	case p.UserVerification != "none":
		lines = append(lines, "Open this to show that it is you.")
	default:
		lines = append(lines, "Open this to answer.")
	}
	n.Body = strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), "\n")
	return n
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", ")
}

// crowd speaks for the prompts that have no note of their own.
func (s *screen) crowd(rest []*item) notification.Note {
	n := notification.Note{Title: fmt.Sprintf("%d more sign-ins wait", len(rest)), Urgent: true}
	if len(rest) == 1 {
		n.Title = "1 more sign-in waits"
	}
	var apps []string
	for _, it := range rest {
		if app := describe.Clean(it.prompt.App, readable); app != "" && !slices.Contains(apps, app) && len(apps) < maxNotes {
			apps = append(apps, app)
		}
	}
	n.Body = join(apps...)
	if s.server.Buttons() && s.window != nil {
		n.Buttons = []notification.Button{{Key: notification.Default, Label: "Open"}}
	}
	return n
}
