package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/securitykey/securitykeytest"
	"countersign.dev/authenticators/verification"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

const testKeyPIN = "2580"

// withKey is an agent at whose computer a security key is plugged in.
func withKey(t *testing.T) (*agent, *securitykeytest.Keys, *securitykeytest.Token) {
	t.Helper()
	keys, token := &securitykeytest.Keys{}, securitykeytest.New("YubiKey 5 NFC", testKeyPIN)
	keys.Plug(token)
	c := testConfig(t)
	c.securityKeys = keys
	return startAgent(t, c), keys, token
}

// keyEvents collects what is told of keys until one waits no more.
func keyEvents(t *testing.T, events <-chan api.Event) (states []string) {
	t.Helper()
	for e := range events {
		if e.Type != "security_key" {
			continue
		}
		if e.Key == nil || e.Key.Key == "" || e.Key.Product != "YubiKey 5 NFC" {
			t.Fatalf("%+v", e.Key)
		}
		states = append(states, e.Key.State)
		if e.Key.State == "done" {
			return states
		}
	}
	t.Fatalf("the events ended after %q", states)
	return nil
}

// recorded returns the records of an event, without the time.
func (a *agent) recorded(t *testing.T, prefix string) (list []string) {
	t.Helper()
	for _, r := range a.audit(t) {
		if strings.HasPrefix(r.Event, prefix) {
			list = append(list, r.Event+" "+r.Outcome+": "+r.Reason)
		}
	}
	return list
}

