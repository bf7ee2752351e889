package org_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign.dev/org"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// terminal signs in without a browser, by the sign-in API alone.
type terminal struct {
	t        *testing.T
	s        *org.Server
	verifier string
	last     struct {
		StateHandle string `json:"stateHandle"`
		Remediation struct {
			Value []struct{ Name string } `json:"value"`
		} `json:"remediation"`
		CurrentAuthenticator struct {
			Value struct {
				ID             string
				ContextualData struct {
					ActivationData struct {
						Challenge string
						RP        struct{ ID string }
					}
					ChallengeData struct{ Challenge, RPID string }
				}
			}
		}
		Authenticators struct{ Value []struct{ ID, Key string } }
		Messages       struct{ Value []struct{ Message string } }
		Code           struct {
			Value []struct {
				Name  string
				Value string
			}
		} `json:"successWithInteractionCode"`
	}
}

func (c *terminal) send(path, contentType, body string, dst any) int {
	c.t.Helper()
	r := httptest.NewRequest("POST", base+path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	c.s.Handler().ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), dst); err != nil {
		c.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Code
}

func (c *terminal) begin(client, redirect string, more url.Values) {
	c.t.Helper()
	c.verifier = ids.Secret()
	sum := sha256.Sum256([]byte(c.verifier))
	form := url.Values{"client_id": {client}, "redirect_uri": {redirect}, "scope": {"openid profile"}, "state": {"s"}, "nonce": {"n"},
		"code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
	for k, v := range more {
		form[k] = v
	}
	var begun struct {
		Handle string `json:"interaction_handle"`
	}
	if status := c.send("/oauth2/v1/interact", "application/x-www-form-urlencoded", form.Encode(), &begun); status != 200 || begun.Handle == "" {
		c.t.Fatalf("interact: %d", status)
	}
	c.step("introspect", map[string]any{"interactionHandle": begun.Handle}, "identify")
	c.step("identify", map[string]any{"identifier": "bob@example.com"}, "challenge-authenticator")
}

// step takes a step that must lead to a form; "" means to the end.
func (c *terminal) step(path string, body map[string]any, want string) {
	c.t.Helper()
	if path != "introspect" {
		body["stateHandle"] = c.last.StateHandle
	}
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.last.Remediation.Value, c.last.Code.Value = nil, nil
	c.send("/idp/idx/"+path, "application/json", string(b), &c.last)
	got := ""
	if len(c.last.Remediation.Value) > 0 {
		got = c.last.Remediation.Value[0].Name
	}
	if got != want {
		c.t.Fatalf("%s led to %q, want %q: %+v", path, got, want, c.last.Messages)
	}
}

func (c *terminal) password(want string) {
	c.t.Helper()
	c.step("challenge/answer", map[string]any{"credentials": map[string]string{"passcode": "Countersign-Demo-1"}}, want)
}

func (c *terminal) enrol(k *signintest.SoftKey) {
	c.t.Helper()
	c.step("credential/enroll", map[string]any{"authenticator": map[string]string{"id": c.last.Authenticators.Value[0].ID}}, "enroll-authenticator")
	data := c.last.CurrentAuthenticator.Value.ContextualData.ActivationData
	a := k.Make(&signin.KeyView{Challenge: data.Challenge, RPID: data.RP.ID}, base)
	c.step("challenge/answer", map[string]any{"credentials": map[string]string{"clientData": a.ClientData, "attestation": a.Attestation}}, "")
}

func (c *terminal) use(k *signintest.SoftKey, want string) {
	c.t.Helper()
	data := c.last.CurrentAuthenticator.Value.ContextualData.ChallengeData
	a := k.Assert(&signin.KeyView{Challenge: data.Challenge, RPID: data.RPID}, base)
	c.step("challenge/answer", map[string]any{"credentials": map[string]string{
		"clientData": a.ClientData, "authenticatorData": a.AuthenticatorData, "signatureData": a.Signature}}, want)
}

// amr redeems the interaction code and says how bob signed in.
func (c *terminal) amr(client string) string {
	c.t.Helper()
	form := url.Values{"grant_type": {"interaction_code"}, "client_id": {client}, "code_verifier": {c.verifier}}
	for _, v := range c.last.Code.Value {
		if v.Name == "interaction_code" {
			form.Set("interaction_code", v.Value)
		}
	}
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	if status := c.send("/oauth2/v1/token", "application/x-www-form-urlencoded", form.Encode(), &tokens); status != 200 {
		c.t.Fatalf("token: %d", status)
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens.IDToken, ".")[1])
	if err != nil {
		c.t.Fatal(err)
	}
	var said struct {
		AMR   []string `json:"amr"`
		Login string   `json:"preferred_username"`
	}
	if err := json.Unmarshal(claims, &said); err != nil || said.Login != "bob@example.com" {
		c.t.Fatalf("%s %v", claims, err)
	}
	return strings.Join(said.AMR, " ")
}

