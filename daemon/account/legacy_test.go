package account

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

// speakLegacy makes the org one that speaks the older shape only.
func (o *strictOrg) speakLegacy() *strictOrg {
	entry := okta.LegacyAuthenticator{ID: "autStrict", Key: okta.AuthenticatorKeyOktaVerify, Type: "app", Status: "ACTIVE", LoopbackOrigins: []string{"https://app.example.com"}}
	entry.Links.Enrol = &okta.Link{Href: o.URL + okta.LegacyEnrolmentsPath}
	for _, m := range []okta.Method{okta.MethodPush, okta.MethodSignedNonce, okta.MethodTOTP} {
		entry.Embedded.Methods = append(entry.Embedded.Methods, okta.SupportedMethod{Type: m, Status: "ACTIVE"})
	}
	o.legacy = []okta.LegacyAuthenticator{entry}
	return o
}

func (o *strictOrg) legacyListing(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case o.legacy == nil:
		refuse(w, okta.CodePathNotFound)
	case credential == "" || scheme == "SSWS" && !o.isKnown(credential):
		refuse(w, okta.CodeInvalidToken)
	default:
		answer(w, 200, o.legacy)
	}
}

// isKnown says whether a key of any enrolment has signed a token.
func (o *strictOrg) isKnown(token string) bool {
	if o.deaf {
		return false
	}
	for id := range o.keys {
		if place, _ := o.signedBy(id, token, jose.EnrolmentUpdate); place != "" {
			return true
		}
	}
	return false
}

// exchangeLegacy translates a replacement that names keys; nil when it does not.
func (o *strictOrg) exchangeLegacy(r *http.Request, old okta.LegacyEnrolmentRequest) *httptest.ResponseRecorder {
	patch := map[string]any{}
	var methods okta.MethodRequests
	for _, m := range old.Methods {
		*request(&methods, m.Type) = &okta.MethodRequest{Keys: m.Keys}
	}
	patch["methods"] = methods
	if old.KeyChange != "" {
		patch["keyChange"] = old.KeyChange
	}
	if old.Device.ClientInstanceKey != nil {
		patch["device"] = map[string]any{"clientInstanceKey": old.Device.ClientInstanceKey}
	}
	body, _ := json.Marshal(patch)
	inner := httptest.NewRequest(http.MethodPatch, okta.AppAuthenticatorsPath, bytes.NewReader(body))
	inner.Header = r.Header
	inner.SetPathValue("id", r.PathValue("id"))
	got := httptest.NewRecorder()
	if !o.exchange(got, inner) {
		return nil
	}
	return got
}

// legacyCreate translates, so that the rules are those of create.
func (o *strictOrg) legacyCreate(w http.ResponseWriter, r *http.Request) {
	var old okta.LegacyEnrolmentRequest
	if err := json.NewDecoder(r.Body).Decode(&old); err != nil || o.legacy == nil {
		refuse(w, okta.CodeValidation)
		return
	}
	o.set(func() { o.old = append(o.old, old) })
	req := okta.EnrolmentRequest{AuthenticatorID: old.AuthenticatorID, Device: old.Device}
	for _, m := range old.Methods {
		*request(&req.Methods, m.Type) = &okta.MethodRequest{PushToken: m.PushToken, Keys: m.Keys, Capabilities: m.Capabilities}
	}
	body, _ := json.Marshal(req)
	inner := httptest.NewRequest(http.MethodPost, okta.AppAuthenticatorsPath, bytes.NewReader(body))
	inner.Header = r.Header
	got := httptest.NewRecorder()
	o.create(got, inner)
	var e okta.Enrolment
	if err := json.Unmarshal(got.Body.Bytes(), &e); got.Code != 200 || err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(got.Code)
		_, _ = w.Write(got.Body.Bytes())
		return
	}
	out := okta.LegacyEnrolment{ID: e.ID, Status: "ACTIVE", User: e.User, Device: e.Device}
	for t, m := range e.Methods {
		out.Methods = append(out.Methods, okta.LegacyMethod{ID: m.ID, Type: t, Status: "ACTIVE", Links: m.Links, SharedSecret: m.SharedSecret})
	}
	answer(w, 200, out)
}

