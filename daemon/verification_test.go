package daemon

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

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

// watched tells whether the accounts' keys may change while it changes what they
// demand.
type watched struct {
	verifier
	book *account.Book
	free []string // the changes during which they might have
}

func (w *watched) look(change string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if end, err := w.book.Hold(ctx); err == nil {
		end()
		w.free = append(w.free, change)
	}
	return verification.ErrAbsent
}

func (w *watched) SetPIN(context.Context, devicekey.Secret, []devicekey.Ref) error {
	return w.look("set")
}
func (w *watched) ChangePIN(context.Context, devicekey.Secret, devicekey.Secret, []devicekey.Ref) error {
	return w.look("change")
}
func (w *watched) RemovePIN(context.Context, devicekey.Secret) error  { return w.look("remove") }
func (w *watched) Enable(context.Context, verification.Method) error  { return w.look("enable") }
func (w *watched) Disable(context.Context, verification.Method) error { return w.look("disable") }

// Keys that are made while the PIN changes would demand the old one: none are.
func TestKeysAreHeldWhileThePINChanges(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, _ := quickly(t, org, testConfig(t))
	core := a.core.Load()
	w := &watched{verifier: core.verification, book: core.book}
	core.verification = w
	f, ctx, pin := front{a.Daemon}, t.Context(), api.PIN(testPIN)
	_, set := f.SetPIN(ctx, api.SetPIN{PIN: pin})
	_, change := f.SetPIN(ctx, api.SetPIN{PIN: pin, OldPIN: pin})
	_, remove := f.RemovePIN(ctx, api.RemovePIN{PIN: pin})
	_, enable := f.EnableVerification(ctx, "fingerprint", api.EnableVerification{Enabled: true, PIN: pin})
	_, disable := f.EnableVerification(ctx, "fingerprint", api.EnableVerification{PIN: pin})
	for _, err := range []error{set, change, remove, enable, disable} {
		if refusalOf(t, err).Code != "verification_unavailable" {
			t.Errorf("not tried: %v", err)
		}
	}
	if len(w.free) != 0 {
		t.Errorf("keys may be made in the middle of: %q", w.free)
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