const loopback = "http://127.0.0.1:4711/callback"

// A security key without a browser: enrolled and used over the sign-in API, in
// the name of the agent's client, which asks for the enrolment, and of an app
// that needs it.
func TestSecurityKeyFromTheTerminal(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	k := signintest.NewSoftKey()
	c := &terminal{t: t, s: s}
	c.begin("countersign-agent", loopback, url.Values{"prompt": {"enroll_authenticator"}, "enroll_amr_values": {"pop"}})
	c.password("select-authenticator-enroll")
	if len(c.last.Remediation.Value) != 2 || c.last.Remediation.Value[1].Name != "skip" {
		t.Errorf("forms %+v", c.last.Remediation)
	}
	c.enrol(k)
	if amr := c.amr("countersign-agent"); amr != "pwd pop mfa" {
		t.Errorf("amr %q", amr)
	}
	c.begin("countersign-agent", loopback, nil)
	c.password("challenge-authenticator")
	stranger := signintest.NewSoftKey()
	c.use(stranger, "challenge-authenticator")
	c.use(k, "")
	if amr := c.amr("countersign-agent"); amr != "pwd pop mfa" {
		t.Errorf("amr %q", amr)
	}
	// Another key beside it takes the first one; an acr that resists phishing is reached.
	c.begin("demo-web", "http://localhost:4711/callback", url.Values{"prompt": {"enroll_authenticator"}, "acr_values": {"phr"}})
	c.password("challenge-authenticator")
	c.use(k, "select-authenticator-enroll")
	c.step("skip", map[string]any{}, "")
	if amr := c.amr("demo-web"); amr != "pwd pop mfa" {
		t.Errorf("amr %q", amr)
	}
	// What no browser would do: two keys of a page, of another origin.
	c.begin("demo-web", "http://localhost:4711/callback", nil)
	c.password("challenge-authenticator")
	data := c.last.CurrentAuthenticator.Value.ContextualData.ChallengeData
	a := k.Assert(&signin.KeyView{Challenge: data.Challenge, RPID: data.RPID}, "http://localhost:1")
	c.step("challenge/answer", map[string]any{"credentials": map[string]string{
		"clientData": a.ClientData, "authenticatorData": a.AuthenticatorData, "signatureData": a.Signature}}, "")
	if len(c.last.Code.Value) != 0 {
		t.Error("signed in from another page")
	}
}

