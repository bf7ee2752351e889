//go:build linux

package faults

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/api"
)

// B7: either clock is off by an hour, either way. Nothing is approved by it, the
// agent says what is wrong, and all is well when the clock is set right.
func TestB7ClockOffByAnHour(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		org, agent time.Duration
	}{
		{"org ahead", time.Hour, 0},
		{"org behind", -time.Hour, 0},
		{"agent ahead", 0, time.Hour},
		{"agent behind", 0, -time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, place{})
			wrong := func() { w.orgClock.wrong(row.org); w.agentClock.wrong(row.agent) }
			right := func() { w.orgClock.wrong(0); w.agentClock.wrong(0) }

			// A first enrolment needs no clock: the link's time is the org's own.
			wrong()
			w.enrolled()
			// The next one at this org is signed by the device, with its time.
			link := w.link()
			_, code := w.add(link)
			if code == "internal" {
				t.Errorf("a second enrolment says %q", code)
			}
			for _, app := range []string{silent, asking} {
				v := w.begin(app)
				// Nobody is asked, so nobody has to answer.
				if got := v.hand(""); got/100 == 2 {
					t.Errorf("%s: the page is told %d", app, got)
				}
				r := w.lastRecord()
				if r.Outcome != "expired" && r.Outcome != "forged" || r.Reason == "" {
					t.Errorf("%s: recorded as %+v", app, r)
				}
				if got := v.status(); got != "PENDING" {
					t.Errorf("%s: the org's challenge is %s", app, got)
				}
			}
			if p := w.problems()["clock_wrong"]; !strings.Contains(p, "1h") {
				t.Errorf("the agent does not say that a clock is wrong: %v", w.problems())
			}
			if got := w.check("clock"); got.State != "failed" || got.Hint == "" {
				t.Errorf("doctor says %+v", got)
			}
			right()
			if code != "" {
				if _, code = w.add(link); code != "" {
					t.Errorf("the same link afterwards: %q", code)
				}
			}
			w.mustHold()
			w.signIn(silent)
			w.signIn(asking)
			w.mustHold()
			if got := w.check("clock"); got.State != "ok" {
				t.Errorf("doctor says %+v", got)
			}
		})
	}
}

// check is what doctor found out under a name.
func (w *world) check(prefix string) api.Check {
	w.t.Helper()
	report, err := w.client.Doctor(w.ctx(), "")
	must(w.t, err)
	for _, c := range report.Checks {
		if strings.HasPrefix(c.Name, prefix) {
			return c
		}
	}
	w.t.Errorf("doctor does not look at %s", prefix)
	return api.Check{}
}

// B7: the clock is set while the person decides: what was true when they were
// asked is looked at again.
func TestB7ClockSetWhileDeciding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, place{})
	w.enrolled()
	for name, by := range map[string]time.Duration{"forward": time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			v := w.begin(asking)
			w.person.before(func() { w.agentClock.wrong(by) })
			if got := v.hand("approve"); got == http.StatusOK && by > 0 {
				t.Errorf("the page is told %d", got)
			}
			w.agentClock.wrong(0)
			if approved := v.status() == "APPROVED"; approved && by > 0 {
				t.Error("approved an hour after it ended")
			}
			w.signIn(asking)
			w.mustHold()
		})
	}
}
