package panel

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/tray"
)

// system is a system's menu as both libraries make them: it only grows, at the
// end of each level.
type system struct {
	lines []*line
	all   []*line
}

type line struct {
	title            string
	disabled, hidden bool
	kids             []*line
	clicks           chan struct{}
	touched          int
	slow             time.Duration // of the panel, to take a new title
}

func (s *system) add(parent item, title string) (item, <-chan struct{}) {
	l := &line{title: title, clicks: make(chan struct{})}
	if parent == nil {
		s.lines = append(s.lines, l)
	} else {
		p := parent.(*line)
		p.kids = append(p.kids, l)
	}
	s.all = append(s.all, l)
	return l, l.clicks
}

func (s *system) rule() { s.lines = append(s.lines, &line{title: "---", disabled: true}) }

// touch shows a hidden line, as some systems do.
func (l *line) touch()            { l.touched, l.hidden = l.touched+1, false }
func (l *line) SetTitle(s string) { time.Sleep(l.slow); l.touch(); l.title = s }
func (l *line) Enable()           { l.touch(); l.disabled = false }
func (l *line) Disable()          { l.touch(); l.disabled = true }
func (l *line) Hide()             { l.touch(); l.hidden = true }
func (l *line) Show()             { l.touch() }

func shown(lines []*line, indent string) string {
	var b strings.Builder
	for _, l := range lines {
		if l.hidden {
			continue
		}
		words := l.title
		if !l.disabled && len(l.kids) == 0 {
			words = "[" + words + "]"
		}
		b.WriteString(indent + words + "\n" + shown(l.kids, indent+"  "))
	}
	return b.String()
}

func (s *system) find(t *testing.T, title string) *line {
	t.Helper()
	i := slices.IndexFunc(s.all, func(l *line) bool { return l.title == title && !l.hidden })
	if i < 0 {
		t.Fatalf("there is no %q in\n%s", title, shown(s.lines, ""))
	}
	return s.all[i]
}

// fixture is a board on a fake system.
type fixture struct {
	board
	sys     *system
	mu      sync.Mutex
	clicked []tray.Action
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{sys: &system{}}
	f.board.make, f.board.rule = f.sys.add, f.sys.rule
	f.board.clicked = func(a tray.Action) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.clicked = append(f.clicked, a)
	}
	f.build()
	t.Cleanup(func() {
		for _, l := range f.sys.all {
			close(l.clicks)
		}
	})
	return f
}

// press clicks a line, and says what came of it.
func (f *fixture) press(l *line) (a tray.Action, took bool) {
	l.clicks <- struct{}{}
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.clicked) == 0 {
		return a, false
	}
	a, f.clicked = f.clicked[0], nil
	return a, true
}

func text(s string) tray.Entry { return tray.Entry{Label: s} }

func do(s string, a tray.Action) tray.Entry { return tray.Entry{Label: s, Action: a} }

func prompt(id string) tray.Entry {
	return tray.Entry{Label: "prompt " + id, Children: []tray.Entry{text("facts " + id),
		do("Approve "+id, tray.Action{Kind: tray.Approve, Prompt: id}), do("Deny "+id, tray.Action{Kind: tray.Deny, Prompt: id})}}
}

// menu is a whole one, around these.
func menu(first ...tray.Entry) []tray.Entry {
	accounts := tray.Entry{Label: "Accounts", Children: []tray.Entry{{Label: "Work", Children: []tray.Entry{text("ready"), do("Seen", tray.Action{Kind: tray.Acknowledge, Account: "w"})}}}}
	rule := tray.Entry{Separator: true}
	return append(first, rule, accounts, rule, do("Doctor", tray.Action{Kind: tray.ShowDoctor}), rule, do("Quit", tray.Action{Kind: tray.Quit}))
}

const rest = "---\nAccounts\n  Work\n    ready\n    [Seen]\n---\n[Doctor]\n---\n[Quit]\n"

func TestBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		inside := func(id string) string {
			return fmt.Sprintf("prompt %[1]s\n  facts %[1]s\n  [Approve %[1]s]\n  [Deny %[1]s]\n", id)
		}
		for _, step := range []struct {
			first []tray.Entry
			want  string
		}{
			{[]tray.Entry{text("none")}, "none\n"},
			{[]tray.Entry{prompt("a")}, inside("a")},
			{[]tray.Entry{text("said"), prompt("b"), prompt("a"), text("more")}, "said\n" + inside("b") + inside("a") + "more\n"},
			{[]tray.Entry{prompt("a")}, inside("a")},
			{[]tray.Entry{{Label: "prompt a", Children: []tray.Entry{text("on its way")}}}, "prompt a\n  on its way\n"},
			{[]tray.Entry{text("none")}, "none\n"},
		} {
			f.apply(menu(step.first...))
			if got := shown(f.sys.lines, ""); got != step.want+rest {
				t.Fatalf("got\n%swant\n%s", got, step.want+rest)
			}
		}
		// The same again touches nothing.
		before := 0
		for _, l := range f.sys.all {
			before += l.touched
		}
		f.apply(menu(text("none")))
		for _, l := range f.sys.all {
			before -= l.touched
		}
		if before != 0 {
			t.Errorf("%d lines were touched for nothing", -before)
		}
	})
}

