package daemon

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/securitykey/securitykeytest"
	"countersign.dev/authenticators/verification"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// enabled is an agent that a security key verifies the person to, with an account
// whose keys it unlocks.
func enabled(t *testing.T, org *oktatest.Org) (*agent, *securitykeytest.Keys, *securitykeytest.Token) {
	t.Helper()
	a, keys, token := withKey(t)
	a.enrol(t, org)
	list, err := a.client.SwitchVerification(t.Context(), "security_key", api.EnableVerification{Enabled: true, KeyPIN: api.PIN(testKeyPIN)})
	if err != nil || !slices.ContainsFunc(list.Verification, func(v api.Verification) bool { return v.Method == "security_key" && v.State == "ready" }) {
		t.Fatalf("%+v, %v", list, err)
	}
	core := a.core.Load()
	v, err := core.verification.Verify(t.Context(), verification.Request{Purpose: "make keys", Method: verification.SecurityKey, KeyPIN: devicekey.Secret(testKeyPIN)})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Wipe()
	auth, ok := v.Authorise(okta.KeyUserVerificationBioOrPIN)
	if !ok {
		t.Fatal("verified, and no secret")
	}
	var refs []devicekey.Ref
	for range 2 {
		k, _, err := core.store.Create(t.Context(), devicekey.Spec{Role: okta.KeyUserVerificationBioOrPIN, UserVerification: true, Authorisation: auth})
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, k.Ref())
	}
	return a.given(t, refs...), keys, token
}

// The story: a key is enabled, a sign-in demands verification, and is approved by
// the key's PIN and a touch.
func TestApprovalBySecurityKey(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, keys, token := enabled(t, org)
	events := a.subscribed(t)
	p, status := a.asks(t, org, events, okta.NeedRequired)
	if p.UserVerification != "required" || !slices.Equal(p.VerificationMethods, []string{"security_key"}) {
		t.Fatalf("%+v", p)
	}
	by := func(pin string) (api.PromptOutcome, error) {
		return a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", Verification: "security_key", PIN: api.PIN(pin)})
	}
	failedBefore := len(a.recorded(t, "verification"))
	_, err := by("")
	if r := refusalOf(t, err); r.Code != "key_pin_needed" || r.TriesLeft != 8 || r.Status != http.StatusForbidden {
		t.Fatalf("%+v", r)
	}
	if n := len(a.recorded(t, "verification")); n != failedBefore {
		t.Error("that the PIN is needed is on record as a failure")
	}
	_, err = by("0000")
	if r := refusalOf(t, err); r.Code != "wrong_key_pin" || r.TriesLeft != 4 || r.Message != "the PIN of the security key is wrong, 4 tries left" {
		t.Fatalf("%+v", r)
	}
	// The agent's own PIN is none of the key's.
	_, err = a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testKeyPIN)})
	if r := refusalOf(t, err); r.Code != "verification_not_possible" {
		t.Fatalf("%+v", r)
	}
	keys.Unplug()
	_, err = by(testKeyPIN)
	if r := refusalOf(t, err); r.Code != "no_key" {
		t.Fatalf("%+v", r)
	}
	keys.Plug(securitykeytest.New("Another", testKeyPIN))
	_, err = by(testKeyPIN)
	if r := refusalOf(t, err); r.Code != "key_not_enrolled" {
		t.Fatalf("%+v", r)
	}
	keys.Unplug()
	keys.Plug(token)
	if len(org.Answers()) != 0 {
		t.Fatal("the org got an answer")
	}
	o, err := by(testKeyPIN)
	if err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
	if got := lastClaims(t, org); got.KeyType != okta.KeyUserVerificationBioOrPIN || got.Context.UserConsent != okta.ConsentApprovedUserVerification {
		t.Fatalf("%+v", got)
	}
	if got := keyEvents(t, events); !slices.Equal(got, []string{"touch", "done"}) {
		t.Fatalf("%q", got)
	}
	if k, err := a.client.SecurityKey(t.Context(), token.ID); err != nil || !k.Verifies {
		t.Fatalf("%+v, %v", k, err)
	}
	got := a.recorded(t, "verification")
	if !slices.Contains(got, "verification_method enabled: security_key") || !slices.Contains(got, "verification wrong: by security_key: tries left: 4") {
		t.Fatalf("on record:\n%s", strings.Join(got, "\n"))
	}
	// Keys of an account depend on it now.
	_, err = a.client.EnableVerification(t.Context(), "security_key", false, nil)
	if r := refusalOf(t, err); r.Code != "verification_in_use" {
		t.Fatalf("%+v", r)
	}
	if o, err := a.core.Load().verification.Verify(t.Context(), verification.Request{Purpose: "x", Method: verification.SecurityKey, KeyPIN: devicekey.Secret(testKeyPIN)}); err != nil {
		t.Fatalf("forgotten by the vain try: %v", err)
	} else {
		o.Wipe()
	}
}

