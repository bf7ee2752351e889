package dialog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// zenity is that of GNOME: version 3 and 4, which differ in their looks and in
// how they end for a button of ours.
type zenity struct{ program }

// The exit codes are chosen here, by zenity's own variables, so that no failure
// of the program, of a library in it or of the display looks like an answer:
// these end with 1 or by a signal.
const (
	zenityOK = 100 + iota
	zenityCancel
	zenityEscape // version 3 says so for the buttons of ours, too
	zenityExtra
	zenityError
	zenityTimeout
)

var zenityCodes = []string{
	"ZENITY_OK=" + strconv.Itoa(zenityOK), "ZENITY_CANCEL=" + strconv.Itoa(zenityCancel),
	"ZENITY_ESC=" + strconv.Itoa(zenityEscape), "ZENITY_EXTRA=" + strconv.Itoa(zenityExtra),
	"ZENITY_ERROR=" + strconv.Itoa(zenityError), "ZENITY_TIMEOUT=" + strconv.Itoa(zenityTimeout),
}

// buttons are those of a window, from left to right, besides the OK of an entry
// or a list, which comes second.
func (o offer) buttons() (labels []string, presses map[string]press) {
	presses = map[string]press{}
	add := func(label string, p press) { labels, presses[label] = append(labels, label), p }
	switch {
	case len(o.accounts) > 0:
	case o.entry == NoEntry:
		// The first one has the keyboard in a window that has just come up.
		add(buttonNotNow, pressClosed)
		add(buttonApprove, pressApprove)
	case o.optional:
		add(sayWithout(o.entry), pressWithout)
	}
	add(buttonDeny, pressDeny)
	if o.report {
		add(buttonReport, pressReport)
	}
	return labels, presses
}

func (z zenity) show(ctx context.Context, env []string, o offer) (press, []byte, time.Time, error) {
	labels, presses := o.buttons()
	args := []string{"--title=" + o.page.title}
	switch {
	case len(o.accounts) > 0:
		o.page.last = sayAccount
		args = append(args, "--list", "--text="+zenityMarkup(o.page), "--width=460", "--height=420",
			"--column=", "--column=Account", "--hide-column=1", "--print-column=1", "--ok-label="+sayGoOn, "--cancel-label="+buttonNotNow)
	case o.entry != NoEntry:
		if o.page.last = sayNumber; o.entry == PIN {
			o.page.last = sayWhich(o.ofKey)
			args = append(args, "--hide-text")
		}
		args = append(args, "--entry", "--text="+zenityPlain(o.page), "--ok-label="+buttonApprove, "--cancel-label="+buttonNotNow)
	default:
		args = append(args, "--question", "--switch", "--no-wrap", "--text="+zenityMarkup(o.page))
	}
	for _, label := range labels {
		args = append(args, "--extra-button="+label)
	}
	for i, account := range o.accounts {
		args = append(args, strconv.Itoa(i), " "+account) // the space: a dash at the beginning is no option
	}
	began := time.Now()
	e, err := z.run(ctx, append(env, zenityCodes...), "", args...)
	if err != nil {
		return pressClosed, nil, began, err
	}
	pressed, text, ok := zenityAnswer(e, presses, o.entry != NoEntry || len(o.accounts) > 0)
	if !ok {
		clear(e.text)
		return pressClosed, nil, began, fmt.Errorf("%w: zenity ended with %d", ErrFailed, e.code)
	}
	return pressed, text, began, nil
}

