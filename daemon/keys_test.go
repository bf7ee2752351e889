package daemon

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/daemon/audit"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

const bioOrPIN = string(okta.KeyUserVerificationBioOrPIN)

// changes has the person sign in for a change of keys.
func (a *agent) changes(t *testing.T, id string, in api.ChangeKeys) (account api.Account, page string, err error) {
	t.Helper()
	e, err := a.client.ChangeKeys(t.Context(), id, in)
	if err != nil {
		return api.Account{}, "", err
	}
	page = browse(t, e.URL)
	account, err = a.client.AwaitEnrolment(t.Context(), e.ID)
	return account, page, err
}

func (a *agent) setPIN(t *testing.T) {
	t.Helper()
	if _, err := a.client.SetPIN(t.Context(), api.PIN(testPIN), nil); err != nil {
		t.Fatal(err)
	}
}

// signedBy says which key of the enrolment has signed the last answer.
func signedBy(t *testing.T, org *oktatest.Org, enrolment string) string {
	t.Helper()
	all := org.Answers()
	token, err := jose.Parse(all[len(all)-1].ChallengeResponse, jose.Answer)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := org.Key(enrolment, token.Header.KeyID)
	if !ok || token.Verify(key) != nil {
		t.Fatalf("signed by %s, which the org does not know", token.Header.KeyID)
	}
	return token.Header.KeyID
}

// The story of a PIN: set, an account added with it, a sign-in that demands it.
func TestEnrolWithPIN(t *testing.T) {
	for _, by := range []string{"a sign-in", "a link"} {
		org := oktatest.NewOrg(t)
		a := startAgent(t, testConfig(t))
		a.setPIN(t)
		var acc api.Account
		var err error
		if by == "a link" {
			acc, err = a.client.AddAccount(t.Context(), api.AddAccount{Link: org.Link().URL(), PIN: api.PIN(testPIN)})
		} else {
			acc, _, err = a.add(t, api.BeginEnrolment{Org: org.URL, PIN: api.PIN(testPIN)})
		}
		if err != nil || !slices.Equal(acc.Verification, []string{bioOrPIN}) || len(acc.Notes) != 0 {
			t.Fatalf("%s: %+v, %v", by, acc, err)
		}
		told := org.Enrolments()[0].Methods
		if len(told.Push.Keys.UserVerificationBioOrPIN) == 0 || len(told.SignedNonce.Keys.UserVerificationBioOrPIN) == 0 || len(told.SignedNonce.Keys.UserVerification) != 0 {
			t.Errorf("%s: %+v", by, told.SignedNonce.Keys)
		}
		p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
		if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); err != nil || o.Outcome != "approved" || <-status != 200 {
			t.Fatalf("%s: %+v, %v", by, o, err)
		}
		if got := lastClaims(t, org); got.KeyType != okta.KeyUserVerificationBioOrPIN {
			t.Errorf("%s: %+v", by, got)
		}
		signedBy(t, org, acc.EnrolmentID)
	}
}

