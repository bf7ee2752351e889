package daemon

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/daemon/challenge"
	"countersign.dev/daemon/vault"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

const testPIN, wrongPIN = "314159", "271828"

func refusalOf(t *testing.T, err error) *api.Error {
	t.Helper()
	var refused *api.Error
	if !errors.As(err, &refused) {
		t.Fatalf("%v is no refusal", err)
	}
	return refused
}

// withPIN is an agent with a PIN and an account whose methods have keys that the
// PIN unlocks.
func withPIN(t *testing.T, org *oktatest.Org, c Config) *agent {
	t.Helper()
	a := startAgent(t, c)
	added := a.enrol(t, org)
	set, err := a.client.SetPIN(t.Context(), api.PIN(testPIN), nil)
	if err != nil || set.Changed || set.State.State != "ready" || len(set.Without) != 1 || set.Without[0].ID != added.ID {
		t.Fatalf("%+v, %v", set, err)
	}
	return a.withKeys(t)
}

// withKeys starts the agent again, with keys for the PIN in its accounts.
func (a *agent) withKeys(t *testing.T) *agent {
	t.Helper()
	core := a.core.Load()
	v, err := core.verification.Verify(t.Context(), verification.Request{Purpose: "make keys", PIN: devicekey.Secret(testPIN), Method: verification.PIN})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Wipe()
	auth, _ := v.Authorise(okta.KeyUserVerificationBioOrPIN)
	makeKey := func() devicekey.Ref {
		k, _, err := core.store.Create(t.Context(), devicekey.Spec{Role: okta.KeyUserVerificationBioOrPIN, UserVerification: true, Authorisation: auth})
		if err != nil {
			t.Fatal(err)
		}
		return k.Ref()
	}
	return a.given(t, makeKey(), makeKey())
}

// given starts the agent again, with these keys in its one account.
func (a *agent) given(t *testing.T, refs ...devicekey.Ref) *agent {
	t.Helper()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	state, err := vault.Open(t.Context(), a.config.StateDir, vault.Options{Key: "file"})
	if err != nil {
		t.Fatal(err)
	}
	var book map[string]any
	if err := state.Load("accounts", &book); err != nil {
		t.Fatal(err)
	}
	for _, acc := range book["accounts"].([]any) {
		n := 0
		for _, m := range acc.(map[string]any)["methods"].([]any) {
			if m := m.(map[string]any); m["type"] != "totp" {
				m["userVerificationBioOrPin"] = refs[n]
				n++
			}
		}
	}
	if err := errors.Join(state.Save("accounts", book), state.Close()); err != nil {
		t.Fatal(err)
	}
	return startAgent(t, a.config)
}

// either finds keys in a quick store, or in the agent's.
type either struct{ quick, own challenge.DeviceKeys }

func (e either) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	k, err := e.quick.Open(ctx, ref)
	if errors.Is(err, devicekey.ErrNotFound) {
		return e.own.Open(ctx, ref)
	}
	return k, err
}

// quickly is an agent like withPIN's, whose PIN is checked without the slow
// derivation.
func quickly(t *testing.T, org *oktatest.Org, c Config) (*agent, *verificationtest.Rooms) {
	t.Helper()
	o := verificationtest.Options()
	o.Now, o.Grace = c.Now, c.VerificationGrace
	service, err := verification.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := service.SetPIN(t.Context(), devicekey.Secret(testPIN), nil); err != nil {
		t.Fatal(err)
	}
	v, err := service.Verify(t.Context(), verification.Request{Purpose: "make keys", Method: verification.PIN, PIN: devicekey.Secret(testPIN)})
	if err != nil {
		t.Fatal(err)
	}
	auth, _ := v.Authorise(okta.KeyUserVerificationBioOrPIN)
	k, _, err := o.Keys.Create(t.Context(), devicekey.Spec{Role: okta.KeyUserVerificationBioOrPIN, UserVerification: true, Authorisation: auth})
	if err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, c)
	a.enrol(t, org)
	a = a.given(t, k.Ref(), k.Ref())
	core := *a.core.Load() // a new one: whoever serves has seen the old
	core.verification, core.pipeline.Verification = service, service
	core.pipeline.Keys = either{o.Keys, core.pipeline.Keys}
	a.core.Store(&core)
	return a, o.Rooms.(*verificationtest.Rooms)
}

// asks has a page bring a challenge and returns the prompt that comes of it.
func (a *agent) asks(t *testing.T, org *oktatest.Org, events <-chan api.Event, need okta.Need) (api.Prompt, <-chan int) {
	t.Helper()
	status := make(chan int, 1)
	go func() {
		status <- a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.UserVerification, c.UserMediation = need, okta.NeedRequired }))
	}()
	return nextPrompt(t, events), status
}

