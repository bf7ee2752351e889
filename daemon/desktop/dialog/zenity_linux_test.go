package dialog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"countersign.dev/daemon/desktop/desktoptest"
	"countersign.dev/ipc/describe"
)

// One desktop serves the tests of this package that show windows.
var desktop *desktoptest.Desktop

func TestMain(m *testing.M) {
	code := m.Run()
	if desktop != nil {
		desktop.Close()
	}
	os.Exit(code)
}

// useDesktop makes the desktop that of this process until the test ends.
func useDesktop(t *testing.T) {
	t.Helper()
	if desktop == nil {
		var err error
		if desktop, err = desktoptest.New(); err != nil {
			t.Fatal(err)
		}
	}
	desktop.Use(t)
}

// asking is a question that a real program shows, and what becomes of it.
type asking struct {
	t      *testing.T
	title  string
	window desktoptest.Window
	cancel context.CancelFunc
	took   *atomic.Int64 // what an answer is said to have taken
	done   chan outcome
}

type outcome struct {
	answer Answer
	err    error
	at     time.Time
}

// question is a usual one.
func question() Question {
	return Question{
		Title: "Countersign", Heading: "Sign in to Payroll?", Report: true, Until: time.Now().Add(time.Minute),
		Facts: []describe.Fact{{Name: "organisation", Value: "id.example.com"}, {Name: "account", Value: "ada@example.com"}},
	}
}

// begin shows a question by the real zenity, and waits for its window. An
// answer counts as one that took its time.
func begin(t *testing.T, q Question) *asking {
	t.Helper()
	useDesktop(t)
	w, err := find(os.Getenv, "/usr/bin", 0)
	if err != nil {
		t.Fatalf("install the package zenity: %v", err)
	}
	if w.Name() != "zenity" {
		t.Fatalf("%s", w.Name())
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := &asking{t: t, cancel: cancel, took: new(atomic.Int64), done: make(chan outcome, 1), title: q.Title}
	a.took.Store(int64(time.Hour))
	w.(*asker).since = func(time.Time) time.Duration { return time.Duration(a.took.Load()) }
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		answer, err := w.Ask(ctx, q)
		a.done <- outcome{answer, err, time.Now()}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if list := desktop.Windows(q.Title); len(list) != 0 {
			t.Errorf("windows are left: %v", list)
		}
	})
	a.window = desktop.Wait(t, q.Title)
	return a
}

// next waits for another window than the one before.
func (a *asking) next() {
	a.t.Helper()
	a.window.Gone(a.t)
	a.window = desktop.Wait(a.t, a.title)
}

func (a *asking) keys(keys ...string) {
	a.t.Helper()
	a.window.Keys(a.t, keys...)
}

// press walks to a button by the Tab key and presses it.
func (a *asking) press(label string, q Question) {
	a.t.Helper()
	order := []string{buttonNotNow, buttonApprove}
	if q.Optional {
		order = append(order, sayWithout(q.Entry))
	}
	order = append(order, buttonDeny)
	if q.Report {
		order = append(order, buttonReport)
	}
	for i, l := range order {
		if l != label {
			continue
		}
		tabs := i // from the first one
		if q.Entry != NoEntry {
			tabs++ // from the entry
		}
		if zenity4() {
			tabs = len(order) - i // upwards, the first one is at the bottom
		}
		a.keys(append(slices.Repeat([]string{"Tab"}, tabs), "Return")...)
		return
	}
	a.t.Fatalf("no button %s", label)
}

func zenity4() bool {
	out, err := exec.Command("/usr/bin/zenity", "--version").Output()
	return err == nil && strings.HasPrefix(string(out), "4.")
}

// end waits for what becomes of it.
func (a *asking) end(want Verdict) Answer {
	a.t.Helper()
	select {
	case o := <-a.done:
		if o.err != nil || o.answer.Verdict != want {
			a.t.Fatalf("verdict %d, %v; want %d", o.answer.Verdict, o.err, want)
		}
		return o.answer
	case <-time.After(20 * time.Second):
		a.t.Fatal("no answer")
		return Answer{}
	}
}