// A wrong PIN, or one where there is none, begins nothing.
func TestEnrolWithWrongPIN(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	_, _, err := a.add(t, api.BeginEnrolment{Org: org.URL, PIN: api.PIN(testPIN)})
	if r := refusalOf(t, err); r.Code != "verification_not_set_up" || r.Hint == "" {
		t.Errorf("%+v", r)
	}
	a.setPIN(t)
	for _, in := range []api.BeginEnrolment{{Org: org.URL, PIN: api.PIN(wrongPIN)}, {Org: org.URL, Verification: "fingerprint"}, {Org: org.URL, Verification: "pin"}} {
		_, err := a.client.BeginEnrolment(t.Context(), in)
		if r := refusalOf(t, err); r.Status/100 == 2 || strings.Contains(r.Message+r.Hint, wrongPIN) {
			t.Errorf("%+v", r)
		}
	}
	_, err = a.client.AddAccount(t.Context(), api.AddAccount{Link: org.Link().URL(), PIN: api.PIN(wrongPIN)})
	if r := refusalOf(t, err); r.Code != "wrong_pin" {
		t.Errorf("%+v", r)
	}
	list, err := a.client.Accounts(t.Context())
	if err != nil || len(list.Accounts) != 0 || len(org.Enrolments()) != 0 || len(org.Authorizations()) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// The list of keys says where each is, and has no secret in it.
func TestKeyList(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.setPIN(t)
	acc, _, err := a.add(t, api.BeginEnrolment{Org: org.URL, PIN: api.PIN(testPIN), Name: "Work"})
	if err != nil {
		t.Fatal(err)
	}
	a.enrol(t, org) // shares the key of the device
	list, err := a.client.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range list.Keys {
		if k.Kind != "software" || k.Protection != "software" || k.SealedBy != "file" || k.State != "ready" || k.ID == "" {
			t.Errorf("%+v", k)
		}
		if k.Account == acc.ID {
			got = append(got, k.Method+" "+k.Role)
		}
	}
	want := []string{" clientInstance", "push proofOfPossession", "push " + bioOrPIN, "signed_nonce proofOfPossession", "signed_nonce " + bioOrPIN}
	if !slices.Equal(got, want) || len(list.Keys) != 7 {
		t.Errorf("%q, %d keys", got, len(list.Keys))
	}
}

// Keys are made, made anew and exchanged; the account answers by the new ones,
// and the record says what was done.
func TestChangeKeys(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	acc := a.enrol(t, org)
	a.setPIN(t)
	a.silent(t, org)
	before := signedBy(t, org, acc.EnrolmentID)

	now, page, err := a.changes(t, acc.ID, api.ChangeKeys{Action: "verify", PIN: api.PIN(testPIN)})
	if err != nil || !slices.Equal(now.Verification, []string{bioOrPIN}) || now.ID != acc.ID || now.KeyChange != "" {
		t.Fatalf("%+v, %v", now, err)
	}
	if !strings.Contains(page, "by other keys now") {
		t.Errorf("the page: %s", page)
	}
	if in := org.Authorizations()[0]; in.Get("login_hint") != oktatest.Login || in.Get("prompt") != "login" {
		t.Errorf("%v", in)
	}
	var told map[string]any
	for _, u := range org.Updates() {
		if strings.Contains(string(u), `"kid"`) {
			_ = json.Unmarshal(u, &told)
		}
	}
	if told["methods"] == nil || told["keyChange"] != nil {
		t.Error("the first key that verifies the person needs nobody's agreement")
	}
	if a.silent(t, org); signedBy(t, org, acc.EnrolmentID) != before {
		t.Error("the silent key has changed, too")
	}

	if now, _, err = a.changes(t, acc.ID, api.ChangeKeys{Action: "rotate", PIN: api.PIN(testPIN)}); err != nil || now.State != "active" {
		t.Fatalf("%+v, %v", now, err)
	}
	if a.silent(t, org); signedBy(t, org, acc.EnrolmentID) == before {
		t.Error("the silent key is the old one")
	}
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); err != nil || o.Outcome != "approved" || <-status != 200 {
		t.Fatalf("%+v, %v", o, err)
	}
	signedBy(t, org, acc.EnrolmentID)
	var done []string
	for _, r := range a.audit(t) {
		if r.Event == "keys" && r.Account == acc.ID {
			done = append(done, r.Outcome+" "+r.Reason)
		}
	}
	if want := []string{"done verify at " + org.URL, "done rotate at " + org.URL}; !slices.Equal(done, want) {
		t.Errorf("on record: %q", done)
	}
	if len(org.Revoked()) != 2 {
		t.Errorf("%d tokens revoked", len(org.Revoked()))
	}
	// The PIN is changed: it unlocks the new keys.
	second := api.PIN("653589")
	if _, err := a.client.SetPIN(t.Context(), second, api.PIN(testPIN)); err != nil {
		t.Fatal(err)
	}
	if _, _, err = a.changes(t, acc.ID, api.ChangeKeys{Action: "verify", PIN: second}); err != nil {
		t.Fatal(err)
	}
}

