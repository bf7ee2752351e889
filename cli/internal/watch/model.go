package watch

import (
	"slices"
	"strings"
	"time"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

const (
	// settle is how long a question is on the screen before a key answers it: one
	// that comes sooner was meant for what was there before.
	settle = 700 * time.Millisecond
	// apart is how far a key that answers must be from the one before: a person
	// takes that long, a paste or a key that is held down does not.
	apart = 100 * time.Millisecond
)

// choice is one of the answers; the zero choice is none.
type choice uint8

const (
	none choice = iota
	approve
	deny
	report
	later
)

// labels are what the answers are called.
var labels = [...]string{approve: "Approve", deny: "Deny", report: "This wasn't me", later: "Later"}

// offered are the answers to a prompt, in their order.
func offered(p *api.Prompt) []choice {
	if p.Kind == "push" {
		return []choice{approve, deny, report, later}
	}
	return []choice{approve, deny, later}
}

// stage is what the person is asked for.
type stage uint8

const (
	choosing  stage = iota // an answer
	naming                 // which account
	numbering              // the number that the sign-in page shows
	proving                // the PIN, or with keyPIN that of the security key
	sending                // nothing: the agent has the answer
)

// model is everything that is on the screen, and what a key does to it. It knows
// no terminal, no agent and no clock: keys and events go in with their time,
// lines and effects come out.
type model struct {
	colour     bool
	cols, rows int

	prompts []api.Prompt    // newest first
	put     map[string]bool // ids of those that were put off
	hold    *api.Hold
	away    string // why the agent cannot be reached; "" while it can

	selected string // id of the prompt on the screen; "" while there is none
	answer   choice
	stage    stage
	account  string // that was chosen
	row      int    // of the choices, from 1; 0 is none
	number   string // that was typed
	pin      []byte // that was typed
	keyPIN   bool   // the security key has asked for its own PIN
	scroll   int    // first line that is shown of what does not fit
	to       int    // the line after the last one that is
	known    int    // so many, from the first, have been on the screen
	read     bool   // all have
	note     string // a sentence about the last key
	hint     string // what to do about it

	pending *pending
	changed time.Time // when the question on the screen changed without the person
	pressed time.Time // the last key
	taken   bool      // what the person was typing was taken away

	records []line // not yet printed
}

// pending is an answer that the agent has.
type pending struct {
	decision
	words       string // what is waited for
	cancellable bool
	closed      *api.PromptOutcome // what the events say meanwhile
}

// decision is an answer to one prompt.
type decision struct {
	prompt api.Prompt
	api.Decision
}

// effect is what a key asks of the world.
type effect struct {
	decide  *decision
	cancel  bool // the answer that the agent has
	refresh bool // ask for the prompts anew
	quit    bool
	suspend bool
	redraw  bool
	resumed bool // the process was stopped, and goes on
}

func newModel(colour bool) *model {
	return &model{colour: colour, cols: 80, rows: 24, put: map[string]bool{}, pin: make([]byte, 0, maxPIN)}
}

// resize tells how large the terminal is.
func (m *model) resize(cols, rows int) {
	if cols <= 0 || rows <= 0 {
		cols, rows = 80, 24
	}
	if cols != m.cols || rows != m.rows {
		m.cols, m.rows, m.scroll, m.to, m.known, m.read = cols, rows, 0, 0, 0, false
	}
}

// index is where a prompt is in the list; -1 when it is not.
func (m *model) index(id string) int {
	return slices.IndexFunc(m.prompts, func(p api.Prompt) bool { return p.ID == id })
}

// current is the prompt on the screen; nil when there is none.
func (m *model) current() *api.Prompt {
	if i := m.index(m.selected); i >= 0 {
		return &m.prompts[i]
	}
	return nil
}

// look puts a prompt on the screen, with nothing chosen and nothing typed.
func (m *model) look(id string) {
	m.selected = id
	m.scroll, m.to, m.known, m.read = 0, 0, 0, false
	m.start()
}

// start begins an answer anew.
func (m *model) start() {
	m.stage, m.answer = choosing, none
	m.account, m.row, m.number, m.keyPIN = "", 0, "", false
	m.forget()
}

// forget wipes the PIN.
func (m *model) forget() {
	clear(m.pin[:cap(m.pin)])
	m.pin = m.pin[:0]
}

// turn is look for a change that the person did not make: their next keys may be
// meant for what was there before.
func (m *model) turn(id string, now time.Time) {
	m.taken = m.taken || m.stage == naming || m.stage == numbering || m.stage == proving
	m.look(id)
	m.changed = now
}

// newest is the newest prompt that was not put off.
func (m *model) newest() string {
	for _, p := range m.prompts {
		if !m.put[p.ID] {
			return p.ID
		}
	}
	return ""
}

// listed is what waits after the agent was reached.
func (m *model) listed(list api.PromptList, now time.Time) {
	if m.away != "" {
		m.record(now, layout.Green, "back:", "the agent answers again")
	}
	m.away, m.hold, m.prompts = "", list.Hold, nil
	clear(m.put)
	if list.Hold == nil {
		m.prompts = slices.Clone(list.Prompts)
	}
	m.turn(m.newest(), now)
}

// refreshed brings what is known of the prompts up to date. Which there are, the
// events say.
func (m *model) refreshed(list api.PromptList) {
	for _, p := range list.Prompts {
		if i := m.index(p.ID); i >= 0 {
			m.prompts[i] = p
		}
	}
}

// lost says that the agent cannot be reached.
func (m *model) lost(why string, now time.Time) {
	if m.away == "" {
		m.record(now, layout.Yellow, "gone:", why)
	}
	m.away, m.hold, m.prompts = why, nil, nil
	m.turn("", now)
}

// event is one event of the agent's.
func (m *model) event(e api.Event, now time.Time) {
	switch {
	case e.Type == "hold":
		m.holds(e.Hold, now)
	case e.Type == "prompt" && e.Prompt != nil:
		m.opened(*e.Prompt, now)
	case e.Type == "prompt_closed" && e.Outcome != nil:
		m.closed(*e.Outcome, now)
	}
}

func (m *model) holds(h *api.Hold, now time.Time) {
	switch {
	case h != nil && m.hold == nil:
		m.record(now, layout.Yellow, "", describe.Hold(h, now))
	case h == nil && m.hold != nil:
		m.record(now, layout.Green, "", describe.HoldEnded)
	}
	m.hold = h
	if h != nil {
		m.prompts = nil
		m.turn("", now)
	}
}

func (m *model) opened(p api.Prompt, now time.Time) {
	if i := m.index(p.ID); i >= 0 {
		m.prompts[i] = p
		return
	}
	m.hold = nil // or it would not be told of
	m.prompts = slices.Insert(m.prompts, 0, p)
	if m.selected == "" {
		m.turn(p.ID, now)
		return
	}
	// The one on the screen stays there, but the screen has changed.
	m.changed = now
}

func (m *model) closed(o api.PromptOutcome, now time.Time) {
	if m.pending != nil && m.pending.prompt.ID == o.ID {
		m.pending.closed = &o // the answer to our own decision says more
		return
	}
	i := m.index(o.ID)
	if i < 0 {
		return
	}
	m.ended(m.prompts[i], o, true, now)
	m.remove(o.ID, now)
}

// remove takes a prompt off the list.
func (m *model) remove(id string, now time.Time) {
	m.prompts = slices.DeleteFunc(m.prompts, func(p api.Prompt) bool { return p.ID == id })
	delete(m.put, id)
	if m.selected == id {
		m.turn(m.newest(), now)
	}
}

// ended keeps a line about how a prompt ended; elsewhere, when it was not
// answered here.
func (m *model) ended(p api.Prompt, o api.PromptOutcome, elsewhere bool, now time.Time) {
	word, why := describe.Ended(o)
	colour := layout.Yellow
	if o.Outcome == "approved" {
		colour = layout.Green
	}
	if elsewhere && o.Outcome != "expired" {
		word += " elsewhere"
	}
	if why != "" {
		why = " (" + why + ")"
	}
	m.record(now, colour, word+":", describe.SignIn(p)+why)
}

// line is one that stays on the terminal.
type line struct{ when, colour, word, words string }

// record keeps a line.
func (m *model) record(now time.Time, colour, word, words string) {
	m.records = append(m.records, line{now.Local().Format("15:04"), colour, word, words})
}

// printed returns the lines that stay, once.
func (m *model) printed() (lines []string) {
	const under = 7 // what is below the first line
	for _, l := range m.records {
		lead := layout.Pad(l.when, under)
		for i, part := range layout.Wrap(strings.TrimSpace(l.word+" "+l.words), m.width()-under, m.width()-under) {
			if i == 0 {
				part = m.paint(l.colour, l.word) + strings.TrimPrefix(part, l.word)
			}
			lines = append(lines, m.paint(layout.Dim, lead)+part)
			lead = strings.Repeat(" ", under)
		}
	}
	m.records = nil
	return lines
}

// resumed is after the screen was somebody else's for a while.
func (m *model) resumed(now time.Time) {
	if m.stage != sending {
		m.turn(m.selected, now)
	}
}

// leaving is the end of the watch.
func (m *model) leaving(now time.Time) {
	m.forget()
	if p := m.pending; p != nil {
		m.unknown(p, errLeft, now)
		m.pending = nil
	}
}

// next is when the screen is out of date, without anything happening; zero is
// never. Time runs while it is shown only.
func (m *model) next() time.Duration {
	switch {
	case m.away != "":
	case m.hold != nil && !m.hold.Until.IsZero():
		return time.Minute // a pause says how long it takes
	case len(m.prompts) > 0 && m.hold == nil:
		return time.Second
	}
	return 0
}

func (m *model) paint(code, text string) string { return layout.Paint(m.colour, code, text) }