func lastClaims(t *testing.T, org *oktatest.Org) okta.Answer {
	t.Helper()
	all := org.Answers()
	token, err := jose.Parse(all[len(all)-1].ChallengeResponse, jose.Answer)
	if err != nil {
		t.Fatal(err)
	}
	var claims okta.Answer
	if err := token.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func (a *agent) pin(t *testing.T) api.Verification {
	t.Helper()
	list, err := a.client.Verification(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list.Verification[0]
}

// The story: an org demands verification, a wrong PIN is counted and leaves the
// sign-in open, the right one signs by the key that it unlocks.
func TestApprovalByPIN(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := withPIN(t, org, testConfig(t))
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	if p.UserVerification != "required" || !slices.Equal(p.VerificationMethods, []string{"pin"}) || p.TriesLeft != 5 {
		t.Fatalf("%+v", p)
	}
	_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve"})
	if r := refusalOf(t, err); r.Code != "verification_required" || r.Hint == "" || r.Status != http.StatusForbidden {
		t.Fatalf("%+v", r)
	}
	_, err = a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(wrongPIN)})
	if r := refusalOf(t, err); r.Code != "wrong_pin" || r.Message != "the PIN is wrong, 4 tries left" || r.TriesLeft != 4 {
		t.Fatalf("%+v", r)
	}
	_, err = a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", Verification: "fingerprint"})
	if r := refusalOf(t, err); r.Code != "verification_not_possible" || !strings.Contains(r.Hint, "pin") {
		t.Fatalf("%+v", r)
	}
	_, err = a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", Account: "acc9", PIN: api.PIN(wrongPIN)})
	if r := refusalOf(t, err); r.Code != "wrong_account" {
		t.Fatalf("%+v", r)
	}
	list, err := a.client.Prompts(t.Context(), "")
	if err != nil || len(list.Prompts) != 1 || list.Prompts[0].TriesLeft != 4 {
		t.Fatalf("%+v, %v", list, err) // the last wrong PIN was not looked at
	}
	if len(org.Answers()) != 0 {
		t.Fatal("the org got an answer")
	}
	o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)})
	if err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
	if got := lastClaims(t, org); got.KeyType != okta.KeyUserVerificationBioOrPIN || got.Context.UserConsent != okta.ConsentApprovedUserVerification || !slices.Equal(got.AMR, []string{"pin"}) {
		t.Fatalf("%+v", got)
	}
	if s := a.pin(t); s.TriesLeft != 5 {
		t.Fatalf("%+v", s) // the right one gives them back
	}
	records := a.audit(t)
	wrong, done := records[len(records)-2], records[len(records)-1]
	if wrong.Event != "verification" || wrong.Outcome != "wrong" || wrong.Account != p.Account || !strings.Contains(wrong.Reason, "tries left: 4") ||
		done.Outcome != "approved" || done.KeyType != string(okta.KeyUserVerificationBioOrPIN) {
		t.Fatalf("%+v\n%+v", wrong, done)
	}
}

// What else a person may do with one that asks for the PIN.
func TestAnswersWithoutPIN(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, _ := quickly(t, org, testConfig(t))
	events := a.subscribed(t)
	for _, row := range []struct {
		need    okta.Need
		d       api.Decision
		outcome string
		consent okta.Consent
	}{
		{okta.NeedRequired, api.Decision{Action: "deny"}, "denied", okta.ConsentDenied},
		{okta.NeedRequired, api.Decision{Action: "deny", PIN: api.PIN(wrongPIN)}, "denied", okta.ConsentDenied},
		{okta.NeedRequired, api.Decision{Action: "cancel_verification"}, "refused", okta.ConsentCancelledUserVerification},
		{okta.NeedPreferred, api.Decision{Action: "approve"}, "approved", okta.ConsentApproved},
		{okta.NeedPreferred, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}, "approved", okta.ConsentApprovedUserVerification},
		// Nobody asked for a PIN: it is not looked at, and does not count.
		{okta.NeedNone, api.Decision{Action: "approve", PIN: api.PIN(wrongPIN)}, "approved", okta.ConsentApproved},
	} {
		p, status := a.asks(t, org, events, row.need)
		o, err := a.client.DecidePrompt(t.Context(), p.ID, row.d)
		if err != nil || o.Outcome != row.outcome || (row.outcome == "refused") != (o.Reason != "") || <-status != http.StatusOK {
			t.Fatalf("%+v: %+v, %v", row, o, err)
		}
		got := lastClaims(t, org)
		verified := got.KeyType != okta.KeyProofOfPossession
		if got.Context.UserConsent != row.consent || verified != (row.consent == okta.ConsentApprovedUserVerification) {
			t.Fatalf("%+v: %+v", row, got)
		}
	}
	if s := a.pin(t); s.TriesLeft != 5 {
		t.Fatalf("%+v", s)
	}
}

