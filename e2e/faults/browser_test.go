//go:build linux

package faults

import (
	"net/http"
	"testing"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

// signUp enrols as a person does who signs in with the browser. The error is ""
// or a code of the local API.
func (w *world) signUp() (code string) {
	w.t.Helper()
	begun, err := w.client.BeginEnrolment(w.ctx(), api.BeginEnrolment{Org: w.url})
	if err != nil {
		return w.code(err)
	}
	page, err := harness.RunningOrg(w.url, "", "").BeginAt(w.ctx(), begun.URL)
	must(w.t, err)
	must(w.t, page.Choice(w.ctx(), harness.Alice, harness.Password))
	if page.Last.Success == nil { // the org has a device of hers already, whatever became of it
		w.t.Fatalf("the password is not enough: %+v", page.Last.Remediation)
	}
	back, _, err := page.Leave(w.ctx())
	must(w.t, err)
	go func() { // the page waits for the enrolment's end
		if res, err := http.Get(back); err == nil {
			res.Body.Close()
		}
	}()
	_, err = w.client.AwaitEnrolment(w.ctx(), begun.ID)
	return w.code(err)
}

// Whatever happens to any request of an enrolment by a sign-in: the agent says
// so in words, and signing in again enrols. The last request is special: its
// answer must not be lost, since an org that has the device asks for it from
// then on. So it is asked for again while the agent has the token.
func TestC4NetworkWhileSigningUp(t *testing.T) {
	t.Parallel()
	for _, s := range []step{
		{name: "who is it", method: http.MethodGet, path: okta.OrganizationPath},
		{name: "how to sign in", method: http.MethodGet, path: "/.well-known/o"}, // its metadata, OAuth's or OpenID's
		{name: "what does it offer", method: http.MethodGet, path: okta.AuthenticatorConfigurationPath},
		{name: "token", method: http.MethodPost, path: "/oauth2/v1/token", last: true},
		{name: "enrol", method: http.MethodPost, path: okta.AppAuthenticatorsPath, last: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, place{})
			enrol := s.path == okta.AppAuthenticatorsPath
			for _, f := range networkFaults {
				if !f.at(s) || f.slow && !slow || f.name == "sent twice" && s.last {
					continue // a code, and a proof of the token's key, are good once
				}
				t.Run(f.name, func(t *testing.T) {
					w.t = t
					fault := f.fault(w)
					w.proxy.Break(s.match, func(x *harness.Crossing) bool {
						keep := fault(x)
						if enrol { // over before it is tried again
							go func() { _ = w.proxy.Heal() }()
						}
						return keep
					})
					code := w.signUp()
					w.problems() // answered at all
					must(t, w.proxy.Heal())
					if (enrol && (f.code == "org_unreachable" || f.code == "org_unexpected_answer") || f.code == "") && code != "" {
						t.Errorf("signing up says %q", code)
					}
					if code != "" {
						if code = w.signUp(); code != "" {
							t.Fatalf("signing in again says %q", code)
						}
					}
					w.mustHold()
					w.signIn(silent)
					w.mustHold()
					w.forget()
				})
			}
		})
	}
}
