package watch

import (
	"context"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// alone is how long an escape waits for the rest of a sequence.
const alone = 50 * time.Millisecond

// runner connects the model with a terminal and the agent.
type runner struct {
	options  Options
	terminal *terminal
	stream   *stream
	model    *model
	parser   parser
	input    chan []byte
	signals  chan os.Signal

	shown   []string // lines of the screen as they were drawn
	stale   bool     // they are to be drawn whatever they were
	entered bool     // the terminal is ours
	cancel  context.CancelFunc
}

// What the terminal is told: lines run over, or not; pastes are marked, or not.
const (
	wrapOff   = "\x1b[?7l"
	wrapOn    = "\x1b[?7h"
	pasteOn   = "\x1b[?2004h"
	pasteOff  = "\x1b[?2004l"
	endOfLine = "\x1b[K" // erases the rest of the line
	below     = "\x1b[J" // erases the rest of the line, and what is below
)

// enter takes the terminal over.
func (r *runner) enter() error {
	if err := r.terminal.enter(); err != nil {
		return err
	}
	r.entered = true
	_, err := io.WriteString(r.options.Out, pasteOn)
	return err
}

// leave gives the terminal back: what was drawn goes away, what stays is printed.
// It is called however a watch ends, and more than once.
func (r *runner) leave() {
	if !r.entered {
		return
	}
	r.entered = false
	var b strings.Builder
	r.top(&b)
	r.print(&b, r.model.printed())
	b.WriteString(strings.Join(make([]string, max(len(r.shown), 1)), endOfLine+"\r\n") + endOfLine)
	r.top(&b)
	r.shown = nil
	b.WriteString(wrapOn + pasteOff)
	_, _ = io.WriteString(r.options.Out, b.String()) // who would hear that it cannot be written
	r.terminal.leave()
}

func (r *runner) loop(ctx context.Context) error {
	tick, lone := time.NewTimer(0), time.NewTimer(0)
	tick.Stop()
	lone.Stop()
	defer tick.Stop()
	defer lone.Stop()
	defer func() { r.model.leaving(r.options.Now()) }()
	for {
		if err := r.draw(); err != nil {
			return err
		}
		tick.Stop()
		if d := r.model.next(); d > 0 && r.entered {
			tick.Reset(d)
		}
		lone.Stop()
		if r.parser.waits() {
			lone.Reset(alone)
		}
		var e effect
		typed := 0
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-lone.C:
			e = r.keys(r.parser.flush())
		case chunk, open := <-r.input:
			if !open {
				return nil // the terminal is gone
			}
			e, typed = r.keys(r.parser.feed(chunk)), len(chunk)
		case m := <-r.stream.messages:
			e = r.hear(m)
		case s := <-r.signals:
			e = meaning(s)
		}
		if e.quit {
			return nil
		}
		if err := r.act(ctx, e); err != nil {
			return err
		}
		if typed > 0 && r.options.heard != nil {
			r.options.heard(typed)
		}
	}
}

func (r *runner) keys(keys []key) effect {
	if len(keys) == 0 || !r.entered {
		return effect{}
	}
	return r.model.keys(keys, r.options.Now())
}

// hear takes in what the world tells.
func (r *runner) hear(m message) (e effect) {
	now := r.options.Now()
	switch {
	case m.panicked != "":
		panic(m.panicked)
	case m.listed != nil:
		r.model.listed(*m.listed, now)
	case m.refreshed != nil:
		r.model.refreshed(*m.refreshed)
	case m.event != nil:
		r.model.event(*m.event, now)
	case m.decided != nil:
		e = r.model.decided(m.decided.id, m.decided.outcome, m.decided.err, now)
	default:
		r.model.lost(goneWords(m.lost), now)
	}
	return e
}

// act does what a key asks of the world.
func (r *runner) act(ctx context.Context, e effect) error {
	if e.decide != nil {
		var sending context.Context
		sending, r.cancel = context.WithCancel(ctx)
		r.stream.decide(sending, e.decide.prompt.ID, e.decide.Decision)
	}
	if e.cancel && r.cancel != nil {
		r.cancel()
	}
	if e.refresh {
		r.stream.refresh(ctx)
	}
	if e.suspend && r.entered {
		r.leave()
		return r.options.stop()
	}
	if e.redraw {
		r.stale = true
	}
	if e.resumed {
		return r.resume()
	}
	return nil
}

// resume goes on after the process was stopped, by a key or by somebody else.
// What is below the cursor may be the shell's by now.
func (r *runner) resume() error {
	if !r.entered {
		r.shown = nil
	}
	r.stale = true
	r.model.resumed(r.options.Now())
	return r.enter()
}

// draw brings the screen up to date, and writes nothing when it is.
func (r *runner) draw() error {
	if !r.entered {
		return nil
	}
	r.model.resize(r.terminal.size())
	now := r.options.Now()
	lines, stay := r.model.view(now), r.model.printed()
	if r.stale || len(stay) > 0 || !slices.Equal(lines, r.shown) {
		var b strings.Builder
		r.top(&b)
		r.print(&b, stay)
		// However wide a terminal takes a character to be, a line stays one line.
		// Drawn over rather than erased first: some terminals keep what is erased
		// from the top of the screen on as if it had scrolled off.
		b.WriteString(wrapOff + strings.Join(lines, endOfLine+"\r\n") + below + wrapOn)
		if _, err := io.WriteString(r.options.Out, b.String()); err != nil {
			return err
		}
		r.shown, r.stale = lines, false
	}
	r.model.drawn(now)
	return nil
}

// top moves to where the screen begins.
func (r *runner) top(b *strings.Builder) {
	b.WriteString("\r")
	if up := len(r.shown) - 1; up > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(up) + "A")
	}
}

// print writes what stays.
func (r *runner) print(b *strings.Builder, lines []string) {
	for _, line := range lines {
		b.WriteString(line + endOfLine + "\r\n")
	}
}
