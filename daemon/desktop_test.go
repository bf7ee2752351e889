package daemon

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/daemon/desktop"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/okta/oktatest"
)

// The desktop knows a prompt that takes the place of another one by the queue's
// own words.
func TestSupersededHasOneName(t *testing.T) {
	if desktop.Superseded != prompt.ErrSuperseded.Error() {
		t.Errorf("%q and %q", desktop.Superseded, prompt.ErrSuperseded)
	}
}

// Without a bus, a display and a program for dialogs the agent runs, says what
// there is not, and the terminal approves.
func TestNoDesktop(t *testing.T) {
	noBus(t)
	org := oktatest.NewOrg(t)
	a := startAgent(t, onDesktop(t, nil))
	a.enrol(t, org)
	if s, err := a.client.Status(t.Context()); err != nil || len(s.FrontEnds) != 0 {
		t.Errorf("%v, %v", s.FrontEnds, err)
	}
	if c := check(t, a, "front ends"); c.State != "warning" || !strings.Contains(c.Message, "no notification: ") || !strings.Contains(c.Message, "no dialog: ") {
		t.Errorf("%+v", c)
	}
	events := a.subscribed(t)
	if s, err := a.client.Status(t.Context()); err != nil || !slices.Equal(s.FrontEnds, []string{"cli"}) {
		t.Errorf("%v, %v", s.FrontEnds, err)
	}
	if c := check(t, a, "front ends"); c.State != "ok" || !strings.Contains(c.Message, "1 can ask you: cli; no notification: ") {
		t.Errorf("%+v", c)
	}
	shown, status := a.asks(t, org, events, "")
	for _, err := range []error{a.client.ShowPrompt(t.Context(), shown.ID), a.client.ShowDoctor(t.Context())} {
		if refused := refusalOf(t, err); refused.Code != "no_window" {
			t.Errorf("%+v", refused)
		}
	}
	if o, err := a.client.DecidePrompt(t.Context(), shown.ID, api.Decision{Action: "approve"}); err != nil || o.Outcome != "approved" {
		t.Errorf("%+v, %v", o, err)
	}
	if got := <-status; got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}

// Switched off, nothing is looked for, and that is said.
func TestDesktopOff(t *testing.T) {
	c := onDesktop(t, &fakeWindows{})
	c.Desktop = DesktopOff
	a := startAgent(t, c)
	if s, err := a.client.Status(t.Context()); err != nil || len(s.FrontEnds) != 0 {
		t.Errorf("%v, %v", s.FrontEnds, err)
	}
	if c := check(t, a, "front ends"); !strings.Contains(c.Message, "--desktop off") {
		t.Errorf("%+v", c)
	}
	if refused := refusalOf(t, a.client.ShowDoctor(t.Context())); refused.Code != "no_window" {
		t.Errorf("%+v", refused)
	}
}

// Stops with it: nothing of the desktop outlives the agent, nor holds it up.
func TestDesktopStops(t *testing.T) {
	noBus(t)
	a := startAgent(t, onDesktop(t, &fakeWindows{}))
	if s, err := a.client.Status(t.Context()); err != nil || !slices.Equal(s.FrontEnds, []string{"dialog"}) {
		t.Errorf("%v, %v", s.FrontEnds, err)
	}
	began := time.Now()
	if err := a.stop(); err != nil || time.Since(began) > stopWithin {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if err := a.Daemon.desktop.Show(t.Context(), "x"); !errors.Is(err, desktop.ErrStopped) {
		t.Error(err)
	}
}
