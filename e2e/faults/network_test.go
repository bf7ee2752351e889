//go:build linux

package faults

import (
	"net/http"
	"testing"

	"countersign.dev/e2e/harness"
	"countersign.dev/okta"
)

// networkFault is one way in which a request does not get the answer it should.
type networkFault struct {
	name  string
	fault func(*world) harness.Fault
	code  string // what enrolling says, "" for success
	heard bool   // the org has handled the request
	sure  bool   // the answer proves that the org has not enrolled
	slow  bool   // takes as long as the agent is patient
	worth worth  // of its time in a run that is not slow
}

// worth says at which steps a fault is tried in a run that is not slow.
type worth int

const (
	patience worth = iota // at none
	lastStep              // where something changes at the org
	everyStep
)

// at says whether a fault is tried at a step.
func (f networkFault) at(s step) bool {
	return slow || f.worth == everyStep || f.worth == lastStep && s.last
}

func always(f harness.Fault) func(*world) harness.Fault {
	return func(*world) harness.Fault { return f }
}

const (
	page = "text/html; charset=utf-8"
	wifi = "<!doctype html><title>Sign in to the network</title>"
)

// errorBody is the org's error object as something in between may send it.
func errorBody(code okta.ErrorCode) string {
	return `{"errorCode":"` + string(code) + `","errorSummary":"said by the fault","errorCauses":[]}`
}

var networkFaults = []networkFault{
	{name: "cut", worth: everyStep, fault: always(harness.CutBefore), code: "org_unreachable"},
	{name: "answer lost", worth: lastStep, fault: always(harness.Lose), code: "org_unreachable", heard: true},
	{name: "answer torn", worth: everyStep, fault: always(harness.Tear), code: "org_unreachable", heard: true},
	{name: "answer slow", fault: always(harness.Slow), heard: true},
	{name: "sent twice", worth: lastStep, fault: always(harness.Twice), heard: true},
	{name: "refused", fault: func(w *world) harness.Fault {
		return func(*harness.Crossing) bool { w.proxy.Refuse(); return false }
	}, code: "org_unreachable"},
	{name: "garbage", fault: always(harness.Garbage), code: "org_unreachable"},
	{name: "captive portal", worth: everyStep, fault: always(harness.Say(200, page, wifi)), code: "org_unexpected_answer"},
	{name: "sent elsewhere", fault: always(harness.Say(302, page, wifi, "Location", "https://portal.example/")), code: "org_unexpected_answer"},
	{name: "cut short", fault: always(harness.Say(200, "application/json", `{"id":`)), code: "org_unexpected_answer"},
	{name: "other document", fault: always(harness.Say(200, "application/json", `{}`)), code: "org_unexpected_answer"},
	{name: "gone, says a page", worth: lastStep, fault: always(harness.Say(410, page, wifi)), code: "org_unexpected_answer"},
	{name: "not found", worth: lastStep, fault: always(harness.Say(404, "application/json", errorBody(okta.CodeNotFound))), code: "org_refused", sure: true},
	{name: "failing", fault: always(harness.Say(500, "application/json", errorBody(okta.CodeInternal))), code: "org_busy"},
	{name: "bad gateway", worth: everyStep, fault: always(harness.Say(502, page, wifi)), code: "org_unexpected_answer"},
	{name: "too many", worth: everyStep, fault: always(harness.Say(429, "application/json", errorBody(okta.CodeTooManyRequests), "Retry-After", "1")), code: "org_busy"},
	{name: "org restarts before", fault: func(w *world) harness.Fault {
		return func(*harness.Crossing) bool { w.restartOrg(); return false }
	}, code: "org_unreachable"},
	{name: "org restarts after", worth: lastStep, fault: func(w *world) harness.Fault {
		return func(x *harness.Crossing) bool { _, _ = x.Forward(); w.restartOrg(); return false }
	}, code: "org_unreachable", heard: true},
	{name: "silence", fault: always(harness.Stall), code: "org_unreachable", slow: true},
	{name: "answer held up", worth: lastStep, fault: always(harness.StallAnswer), code: "org_unreachable", heard: true, slow: true},
}

// step is one request of the agent to its org.
type step struct {
	name, method, path string
	last               bool // the one that changes something at the org
}

func (s step) match(r *http.Request) bool { return harness.On(s.method, s.path)(r) }