// C13: wrong PINs lock the PIN, by name and with the time; meanwhile the right
// one does not pass, the org hears why, and one refusal after the other does not
// fill the record.
func TestC13PINIsLocked(t *testing.T) {
	org := oktatest.NewOrg(t)
	c := testConfig(t)
	var ahead atomic.Int64
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	a, _ := quickly(t, org, c)
	events := a.subscribed(t)
	p, status := a.asks(t, org, events, okta.NeedRequired)
	for i := range 5 {
		_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(wrongPIN)})
		if r := refusalOf(t, err); i < 4 && (r.Code != "wrong_pin" || r.TriesLeft != 4-i) || i == 4 && r.Code != "pin_locked" {
			t.Fatalf("try %d: %+v", i+1, r)
		}
	}
	before := len(a.audit(t))
	for range 10 {
		_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)})
		r := refusalOf(t, err)
		if r.Code != "pin_locked" || r.Status != http.StatusLocked || !strings.Contains(r.Message, "locked until ") || !strings.Contains(r.Message, ", in ") || !r.Until.After(time.Now()) {
			t.Fatalf("%+v", r)
		}
	}
	if records := a.audit(t); len(records) != before || records[before-1].Outcome != "locked" {
		t.Fatalf("%d records, %d before; %+v", len(records), before, records[before-1])
	}
	list, err := a.client.Prompts(t.Context(), "")
	if err != nil || len(list.Prompts) != 1 || list.Prompts[0].TriesLeft != 0 || !list.Prompts[0].LockedUntil.After(time.Now()) {
		t.Fatalf("%+v, %v", list, err)
	}
	s, err := a.client.Status(t.Context())
	if err != nil || s.Verification[0].State != "lockout" || s.Verification[0].Until.IsZero() {
		t.Fatalf("%+v, %v", s.Verification, err)
	}
	report, err := a.client.Doctor(t.Context(), "")
	if err != nil || !slices.ContainsFunc(report.Checks, func(c api.Check) bool {
		return c.Name == "verification" && c.State == "warning" && strings.Contains(c.Message, "locked until")
	}) {
		t.Fatalf("%+v, %v", report, err)
	}
	// Another sign-in meanwhile: the org hears that it cannot be now.
	if got := a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired })); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	if got := lastClaims(t, org); got.Context.UserConsent != okta.ConsentUVTemporarilyUnavailable || got.KeyType != okta.KeyProofOfPossession {
		t.Fatalf("%+v", got)
	}
	// The pause is over, by the clock.
	ahead.Store(int64(61 * time.Second))
	o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)})
	if err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
}

// The life of a PIN: only the old one changes it, keys change with it, and none
// is removed that keys depend on.
func TestLifeOfAPIN(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := withPIN(t, org, testConfig(t))
	ctx, second := t.Context(), api.PIN("653589")
	for _, row := range []struct{ name, pin, old, code string }{
		{"there is one", testPIN, "", "pin_set"},
		{"wrong old one", "653589", wrongPIN, "wrong_pin"},
		{"too short", "12", testPIN, "bad_pin"},
		{"a run", "123456", testPIN, "bad_pin"},
		{"too long", strings.Repeat("x", 64), testPIN, "bad_pin"},
		{"control characters", "31\x0041592", testPIN, "bad_pin"},
		{"empty", "", testPIN, "bad_pin"},
	} {
		_, err := a.client.SetPIN(ctx, api.PIN(row.pin), api.PIN(row.old))
		if r := refusalOf(t, err); r.Code != row.code || row.pin != "" && strings.Contains(r.Message+r.Hint, row.pin) {
			t.Errorf("%s: %+v", row.name, r)
		}
	}
	set, err := a.client.SetPIN(ctx, second, api.PIN(testPIN))
	if err != nil || !set.Changed || len(set.Without) != 0 {
		t.Fatalf("%+v, %v", set, err)
	}
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	_, err = a.client.DecidePrompt(ctx, p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)})
	if r := refusalOf(t, err); r.Code != "wrong_pin" {
		t.Fatalf("%+v", r)
	}
	if o, err := a.client.DecidePrompt(ctx, p.ID, api.Decision{Action: "approve", PIN: second}); err != nil || o.Outcome != "approved" || <-status != 200 {
		t.Fatalf("%+v, %v", o, err)
	}
	if got := lastClaims(t, org); got.KeyType != okta.KeyUserVerificationBioOrPIN {
		t.Fatalf("%+v", got)
	}
	_, err = a.client.RemovePIN(ctx, second)
	if r := refusalOf(t, err); r.Code != "verification_in_use" || r.Hint == "" {
		t.Fatalf("%+v", r)
	}
	var events []string
	for _, r := range a.audit(t) {
		if r.Event == "pin" || r.Event == "verification" {
			events = append(events, r.Event+" "+r.Outcome)
		}
	}
	if want := []string{"pin set", "pin failed", "verification wrong", "pin changed", "verification wrong", "pin failed"}; !slices.Equal(events, want) {
		t.Errorf("on record: %q", events)
	}
	if err := a.client.RemoveAccount(ctx, p.Account, false); err != nil {
		t.Fatal(err)
	}
	_, err = a.client.RemovePIN(ctx, api.PIN(wrongPIN))
	if r := refusalOf(t, err); r.Code != "wrong_pin" {
		t.Fatalf("%+v", r)
	}
	if l, err := a.client.RemovePIN(ctx, second); err != nil || l.Verification[0].State != "not_set" {
		t.Fatalf("%+v, %v", l, err)
	}
	_, err = a.client.RemovePIN(ctx, second)
	if r := refusalOf(t, err); r.Code != "verification_not_set_up" {
		t.Fatalf("%+v", r)
	}
}