// What keeps keys from being changed, in words, and nothing changed.
func TestChangeKeysRefused(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	acc := a.enrol(t, org)
	a.setPIN(t)
	refused := func(code okta.ErrorCode) oktatest.Reply {
		e := okta.NewError(code)
		b, _ := json.Marshal(e)
		return oktatest.Reply{Status: e.HTTPStatus, Body: string(b)}
	}
	update := okta.AppAuthenticatorsPath + "/" + acc.EnrolmentID
	for _, row := range []struct {
		name  string
		in    api.ChangeKeys
		org   func()
		code  string
		begun bool
	}{
		{"no action", api.ChangeKeys{}, nil, "bad_action", false},
		{"no such action", api.ChangeKeys{Action: "steal"}, nil, "bad_action", false},
		{"no such store", api.ChangeKeys{Action: "migrate", To: "cloud"}, nil, "bad_key_store", false},
		{"there already", api.ChangeKeys{Action: "migrate", To: "software"}, nil, "nothing_to_do", false},
		{"without the PIN", api.ChangeKeys{Action: "verify"}, nil, "verification_required", false},
		{"the wrong PIN", api.ChangeKeys{Action: "verify", PIN: api.PIN(wrongPIN)}, nil, "wrong_pin", false},
		{"another way that is not there", api.ChangeKeys{Action: "verify", Verification: "fingerprint"}, nil, "verification_not_set_up", false},
		{"denied", api.ChangeKeys{Action: "rotate"}, func() { org.SignsIn(oktatest.SignIn{Error: "access_denied"}) }, "sign_in_denied", true},
		{"another user", api.ChangeKeys{Action: "rotate"}, func() { org.SignsIn(oktatest.SignIn{UserID: "00uMallory", Login: oktatest.Login}) }, "other_user", true},
		{"the sign-in is not enough", api.ChangeKeys{Action: "rotate"}, func() { org.Reply(update, refused(okta.CodeForbidden)) }, "recent_sign_in_needed", true},
		{"no exchange", api.ChangeKeys{Action: "rotate"}, func() { org.Reply(update, refused(okta.CodeValidation)) }, "keys_refused", true},
		{"another key is wanted", api.ChangeKeys{Action: "rotate"}, func() { org.Reply(update, refused(okta.CodeUVRequired)) }, "keys_refused", true},
		{"suspended", api.ChangeKeys{Action: "rotate"}, func() { org.Reply(update, refused(okta.CodeUserSuspended)) }, "org_suspended", true},
		{"org down", api.ChangeKeys{Action: "rotate"}, func() {
			org.Reply("/.well-known/", oktatest.Reply{Status: 502, ContentType: "text/html", Body: "<html>"})
		}, "org_unexpected_answer", false},
	} {
		began := len(org.Authorizations())
		if row.org != nil {
			row.org()
		}
		_, _, err := a.changes(t, acc.ID, row.in)
		r := refusalOf(t, err)
		if r.Code != row.code || r.Message == "" || row.begun && strings.Contains(r.Hint, "nothing was added") {
			t.Errorf("%s: %+v", row.name, r)
		}
		if (len(org.Authorizations()) > began) != row.begun {
			t.Errorf("%s: somebody was sent to sign in: %v", row.name, !row.begun)
		}
		org.Reply(update, oktatest.Reply{})
		org.Reply("/.well-known/", oktatest.Reply{})
		org.SignsIn(oktatest.SignIn{})
		if got := a.silent(t, org); got != http.StatusOK {
			t.Fatalf("%s: the account does not sign: %d", row.name, got)
		}
		if list, err := a.client.Keys(t.Context()); err != nil || len(list.Keys) != 3 {
			t.Errorf("%s: %+v, %v", row.name, list, err)
		}
	}
	if _, err := a.client.ChangeKeys(t.Context(), "nobody", api.ChangeKeys{Action: "rotate"}); refusalOf(t, err).Code != "account_unknown" {
		t.Error(err)
	}
}

// C2: malware that may talk to the agent as the person does gets no key in that
// verifies them: not without the PIN, not by grace, not by a PIN that was for a
// sign-in, not without the person's own sign-in in the browser.
func TestC2NoKeyWithoutThePersonTwice(t *testing.T) {
	org := oktatest.NewOrg(t)
	c := testConfig(t)
	c.VerificationGrace = 5 * time.Minute
	a := withPIN(t, org, c)
	list, err := a.client.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acc := list.Accounts[0]
	keysOf := func() string {
		l, err := a.client.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, k := range l.Keys {
			ids = append(ids, k.ID)
		}
		return strings.Join(ids, " ")
	}
	toldOfKeys := func() bool {
		return slices.ContainsFunc(org.Updates(), func(u json.RawMessage) bool { return strings.Contains(string(u), `"kid"`) })
	}
	before := keysOf()
	// The person approves a sign-in: grace begins, for sign-ins.
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	if _, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); err != nil || <-status != 200 {
		t.Fatal(err)
	}
	for _, in := range []api.ChangeKeys{
		{Action: "verify"}, {Action: "rotate"}, {Action: "migrate"}, {Action: "verify", Verification: "pin"},
		{Action: "verify", PIN: api.PIN(wrongPIN)}, {Action: "verify", Verification: "password"}, {Action: "rotate", Verification: "fingerprint"},
	} {
		if _, err := a.client.ChangeKeys(t.Context(), acc.ID, in); refusalOf(t, err).Status/100 == 2 {
			t.Errorf("%+v: begun", in)
		}
	}
	if len(org.Authorizations()) != 0 {
		t.Error("somebody was sent to sign in")
	}
	// With the PIN, and nobody who signs in; then somebody else.
	e, err := a.client.ChangeKeys(t.Context(), acc.ID, api.ChangeKeys{Action: "verify", PIN: api.PIN(testPIN)})
	if err != nil {
		t.Fatal(err)
	}
	if keysOf() != before || toldOfKeys() {
		t.Error("keys were made before anybody signed in")
	}
	if err := a.client.CancelEnrolment(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	org.SignsIn(oktatest.SignIn{UserID: "00uMallory", Login: oktatest.Login})
	if _, _, err := a.changes(t, acc.ID, api.ChangeKeys{Action: "verify", PIN: api.PIN(testPIN)}); refusalOf(t, err).Code != "other_user" {
		t.Errorf("%v", err)
	}
	if keysOf() != before || toldOfKeys() {
		t.Error("keys have changed")
	}
	var failed int
	for _, r := range a.audit(t) {
		if r.Event == "keys" && r.Outcome == "failed" && r.Account == acc.ID {
			failed++
		}
	}
	if failed != 9 {
		t.Errorf("%d tries on record", failed)
	}
}

