package dialog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kdialog is that of KDE. Its buttons end it with 0, 1 and 2, as a program does
// that fails or loses its display, and the first of them is the one that Enter
// presses. So the answers are lines of a list, whose first one decides nothing,
// and come back as words.
type kdialog struct{ program }

// The words for the answers; an account is its place in the list.
var kdialogWords = map[string]press{
	"not-now": pressClosed, "approve": pressApprove, "enter": pressOK, "without": pressWithout, "deny": pressDeny, "report": pressReport,
}

const (
	kdialogOK     = 0
	kdialogCancel = 1 // and Escape, the frame's button, an unknown option, a lost display
	// hasty is faster than the program is up: what ends then with kdialogCancel was
	// not closed by anybody.
	hasty = 250 * time.Millisecond
)

func (k kdialog) show(ctx context.Context, env []string, o offer) (press, []byte, time.Time, error) {
	// A problem with what was typed leads back to the entry; from there, closing
	// leads to the answers, since an entry of kdialog's has no Deny.
	straight := o.entry != NoEntry && len(o.accounts) == 0 && len(o.page.problem) > 0
	for {
		if !straight {
			pressed, text, began, err := k.answers(ctx, env, o)
			if err != nil || pressed != pressOK || len(o.accounts) > 0 {
				return pressed, text, began, err
			}
		}
		straight = false
		text, typed, began, err := k.entry(ctx, env, o)
		if err != nil || typed {
			return pressOK, text, began, err
		}
	}
}

// answers shows the list of answers.
func (k kdialog) answers(ctx context.Context, env []string, o offer) (press, []byte, time.Time, error) {
	words := map[string]press{}
	var list []string
	add := func(word, label string) {
		words[word] = kdialogWords[word]
		list = append(list, word, label)
	}
	add("not-now", buttonNotNow)
	switch {
	case len(o.accounts) > 0:
		o.page.last = sayAccount
		for i, account := range o.accounts {
			list = append(list, strconv.Itoa(i), "Account: "+account)
		}
	case o.entry == NoEntry:
		add("approve", buttonApprove)
	default:
		add("enter", buttonApprove+"…")
		if o.optional {
			add("without", sayWithout(o.entry))
		}
	}
	add("deny", buttonDeny)
	if o.report {
		add("report", buttonReport)
	}
	began := time.Now()
	e, err := k.run(ctx, env, "", append([]string{"--title=" + o.page.title, "--menu", kdialogText(o.page, "&amp;")}, list...)...)
	if err != nil {
		return pressClosed, nil, began, err
	}
	pressed, text, ok := kdialogAnswer(e, time.Since(began), words, len(o.accounts))
	if !ok {
		clear(e.text)
		return pressClosed, nil, began, fmt.Errorf("%w: kdialog ended with %d", ErrFailed, e.code)
	}
	return pressed, text, began, nil
}

// kdialogAnswer reads what a list came to.
func kdialogAnswer(e end, took time.Duration, words map[string]press, accounts int) (pressed press, text []byte, ok bool) {
	if e.code == kdialogCancel {
		return pressClosed, nil, took >= hasty && (len(e.text) == 0 || string(e.text) == "\n")
	}
	text, ok = line(e.text)
	if e.code != kdialogOK || !ok {
		return pressClosed, nil, false
	}
	if _, ok := place(text, accounts); ok {
		return pressOK, text, true
	}
	pressed, ok = words[string(text)]
	return pressed, nil, ok
}

// entry shows a window to type in.
func (k kdialog) entry(ctx context.Context, env []string, o offer) (text []byte, typed bool, began time.Time, err error) {
	kind, and := "--inputbox", "&amp;&amp;" // one more, or it makes the next letter a key
	if o.page.last = sayNumber; o.entry == PIN {
		kind, and = "--password", "&amp;"
		o.page.last = sayWhich(o.ofKey)
	}
	began = time.Now()
	e, err := k.run(ctx, env, "", "--title="+o.page.title, kind, kdialogText(o.page, and))
	if err != nil {
		return nil, false, began, err
	}
	text, ok := line(e.text)
	switch {
	case e.code == kdialogOK && ok:
		return text, true, began, nil
	case e.code == kdialogCancel && len(text) == 0 && time.Since(began) >= hasty:
		return nil, false, began, nil
	}
	clear(e.text)
	return nil, false, began, fmt.Errorf("%w: kdialog ended with %d", ErrFailed, e.code)
}

// tell shows a few lines in a small window, many in one to scroll.
func (k kdialog) tell(ctx context.Context, env []string, title string, lines []string) error {
	const few = 24
	args, input := []string{"--msgbox", kdialogLines(lines, `\\`)}, ""
	if len(lines) > few {
		args, input = []string{"--textbox", "-", "760", "560"}, kdialogLines(lines, `\`)
	}
	began := time.Now()
	e, err := k.run(ctx, env, input, append([]string{"--title=" + title}, args...)...)
	if err != nil {
		return err
	}
	if e.code != kdialogOK && e.code != kdialogCancel || e.code == kdialogCancel && time.Since(began) < hasty {
		return fmt.Errorf("%w: kdialog ended with %d", ErrFailed, e.code)
	}
	return nil
}

// kdialogEscapes makes text stay text in the rich text of a label: Qt guesses
// whether a text is rich, so it is made rich, and kdialog takes backslashes for
// escapes.
func kdialogEscapes(text, and, backslash string) string {
	return strings.NewReplacer("&", and, "<", "&lt;", ">", "&gt;", `"`, "&quot;", `\`, backslash).Replace(text)
}

func kdialogLines(lines []string, backslash string) string {
	var b strings.Builder
	for _, l := range lines {
		for _, part := range wrap(l, 90) {
			b.WriteString(kdialogEscapes(part, "&amp;", backslash) + "<br/>")
		}
	}
	return "<qt>" + strings.TrimSuffix(b.String(), "<br/>") + "</qt>"
}

// kdialogText is a page as rich text, the facts as a table.
func kdialogText(p page, and string) string {
	width := p.width()
	put := func(text string, width int) string {
		var lines []string
		for _, l := range wrap(text, width) {
			lines = append(lines, kdialogEscapes(l, and, `\\`))
		}
		return strings.Join(lines, "<br/>")
	}
	var b strings.Builder
	b.WriteString("<qt>")
	for _, u := range p.unusual {
		b.WriteString("<p><b>" + put(u, width) + "</b></p>")
	}
	b.WriteString("<p><big><b>" + put(p.heading, width) + "</b></big></p><table>")
	for _, f := range p.facts {
		b.WriteString("<tr><td>" + put(f.Name, width) + "&nbsp;&nbsp;</td><td>" + put(f.Value, width-14) + "</td></tr>")
	}
	b.WriteString("</table><p>")
	for i, l := range p.advice {
		if i > 0 {
			b.WriteString("<br/>")
		}
		b.WriteString(put(l, width))
	}
	b.WriteString("</p>")
	for _, l := range p.problem {
		b.WriteString("<p><b>" + put(l, width) + "</b></p>")
	}
	if p.last != "" {
		b.WriteString("<p>" + put(p.last, width) + "</p>")
	}
	b.WriteString("</qt>")
	return b.String()
}
