package dialog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// These run on Windows, and under Wine by `make wine`: real windows, pressed by
// the messages that a mouse and a keyboard cause.

const (
	bmClick   = 0x00f5
	wmKeyDown = 0x0100
	lbSetSel  = 0x0186
	vkReturn  = 0x0d
	vkEscape  = 0x1b
)

var (
	procIsEnabled  = user32.NewProc("IsWindowEnabled")
	procForeground = user32.NewProc("GetForegroundWindow")
	procIsVisible  = user32.NewProc("IsWindowVisible")
	procGetLong    = user32.NewProc("GetWindowLongW")
)

type asked struct {
	answer Answer
	err    error
}

// ask shows a window and waits until it stands.
func ask(t *testing.T, ctx context.Context, q Question) (*window, <-chan asked) {
	t.Helper()
	q.Title = "Countersign"
	got := make(chan asked, 1)
	before := standing(nil)
	go func() {
		a, err := native{}.Ask(ctx, q)
		got <- asked{a, err}
	}()
	var w *window
	until(t, "the window stands", func() bool {
		for hwnd, found := range standing(before) {
			if seen, _, _ := procIsVisible.Call(hwnd); seen != 0 {
				w = found
			}
		}
		return w != nil
	})
	return w, got
}

// standing are the windows that can be pressed, but for those known.
func standing(known map[uintptr]*window) map[uintptr]*window {
	windowsMu.Lock()
	defer windowsMu.Unlock()
	list := map[uintptr]*window{}
	for hwnd, w := range windowsByUI {
		if _, old := known[hwnd]; !old {
			list[hwnd] = w
		}
	}
	return list
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func handle(w *window) uintptr {
	windowsMu.Lock()
	defer windowsMu.Unlock()
	for hwnd, other := range windowsByUI {
		if other == w {
			return hwnd
		}
	}
	return 0
}

func control(hwnd uintptr, id int) uintptr {
	h, _, _ := procGetDlgItem.Call(hwnd, uintptr(id))
	return h
}

func enabled(hwnd uintptr, id int) bool {
	on, _, _ := procIsEnabled.Call(control(hwnd, id))
	return on != 0
}

func enter(hwnd uintptr, text string) {
	sendText(control(hwnd, idEntry), wmSetText, 0, append(utf16.Encode([]rune(text)), 0))
}

func key(hwnd uintptr, id int, k uintptr) {
	procPostMessage.Call(control(hwnd, id), wmKeyDown, k, 0)
}

func result(t *testing.T, got <-chan asked) asked {
	t.Helper()
	select {
	case a := <-got:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("the window stays")
		return asked{}
	}
}

func whole(q Question) Question {
	q.Unusual = []string{"New place: Lisbon"}
	q.Heading = "Sign in to Payroll & Søns?"
	q.Until = time.Now().Add(time.Minute)
	return q
}

func TestFind(t *testing.T) {
	w, err := Find()
	if err != nil || w.Name() != "Windows" {
		t.Fatalf("%v, %v", w, err)
	}
}

// Every way to answer, and to leave.
func TestB3WaysToAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(hwnd uintptr)
		want Verdict
	}{
		"deny":       {func(h uintptr) { send(control(h, idDeny), bmClick, 0, 0) }, Deny},
		"report":     {func(h uintptr) { send(control(h, idReport), bmClick, 0, 0) }, Report},
		"not now":    {func(h uintptr) { send(control(h, idNotNow), bmClick, 0, 0) }, Closed},
		"close box":  {func(h uintptr) { procPostMessage.Call(h, wmClose, 0, 0) }, Closed},
		"return":     {func(h uintptr) { key(h, idNotNow, vkReturn) }, Closed},
		"escape":     {func(h uintptr) { key(h, idNotNow, vkEscape) }, Closed},
		"ended":      {func(h uintptr) { procPostMessage.Call(h, wmEnd, 0, 0) }, Closed},
		"unknown id": {func(h uintptr) { send(h, wmCommand, 1, 0); send(h, wmCommand, 999, 0); send(h, wmCommand, idNotNow, 0) }, Closed},
	} {
		w, got := ask(t, t.Context(), whole(Question{Report: true}))
		until(t, "it can be approved", func() bool { return enabled(handle(w), idApprove) })
		c.act(handle(w))
		if a := result(t, got); a.err != nil || a.answer.Verdict != c.want {
			t.Errorf("%s: %+v, want %d", name, a, c.want)
		}
	}
}

