package org_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org"
	"countersign.dev/org/api/admin"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/ids"
)

// form is one way on from a step of a sign-in.
type form struct {
	Name  string `json:"name"`
	Href  string `json:"href"`
	Value []struct {
		Name    string `json:"name"`
		Value   any    `json:"value"`
		Mutable *bool  `json:"mutable"`
	} `json:"value"`
}

type step struct {
	Remediation struct {
		Value []form `json:"value"`
	} `json:"remediation"`
	SuccessWithInteractionCode *form `json:"successWithInteractionCode"`
	Success                    *form `json:"success"`
	CurrentAuthenticator       struct {
		Value struct {
			ContextualData struct {
				Challenge struct {
					Value struct {
						ChallengeRequest string `json:"challengeRequest"`
					} `json:"value"`
				} `json:"challenge"`
			} `json:"contextualData"`
		} `json:"value"`
	} `json:"currentAuthenticator"`
}

// page is a page of a relying party, with the sign-in widget in it.
type page struct {
	t   *testing.T
	org *org.Server
}

const pageOrigin = "http://localhost:3000"

func (p page) post(target, contentType, body string) *httptest.ResponseRecorder {
	p.t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Origin", pageOrigin)
	w := httptest.NewRecorder()
	p.org.Handler().ServeHTTP(w, r)
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != pageOrigin {
		p.t.Errorf("%s: the page may not read the answer (%q)", target, got)
	}
	return w
}

func (p page) idx(href string, body map[string]any) step {
	p.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	w := p.post(href, "application/json", string(b))
	var s step
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != 200 {
		p.t.Fatalf("%s: %d %s", href, w.Code, w.Body)
	}
	return s
}

// submit sends a form of a step: what it fixes and what the person gives.
func (p page) submit(s step, name string, given map[string]any) step {
	p.t.Helper()
	for _, f := range s.Remediation.Value {
		if f.Name != name {
			continue
		}
		body := map[string]any{}
		for _, field := range f.Value {
			if field.Mutable != nil && !*field.Mutable {
				body[field.Name] = field.Value
			}
		}
		maps.Copy(body, given)
		return p.idx(f.Href, body)
	}
	p.t.Fatalf("no form %q in %+v", name, s.Remediation.Value)
	return step{}
}

// One sign-in through every room: a device enrolled by link answers the
// challenge, the page redeems its code, and the token is good at the account
// API for what it was granted and for nothing else.
func TestSignInStory(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	p := page{t, s}
	agent, enrolment := enrolByLink(t, s)

	verifier := ids.Secret()
	sum := sha256.Sum256([]byte(verifier))
	w := p.post(base+"/oauth2/v1/interact", "application/x-www-form-urlencoded", url.Values{
		"client_id": {"demo-web"}, "scope": {"openid profile"}, "redirect_uri": {pageOrigin + "/callback"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"state": {"s"}, "nonce": {"n"},
	}.Encode())
	var started struct {
		Handle string `json:"interaction_handle"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &started); err != nil || started.Handle == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	at := p.idx(base+"/idp/idx/introspect", map[string]any{"interactionHandle": started.Handle})
	at = p.submit(at, "identify", map[string]any{"identifier": "alice@example.com"})
	at = p.submit(at, "challenge-authenticator", map[string]any{"credentials": map[string]string{"passcode": "Countersign-Demo-1"}})
	if slices.ContainsFunc(at.Remediation.Value, func(f form) bool { return f.Name == "select-authenticator-authenticate" }) {
		at = p.submit(at, "select-authenticator-authenticate", map[string]any{
			"authenticator": map[string]string{"id": enrolment.AuthenticatorID, "methodType": "signed_nonce"}})
	}
	answer(t, s, agent, enrolment, at.CurrentAuthenticator.Value.ContextualData.Challenge.Value.ChallengeRequest)
	at = p.submit(at, "challenge-poll", nil)
	if at.SuccessWithInteractionCode == nil {
		t.Fatalf("no success: %+v", at)
	}
	var code string
	for _, f := range at.SuccessWithInteractionCode.Value {
		if f.Name == "interaction_code" {
			code, _ = f.Value.(string)
		}
	}
	w = p.post(base+"/oauth2/v1/token", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"interaction_code"}, "interaction_code": {code}, "client_id": {"demo-web"},
		"redirect_uri": {pageOrigin + "/callback"}, "code_verifier": {verifier},
	}.Encode())
	var tokens struct {
		AccessToken string `json:"access_token"`
		IDToken     string `json:"id_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &tokens); err != nil || tokens.AccessToken == "" || tokens.IDToken == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	w = call(s, "DELETE", okta.AppAuthenticatorsPath+"/"+enrolment.ID, nil, "Authorization", "Bearer "+tokens.AccessToken)
	if w.Code != 403 {
		t.Errorf("a relying party's token deletes an enrolment: %d %s", w.Code, w.Body)
	}
}

func enrolByLink(t *testing.T, s *org.Server) (devicetest.Agent, okta.Enrolment) {
	t.Helper()
	w := call(s, "POST", "/api/v1/users/alice@example.com/enrolment-links", nil, "Authorization", "SSWS "+s.AdminToken().Reveal())
	var out admin.Link
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	link, err := okta.ParseEnrolmentLink(out.URL)
	if err != nil {
		t.Fatal(err)
	}
	a := devicetest.New(t)
	w = call(s, "POST", okta.AppAuthenticatorsPath, a.Request(link.AuthenticatorID), "Authorization", "OTDT "+link.Token.Reveal())
	var e okta.Enrolment
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return a, e
}

// answer does what an agent does with a challenge that came over loopback.
func answer(t *testing.T, s *org.Server, a devicetest.Agent, e okta.Enrolment, challenge string) {
	t.Helper()
	parsed, err := jose.Parse(challenge, jose.DeviceChallenge)
	if err != nil {
		t.Fatalf("challenge %q: %v", challenge, err)
	}
	var c okta.Challenge
	if err := parsed.Claims(&c); err != nil {
		t.Fatal(err)
	}
	if c.Audience != "countersign-agent" || c.RequestReferrer == "" || c.Method != okta.MethodSignedNonce {
		t.Errorf("challenge %+v", c)
	}
	now := time.Now()
	token := a.PoP.Sign(t, okta.TypeDeviceBind, okta.Answer{
		Issuer: e.ID, Subject: e.User.ID, Audience: c.Issuer, ID: ids.New(""),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(5 * time.Minute)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		TransactionID: c.TransactionID, Nonce: c.Nonce, MethodEnrolmentID: e.Methods[okta.MethodSignedNonce].ID,
		KeyType: okta.KeyProofOfPossession, AMR: []string{},
		DeviceSignals: okta.DeviceSignals{ID: e.Device.ID, ClientInstanceID: e.Device.ClientInstanceID},
		Context:       okta.AnswerContext{UserConsent: okta.ConsentNone, OriginHeader: pageOrigin, BindingType: okta.BindingLoopback},
		Integrations:  []okta.SignalResult{}, SignalProviders: []okta.SignalResult{},
	})
	path, ok := strings.CutPrefix(c.VerificationURI, base)
	if !ok {
		t.Fatalf("verification URI %s", c.VerificationURI)
	}
	w := call(s, "POST", path, okta.AnswerRequest{Method: okta.MethodSignedNonce, ChallengeResponse: token})
	if w.Code != 200 {
		t.Fatalf("answer: %d %s", w.Code, w.Body)
	}
}
