package session

import (
	"context"
	"slices"
	"testing"
	"time"
)

// These run on Windows, and under Wine by `make wine`: the messages are those
// that Windows sends. On Windows itself they want a screen that is not locked.

type notes chan string

func (n notes) Screen(s Screen) {
	switch {
	case !s.Known:
		n <- "unknown"
	case s.Locked:
		n <- "locked"
	default:
		n <- "unlocked"
	}
}
func (n notes) Sleep() { n <- "sleep" }
func (n notes) Wake()  { n <- "wake" }

func (n notes) next(t *testing.T) string {
	t.Helper()
	select {
	case what := <-n:
		return what
	case <-time.After(20 * time.Second):
		t.Fatal("told nothing")
		return ""
	}
}

func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := New(Options{}).(*watcher)
	told := make(notes, 8)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Watch(ctx, told)
	}()
	first := told.next(t)
	if !slices.Contains([]string{"unknown", "unlocked"}, first) {
		t.Fatalf("at first %q", first)
	}
	var hwnd uintptr
	watchersMu.Lock()
	for h, one := range watchers {
		if one == w {
			hwnd = h
		}
	}
	watchersMu.Unlock()
	if hwnd == 0 {
		t.Fatal("there is no window")
	}
	post := func(msg, code uintptr) { procPostMessage.Call(hwnd, msg, code, 0) }
	post(wmSessionChange, 99) // nothing that is known
	post(wmPowerBroadcast, 99)
	post(wmSessionChange, 7)
	if got := told.next(t); got != "locked" {
		t.Errorf("locked: %q", got)
	}
	post(wmSessionChange, 8)
	if got := told.next(t); got != "unlocked" {
		t.Errorf("unlocked: %q", got)
	}
	post(wmPowerBroadcast, 4)
	post(wmPowerBroadcast, 18)
	if got := []string{told.next(t), told.next(t)}; !slices.Equal(got, []string{"sleep", "wake"}) {
		t.Errorf("asleep and awake: %q", got)
	}
	w.Look()
	cancel()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the watcher stays")
	}
	if len(told) > 0 {
		t.Errorf("told %q", <-told)
	}
	watchersMu.Lock()
	defer watchersMu.Unlock()
	if len(watchers) > 0 {
		t.Error("the window stays")
	}
}

// Sleep waits for the handler, and no longer than is good for the computer.
func TestSleepWaits(t *testing.T) {
	w := New(Options{}).(*watcher)
	const hwnd = 0xfeed
	watchersMu.Lock()
	watchers[hwnd] = w
	watchersMu.Unlock()
	defer delete(watchers, hwnd)
	began := time.Now()
	windowProc(hwnd, wmPowerBroadcast, 4, 0) // nobody listens
	if took := time.Since(began); took < sleepWithin || took > 10*sleepWithin {
		t.Errorf("waited %v", took)
	}
	<-w.in.some
	w.in.take()
	go func() {
		<-w.in.some
		for _, item := range w.in.take() {
			close(item.done)
		}
	}()
	began = time.Now()
	windowProc(hwnd, wmPowerBroadcast, 4, 0)
	if took := time.Since(began); took > sleepWithin {
		t.Errorf("waited %v, though it was dealt with", took)
	}
}