// Approve cannot be pressed at first, by no means.
func TestB3NotAtOnce(t *testing.T) {
	began := time.Now()
	w, got := ask(t, t.Context(), whole(Question{}))
	hwnd := handle(w)
	for !enabled(hwnd, idApprove) {
		send(hwnd, wmCommand, idApprove, control(hwnd, idApprove))
		send(control(hwnd, idApprove), bmClick, 0, 0)
		if len(got) > 0 {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("it never can")
		}
	}
	send(control(hwnd, idApprove), bmClick, 0, 0)
	a := result(t, got)
	if after := time.Since(began); after < readyAfter {
		t.Errorf("it could be pressed after %v", after)
	}
	if a.err != nil || a.answer.Verdict != Approve {
		t.Errorf("%+v", a)
	}
}

// An entry of digits that holds something else was not typed.
func TestB3NoNumber(t *testing.T) {
	w, got := ask(t, t.Context(), whole(Question{Entry: Number}))
	hwnd := handle(w)
	enter(hwnd, "4 2; approve")
	until(t, "it can be pressed", func() bool { return enabled(hwnd, idApprove) })
	send(control(hwnd, idApprove), bmClick, 0, 0)
	send(hwnd, wmCommand, idApprove, 0)
	if len(got) > 0 {
		t.Errorf("%+v", <-got)
	}
	procPostMessage.Call(hwnd, wmClose, 0, 0)
	if a := result(t, got); a.answer.Verdict != Closed {
		t.Errorf("%+v", a)
	}
}

func TestReportOnlyWhereOffered(t *testing.T) {
	w, got := ask(t, t.Context(), whole(Question{}))
	hwnd := handle(w)
	send(hwnd, wmCommand, idReport, 0)
	if control(hwnd, idReport) != 0 {
		t.Error("the button is there")
	}
	send(control(hwnd, idDeny), bmClick, 0, 0)
	if a := result(t, got); a.answer.Verdict != Deny {
		t.Errorf("%+v", a)
	}
}

func TestEntries(t *testing.T) {
	for _, c := range []struct {
		entry Entry
		typed string
	}{{Number, "42"}, {PIN, "1234"}, {PIN, "pä 𝕏ss"}, {PIN, strings.Repeat("€", maxTyped)}} {
		w, got := ask(t, t.Context(), whole(Question{Entry: c.entry, Problem: "That PIN was wrong."}))
		hwnd := handle(w)
		style, _, _ := procGetLong.Call(control(hwnd, idEntry), ^uintptr(15)) // GWL_STYLE
		if hidden := style&esPassword != 0; hidden != (c.entry == PIN) {
			t.Errorf("entry %d hidden: %v", c.entry, hidden)
		}
		stands := time.Now()
		until(t, "a while has gone", func() bool { return time.Since(stands) > 2*readyAfter })
		if enabled(hwnd, idApprove) {
			t.Error("can be approved with nothing typed")
		}
		enter(hwnd, c.typed)
		until(t, "it can be approved", func() bool { return enabled(hwnd, idApprove) })
		enter(hwnd, "")
		until(t, "it cannot be approved", func() bool { return !enabled(hwnd, idApprove) })
		enter(hwnd, c.typed)
		key(hwnd, idEntry, vkReturn) // what was typed here is meant for here
		a := result(t, got)
		want := Answer{Verdict: Approve}
		if c.entry == Number {
			want.Number = c.typed
		} else {
			want.PIN = api.PIN(c.typed)
		}
		if a.err != nil || a.answer.Verdict != Approve || a.answer.Number != want.Number || string(a.answer.PIN) != string(want.PIN) {
			t.Errorf("%d: verdict %d, number %q, PIN %q, %v", c.entry, a.answer.Verdict, a.answer.Number, []byte(a.answer.PIN), a.err)
		}
	}
}

// What was typed goes nowhere with a no.
func TestDenyCarriesNothing(t *testing.T) {
	w, got := ask(t, t.Context(), whole(Question{Entry: PIN}))
	enter(handle(w), "1234")
	send(control(handle(w), idDeny), bmClick, 0, 0)
	if a := result(t, got); a.answer.Verdict != Deny || a.answer.PIN != nil {
		t.Errorf("%+v, %q", a, []byte(a.answer.PIN))
	}
}