func TestZenityVerdicts(t *testing.T) {
	q := question()
	for _, test := range []struct {
		name string
		do   func(*asking)
		want Verdict
	}{
		{"approve", func(a *asking) { a.press(buttonApprove, q) }, Approve},
		{"deny", func(a *asking) { a.press(buttonDeny, q) }, Deny},
		{"report", func(a *asking) { a.press(buttonReport, q) }, Report},
		{"not now", func(a *asking) { a.press(buttonNotNow, q) }, Closed},
		{"escape", func(a *asking) { a.keys("Escape") }, Closed},
		{"closed", func(a *asking) { a.window.Shut(t) }, Closed},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := begin(t, q)
			test.do(a)
			if answer := a.end(test.want); answer.Choice != "" || answer.Number != "" || answer.PIN != nil {
				t.Errorf("%+v", answer)
			}
		})
	}
}

// TestB3EnterApprovesNothing presses Enter and the space bar in windows that
// have just come up.
func TestB3EnterApprovesNothing(t *testing.T) {
	for _, key := range []string{"Return", "space"} {
		a := begin(t, question())
		a.keys(key)
		a.end(Closed)
	}
	q := question()
	q.Entry = Number
	a := begin(t, q)
	a.keys("KP_Enter")
	a.next() // and says why
	a.keys("space", "Return")
	a.next()
	a.window.Shut(t)
	a.end(Closed)

	q.Entry, q.Optional = PIN, true
	a = begin(t, q)
	a.keys("Return")
	a.next()
	a.keys("space", "Return")
	if answer := a.end(Approve); answer.PIN.Reveal() != " " { // that was typed
		t.Error("another PIN")
	}
}

func TestZenityNumber(t *testing.T) {
	q := question()
	q.Entry = Number
	a := begin(t, q)
	a.window.Type(t, "4x2")
	a.keys("Return")
	a.next()
	a.window.Type(t, "42")
	a.keys("Return")
	if answer := a.end(Approve); answer.Number != "42" {
		t.Errorf("%q", answer.Number)
	}
	a = begin(t, q)
	a.window.Type(t, "42")
	a.press(buttonDeny, q)
	if answer := a.end(Deny); answer.Number != "" {
		t.Errorf("%q", answer.Number)
	}
	a = begin(t, q)
	a.window.Type(t, "42")
	a.press(buttonReport, q)
	a.end(Report)
}

func TestZenityOptional(t *testing.T) {
	q := question()
	q.Entry, q.Optional = PIN, true
	a := begin(t, q)
	a.press(sayWithout(PIN), q)
	if answer := a.end(Approve); len(answer.PIN) != 0 {
		t.Error("a PIN")
	}
}

// TestB3TooSoon: an approval that nobody can have read is asked for again, and
// what was typed is gone.
func TestB3TooSoon(t *testing.T) {
	a := begin(t, question())
	a.took.Store(int64(soonest - time.Millisecond))
	a.press(buttonApprove, question())
	a.next()
	a.took.Store(int64(soonest))
	a.press(buttonApprove, question())
	a.end(Approve)

	q := question()
	q.Entry = Number
	a = begin(t, q)
	a.took.Store(0)
	a.window.Type(t, "42")
	a.keys("Return")
	a.next()
	a.took.Store(int64(soonest))
	a.keys("Return")
	a.next()
	a.window.Shut(t)
	a.end(Closed)

	a = begin(t, question()) // no needs no time
	a.took.Store(0)
	a.press(buttonDeny, question())
	a.end(Deny)
}

