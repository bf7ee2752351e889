package org_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/org"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/ids"
)

// enrolled is a device of alice's, nil for none.
type enrolled struct {
	agent devicetest.Agent
	okta.Enrolment
}

// agentToken signs alice in to the agent's app, with her password and the
// device if she has one.
func agentToken(t *testing.T, s *org.Server, with *enrolled) okta.Secret {
	t.Helper()
	p := page{t, s}
	verifier := ids.Secret()
	sum := sha256.Sum256([]byte(verifier))
	const redirect = "http://127.0.0.1:4321/callback"
	w := call(s, "GET", "/oauth2/v1/authorize?"+url.Values{
		"client_id": {"countersign-agent"}, "response_type": {"code"}, "scope": {"openid " + okta.ScopeManage}, "redirect_uri": {redirect},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "state": {"s"}, "prompt": {"login"},
	}.Encode(), nil)
	found := regexp.MustCompile(`"stateToken":"([^"]+)"`).FindStringSubmatch(w.Body.String())
	if found == nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	at := p.idx(base+"/idp/idx/introspect", map[string]any{"stateToken": found[1]})
	at = p.submit(at, "identify", map[string]any{"identifier": "alice@example.com"})
	at = p.submit(at, "challenge-authenticator", map[string]any{"credentials": map[string]string{"passcode": "Countersign-Demo-1"}})
	if with != nil {
		at = p.submit(at, "select-authenticator-authenticate", map[string]any{
			"authenticator": map[string]string{"id": with.AuthenticatorID, "methodType": "signed_nonce"}})
		answer(t, s, with.agent, with.Enrolment, at.CurrentAuthenticator.Value.ContextualData.Challenge.Value.ChallengeRequest)
		at = p.submit(at, "challenge-poll", nil)
	}
	if at.Success == nil {
		t.Fatalf("no success: %+v", at)
	}
	r := httptest.NewRequest(http.MethodGet, at.Success.Href, nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	w = httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil || to.Query().Get("code") == "" {
		t.Fatalf("%d %s", w.Code, w.Header().Get("Location"))
	}
	w = p.post(base+"/oauth2/v1/token", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "client_id": {"countersign-agent"},
		"redirect_uri": {redirect}, "code_verifier": {verifier},
	}.Encode())
	var tokens struct {
		AccessToken okta.Secret `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &tokens); err != nil || tokens.AccessToken == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return tokens.AccessToken
}

// C2, with real tokens and the agent's own client: a password enrols the first
// device and nothing more; a full sign-in adds what no key has to agree to; a
// change of keys takes both, ends what the old key got, and is told to the
// other device.
func TestC2TokensAndKeys(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	ctx := t.Context()
	o, err := client.New(base, client.Options{ClientID: "countersign-agent", HTTP: &http.Client{Transport: direct{s}}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := o.AuthenticatorConfiguration(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantCode := func(what string, err error, code okta.ErrorCode) {
		t.Helper()
		var refusal *okta.Error
		if errors.As(err, &refusal); code == "" && err != nil || code != "" && (refusal == nil || refusal.Code != code) {
			t.Errorf("%s: %v, want %q", what, err, code)
		}
	}
	add := func(what string, token okta.Secret, a devicetest.Agent, code okta.ErrorCode) *enrolled {
		t.Helper()
		e, err := o.Enrol(ctx, client.Bearer(token), "", a.Request(config.AuthenticatorID))
		wantCode(what, err, code)
		return &enrolled{a, e}
	}
	keys := func(e *enrolled, new map[string]devicetest.Key, signer *devicetest.Key) map[string]any {
		t.Helper()
		methods, thumbprints := map[string]any{}, map[string]string{}
		for place, k := range new {
			method, role, _ := strings.Cut(place, ".")
			in, _ := methods[method].(map[string]any)
			if in == nil {
				in = map[string]any{"keys": map[string]any{}}
				methods[method] = in
			}
			in["keys"].(map[string]any)[role] = k.JWK
			if thumbprints[place], err = k.JWK.Thumbprint(); err != nil {
				t.Fatal(err)
			}
		}
		body := map[string]any{"methods": methods}
		if signer != nil {
			now := time.Now()
			body["keyChange"] = signer.Sign(t, okta.TypeKeyChange, okta.KeyChange{
				Issuer: e.ID, Subject: e.User.ID, Audience: base, ID: ids.New(""), Keys: thumbprints,
				IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(5 * time.Minute)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
			})
		}
		return body
	}
	update := func(what string, token okta.Secret, e *enrolled, body any, code okta.ErrorCode) {
		t.Helper()
		_, err := o.UpdateEnrolment(ctx, client.Bearer(token), e.ID, body)
		wantCode(what, err, code)
	}

	password := agentToken(t, s, nil)
	first := add("the first device", password, devicetest.New(t), "")
	if again := add("the first device again", password, first.agent, ""); again.ID != first.ID {
		t.Errorf("%s again is %s", first.ID, again.ID)
	}
	add("a second one by the password", password, devicetest.New(t), okta.CodeForbidden)
	uv := map[string]devicetest.Key{"signed_nonce.userVerificationBioOrPin": first.agent.UV}
	update("a key by the password", password, first, keys(first, uv, nil), okta.CodeForbidden)
	update("a key by the password and the silent key", password, first, keys(first, uv, &first.agent.PoP), okta.CodeForbidden)
	wantCode("deleting by the password", o.DeleteEnrolment(ctx, client.Bearer(password), first.ID), okta.CodeForbidden)

	strong := agentToken(t, s, first)
	second := add("a second one", strong, devicetest.New(t), "")
	update("a first key that verifies", strong, first, keys(first, uv, nil), "")
	renewed := devicetest.New(t)
	rotation := map[string]devicetest.Key{
		"signed_nonce.proofOfPossession": renewed.PoP, "push.proofOfPossession": renewed.PoP,
		"signed_nonce.userVerificationBioOrPin": renewed.UV,
	}
	update("new keys by a token alone", strong, first, keys(first, rotation, nil), okta.CodeForbidden)
	update("new keys, and the silent key agrees", strong, first, keys(first, rotation, &first.agent.PoP), okta.CodeUVRequired)
	update("new keys, and another device agrees", strong, first, keys(first, rotation, &second.agent.PoP), okta.CodeValidation)
	var old struct {
		AccessToken okta.Secret `json:"access_token"`
	}
	if err := json.Unmarshal(tokenFor(t, s, first.agent, first.Enrolment).Body.Bytes(), &old); err != nil {
		t.Fatal(err)
	}
	pending := first.Methods[okta.MethodPush].Links["pending"].Href
	if _, err := o.Pending(ctx, client.Bearer(old.AccessToken), pending, client.PendingRequest{}); err != nil {
		t.Fatal(err)
	}
	body := keys(first, rotation, &first.agent.UV)
	update("new keys", strong, first, body, "")
	update("new keys, when the answer was lost", strong, first, body, "")
	_, err = o.Pending(ctx, client.Bearer(old.AccessToken), pending, client.PendingRequest{})
	wantCode("the old key's token", err, okta.CodeInvalidToken)
	if w := tokenFor(t, s, first.agent, first.Enrolment); w.Code != 400 {
		t.Errorf("another token by the old key: %d %s", w.Code, w.Body)
	}
	first.agent = renewed

	told := func(e *enrolled, want ...string) {
		t.Helper()
		auth := func() client.Authorization {
			return client.SSWS(okta.Secret(e.agent.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(e.ID, e.User.ID, base, time.Now()))))
		}
		list, err := o.Pending(ctx, auth(), e.Methods[okta.MethodPush].Links["pending"].Href, client.PendingRequest{})
		if err != nil {
			t.Fatal(err)
		}
		notices, err := o.Notices(ctx, auth(), e.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range notices {
			got = append(got, n.Event)
			if n.Device != "workshop" || n.EnrolmentID == e.ID || list.Notice < n.ID {
				t.Errorf("%+v, newest %d", n, list.Notice)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("told %v, want %v", got, want)
		}
	}
	told(first, okta.NoticeEnrolled)
	told(second, okta.NoticeVerificationAdded, okta.NoticeKeysReplaced)
}
