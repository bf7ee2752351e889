package daemon

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"countersign.dev/daemon/prompt"
	"countersign.dev/daemon/push"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/oktatest"
)

// B9, E12: whatever words an org uses for its errors, what the agent hands to
// front ends is short and cannot act on a screen. Not every front end is the
// command line, which cleans once more.
func TestB9ErrorsOfTheOrg(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	hostile := "\x1b[2J\u202eevil\u200b\u0007" + strings.Repeat(" long", 4000)
	body, err := json.Marshal(okta.Error{Code: "E\x1b", Summary: hostile, Causes: []okta.ErrorCause{{Summary: hostile}}})
	if err != nil {
		t.Fatal(err)
	}
	oauth, err := json.Marshal(okta.TokenError{Code: "e\x1b", Description: hostile})
	if err != nil {
		t.Fatal(err)
	}
	org.Reply("/.well-known/", oktatest.Reply{Status: 500, Body: string(body)})
	org.Reply("/idp/", oktatest.Reply{Status: 500, Body: string(body)})
	org.Reply("/oauth2/", oktatest.Reply{Status: 500, Body: string(oauth)})
	fits := func(what, text string) {
		if text != prompt.Clean(text, 600) {
			t.Errorf("%s: %d bytes, %.120q", what, len(text), text)
		}
	}
	report, err := a.client.Doctor(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Checks {
		fits("doctor's "+c.Name, c.Message)
		fits("doctor's hint on "+c.Name, c.Hint)
	}
	status, err := a.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range status.Problems {
		fits("problem "+p.Code, p.Message)
	}
	if err := a.client.RemoveAccount(t.Context(), added.ID, false); err == nil {
		t.Error("removed")
	} else {
		fits("the removal", err.Error())
	}
	x := &examination{d: a.Daemon}
	x.channel(a.core.Load().book.All()[0], push.Channel{State: push.BackingOff, Err: &okta.Error{HTTPStatus: 500, Summary: hostile}}, true)
	fits("doctor on pushes", x.checks[0].Message)
	for name, err := range map[string]error{
		"unreachable": &client.Unreachable{Host: "h", Err: errors.New(hostile)},
		"unexpected":  &client.UnexpectedAnswer{Host: "h", Status: 200, Kind: client.KindNotJSON, Detail: hostile},
	} {
		fits(name, explain(err).Error())
	}
}