func TestZenityChoices(t *testing.T) {
	q := question()
	q.Choices = []Choice{{"a", "--help"}, {"b", "bob_<b>x</b>@example.com"}}
	a := begin(t, q)
	a.keys("Down", "Down", "Return") // the second one, in version 3 and 4
	a.next()
	a.press(buttonApprove, question())
	if answer := a.end(Approve); answer.Choice != "b" {
		t.Errorf("%q", answer.Choice)
	}
	a = begin(t, q)
	a.keys("Escape")
	a.end(Closed)
}

// TestC8DialogPIN: the PIN is nowhere but in the answer.
func TestC8DialogPIN(t *testing.T) {
	q := question()
	q.Entry = PIN
	a := begin(t, q)
	const pin = `p9\n_7 &` // what xdotool types is not sure beyond ASCII
	a.window.Type(t, pin)
	args, env := "", ""
	for _, p := range children(t) {
		b, err := os.ReadFile(filepath.Join("/proc", p, "cmdline"))
		if err != nil {
			t.Fatal(err)
		}
		args += string(b)
		if b, err = os.ReadFile(filepath.Join("/proc", p, "environ")); err != nil {
			t.Fatal(err)
		}
		env += string(b)
	}
	if !strings.Contains(args, "--hide-text") || strings.Contains(args+env, pin) {
		t.Errorf("%q", args)
	}
	a.keys("Return")
	answer := a.end(Approve)
	if answer.PIN.Reveal() != pin {
		t.Errorf("typed %q, got %q", pin, answer.PIN.Reveal())
	}
}

// children are the programs for windows that this process has started.
func children(t *testing.T) []string {
	t.Helper()
	var list []string
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, pid := range strings.Fields(string(b)) {
			if name, err := os.ReadFile(filepath.Join("/proc", pid, "comm")); err == nil && strings.HasPrefix(string(name), "zenity") {
				list = append(list, pid)
			}
		}
	}
	if len(list) == 0 {
		t.Fatal("no zenity runs")
	}
	return list
}

// TestDialogEnds: by cancel, by a kill and without a display nothing is answered, and no
// window stays.
func TestDialogEnds(t *testing.T) {
	q := question()
	q.Entry = Number
	a := begin(t, q)
	a.window.Type(t, "42")
	began := time.Now()
	a.cancel()
	o := <-a.done
	if o.err != nil || o.answer.Verdict != Closed || o.answer.Number != "" {
		t.Errorf("cancelled: %+v", o)
	}
	if took := o.at.Sub(began); took > 2*time.Second { // a fifth of one; this is a busy machine
		t.Errorf("the end took %v", took)
	}
	a.window.Gone(t)

	a = begin(t, question())
	for _, pid := range children(t) {
		var p int
		fmt.Sscan(pid, &p)
		if err := syscall.Kill(p, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	o = <-a.done
	if !errors.Is(o.err, ErrFailed) || o.answer.Verdict != Closed {
		t.Errorf("killed: %+v", o)
	}

	a = begin(t, question()) // as when the display goes: the program ends with 1
	desktop.Do(t, "windowkill", a.window.ID)
	o = <-a.done
	if !errors.Is(o.err, ErrFailed) || o.answer.Verdict != Closed {
		t.Errorf("cut off: %+v", o)
	}
}

func TestZenityTell(t *testing.T) {
	useDesktop(t)
	w, err := find(os.Getenv, "/usr/bin", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, lines := range [][]string{{"One <b>line</b> & \\n more"}, strings.Split(strings.Repeat("many lines\n", 60), "\n")} {
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- w.Tell(ctx, "A report", lines) }()
		shown := desktop.Wait(t, "A report")
		shown.Keys(t, "Escape")
		if err := <-done; err != nil {
			t.Errorf("%d lines: %v", len(lines), err)
		}
		go func() { done <- w.Tell(ctx, "A report", lines) }()
		shown = desktop.Wait(t, "A report")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%d lines: %v", len(lines), err)
		}
		shown.Gone(t)
	}
}