// B3: a line that has just changed under the pointer does nothing, an approval
// does nothing either while anything else moves, and lines that are gone do
// nothing at all.
func TestB3NewLinesAreNotClicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.apply(menu(prompt("a")))
		approve, deny, quit := f.sys.find(t, "Approve a"), f.sys.find(t, "Deny a"), f.sys.find(t, "Quit")
		for _, l := range []*line{approve, deny, quit} {
			if a, took := f.press(l); took {
				t.Errorf("at once: %+v", a)
			}
		}
		time.Sleep(settle)
		if a, took := f.press(approve); !took || a != (tray.Action{Kind: tray.Approve, Prompt: "a"}) {
			t.Errorf("approve: %+v, %t", a, took)
		}

		// Another pops up in its place: what is there is for the other one now.
		f.apply(menu(prompt("b"), prompt("a")))
		if approve.title != "Approve b" {
			t.Fatalf("the line says %q", approve.title)
		}
		time.Sleep(settle - time.Millisecond)
		for _, l := range []*line{approve, deny, f.sys.find(t, "Approve a"), f.sys.find(t, "Deny a")} {
			if a, took := f.press(l); took {
				t.Errorf("just before: %+v", a)
			}
		}
		if a, took := f.press(quit); !took || a.Kind != tray.Quit {
			t.Errorf("a line that is what it was: %+v, %t", a, took)
		}
		time.Sleep(time.Millisecond)
		if a, took := f.press(deny); !took || a != (tray.Action{Kind: tray.Deny, Prompt: "b"}) {
			t.Errorf("deny: %+v, %t", a, took)
		}

		// It is what it was, but something above it has gone; no stays possible.
		f.apply(menu(text("said"), prompt("b"), prompt("a")))
		if a, took := f.press(approve); took {
			t.Errorf("moved: %+v", a)
		}
		if a, took := f.press(deny); !took || a.Kind != tray.Deny {
			t.Errorf("deny while something moves: %+v, %t", a, took)
		}

		// Words that change with time move nothing.
		time.Sleep(settle)
		later := prompt("b")
		later.Children[0].Label = "facts b, a minute ago"
		f.apply(menu(text("said"), later, prompt("a")))
		if a, took := f.press(approve); !took || a.Prompt != "b" {
			t.Errorf("other words: %+v, %t", a, took)
		}

		// Gone: whatever clicks it, also long after.
		f.apply(menu(text("none")))
		time.Sleep(time.Hour)
		for _, l := range f.sys.all {
			if a, took := f.press(l); took && (l.hidden || a.Decides()) {
				t.Errorf("%q does %+v", l.title, a)
			}
		}
	})
}

// B5: a line is new for as long after the panel was told of it, however long that
// took: until then the person sees, and clicks, what was there before.
func TestB5SlowPanel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.apply(menu(prompt("a")))
		time.Sleep(settle)
		approve := f.sys.find(t, "Approve a")
		for _, l := range f.sys.all {
			l.slow = 2 * settle
		}
		f.apply(menu(prompt("b")))
		if approve.title != "Approve b" {
			t.Fatalf("the line says %q", approve.title)
		}
		time.Sleep(settle - time.Millisecond)
		for _, title := range []string{"Approve b", "Deny b"} {
			if a, took := f.press(f.sys.find(t, title)); took {
				t.Errorf("meant for what was there before: %+v", a)
			}
		}
		time.Sleep(time.Millisecond)
		if a, took := f.press(approve); !took || a != (tray.Action{Kind: tray.Approve, Prompt: "b"}) {
			t.Errorf("read and meant: %+v, %t", a, took)
		}
	})
}

// The first level has room for the longest menu there is; what would not fit is
// left out, and nothing else.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var many []tray.Entry
		for i := range 20 {
			many = append(many, prompt(fmt.Sprint(i)))
		}
		f.apply(menu(many...))
		got := shown(f.sys.lines, "")
		if !strings.HasSuffix(got, rest) || strings.Count(got, "Approve") != tray.Sections[0][1].Number {
			t.Errorf("got\n%s", got)
		}
	})
}