// C3: the key, or whoever speaks for it, verifies nobody by a signature without the
// flag of user verification; the prompt stays, and the org hears nothing.
func TestC3SecurityKeyWithoutVerification(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, keys, token := enabled(t, org)
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	keys.Do(func() { token.Sign = func(data []byte) []byte { data[32] &^= 0x04; return data } })
	by := api.Decision{Action: "approve", Verification: "security_key", PIN: api.PIN(testKeyPIN)}
	_, err := a.client.DecidePrompt(t.Context(), p.ID, by)
	if r := refusalOf(t, err); r.Code != "key_misbehaves" {
		t.Fatalf("%+v", r)
	}
	if len(org.Answers()) != 0 {
		t.Fatal("the org got an answer")
	}
	keys.Do(func() { token.Sign = nil })
	by.PIN = api.PIN(testKeyPIN)
	if o, err := a.client.DecidePrompt(t.Context(), p.ID, by); err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
}

// C3: a program of the user cannot put a key of its own in the place of the
// person's; what was enabled stays, whatever fails.
func TestC3AnotherKeyIsNotSlippedIn(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, keys, token := enabled(t, org)
	stranger := securitykeytest.New("Stranger", "1111")
	id := keys.Plug(stranger)
	for name, do := range map[string]func() error{
		"by its id":    func() error { _, err := a.client.VerifyByKey(t.Context(), id, api.PIN("1111")); return err },
		"by the other": func() error { _, err := a.client.VerifyByKey(t.Context(), token.ID, api.PIN(testKeyPIN)); return err },
		"by the method": func() error {
			_, err := a.client.SwitchVerification(t.Context(), "security_key", api.EnableVerification{Enabled: true, KeyPIN: api.PIN(testKeyPIN)})
			return err
		},
	} {
		if r := refusalOf(t, do()); r.Code != "verification_enabled" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// What is known of the key is lost with its room: then nobody is verified, and
	// since keys of an account depend on it, no other one takes its place.
	if err := a.core.Load().fido.Forget(); err != nil {
		t.Fatal(err)
	}
	_, err := a.client.VerifyByKey(t.Context(), id, api.PIN("1111"))
	if r := refusalOf(t, err); r.Code != "verification_in_use" {
		t.Errorf("%+v", r)
	}
	asked := keys.Asked()
	if first := slices.Index(asked, "register"); slices.Contains(asked[first+1:], "register") {
		t.Errorf("a key was enrolled: %q", asked)
	}
}

// A key that is wiped here verifies nobody any more, and what says so does not say
// otherwise; another one takes its place.
func TestResetOfTheKeyThatVerifies(t *testing.T) {
	a, keys, token := withKey(t)
	state := func() string {
		for _, s := range a.core.Load().states(t.Context()) {
			if s.Method == "security_key" {
				return s.State
			}
		}
		return ""
	}
	enable := func(id string) {
		t.Helper()
		if _, err := a.client.VerifyByKey(t.Context(), id, api.PIN(testKeyPIN)); err != nil || state() != "ready" {
			t.Fatal(err, state())
		}
	}
	enable(token.ID)
	other := securitykeytest.New("Other", testKeyPIN)
	id := keys.Plug(other)
	if err := a.client.ResetKey(t.Context(), id, "Other"); err != nil || state() != "ready" {
		t.Fatal("another key was wiped", err, state())
	}
	if err := a.client.ResetKey(t.Context(), token.ID, token.Product); err != nil || state() != "not_set" {
		t.Fatal(err, state())
	}
	keys.Do(func() { other.PIN = testKeyPIN })
	enable(id)
	// So it is when it has been plugged in again, and has verified nobody since.
	keys.Unplug()
	id = keys.Plug(other)
	if k, err := a.client.SecurityKey(t.Context(), id); err != nil || !k.Verifies {
		t.Errorf("plugged in again: %+v, %v", k, err)
	}
	if err := a.client.ResetKey(t.Context(), id, "Other"); err != nil || state() != "not_set" {
		t.Error("plugged in again, and wiped", err, state())
	}
}

// Of several keys the one that is touched is meant. When it wants its PIN, it is
// named, so that the PIN goes to it.
func TestEnablingOneOfSeveralSecurityKeys(t *testing.T) {
	a, keys, token := withKey(t)
	keys.Plug(securitykeytest.New("Other", "9999"))
	_, err := a.client.SwitchVerification(t.Context(), "security_key", api.EnableVerification{Enabled: true})
	if r := refusalOf(t, err); r.Code != "key_pin_needed" || r.Key != token.ID {
		t.Fatalf("%+v", r)
	}
	_, err = a.client.SwitchVerification(t.Context(), "security_key", api.EnableVerification{Enabled: true, KeyPIN: api.PIN(testKeyPIN)})
	if r := refusalOf(t, err); r.Code != "key_needed" {
		t.Fatalf("%+v", r)
	}
	if _, err := a.client.VerifyByKey(t.Context(), token.ID, api.PIN(testKeyPIN)); err != nil {
		t.Fatal(err)
	}
}

// A key that does not work when it is tried is not enabled, and not known; a PIN of
// the agent needs none.
func TestEnablingASecurityKey(t *testing.T) {
	a, keys, token := withKey(t)
	ctx, pin := t.Context(), func() api.PIN { return api.PIN(testKeyPIN) }
	state := func() string {
		list, err := a.client.Verification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list.Verification {
			if v.Method == "security_key" {
				return v.State
			}
		}
		return ""
	}
	for _, row := range []struct {
		name string
		fail string
		err  error
		pin  string
		code string
	}{
		{"no PIN", "", nil, "", "key_pin_needed"},
		{"wrong PIN", "", nil, "0000", "wrong_key_pin"},
		{"no key", "register", securitykey.ErrNoKey, testKeyPIN, "no_key"},
		{"no PIN on the key", "register", securitykey.ErrPINNotSet, testKeyPIN, "key_pin_not_set"},
		{"not touched", "register", securitykey.ErrTimedOut, testKeyPIN, "key_timed_out"},
		{"not touched the second time", "assert", securitykey.ErrTimedOut, testKeyPIN, "key_timed_out"},
		{"pulled out in between", "assert", securitykey.ErrRemoved, testKeyPIN, "key_removed"},
		{"no helper", "register", &securitykey.HelperError{Why: "is missing"}, testKeyPIN, "key_helper_unusable"},
	} {
		keys.Fail = func(operation string) error {
			if operation == row.fail {
				return row.err
			}
			return nil
		}
		_, err := a.client.VerifyByKey(ctx, token.ID, api.PIN(row.pin))
		if r := refusalOf(t, err); r.Code != row.code {
			t.Errorf("%s: %+v", row.name, r)
		}
		if s := state(); s != "not_set" {
			t.Errorf("%s: %s", row.name, s)
		}
	}
	keys.Fail = nil
	if _, err := a.client.VerifyByKey(ctx, token.ID, pin()); err != nil || state() != "ready" {
		t.Fatal(err, state())
	}
	// The PIN takes its place, once the key has agreed.
	_, err := a.client.SetPIN(ctx, api.PIN(testPIN), nil)
	if r := refusalOf(t, err); r.Code != "key_pin_needed" {
		t.Fatalf("%+v", r)
	}
	if _, err := a.client.ReplacePIN(ctx, api.SetPIN{PIN: api.PIN(testPIN), KeyPIN: pin()}); err != nil {
		t.Fatal(err)
	}
	_, err = a.client.VerifyByKey(ctx, token.ID, pin())
	if r := refusalOf(t, err); r.Code != "verification_no_use" {
		t.Fatalf("%+v", r)
	}
	if _, err := a.client.RemovePIN(ctx, api.PIN(testPIN)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.client.VerifyByKey(ctx, token.ID, pin()); err != nil || state() != "ready" {
		t.Fatal(err, state())
	}
	if _, err := a.client.EnableVerification(ctx, "security_key", false, nil); err != nil || state() != "not_set" {
		t.Fatal(err, state())
	}
}