// A key that is lost holds up neither a change of the PIN nor its end.
func TestLostKeyDoesNotHoldThePIN(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := withPIN(t, org, testConfig(t))
	core := a.core.Load()
	refs := core.book.Demanding(t.Context(), okta.KeyUserVerificationBioOrPIN)
	if len(refs) != 2 {
		t.Fatalf("%d keys", len(refs))
	}
	if err := core.store.Delete(t.Context(), refs[0]); err != nil {
		t.Fatal(err)
	}
	second := api.PIN("653589")
	if _, err := a.client.SetPIN(t.Context(), second, api.PIN(testPIN)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.client.RemovePIN(t.Context(), second); refusalOf(t, err).Code != "verification_in_use" {
		t.Fatal("the other key still depends on it")
	}
	if err := core.store.Delete(t.Context(), refs[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := a.client.RemovePIN(t.Context(), second); err != nil {
		t.Fatal(err)
	}
}

// Grace: one verification counts for further sign-ins, for its time, and no
// longer; a wrong PIN ends it, and without the option there is none.
func TestGrace(t *testing.T) {
	org := oktatest.NewOrg(t)
	c := testConfig(t)
	c.VerificationGrace = 16 * time.Minute
	if _, err := Open(t.Context(), c); err == nil {
		t.Fatal("more than a quarter of an hour")
	}
	c.VerificationGrace = 5 * time.Minute
	var ahead atomic.Int64
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	a, _ := quickly(t, org, c)
	s, err := a.client.Status(t.Context())
	if err != nil || s.GraceSeconds != 300 {
		t.Fatalf("%+v, %v", s, err)
	}
	events := a.subscribed(t)
	decide := func(pin string, after time.Duration) (api.PromptOutcome, okta.Answer, bool, error) {
		t.Helper()
		now := okta.NumericDate(time.Duration(ahead.Add(int64(after))) / time.Second)
		status := make(chan int, 1)
		go func() {
			status <- a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) {
				c.UserVerification, c.IssuedAt, c.ExpiresAt = okta.NeedRequired, c.IssuedAt+now, c.ExpiresAt+now
			}))
		}()
		p := nextPrompt(t, events)
		list, err := a.client.Prompts(t.Context(), "")
		if err != nil || len(list.Prompts) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(pin)})
		if err != nil {
			if _, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "deny"}); err != nil {
				t.Fatal(err)
			}
		}
		<-status
		return o, lastClaims(t, org), list.Prompts[0].Verified, err
	}
	if _, _, _, err := decide("", 0); refusalOf(t, err).Code != "verification_required" {
		t.Fatal("nobody was verified yet")
	}
	if o, _, said, err := decide(testPIN, 0); err != nil || o.Outcome != "approved" || said {
		t.Fatal(o, err)
	}
	if o, got, said, err := decide("", time.Minute); err != nil || o.Outcome != "approved" || got.KeyType != okta.KeyUserVerificationBioOrPIN || !said {
		t.Fatalf("within grace: %+v, %+v, said %v, %v", o, got, said, err)
	}
	if _, _, said, err := decide("", 4*time.Minute); refusalOf(t, err).Code != "verification_required" || said {
		t.Fatalf("after grace: %v", err)
	}
	if o, _, _, err := decide(testPIN, 0); err != nil || o.Outcome != "approved" {
		t.Fatal(o, err)
	}
	if _, _, _, err := decide(wrongPIN, 0); refusalOf(t, err).Code != "wrong_pin" {
		t.Fatal(err)
	}
	if _, _, said, err := decide("", 0); refusalOf(t, err).Code != "verification_required" || said {
		t.Fatalf("after a wrong one: %v", err)
	}
}