// The PIN is changed while the person signs in: nothing is made with the old one,
// which no later change could reach.
func TestPINChangesDuringASignIn(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := withPIN(t, org, testConfig(t))
	list, err := a.client.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := a.client.ChangeKeys(t.Context(), list.Accounts[0].ID, api.ChangeKeys{Action: "verify", PIN: api.PIN(testPIN)})
	if err != nil {
		t.Fatal(err)
	}
	const third = "161803"
	if _, err := a.client.SetPIN(t.Context(), api.PIN(third), api.PIN(testPIN)); err != nil {
		t.Fatal(err)
	}
	browse(t, e.URL)
	if _, err := a.client.AwaitEnrolment(t.Context(), e.ID); refusalOf(t, err).Code != "wrong_pin" {
		t.Errorf("%v", err)
	}
	// All keys demand the new one: it can be changed again.
	if _, err := a.client.SetPIN(t.Context(), api.PIN(testPIN), api.PIN(third)); err != nil {
		t.Error(err)
	}
}

// C2, C8: the PIN that waits for the end of a sign-in is wiped when it is over.
func TestC8PINIsWipedAfterTheSignIn(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := withPIN(t, org, testConfig(t))
	core := a.core.Load()
	f := front{a.Daemon}
	p, err := f.present(t.Context(), core, "a purpose", "A reason", audit.Record{}, api.PIN(testPIN), "")
	if err != nil {
		t.Fatal(err)
	}
	pin := p.requests[0].PIN
	if string(pin) != testPIN || p.presence() == nil {
		t.Fatal("no PIN to wipe")
	}
	if p.done(); strings.Trim(string(pin), "\x00") != "" {
		t.Error("the PIN is in memory still")
	}
	if none, err := f.present(t.Context(), core, "a purpose", "A reason", audit.Record{}, nil, ""); err != nil || none.presence() != nil {
		t.Errorf("%v", err)
	}
}

// Keys are moved into the TPM, and back.
func TestMigrateKeys(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, x := onChip(t)
	c.DeviceKey = "software"
	a := startAgent(t, c)
	a.setPIN(t)
	acc, _, err := a.add(t, api.BeginEnrolment{Org: org.URL, PIN: api.PIN(testPIN)})
	if err != nil || acc.Protection != "software" {
		t.Fatalf("%+v, %v", acc, err)
	}
	for _, row := range []struct{ to, kind, protection string }{{"", "tpm", "hardware"}, {"software", "software", "software"}, {"tpm", "tpm", "hardware"}} {
		now, _, err := a.changes(t, acc.ID, api.ChangeKeys{Action: "migrate", To: row.to, PIN: api.PIN(testPIN)})
		if err != nil || now.Protection != row.protection {
			t.Fatalf("%+v, %v", now, err)
		}
		list, err := a.client.Keys(t.Context())
		if err != nil || len(list.Keys) != 5 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, k := range list.Keys {
			if k.Kind != row.kind || k.State != "ready" {
				t.Errorf("to %q: %+v", row.to, k)
			}
		}
		p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
		if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); err != nil || o.Outcome != "approved" || <-status != 200 {
			t.Fatalf("%+v, %v", o, err)
		}
		signedBy(t, org, acc.EnrolmentID)
	}
	// A TPM that is gone refuses by name, and nothing has changed.
	if _, _, err := a.changes(t, acc.ID, api.ChangeKeys{Action: "migrate", To: "software", PIN: api.PIN(testPIN)}); err != nil {
		t.Fatal(err)
	}
	x.Kill()
	_, _, err = a.changes(t, acc.ID, api.ChangeKeys{Action: "migrate", PIN: api.PIN(testPIN)})
	if r := refusalOf(t, err); r.Code != "tpm_absent" || r.Hint == "" {
		t.Errorf("%+v", r)
	}
	if got := a.silent(t, org); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}
