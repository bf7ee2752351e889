//go:build linux

package faults

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
)

// pushed is a sign-in that is about to ask the person's device.
func (w *world) pushed() (*harness.Transaction, string) {
	w.t.Helper()
	o := harness.RunningOrg(w.url, "", "")
	flow := o.NewSignIn("demo-strict", "", "http://localhost:3000/callback")
	page, err := o.BeginTransaction(w.ctx(), flow)
	must(w.t, err)
	must(w.t, page.Choice(w.ctx(), harness.Alice, harness.Password))
	return page, flow.Nonce
}

// push sends it, and has the person say so when they are asked.
func (w *world) push(page *harness.Transaction, nonce, action string) (id string) {
	w.t.Helper()
	must(w.t, page.Choose(w.ctx(), "push"))
	w.person.pick(page.Number())
	w.person.next(action)
	for id = range w.query(`SELECT c.id, c.status FROM challenges c JOIN signin_transactions s ON s.id = c.signin_id WHERE s.intent || s.state LIKE '%` + nonce + `%'`) {
		w.said[id] = action
	}
	if id == "" {
		w.t.Fatal("the org has no challenge for the push")
	}
	return id
}

// Whatever happens between the org's push and the person's answer: the push
// comes when the fault is over, is answered as the person says, once, and a
// push whose answer was lost is not asked about again.
func TestB6NetworkWhilePushing(t *testing.T) {
	t.Parallel()
	for _, s := range []step{
		{name: "token", method: http.MethodPost, path: "/oauth2/v1/token"},
		{name: "list", method: http.MethodGet, path: "/push/notifications"},
		{name: "answer", method: http.MethodPost, path: "/verify", last: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, f := range networkFaults {
				if !f.at(s) || f.slow {
					continue
				}
				t.Run(f.name, func(t *testing.T) {
					t.Parallel() // each one backs off for some seconds
					w := newWorld(t, place{})
					w.enrolled()
					page, nonce := w.pushed()
					var hit atomic.Bool
					var under atomic.Int32 // the way: several may be
					fault := f.fault(w)
					w.proxy.Break(s.match, func(x *harness.Crossing) bool {
						under.Add(1)
						defer under.Add(-1) // when the org is back, if it restarts
						defer hit.Store(true)
						return fault(x)
					})
					if !s.last {
						w.restartAgent() // asks for a token and for the list at once
						if strings.HasPrefix(f.name, "org restarts") {
							w.eventually("the org is back, for the page's sake", func() bool { return hit.Load() && under.Load() == 0 })
						}
					}
					id := w.push(page, nonce, "approve")
					w.eventually("the fault was met", hit.Load)
					w.problems() // answered at all
					must(t, w.proxy.Heal())
					status := func() string { return w.query("SELECT id, status FROM challenges")[id] }
					// Either the answer arrives, now or by another try of the same, or the
					// agent has it on record that it did not. A 200 is all that the org is
					// asked for: who forges one keeps the answer from it unnoticed.
					forged := f.name == "cut short" || f.name == "other document"
					over := func() bool {
						return slices.ContainsFunc(w.records(), func(r api.AuditRecord) bool {
							return r.Transaction == id && (r.Outcome == "approved") == forged
						})
					}
					w.eventually("the push comes to an end", func() bool {
						return status() == "APPROVED" || s.last && !f.heard && over()
					})
					_ = page.Poll(w.ctx())
					if got, want := page.Last.Success != nil, status() == "APPROVED"; got != want {
						t.Errorf("the page is signed in: %t, and the challenge is %s", got, status())
					}
					w.person.forget()
					page, nonce = w.pushed()
					id = w.push(page, nonce, "approve")
					w.eventually("the push after it is approved", func() bool { return status() == "APPROVED" })
					w.mustHold()
				})
			}
		})
	}
}

// The org restarts while devices wait for pushes, and while one is asked about.
func TestB6OrgRestartsWhilePushing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, place{})
	w.enrolled()
	w.restartOrg() // the long poll is cut
	page, nonce := w.pushed()
	id := w.push(page, nonce, "approve")
	status := func() string { return w.query("SELECT id, status FROM challenges")[id] }
	w.eventually("the push is approved", func() bool { return status() == "APPROVED" })
	page, nonce = w.pushed()
	w.person.before(w.restartOrg)
	id = w.push(page, nonce, "approve")
	w.eventually("the push that was asked about meanwhile is approved", func() bool { return status() == "APPROVED" })
	must(t, page.Poll(w.ctx()))
	if page.Last.Success == nil {
		t.Error("the page is not signed in")
	}
	w.mustHold()
}

// B7: a code by a clock that is wrong is refused, the agent says why, and the
// next one is good.
func TestB7CodesByAWrongClock(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]func(*world){
		"agent behind": func(w *world) { w.agentClock.wrong(-time.Hour) },
		"agent ahead":  func(w *world) { w.agentClock.wrong(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, place{})
			w.enrolled()
			try := func() bool {
				t.Helper()
				page, _ := w.pushed()
				must(t, page.Choose(w.ctx(), "totp"))
				code, err := w.client.Code(w.ctx(), harness.Alice)
				must(t, err)
				_ = page.Submit(w.ctx(), "challenge-authenticator", map[string]any{"credentials": map[string]string{"totp": code.Code, "passcode": code.Code}})
				return page.Last.Success != nil
			}
			off(w)
			if try() {
				t.Error("a code of another hour is taken")
			}
			if p := w.problems()["clock_wrong"]; p == "" {
				t.Errorf("the agent does not say that its clock is wrong: %v", w.problems())
			}
			w.agentClock.wrong(0)
			w.orgClock.wrong(0)
			if !try() {
				t.Error("a right code is refused")
			}
			w.mustHold()
		})
	}
}