// The story of a key manager: look, set a PIN, see what is on it, delete, wipe.
func TestSecurityKeys(t *testing.T) {
	a, keys, token := withKey(t)
	token.PIN, token.Options = "", map[string]bool{"clientPin": false}
	token.Stored = []securitykey.Credential{{ID: []byte{1}, RPID: "id.example.com", RP: "Example", User: securitykey.User{Name: "alice", DisplayName: "Al\u202eice"}}}
	ctx := t.Context()
	list, err := a.client.SecurityKeys(ctx)
	if err != nil || len(list.Keys) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	k := list.Keys[0]
	if k.ID == "" || k.Product != "YubiKey 5 NFC" || k.Manufacturer != "Yubico" || k.Model != "YubiKey 5 Series" || k.Firmware != "5.4.3" || !slices.Equal(k.Protocols, []string{"U2F_V2", "FIDO_2_0"}) || len(k.Advisories) != 1 {
		t.Fatalf("%+v", k)
	}
	_, err = a.client.SetKeyPIN(ctx, k.ID, api.PIN("1234"), api.PIN("0000"))
	if r := refusalOf(t, err); r.Code != "key_pin_not_set" {
		t.Fatalf("%+v", r)
	}
	if got, err := a.client.SetKeyPIN(ctx, k.ID, api.PIN("1234"), nil); err != nil || !got.PINSet {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = a.client.SetKeyPIN(ctx, k.ID, api.PIN("1234"), nil)
	if r := refusalOf(t, err); r.Code != "key_pin_set" {
		t.Fatalf("%+v", r)
	}
	_, err = a.client.SetKeyPIN(ctx, k.ID, api.PIN(testKeyPIN), api.PIN("0000"))
	if r := refusalOf(t, err); r.Code != "wrong_key_pin" || r.TriesLeft != 7 || r.Message != "the PIN of the security key is wrong, 7 tries left" {
		t.Fatalf("%+v", r)
	}
	if _, err := a.client.SetKeyPIN(ctx, k.ID, api.PIN(testKeyPIN), api.PIN("1234")); err != nil {
		t.Fatal(err)
	}
	if got, err := a.client.SecurityKey(ctx, k.ID); err != nil || got.TriesLeft != 8 || !got.PINSet || got.Verifies {
		t.Fatalf("%+v, %v", got, err)
	}
	pin := api.PIN(testKeyPIN)
	_, err = a.client.KeyCredentials(ctx, k.ID, nil)
	if r := refusalOf(t, err); r.Code != "key_pin_needed" || r.TriesLeft != 8 {
		t.Fatalf("%+v", r)
	}
	stored, err := a.client.KeyCredentials(ctx, k.ID, pin)
	if err != nil || len(stored.Credentials) != 1 || stored.Left != 24 || stored.Credentials[0] != (api.KeyCredential{ID: "AQ", RPID: "id.example.com", RP: "Example", User: "alice", Display: "Alice"}) {
		t.Fatalf("%+v, %v", stored, err)
	}
	if left, err := a.client.DeleteKeyCredential(ctx, k.ID, api.DeleteKeyCredential{PIN: pin, ID: "AQ", Confirm: "id.example.com"}); err != nil || len(left.Credentials) != 0 || left.Left != 25 {
		t.Fatalf("%+v, %v", left, err)
	}
	events := a.subscribed(t)
	prints, err := a.client.ChangeFingerprint(ctx, k.ID, api.ChangeFingerprint{PIN: pin, Name: "thumb"})
	if err != nil || len(prints.Fingerprints) != 1 || prints.Fingerprints[0].Name != "thumb" {
		t.Fatalf("%+v, %v", prints, err)
	}
	if got := keyEvents(t, events); !slices.Equal(got, []string{"touch", "sample", "sample", "sample", "done"}) {
		t.Fatalf("%q", got)
	}
	if prints, err = a.client.ChangeFingerprint(ctx, k.ID, api.ChangeFingerprint{PIN: pin, Drop: prints.Fingerprints[0].ID}); err != nil || len(prints.Fingerprints) != 0 {
		t.Fatalf("%+v, %v", prints, err)
	}
	if err := a.client.ResetKey(ctx, k.ID, "YubiKey 5 NFC"); err != nil || token.PIN != "" {
		t.Fatal(err)
	}
	if got := keyEvents(t, events); !slices.Equal(got, []string{"touch", "done"}) {
		t.Fatalf("%q", got)
	}
	want := []string{
		"key_pin set: YubiKey 5 NFC",
		"key_pin wrong: YubiKey 5 NFC: wrong PIN of the security key: 7 tries left",
		"key_pin changed: YubiKey 5 NFC",
		"key_credential deleted: YubiKey 5 NFC, alice at id.example.com",
		"key_fingerprint added: YubiKey 5 NFC, thumb",
		"key_fingerprint removed: YubiKey 5 NFC, f1",
		"key_reset done: YubiKey 5 NFC",
	}
	if got := a.recorded(t, "key_"); !slices.Equal(got, want) {
		t.Fatalf("on record:\n%s", strings.Join(got, "\n"))
	}
	keys.Unplug()
	if list, err := a.client.SecurityKeys(ctx); err != nil || len(list.Keys) != 0 || list.Keys == nil {
		t.Fatalf("%+v, %v", list, err)
	}
}

// Keys cost nothing while nobody asks for them.
func TestNobodyAsksForKeys(t *testing.T) {
	a, keys, _ := withKey(t)
	for range 3 {
		if _, err := a.client.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.client.Verification(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.client.Prompts(t.Context(), "cli"); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys.Asked(); len(got) != 0 {
		t.Fatalf("asked: %q", got)
	}
}

// F2: what deletes or wipes takes the name of what the person was shown, as the key
// says it, and is done to that very key: one that was swapped in between, before
// or during the request, keeps what it has.
func TestF2DestroyedIsWhatWasNamed(t *testing.T) {
	credential := base64.RawURLEncoding.EncodeToString([]byte{7})
	reset := func(confirm string) func(a *agent, id string) error {
		return func(a *agent, id string) error { return a.client.ResetKey(t.Context(), id, confirm) }
	}
	remove := func(confirm, id, pin string) func(a *agent, id string) error {
		return func(a *agent, key string) error {
			_, err := a.client.DeleteKeyCredential(t.Context(), key, api.DeleteKeyCredential{PIN: api.PIN(pin), ID: id, Confirm: confirm})
			return err
		}
	}
	for _, row := range []struct {
		name string
		swap string // before this operation; "-" before the request
		do   func(a *agent, id string) error
		code string
	}{
		{"reset by no name", "", reset(""), "not_confirmed"},
		{"reset by a yes", "", reset("yes"), "not_confirmed"},
		{"reset by another name", "", reset("YubiKey 5"), "not_confirmed"},
		{"reset by the right name in other letters", "", reset("yubikey 5 nfc"), "not_confirmed"},
		{"reset of a key that was swapped", "-", reset("YubiKey 5 NFC"), "other_key"},
		{"reset of a key that was swapped at the last moment", "reset", reset("YubiKey 5 NFC"), "other_key"},
		{"deletion by another site's name", "", remove("example.com", credential, testKeyPIN), "not_confirmed"},
		{"deletion of another credential", "", remove("id.example.com", "AQ", testKeyPIN), "credential_unknown"},
		{"deletion without the PIN", "", remove("id.example.com", credential, ""), "key_pin_needed"},
		{"deletion by a wrong PIN", "", remove("id.example.com", credential, "0000"), "wrong_key_pin"},
		{"deletion on a key that was swapped", "-", remove("id.example.com", credential, testKeyPIN), "other_key"},
		{"deletion on a key that was swapped at the last moment", "delete_credential", remove("id.example.com", credential, testKeyPIN), "other_key"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, keys, token := withKey(t)
			twin := securitykeytest.New(token.Product, testKeyPIN)
			both := []*securitykeytest.Token{token, twin}
			for _, k := range both {
				k.Stored = []securitykey.Credential{{ID: []byte{7}, RPID: "id.example.com", User: securitykey.User{Name: "alice"}}}
			}
			swap := func() { keys.Unplug(); keys.Plug(twin) }
			list, err := a.client.SecurityKeys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if row.swap == "-" {
				swap()
			}
			keys.Slip = func(operation string) {
				if operation == row.swap {
					swap()
				}
			}
			if r := refusalOf(t, row.do(a, list.Keys[0].ID)); r.Code != row.code || r.Hint == "" && row.code != "wrong_key_pin" && r.Status != http.StatusBadRequest {
				t.Fatalf("%+v", r)
			}
			for i, k := range both {
				if k.PIN != testKeyPIN || len(k.Stored) != 1 {
					t.Errorf("key %d lost something: %+v", i, k.Stored)
				}
			}
		})
	}
}

// F3: while a key waits for its owner, the agent answers as ever; who gives up ends
// the wait, and the next call works.
func TestF3NobodyWaitsForAKey(t *testing.T) {
	a, keys, token := withKey(t)
	waiting := make(chan struct{})
	token.Touch = func(ctx context.Context) error {
		close(waiting)
		<-ctx.Done()
		return securitykey.ErrCancelled
	}
	events := a.subscribed(t)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ended := make(chan error, 1)
	go func() { ended <- a.client.ResetKey(ctx, token.ID, token.Product) }()
	<-waiting
	var slowest time.Duration
	for range 200 {
		began := time.Now()
		if _, err := a.client.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	if slowest > 2*time.Second {
		t.Errorf("a call took %s", slowest)
	}
	select {
	case err := <-ended:
		t.Fatalf("the key did not wait: %v", err)
	default:
	}
	giveUp()
	if err := <-ended; err == nil {
		t.Fatal("reset")
	}
	if got := keyEvents(t, events); !slices.Equal(got, []string{"touch", "done"}) {
		t.Fatalf("%q", got)
	}
	keys.Do(func() { token.Touch = nil })
	if token.PIN != testKeyPIN {
		t.Fatal("reset")
	}
	if err := a.client.ResetKey(t.Context(), token.ID, token.Product); err != nil {
		t.Fatal(err)
	}
}

// F3: whatever becomes of a key is one sentence with a name for programs, and
// where there is something to do, what.
func TestF3KeyErrorsHaveNames(t *testing.T) {
	a, keys, token := withKey(t)
	for _, row := range []struct {
		fault  error
		status int
		code   string
		says   string
	}{
		{securitykey.ErrNoKey, 409, "no_key", "no security key is plugged in"},
		{securitykey.ErrRemoved, 409, "key_removed", "pulled out"},
		{securitykey.ErrOtherKey, 409, "other_key", "nothing was done"},
		{&securitykey.PINError{Left: 3}, 403, "wrong_key_pin", "3 tries left"},
		{&securitykey.PINError{Left: 1}, 403, "wrong_key_pin", "1 try left before it is blocked for good"},
		{&securitykey.PINError{Blocked: true}, 423, "key_pin_blocked", "blocked"},
		{&securitykey.PINError{Pause: true}, 423, "key_pin_pause", "three wrong PINs"},
		{&securitykey.PINNeededError{Left: 8}, 403, "key_pin_needed", "takes the PIN"},
		{securitykey.ErrPINNotSet, 409, "key_pin_not_set", "has no PIN"},
		{securitykey.ErrPINRefused, 400, "bad_key_pin", "does not take this PIN"},
		{securitykey.ErrNotAllowed, 409, "key_not_allowed", "does not allow"},
		{securitykey.ErrFull, 409, "key_full", "no room"},
		{securitykey.ErrTimedOut, 409, "key_timed_out", "not touched in time"},
		{securitykey.ErrUnsupported, 409, "key_unsupported", "cannot do this"},
		{securitykey.ErrInUse, 409, "key_in_use", "another program"},
		{securitykey.ErrNoPermission, 403, "key_no_permission", "may not use"},
		{securitykey.ErrNotBuilt, 501, "key_not_built", "no support for security keys"},
		{&securitykey.HelperError{Path: "/opt/countersign-sk", Why: "belongs to another user (uid 7)"}, 503, "key_helper_unusable", "/opt/countersign-sk belongs to another user (uid 7)"},
		{&securitykey.HelperError{Path: "/opt/countersign-sk", Why: "speaks version 0 of the protocol"}, 503, "key_helper_unusable", "speaks version 0"},
		{securitykey.ErrBadKey, 502, "key_misbehaves", "what it must not"},
	} {
		keys.Fail = func(operation string) error {
			if operation == "credentials" {
				return row.fault
			}
			return nil
		}
		_, err := a.client.KeyCredentials(t.Context(), token.ID, api.PIN(testKeyPIN))
		r := refusalOf(t, err)
		if r.Code != row.code || r.Status != row.status || !strings.Contains(r.Message, row.says) || r.Hint == "" && row.code != "wrong_key_pin" {
			t.Errorf("%v: %d %+v", row.fault, r.Status, r)
		}
		keys.Fail = nil
		if _, err := a.client.KeyCredentials(t.Context(), token.ID, api.PIN(testKeyPIN)); err != nil {
			t.Fatalf("after %v: %v", row.fault, err)
		}
	}
}

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
	if slices.Contains(keys.Asked()[2:], "register") {
		t.Errorf("a key was enrolled: %q", keys.Asked())
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

func TestDoctorOnSecurityKeys(t *testing.T) {
	a, keys, token := withKey(t)
	look := func() (list []api.Check) {
		report, err := a.client.Doctor(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range report.Checks {
			if c.Name == "security key" {
				list = append(list, c)
			}
		}
		return list
	}
	for _, row := range []struct {
		name, state, says, hint string
		set                     func()
	}{
		{"advisory", "warning", "EUCLEAK", "info", func() {}},
		{"well", "ok", "answers", "", func() { token.Firmware = "5.7.1" }},
		{"no permission", "warning", "/dev/hidraw7", "udev rule", func() { token.Problem = securitykey.ErrNoPermission }},
		{"in use", "warning", "another program", "browser", func() { token.Problem = securitykey.ErrInUse }},
		{"hangs", "warning", "did not answer", "try again", func() { token.Problem = securitykey.ErrTimedOut }},
		{"other trouble", "warning", "broken", "", func() { token.Problem = errors.New("broken") }},
		{"U2F only", "ok", "U2F only", "", func() { token.Problem, token.AAGUID, token.Protocols = nil, "", []string{"U2F_V2"} }},
		{"none", "ok", "none ", "", keys.Unplug},
		{"not built", "ok", "no support", "", func() { keys.Fail = func(string) error { return securitykey.ErrNotBuilt } }},
		{"no helper", "ok", "cannot be used here", "", func() {
			keys.Fail = func(string) error { return &securitykey.HelperError{Path: "/x", Why: "is missing"} }
		}},
		{"foreign helper", "warning", "uid 7", "one package", func() {
			keys.Fail = func(string) error {
				return &securitykey.HelperError{Path: "/x", Why: "belongs to another user (uid 7)"}
			}
		}},
	} {
		row.set()
		got := look()
		if len(got) != 1 || got[0].State != row.state || !strings.Contains(got[0].Message, row.says) || !strings.Contains(got[0].Hint, row.hint) {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
	// Where one verifies the person, it matters.
	keys.Fail = nil
	keys.Plug(securitykeytest.New("YubiKey", testKeyPIN))
	if _, err := a.client.SwitchVerification(t.Context(), "security_key", api.EnableVerification{Enabled: true, KeyPIN: api.PIN(testKeyPIN)}); err != nil {
		t.Fatal(err)
	}
	keys.Fail = func(string) error { return securitykey.ErrNotBuilt }
	if got := look(); len(got) != 1 || got[0].State != "failed" {
		t.Errorf("in use: %+v", got)
	}
}