// zenityAnswer reads what a window came to. Exactly one code with exactly one
// text is an answer; all else is none.
func zenityAnswer(e end, presses map[string]press, typed bool) (pressed press, text []byte, ok bool) {
	switch e.code {
	case zenityOK:
		// A line and its end. A list where nothing is chosen prints nothing at all.
		if !typed {
			return pressClosed, nil, false
		}
		if text, ok = line(e.text); !ok && len(e.text) > 0 {
			return pressClosed, nil, false
		}
		return pressOK, text, true
	case zenityCancel:
		return pressClosed, nil, len(e.text) == 0
	case zenityEscape:
		if len(e.text) == 0 {
			return pressClosed, nil, true
		}
	case zenityExtra:
	default:
		return pressClosed, nil, false
	}
	if text, ok = line(e.text); !ok {
		return pressClosed, nil, false
	}
	pressed, ok = presses[string(text)]
	return pressed, nil, ok
}

// line is the one line that was printed.
func line(text []byte) ([]byte, bool) {
	last := len(text) - 1
	if last < 0 || text[last] != '\n' {
		return nil, false
	}
	for _, b := range text[:last] {
		if b == '\n' || b == 0 {
			return nil, false
		}
	}
	return text[:last], true
}

// tell shows a few lines in a small window, many in one to scroll.
func (z zenity) tell(ctx context.Context, env []string, title string, lines []string) error {
	const few, width = 24, 90
	var all []string
	for _, l := range lines {
		all = append(all, wrap(l, width)...)
	}
	args, input := []string{"--info", "--no-markup", "--no-wrap", "--text=" + strings.Join(all, "\n")}, ""
	if len(all) > few {
		args, input = []string{"--text-info", "--width=760", "--height=560"}, strings.Join(lines, "\n")+"\n"
	}
	e, err := z.run(ctx, append(env, zenityCodes...), input, append(args, "--title="+title, "--ok-label="+buttonClose)...)
	if err != nil {
		return err
	}
	if e.code != zenityOK && e.code != zenityCancel && e.code != zenityEscape {
		return fmt.Errorf("%w: zenity ended with %d", ErrFailed, e.code)
	}
	return nil
}

var (
	// Backslashes are an escape in every text of zenity's, before anything else is
	// looked at: "\074" is a "<" for the markup.
	zenityEscapes = strings.NewReplacer(`\`, `\\`)
	pangoEscapes  = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")
	// An underscore in a label makes the next letter a key.
	gtkEscapes = strings.NewReplacer("_", "__")
)

// zenityMarkup is a page for a question or a list, which take markup.
func zenityMarkup(p page) string {
	width := p.width()
	var b strings.Builder
	put := func(before, text, after string) {
		for _, l := range wrap(text, width) {
			b.WriteString(before + zenityEscapes.Replace(pangoEscapes.Replace(l)) + after + "\n")
		}
	}
	for _, u := range p.unusual {
		put("<b>", u, "</b>")
	}
	if len(p.unusual) > 0 {
		b.WriteString("\n")
	}
	put(`<span size="large" weight="bold">`, p.heading, "</span>")
	b.WriteString("\n")
	for _, f := range p.facts {
		put("", f.Name+": "+f.Value, "")
	}
	b.WriteString("\n")
	for _, l := range p.advice {
		put("", l, "")
	}
	if len(p.problem) > 0 || p.last != "" {
		b.WriteString("\n")
	}
	for _, l := range p.problem {
		put("<b>", l, "</b>")
	}
	if p.last != "" {
		put("", p.last, "")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// zenityPlain is a page for an entry, whose text is a label with keys.
func zenityPlain(p page) string {
	width := p.width()
	var lines []string
	put := func(text string) { lines = append(lines, wrap(text, width)...) }
	for _, u := range p.unusual {
		put(u)
	}
	if len(p.unusual) > 0 {
		lines = append(lines, "")
	}
	put(p.heading)
	lines = append(lines, "")
	for _, f := range p.facts {
		put(f.Name + ": " + f.Value)
	}
	lines = append(lines, "")
	for _, l := range p.advice {
		put(l)
	}
	lines = append(lines, "")
	for _, l := range p.problem {
		put(l)
	}
	put(p.last)
	return zenityEscapes.Replace(gtkEscapes.Replace(strings.Join(lines, "\n")))
}