func (o *strictOrg) legacyReplace(w http.ResponseWriter, r *http.Request) {
	var old okta.LegacyEnrolmentRequest
	if err := json.NewDecoder(r.Body).Decode(&old); err != nil {
		refuse(w, okta.CodeValidation)
		return
	}
	o.set(func() {
		o.old = append(o.old, old)
		o.updates = append(o.updates, strings.Fields(r.Header.Get("Authorization"))[0])
	})
	if got := o.exchangeLegacy(r, old); got != nil && got.Code != http.StatusOK {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(got.Code)
		_, _ = w.Write(got.Body.Bytes())
		return
	}
	answer(w, 200, okta.LegacyEnrolment{ID: r.PathValue("id"), User: okta.EnrolmentUser{ID: "00uAlice"},
		Device: okta.EnrolmentDevice{ID: "guo1", ClientInstanceID: "cli1"}, Methods: []okta.LegacyMethod{{ID: "opp", Type: okta.MethodPush}}})
}

// The whole life of an account in the older shape: discovery chooses it, a link
// and a sign-in enrol by it, its own key lists, replaces and removes.
func TestLegacyAccount(t *testing.T) {
	org, m := newStrictOrg(t).speakLegacy(), boot(t, t.TempDir()+"/state")
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil || a.Dialect != Legacy || names(a) != "push signed_nonce totp" || !a.AllowsOrigin("https://app.example.com") {
		t.Fatalf("%+v, %v", a, err)
	}
	sent := org.old[0]
	if sent.Key != okta.AuthenticatorKeyOktaVerify || len(sent.Methods) != 3 || sent.Methods[0].Type != okta.MethodPush || *sent.Methods[0].PushToken != "" ||
		sent.Methods[0].SupportUserVerification == nil || *sent.Methods[0].SupportUserVerification || sent.Methods[2].Keys != nil {
		t.Errorf("%+v", sent)
	}
	p, err := m.Prospect(t.Context(), org.URL)
	if err != nil || p.Scopes != "openid profile okta.myAccount.appAuthenticator.manage okta.authenticators.read okta.authenticators.manage.self" {
		t.Fatalf("%q, %v", p.Scopes, err)
	}
	second, err := m.signsIn(t.Context(), org.URL, "00uAlice")
	if err != nil || second.Dialect != Legacy || org.posts[1].Device.Attestation == nil {
		t.Fatalf("%+v, %v", second, err)
	}
	m.settled(t, org)

	// Pages and transactions change later: asked and told by the account's own key.
	org.set(func() {
		org.legacy[0].LoopbackOrigins = []string{"https://other.example.com"}
		org.legacy[0].Embedded.Methods[0].Settings.TransactionTypes = []string{okta.TransactionLogin, okta.TransactionCIBA}
	})
	if err := m.RefreshOrigins(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, _ = m.Get(a.ID)
	push, _ := a.Method(okta.MethodPush)
	if !a.AllowsOrigin("https://other.example.com") || a.AllowsOrigin("https://app.example.com") || len(push.Transactions) != 2 {
		t.Errorf("%+v", a)
	}
	whole := org.old[len(org.old)-1] // a PUT names all methods, or they would be gone
	if strings.Join(org.updates, " ") != "SSWS SSWS" || len(whole.Methods) != 3 || len(whole.Methods[0].Capabilities.TransactionTypes) != 2 || whole.Device.ID != "guo1" || whole.Device.ClientInstanceKey != nil {
		t.Errorf("%v %+v", org.updates, whole)
	}
	for _, a := range m.All() {
		if err := m.Remove(t.Context(), a.ID, false); err != nil {
			t.Fatal(err)
		}
	}
	// The last account of the org takes the key of the device with it.
	if len(org.deleted) != 2 || m.storedKeys(t) != 0 {
		t.Fatalf("%d deleted, %d keys", len(org.deleted), m.storedKeys(t))
	}
}

// Which dialect an org speaks, and orgs that speak neither.
func TestDiscovery(t *testing.T) {
	for _, row := range []struct {
		name string
		org  func(*strictOrg)
		want Dialect
		err  error
	}{
		{"the newer", func(*strictOrg) {}, Modern, nil},
		{"the older", func(o *strictOrg) { o.speakLegacy() }, Legacy, nil},
		{"inactive ones beside it", func(o *strictOrg) {
			o.speakLegacy().legacy = append(o.legacy, okta.LegacyAuthenticator{ID: "x", Key: okta.AuthenticatorKeyOktaVerify, Status: "INACTIVE"})
		}, Legacy, nil},
		{"two active", func(o *strictOrg) { o.speakLegacy().legacy = append(o.legacy, o.legacy[0]) }, "", client.ErrSeveralAuthenticators},
		{"none active", func(o *strictOrg) { o.speakLegacy().legacy[0].Status = "INACTIVE" }, "", client.ErrNoAuthenticator},
		{"another kind", func(o *strictOrg) { o.speakLegacy().legacy[0].Key = "google_otp" }, "", client.ErrNoAuthenticator},
		{"nothing", func(o *strictOrg) { o.legacy = []okta.LegacyAuthenticator{} }, "", client.ErrNoAuthenticator},
		{"another authenticator", func(o *strictOrg) { o.speakLegacy().legacy[0].ID = "autOther" }, "", ErrLinkMismatch},
		{"enrols elsewhere", func(o *strictOrg) { // E12
			o.speakLegacy().legacy[0].Links.Enrol.Href = "https://evil.example/steal"
		}, "", client.ErrForeignURL},
	} {
		org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
		row.org(org)
		a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
		if !errors.Is(err, row.err) || err == nil && a.Dialect != row.want {
			t.Errorf("%s: %+v, %v", row.name, a, err)
		}
		if err != nil && (len(m.All()) != 0 || m.storedKeys(t) != 0) {
			t.Errorf("%s: %d accounts, %d keys left", row.name, len(m.All()), m.storedKeys(t))
		}
	}
	// An org that cannot answer is not asked in another way.
	org, m := newStrictOrg(t).speakLegacy(), boot(t, t.TempDir()+"/state")
	org.Close()
	var silent *client.Unreachable
	if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil); !errors.As(err, &silent) {
		t.Errorf("%v", err)
	}
	if _, err := Dialect("klingon").protocol(); err == nil {
		t.Error("an unknown dialect is spoken")
	}
}