// Prompts that ask for what cannot be enrolled are refused.
func TestPromptToEnrol(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	for query, want := range map[string]int{
		"prompt=enroll_authenticator": 200, "prompt=enroll_authenticator&enroll_amr_values=pop+sms": 200, "prompt=login+enroll_authenticator": 200,
		"prompt=enroll_authenticator&enroll_amr_values=sms": 400, "prompt=enroll": 400,
	} {
		body := "client_id=demo-web&redirect_uri=" + url.QueryEscape("http://localhost:1/callback") + "&scope=openid&code_challenge_method=S256&code_challenge=" + ids.Secret() + "&" + query
		r := httptest.NewRequest(http.MethodPost, base+"/oauth2/v1/interact", bytes.NewReader([]byte(body)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// inside does something with the store of an org that is not running.
func inside(t *testing.T, dir string, do func(store.Tx) error) {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(dir, "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	storetest.Write(t, db, do)
}

func webAuthnIn(t *testing.T, dir string) (got directory.WebAuthn) {
	t.Helper()
	inside(t, dir, func(tx store.Tx) (err error) {
		got, err = directory.OrgWebAuthn(t.Context(), tx)
		return err
	})
	return got
}

// switchKeys switches security keys on or off, as the administrator does who
// knows the token and nothing else, and says what the list says afterwards.
func switchKeys(t *testing.T, s *org.Server, transition string) string {
	t.Helper()
	admin := []string{"Authorization", "SSWS " + s.AdminToken().Reveal()}
	list := func() (of struct{ ID, Key, Status string }) {
		w := call(s, "GET", "/api/v1/authenticators", nil, admin...)
		var all []struct{ ID, Key, Status string }
		if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || w.Code != 200 || len(all) != 3 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, a := range all {
			if a.Key == "webauthn" {
				of = a
			}
		}
		return of
	}
	if transition != "" {
		if w := call(s, "POST", "/api/v1/authenticators/"+list().ID+"/lifecycle/"+transition, nil, admin...); w.Code != 200 {
			t.Fatalf("%s: %d %s", transition, w.Code, w.Body)
		}
	}
	return list().Status
}

// A demonstration that was filled before there were security keys takes them
// when it is started again; what was switched off stays so.
func TestDemoGetsSecurityKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	open(t, org.Config{StateDir: dir, Demo: true}).Close()
	inside(t, dir, func(tx store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DELETE FROM authenticators`)
		return err
	})
	open(t, org.Config{StateDir: dir}).Close() // started without --demo in between
	if a := webAuthnIn(t, dir); a.Active() {
		t.Errorf("%+v", a)
	}
	s := open(t, org.Config{StateDir: dir, Demo: true})
	if got := switchKeys(t, s, ""); got != "ACTIVE" {
		t.Error(got)
	}
	if got := switchKeys(t, s, "deactivate"); got != "INACTIVE" {
		t.Error(got)
	}
	s.Close()
	s = open(t, org.Config{StateDir: dir, Demo: true})
	c := &terminal{t: t, s: s}
	c.begin("demo-web", "http://localhost:4711/callback", nil)
	c.password("")
	s.Close()
	if a := webAuthnIn(t, dir); a.Active() {
		t.Errorf("%+v", a)
	}
}

// An org that is no demonstration takes security keys once its administrator has
// switched them on, and no longer than that.
func TestSecurityKeysAreSwitchedOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	open(t, org.Config{StateDir: dir}).Close()
	hash, err := directory.NewHasher(1).Hash(t.Context(), "Countersign-Demo-1")
	if err != nil {
		t.Fatal(err)
	}
	inside(t, dir, func(tx store.Tx) error {
		_, err := directory.CreateUser(t.Context(), tx, directory.User{Login: "bob@example.com", PasswordHash: hash}, time.Now())
		return err
	})
	s := open(t, org.Config{StateDir: dir})
	if got := switchKeys(t, s, ""); got != "INACTIVE" {
		t.Error(got)
	}
	k, c := signintest.NewSoftKey(), &terminal{t: t, s: s}
	enrolling := url.Values{"prompt": {"enroll_authenticator"}, "enroll_amr_values": {"pop"}}
	c.begin("countersign-agent", loopback, enrolling)
	c.password("") // nothing is offered
	if amr := c.amr("countersign-agent"); amr != "pwd" {
		t.Errorf("amr %q", amr)
	}
	if got := switchKeys(t, s, "activate"); got != "ACTIVE" {
		t.Error(got)
	}
	c.begin("countersign-agent", loopback, enrolling)
	c.password("select-authenticator-enroll")
	c.enrol(k)
	// Switched on, it stays so; the rule of the app asks for the key by now.
	s.Close()
	s = open(t, org.Config{StateDir: dir})
	if got := switchKeys(t, s, ""); got != "ACTIVE" {
		t.Error(got)
	}
	c = &terminal{t: t, s: s}
	c.begin("countersign-agent", loopback, nil)
	c.password("challenge-authenticator")
	c.use(k, "")
	if amr := c.amr("countersign-agent"); amr != "pwd pop mfa" {
		t.Errorf("amr %q", amr)
	}
	// Switched off, the key is asked no more. It still counts as bob's factor: the
	// password alone opens nothing that it has not opened before.
	if got := switchKeys(t, s, "deactivate"); got != "INACTIVE" {
		t.Error(got)
	}
	c.begin("countersign-agent", loopback, enrolling)
	c.password("")
	if len(c.last.Code.Value) != 0 {
		t.Error("signed in by the password alone")
	}
	s.Close()
	open(t, org.Config{StateDir: dir, Demo: true}).Close() // the demonstration does not switch on what somebody has switched off, nor set it
	if a := webAuthnIn(t, dir); a.Active() || a.Settings.ResidentKeyRequirement != directory.ResidentDiscouraged {
		t.Errorf("%+v", a)
	}
}

// Who runs the org sees all its authenticators; agents see what they enrol.
func TestListOfAuthenticators(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state")})
	token := "SSWS " + s.AdminToken().Reveal()
	keys := func(query string) string {
		t.Helper()
		w := call(s, "GET", "/api/v1/authenticators"+query, nil, "Authorization", token)
		var list []struct{ Key string }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		var said []string
		for _, a := range list {
			said = append(said, a.Key)
		}
		return strings.Join(said, " ")
	}
	for query, want := range map[string]string{"": "okta_password okta_verify webauthn", "?key=webauthn": "webauthn", "?key=okta_password": "okta_password",
		"?key=okta_verify": "okta_verify", "?key=okta_verify&expand=methods": "okta_verify", "?key=nothing": ""} {
		if got := keys(query); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	for _, other := range []string{"", "SSWS", token + "x", "Bearer " + s.AdminToken().Reveal()} {
		if w := call(s, "GET", "/api/v1/authenticators", nil, "Authorization", other); w.Code != http.StatusUnauthorized {
			t.Errorf("%q: %d", other, w.Code)
		}
	}
	if w := call(s, "DELETE", "/api/v1/authenticators", nil, "Authorization", token); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", w.Code)
	}
}