// Whatever happens to any request of an enrolment: the agent says so in words,
// and the same link enrols once the fault is over, once.
func TestC4NetworkWhileEnrolling(t *testing.T) {
	t.Parallel()
	for _, s := range []step{
		{name: "who is it", method: http.MethodGet, path: okta.OrganizationPath},
		{name: "what does it offer", method: http.MethodGet, path: okta.AuthenticatorConfigurationPath},
		{name: "enrol", method: http.MethodPost, path: okta.AppAuthenticatorsPath, last: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, place{})
			for _, f := range networkFaults {
				if !f.at(s) {
					continue
				}
				t.Run(f.name, func(t *testing.T) {
					w.t = t
					link := w.link()
					w.proxy.Break(s.match, f.fault(w))
					a, code := w.add(link)
					want := f.code
					if f.sure && s.path == okta.AuthenticatorConfigurationPath {
						want = "" // an org without this page is asked in the older way
					}
					if code != want {
						t.Errorf("enrolling says %q, want %q", code, want)
					}
					_, pending := w.problems()["enrolment_pending"]
					if want := s.last && code != "" && !f.sure; pending != want {
						t.Errorf("the agent says that an enrolment is pending: %t, want %t", pending, want)
					}
					must(t, w.proxy.Heal())
					if code != "" {
						if a, code = w.add(link); code != "" {
							t.Fatalf("the same link afterwards: %s", code)
						}
					}
					w.mustHold()
					w.signIn(silent)
					w.mustHold()
					_ = a
					w.forget()
				})
			}
		})
	}
}

// Whatever happens to any request between a challenge and its answer: nothing
// is approved unasked, the page is told, and the next sign-in works.
func TestB6NetworkWhileAnswering(t *testing.T) {
	t.Parallel()
	for _, s := range []step{
		{name: "where are the keys", method: http.MethodGet, path: "/.well-known/openid-configuration"},
		{name: "the keys", method: http.MethodGet, path: "/oauth2/v1/keys"},
		{name: "answer", method: http.MethodPost, path: "/verify", last: true},
	} {
		for _, app := range []string{silent, asking} {
			if app == silent && !slow && !s.last {
				continue
			}
			t.Run(s.name+", "+app, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, place{})
				w.enrolled()
				for _, f := range networkFaults {
					if !f.at(s) || f.slow && app == silent && !slow {
						continue
					}
					t.Run(f.name, func(t *testing.T) {
						w.t = t
						w.restartAgent() // which knows no keys now
						v := w.begin(app)
						w.proxy.Break(s.match, f.fault(w))
						action := ""
						if app == asking && (s.last || f.code == "") {
							action = "approve"
						}
						want := answering(s, f)
						if got := v.hand(action); got != want.page {
							t.Errorf("the page is told %d, want %d; the record ends with %+v", got, want.page, w.lastRecord())
						}
						if got := v.status(); got != want.org {
							t.Errorf("the org's challenge is %s, want %s", got, want.org)
						}
						w.problems() // answered at all
						must(t, w.proxy.Heal())
						switch {
						case want.org == "APPROVED":
						case s.last: // signed once, and never again
							if got := v.hand(""); got != http.StatusBadGateway && got != http.StatusConflict {
								t.Errorf("the same challenge again: %d", got)
							}
							if got := v.status(); got != "PENDING" {
								t.Errorf("the org's challenge is %s after all", got)
							}
						default: // not even begun; the org is not asked for its keys at every moment
							if app == asking {
								v.w.person.next("approve")
								v.w.said[v.id] = "approve"
							}
							w.eventually("the same challenge is taken", func() bool { return v.hand("") == http.StatusOK })
							want.org = "APPROVED"
						}
						if approved := want.org == "APPROVED"; v.signedIn() != approved {
							t.Errorf("the page is signed in: %t, want %t", !approved, approved)
						}
						w.signIn(app)
						w.mustHold()
					})
				}
			})
		}
	}
}

// answered is how a challenge stands after a fault: what the page was told, and
// what the org has.
type answered struct {
	page int
	org  string
}

func answering(s step, f networkFault) answered {
	a := answered{http.StatusBadGateway, "PENDING"}
	if f.code == "" {
		a = answered{http.StatusOK, "APPROVED"}
	}
	if !s.last {
		return a
	}
	if f.heard {
		a.org = "APPROVED"
	}
	switch f.name {
	case "sent twice": // the org takes one of the two and refuses the other
		a.page = http.StatusBadGateway
	case "cut short", "other document": // 200 is all that the org is asked for; the page asks it for the rest
		a.page = http.StatusOK
	}
	return a
}