// The org changes what a push may be about: it is told, by the maintenance token.
func TestPushIsKeptUpToDate(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RefreshOrigins(t.Context()); err != nil || len(org.updates) != 0 {
		t.Fatalf("%v, told %v, and nothing had changed", err, org.updates)
	}
	org.config = each(func(s *okta.SupportedMethod) { s.Settings.TransactionTypes = nil })
	for _, row := range []struct {
		refusals []okta.ErrorCode
		asked    int
		ok       bool
		state    State
	}{
		{[]okta.ErrorCode{okta.CodeUserSuspended}, 1, false, Suspended},
		{[]okta.ErrorCode{okta.CodeInvalidToken, okta.CodeInvalidToken}, 2, false, Suspended}, // never for ever
		{[]okta.ErrorCode{okta.CodeInvalidToken}, 2, true, Active},                            // a fresh token, and all is well again
	} {
		org.set(func() { org.updates, org.refusals = nil, row.refusals })
		err := m.RefreshOrigins(t.Context())
		got, _ := m.Get(a.ID)
		if (err == nil) != row.ok || len(org.updates) != row.asked || got.State != row.state {
			t.Errorf("%v: %v, asked %d times, %s", row.refusals, err, len(org.updates), got.State)
		}
	}
	if want := `Bearer {"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN"]}}}}`; org.updates[1] != want {
		t.Errorf("%s, want %s", org.updates[1], want)
	}
	got, _ := m.Get(a.ID)
	if push, _ := got.Method(okta.MethodPush); strings.Join(push.Transactions, " ") != "LOGIN" {
		t.Errorf("%+v", push)
	}
	org.set(func() { org.updates = nil })
	if err := m.RefreshOrigins(t.Context()); err != nil || len(org.updates) != 0 {
		t.Errorf("%v, told again: %v", err, org.updates)
	}
}