func TestOptionalEntry(t *testing.T) {
	w, got := ask(t, t.Context(), whole(Question{Entry: PIN, Optional: true}))
	until(t, "it can be approved", func() bool { return enabled(handle(w), idApprove) })
	send(control(handle(w), idApprove), bmClick, 0, 0)
	if a := result(t, got); a.answer.Verdict != Approve || len(a.answer.PIN) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestChoices(t *testing.T) {
	w, got := ask(t, t.Context(), whole(Question{Choices: []Choice{{"a", "alice"}, {"b", "bob & co"}}}))
	hwnd := handle(w)
	stands := time.Now()
	until(t, "a while has gone", func() bool { return time.Since(stands) > 2*readyAfter })
	if enabled(hwnd, idApprove) {
		t.Error("can be approved with nothing picked")
	}
	send(control(hwnd, idChoices), lbSetSel, 1, 0)
	send(hwnd, wmCommand, lbnSelChange<<16|idChoices, control(hwnd, idChoices))
	until(t, "it can be approved", func() bool { return enabled(hwnd, idApprove) })
	send(control(hwnd, idApprove), bmClick, 0, 0)
	if a := result(t, got); a.answer.Verdict != Approve || a.answer.Choice != "b" {
		t.Errorf("%+v", a)
	}
}

func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, got := ask(t, ctx, whole(Question{}))
	cancel()
	if a := result(t, got); a.err != nil || a.answer.Verdict != Closed {
		t.Errorf("cancelled: %+v", a)
	}
	if a, err := (native{}).Ask(ctx, whole(Question{})); err != nil || a.Verdict != Closed {
		t.Errorf("cancelled before: %+v, %v", a, err)
	}
	q := whole(Question{})
	q.Until = time.Now().Add(300 * time.Millisecond)
	_, got = ask(t, t.Context(), q)
	if a := result(t, got); a.err != nil || a.answer.Verdict != Closed || time.Now().Before(q.Until) {
		t.Errorf("time up: %+v at %v of %v", a, time.Now(), q.Until)
	}
	if left := standing(nil); len(left) != 0 {
		t.Errorf("%d windows are left", len(left))
	}
}

func TestTooMuchToShow(t *testing.T) {
	a, err := native{}.Ask(t.Context(), Question{Title: "Countersign", Heading: strings.Repeat("W", longest), Facts: make([]describe.Fact, 60)})
	if !errors.Is(err, ErrFailed) || a.Verdict != Closed {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestFocusStays(t *testing.T) {
	before, _, _ := procForeground.Call()
	w, got := ask(t, t.Context(), whole(Question{Entry: Number}))
	stands := time.Now()
	until(t, "it has been shown", func() bool { return time.Since(stands) > readyAfter })
	after, _, _ := procForeground.Call()
	if after == handle(w) || after != before {
		t.Error("the window took the focus")
	}
	procPostMessage.Call(handle(w), wmClose, 0, 0)
	result(t, got)
}

func TestMany(t *testing.T) {
	const n = 12
	var all sync.WaitGroup
	answers := make([]asked, n)
	for i := range n {
		all.Go(func() {
			a, err := native{}.Ask(t.Context(), Question{Title: fmt.Sprintf("Countersign %d", i), Entry: Number, Until: time.Now().Add(time.Minute)})
			answers[i] = asked{a, err}
		})
	}
	until(t, "all stand", func() bool { return len(standing(nil)) == n })
	for hwnd, w := range standing(nil) {
		var i int
		fmt.Sscanf(w.title, "Countersign %d", &i)
		if i%2 == 0 {
			send(control(hwnd, idDeny), bmClick, 0, 0)
			continue
		}
		enter(hwnd, fmt.Sprint(i))
		until(t, "it can be approved", func() bool { return enabled(hwnd, idApprove) })
		send(control(hwnd, idApprove), bmClick, 0, 0)
	}
	all.Wait()
	for i, a := range answers {
		want := Answer{Verdict: Deny}
		if i%2 == 1 {
			want = Answer{Verdict: Approve, Number: fmt.Sprint(i)}
		}
		if a.err != nil || a.answer.Verdict != want.Verdict || a.answer.Number != want.Number {
			t.Errorf("window %d: %+v", i, a)
		}
	}
}

func TestTell(t *testing.T) {
	told := make(chan error, 1)
	go func() { told <- native{}.Tell(t.Context(), "Countersign", []string{"ok  one", "ok  two"}) }()
	until(t, "it stands", func() bool { return len(standing(nil)) == 1 })
	for hwnd := range standing(nil) {
		send(hwnd, wmCommand, idApprove, 0)
		send(control(hwnd, idNotNow), bmClick, 0, 0)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { told <- native{}.Tell(ctx, "Countersign", nil) }()
	until(t, "it stands", func() bool { return len(standing(nil)) == 1 })
	cancel()
	if err := <-told; err != nil {
		t.Errorf("cancelled: %v", err)
	}
}
