package watch

import (
	"fmt"
	"strings"
	"time"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// page is one screen: what it shows, and how much of it.
type page struct {
	lines []string
	whole bool // all of what is asked is on it
	// Of what is asked, else: the lines that are on it, of so many.
	from, to, of int
}

// minCols and minRows are the smallest window in which anything is asked.
const (
	minCols = 26
	minRows = 8
)

// width is what a line may take; one column stays free for the cursor.
func (m *model) width() int { return max(m.cols-1, 8) }

// height is what the screen may take; one line stays free for what happened last.
func (m *model) height() int { return max(m.rows-1, 3) }

// view is the screen of this moment.
func (m *model) view(now time.Time) []string { return m.compose(now).lines }

// drawn says that view was on the screen.
func (m *model) drawn(now time.Time) {
	if m.current() == nil || m.stage != choosing {
		return
	}
	p := m.compose(now)
	m.scroll, m.to = p.from, p.to
	if p.from <= m.known {
		m.known = max(m.known, p.to)
	}
	m.read = m.read || p.whole || p.of > 0 && m.known >= p.of
}

// page scrolls what does not fit, on from what was drawn.
func (m *model) page(by int) {
	if m.to > 0 {
		m.scroll = max(m.scroll+by*max(m.to-m.scroll-1, 1), 0)
	}
}

func (m *model) compose(now time.Time) page {
	p := m.current()
	if p == nil {
		lines := m.between(now)
		return page{lines: lines[:min(len(lines), m.height())]}
	}
	if m.cols < minCols || m.rows < minRows {
		lines := m.fold(layout.Yellow, fmt.Sprintf("This window is too small: it takes %d columns and %d rows to show what is asked.", minCols, minRows))
		return page{lines: lines[:min(len(lines), m.height())]}
	}
	head, body, tail := m.head(now), m.body(p, now), m.tail(p)
	room := m.height() - len(body) - len(tail)
	gap := []string{""}
	switch {
	case len(head) > 0 && room >= len(head)+3:
		return page{lines: join(gap, head, gap, body, gap, tail), whole: true}
	case len(head) == 0 && room >= 2:
		return page{lines: join(gap, body, gap, tail), whole: true}
	case len(head) == 0 && room >= 1:
		return page{lines: join(body, gap, tail), whole: true}
	case room >= len(head):
		return page{lines: join(head, body, tail), whole: true}
	}
	if len(head) > 0 { // one line says that there are others
		head = []string{m.paint(layout.Dim, layout.Cut(fmt.Sprintf("%d of %d; up and down show the others", m.index(p.ID)+1, len(m.prompts)), m.width()))}
	}
	if room >= len(head) {
		return page{lines: join(head, body, tail), whole: true}
	}
	if m.stage != choosing { // it was read before
		room = max(m.height()-len(tail), 0)
		lines := join(body[:min(room, len(body))], tail)
		return page{lines: lines[max(0, len(lines)-m.height()):]}
	}
	room = m.height() - len(head) - len(tail) - 1
	if room < 1 {
		head = nil
		room = max(m.height()-len(tail)-1, 1)
	}
	room = min(room, len(body))
	from := min(m.scroll, len(body)-room)
	more := "Space shows more"
	if from+room == len(body) {
		more = "b goes back"
	}
	more = layout.Cut(fmt.Sprintf("lines %d to %d of %d; %s", from+1, from+room, len(body), more), m.width())
	lines := join(head, body[from:from+room], []string{m.paint(layout.Dim, more)}, tail)
	return page{lines: lines[:min(len(lines), m.height())], from: from, to: from + room, of: len(body)}
}

func join(parts ...[]string) (lines []string) {
	for _, part := range parts {
		lines = append(lines, part...)
	}
	return lines
}

// fold paints text in as many lines as it takes.
func (m *model) fold(code, text string) (lines []string) {
	for _, line := range layout.Fold(text, m.width()) {
		lines = append(lines, m.paint(code, line))
	}
	return lines
}

// between is the screen while no prompt is on it.
func (m *model) between(now time.Time) []string {
	leave := m.fold(layout.Dim, "q leaves")
	switch {
	case m.away != "":
		return join(m.fold(layout.Yellow, sentence(m.away)+" Looking for it again and again."), leave)
	case m.hold != nil:
		lines := m.fold(layout.Yellow, sentence(describe.Hold(m.hold, now)))
		if hint := describe.HoldHint(m.hold); hint != "" {
			lines = append(lines, m.fold("", "hint: "+hint)...)
		}
		return join(lines, leave)
	case len(m.prompts) > 0:
		return join(m.fold("", describe.Plural(len(m.prompts), "sign-in")+" put off: nothing is answered yet."), m.fold(layout.Dim, "Enter shows the newest; q leaves"))
	}
	return join(m.fold("", "No sign-in is waiting. What comes is shown here."), leave)
}

// maxHead is how many prompts are listed at once.
const maxHead = 5

// head lists the prompts when there are several.
func (m *model) head(now time.Time) []string {
	n := len(m.prompts)
	if n < 2 {
		return nil
	}
	from := min(max(m.index(m.selected)-maxHead/2, 0), max(n-maxHead, 0))
	lines := []string{m.paint(layout.Dim, layout.Cut(describe.Plural(n, "sign-in")+" waiting", m.width()))}
	for _, p := range m.prompts[from:min(from+maxHead, n)] {
		mark, code := "  ", layout.Dim
		if p.ID == m.selected {
			mark, code = "> ", layout.Bold
		}
		left := ""
		if d := p.ExpiresAt.Sub(now); d > 0 && !p.ExpiresAt.IsZero() {
			left = "  " + describe.Span(d) + " left"
		}
		if m.put[p.ID] {
			left += "  later"
		}
		name := layout.Cut(strings.TrimPrefix(describe.SignIn(p), "sign-in to "), max(m.width()-2-len(left), 4))
		lines = append(lines, m.paint(code, layout.Cut(mark+name+left, m.width())))
	}
	return lines
}

// body is what is asked, unusual things first.
func (m *model) body(p *api.Prompt, now time.Time) (lines []string) {
	for _, odd := range describe.Unusual(*p) {
		lines = append(lines, m.fold(layout.Yellow, odd)...)
	}
	lines = append(lines, m.fold(layout.Bold, describe.Question(*p))...)
	facts := describe.Facts(*p, now)
	widest := 0
	for _, f := range facts {
		widest = max(widest, layout.Width(f.Name))
	}
	under := 2 + widest + 2
	below := m.width()-under < 12 // no room beside the names
	if below {
		under = 4
	}
	for _, f := range facts {
		name := m.paint(layout.Dim, layout.Pad(f.Name, widest))
		if below {
			lines = append(lines, "  "+m.paint(layout.Dim, f.Name))
			name = ""
		}
		lead := "  " + name + "  "
		for _, value := range layout.Fold(f.Value, m.width()-under) {
			lines = append(lines, lead+value)
			lead = strings.Repeat(" ", under)
		}
	}
	return lines
}

// tail is where the person answers; the cursor stands at its end.
func (m *model) tail(p *api.Prompt) []string {
	note := []string{}
	if m.note != "" {
		note = m.fold(layout.Yellow, m.note)
	}
	if m.hint != "" {
		note = append(note, m.fold("", "hint: "+m.hint)...)
	}
	help := func(text string) []string { return m.fold(layout.Dim, text) }
	switch m.stage {
	case naming:
		return join(m.accounts(p), note, help("up and down choose the account; Enter goes on, Esc back"))
	case numbering:
		return join(note, help("type the number that the sign-in page shows; Enter goes on, Esc back"), []string{"Number: " + m.number})
	case proving:
		question := "PIN:"
		switch instead := methodBesidePIN(p); {
		case m.keyPIN:
			question = "PIN of the security key:"
		case needOf(p, m.account) == "preferred":
			question = "PIN, or Enter to go on without:"
		case instead != "":
			question = "PIN, or Enter for your " + describe.Method(instead) + ":"
		}
		lines := layout.Fold(question, m.width()-1)
		lines[len(lines)-1] += " "
		return join(note, help("what you type is not shown; Enter goes on, Esc back"), lines)
	case sending:
		words, stop := "", []string{}
		if m.pending != nil {
			words = m.pending.words
			if m.pending.cancellable {
				stop = help("Esc goes back")
			}
		}
		return join(note, m.fold("", words), stop)
	}
	return join(note, m.answers(p), help(m.help(p)))
}

// accounts are those that an approval may be for.
func (m *model) accounts(p *api.Prompt) []string {
	lines := []string{"Which account?"}
	from := min(max(m.row-1-maxHead/2, 0), max(len(p.Choices)-maxHead, 0))
	for i, c := range p.Choices[from:min(from+maxHead, len(p.Choices))] {
		mark := "  "
		if from+i+1 == m.row {
			mark = "> "
		}
		name := describe.Clean(c.User, 100) + " (" + describe.Clean(c.Account, 100) + ")"
		lines = append(lines, layout.Cut(fmt.Sprintf("%s%d  %s", mark, from+i+1, name), m.width()))
	}
	return lines
}

// answers is the row of answers, in two lines where one is too short.
func (m *model) answers(p *api.Prompt) []string {
	var lines []string
	line, used := "", 0
	for _, c := range offered(p) {
		label, code := " "+labels[c]+" ", ""
		if c == m.answer {
			label, code = "["+labels[c]+"]", layout.Bold
		}
		w := len(label) // it is ASCII
		if used > 0 && used+w > m.width() {
			lines = append(lines, line)
			line, used = "", 0
		}
		line, used = line+m.paint(code, label), used+w
	}
	return append(lines, line)
}

// help says what the keys do.
func (m *model) help(p *api.Prompt) string {
	switch m.answer {
	case approve:
		return "Enter approves"
	case deny:
		return "Enter denies"
	case report:
		return "Enter denies it, tells the organisation that it was not you, and holds further ones back"
	case later:
		return "Enter puts it off; nothing is answered"
	}
	letters, words := "a d l", "a approves, d denies"
	if p.Kind == "push" {
		letters, words = "a d r l", words+", r reports"
	}
	if m.cols < 78 {
		return letters + ", or arrows and Enter; q leaves"
	}
	return "arrows choose, Enter answers; " + words + "; q leaves"
}
