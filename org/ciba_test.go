package org_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/ids"
)

// till is a confidential client that asks over the back channel.
type till struct {
	t *testing.T
	s *org.Server
}

func (c till) post(path string, v url.Values) (int, map[string]any) {
	c.t.Helper()
	r := httptest.NewRequest(http.MethodPost, base+path, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("demo-ciba", "Countersign-Demo-Back-Channel-Secret-1")
	w := httptest.NewRecorder()
	c.s.Handler().ServeHTTP(w, r)
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		c.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Code, doc
}

// A till asks alice's device, which shows the request and approves it; the till
// gets tokens for it, once. Before the device says that it takes such requests,
// there is nobody to ask.
func TestBackchannelStory(t *testing.T) {
	now := time.Now()
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true, Now: func() time.Time { return now }})
	a, e := enrolByLink(t, s)
	c := till{t, s}
	request := url.Values{"scope": {"openid profile"}, "login_hint": {"alice@example.com"}, "binding_message": {"Till 4: 12 €"}}
	if status, got := c.post("/oauth2/default/v1/bc/authorize", request); status != 400 || got["errorCode"] != string(okta.CodeNoCIBAEnrolment) {
		t.Fatalf("nobody to ask: %d %v", status, got)
	}
	asDevice := func(method, path string, body any) *httptest.ResponseRecorder {
		proof := a.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(e.ID, e.User.ID, base, now))
		return call(s, method, okta.AppAuthenticatorsPath+"/"+e.ID+path, body, "Authorization", "SSWS "+proof, "Content-Type", okta.MergePatchVersion)
	}
	types := map[string]any{"methods": map[string]any{"push": map[string]any{"capabilities": map[string]any{"transactionTypes": []string{"LOGIN", "CIBA"}}}}}
	if w := asDevice("PATCH", "", types); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	status, asked := c.post("/oauth2/default/v1/bc/authorize", request)
	if status != 200 || asked["interval"] != 5.0 || asked["expires_in"] != 300.0 || asked["auth_req_id"] == "" {
		t.Fatalf("%d %v", status, asked)
	}
	id, _ := asked["auth_req_id"].(string)
	poll := url.Values{"grant_type": {okta.GrantCIBA}, "auth_req_id": {id}}
	if status, got := c.post("/oauth2/default/v1/token", poll); status != 400 || got["error"] != "authorization_pending" {
		t.Fatalf("%d %v", status, got)
	}

	var pending []okta.PendingChallenge
	if w := asDevice("GET", "/push/notifications", nil); json.Unmarshal(w.Body.Bytes(), &pending) != nil || len(pending) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	parsed, err := jose.Parse(pending[0].Challenge, jose.PushChallenge)
	if err != nil {
		t.Fatal(err)
	}
	var challenge okta.Challenge
	if err := parsed.Claims(&challenge); err != nil {
		t.Fatal(err)
	}
	message, err := url.PathUnescape(challenge.Context.BindingMessage)
	if err != nil || challenge.Context.TransactionType != okta.TransactionCIBA || message != "Till 4: 12 €" {
		t.Errorf("%+v", challenge.Context)
	}
	answer := a.PoP.Sign(t, okta.TypePushBind, okta.Answer{
		Issuer: e.ID, Subject: e.User.ID, Audience: challenge.Issuer, ID: ids.New(""),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(5 * time.Minute)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		TransactionID: challenge.TransactionID, Nonce: challenge.Nonce, MethodEnrolmentID: e.Methods[okta.MethodPush].ID,
		KeyType: okta.KeyProofOfPossession, AMR: []string{},
		Context:      okta.AnswerContext{UserConsent: okta.ConsentApproved, TransactionType: okta.TransactionCIBA},
		Integrations: []okta.SignalResult{}, SignalProviders: []okta.SignalResult{},
	})
	if w := call(s, "POST", strings.TrimPrefix(challenge.VerificationURI, base), okta.AnswerRequest{Method: okta.MethodPush, ChallengeResponse: answer}); w.Code != 200 {
		t.Fatalf("answer: %d %s", w.Code, w.Body)
	}
	now = now.Add(5 * time.Second)
	status, got := c.post("/oauth2/default/v1/token", poll)
	if status != 200 || got["token_type"] != "Bearer" || got["access_token"] == "" || got["id_token"] == nil {
		t.Fatalf("%d %v", status, got)
	}
	now = now.Add(5 * time.Second)
	if status, got := c.post("/oauth2/default/v1/token", poll); status != 400 || got["error"] != "invalid_grant" {
		t.Errorf("twice: %d %v", status, got)
	}
}
