package daemon

import (
	"slices"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// A person who has forgotten the PIN finds the way: the hint of the lock, the
// reset, a new PIN, and new keys by a sign-in at the org. Meanwhile nothing says
// that the account verifies anybody, and the org hears why it does not.
func TestForgottenPIN(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	if _, err := a.client.ResetPIN(t.Context()); refusalOf(t, err).Code != "verification_not_set_up" {
		t.Fatalf("%v", err)
	}
	a.setPIN(t)
	acc, _, err := a.add(t, api.BeginEnrolment{Org: org.URL, PIN: api.PIN(testPIN)})
	if err != nil || len(acc.Verification) != 1 {
		t.Fatalf("%+v, %v", acc, err)
	}
	if _, err := a.client.RemovePIN(t.Context(), api.PIN(testPIN)); refusalOf(t, err).Code != "verification_in_use" {
		t.Fatalf("%v", err)
	}
	var last *api.Error
	for range 6 {
		_, err := a.client.SetPIN(t.Context(), api.PIN("999888"), api.PIN(wrongPIN))
		last = refusalOf(t, err)
	}
	if last.Code != "pin_locked" || last.Hint != "if you have forgotten it: countersign pin reset" {
		t.Errorf("%+v", last)
	}
	reset, err := a.client.ResetPIN(t.Context())
	if err != nil || len(reset.Accounts) != 1 || reset.Accounts[0].ID != acc.ID {
		t.Fatalf("%+v, %v", reset, err)
	}
	if s := a.pin(t); s.State != "not_set" {
		t.Errorf("%+v", s)
	}
	now, err := a.client.Account(t.Context(), acc.ID)
	if err != nil || now.State != "active" || len(now.Verification) != 0 {
		t.Errorf("%+v, %v", now, err)
	}
	if s, said := a.problem(t, "keys_missing"); !said || !slices.ContainsFunc(s.Problems, func(p api.Problem) bool { return p.Hint == "countersign key verify "+acc.ID+" makes new ones" }) {
		t.Errorf("%+v", s.Problems)
	}
	if got := a.silent(t, org); got != 200 {
		t.Errorf("a silent sign-in: %d", got)
	}
	a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired }))
	if c := lastClaims(t, org); c.Context.UserConsent != okta.ConsentUVPermanentlyUnavailable {
		t.Errorf("the org was told %+v", c.Context)
	}
	const third = "161803"
	set, err := a.client.SetPIN(t.Context(), api.PIN(third), nil)
	if err != nil || len(set.Without) != 1 || set.Without[0].ID != acc.ID {
		t.Fatalf("%+v, %v", set, err)
	}
	if now, _, err = a.changes(t, acc.ID, api.ChangeKeys{Action: "verify", PIN: api.PIN(third)}); err != nil || !slices.Equal(now.Verification, []string{bioOrPIN}) {
		t.Fatalf("%+v, %v", now, err)
	}
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	if _, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); refusalOf(t, err).Code != "wrong_pin" {
		t.Errorf("the old PIN: %v", err)
	}
	if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(third)}); err != nil || o.Outcome != "approved" || <-status != 200 {
		t.Fatalf("%+v, %v", o, err)
	}
	if r := a.audit(t); !slices.ContainsFunc(r, func(r api.AuditRecord) bool { return r.Event == "pin" && r.Outcome == "reset" }) {
		t.Error("not on record")
	}
}

// An account whose keys are lost cannot tell the org that it ends; who wants it
// gone hears how.
func TestRemoveAnAccountWithoutKeys(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	acc := a.enrol(t, org)
	a = a.lose(t)
	err := a.client.RemoveAccount(t.Context(), acc.ID, false)
	if r := refusalOf(t, err); r.Code != "keys_lost" || r.Hint == "" {
		t.Fatalf("%+v", r)
	}
	if err := a.client.RemoveAccount(t.Context(), acc.ID, true); err != nil {
		t.Fatal(err)
	}
	away := &devicekey.StateError{State: devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Absent, Hint: "switch it on"}}
	if r := refusalOf(t, explainRemoval(away, "id1")); r.Code != "tpm_absent" || r.Hint != "switch it on; or forget it here: countersign account remove id1 --local-only" {
		t.Errorf("%+v", r)
	}
}

// A PIN that was not given is no wrong one.
func TestByPINWithoutAPIN(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, _ := quickly(t, org, testConfig(t))
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", Verification: "pin"})
	if r := refusalOf(t, err); r.Code != "verification_required" || r.TriesLeft != 0 {
		t.Errorf("%+v", r)
	}
	if s := a.pin(t); s.TriesLeft != 5 {
		t.Errorf("%+v", s)
	}
	if _, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "deny"}); err != nil || <-status != 200 {
		t.Fatal(err)
	}
}
