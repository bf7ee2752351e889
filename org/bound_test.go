package org_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/org"
	"countersign.dev/org/device/devicetest"
)

// direct brings a client's requests to the org without a network.
type direct struct{ s *org.Server }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI, in.Host = r.URL.RequestURI(), r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.s.Handler().ServeHTTP(w, in)
	return w.Result(), nil
}

// The agent's own client against the org: a maintenance token that is bound to
// a key, used with it, and worth nothing without.
func TestBoundMaintenanceStory(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	a, e := enrolByLink(t, s)
	o, err := client.New(base, client.Options{ClientID: "countersign-agent", HTTP: &http.Client{Transport: direct{s}}})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := o.Metadata(t.Context())
	if err != nil || !meta.BindsTokens() {
		t.Fatalf("%+v %v", meta, err)
	}
	key, err := client.NewProofKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := client.NewProofKey()
	if err != nil {
		t.Fatal(err)
	}
	form := func() url.Values {
		claims := devicetest.NewClaims(okta.MaintenanceIssuer, e.User.ID, base, time.Now()).With("methodEnrollmentId", e.Methods[okta.MethodPush].ID)
		return url.Values{"grant_type": {okta.GrantJWTBearer}, "client_id": {"countersign-agent"},
			"scope": {okta.ScopeMaintenanceRead + " " + okta.ScopeMaintenanceManage}, "assertion": {a.PoP.Sign(t, okta.TypeMaintenanceGrant, claims)}}
	}
	token, auth, err := o.BoundToken(t.Context(), form(), key)
	if err != nil || token.TokenType != "DPoP" {
		t.Fatalf("%s %v", token.TokenType, err)
	}
	pending := e.Methods[okta.MethodPush].Links["pending"].Href
	for range 2 { // each request has a proof of its own
		if _, err := o.Pending(t.Context(), auth, pending, client.PendingRequest{}); err != nil {
			t.Error(err)
		}
	}
	patch := map[string]any{"methods": map[string]any{"push": map[string]any{"pushToken": "new"}}}
	if _, err := o.UpdateEnrolment(t.Context(), auth, e.ID, patch); err != nil {
		t.Error(err)
	}
	for name, auth := range map[string]client.Authorization{
		"as bearer":   client.Bearer(token.AccessToken),
		"another key": client.DPoP(token.AccessToken, other),
	} {
		if _, err := o.Pending(t.Context(), auth, pending, client.PendingRequest{}); !errors.Is(err, okta.NewError(okta.CodeInvalidToken)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain, err := o.Token(t.Context(), form())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Pending(t.Context(), client.DPoP(plain.AccessToken, key), pending, client.PendingRequest{}); !errors.Is(err, okta.NewError(okta.CodeInvalidToken)) {
		t.Errorf("a bearer's token with a proof: %v", err)
	}
	if _, err := o.Pending(t.Context(), client.Bearer(plain.AccessToken), pending, client.PendingRequest{}); err != nil {
		t.Error(err)
	}
	w := call(s, "GET", "/idp/myaccount/app-authenticators/"+e.ID+"/push/notifications", nil, "Authorization", "DPoP "+token.AccessToken.Reveal())
	if w.Code != 401 || w.Header().Get("WWW-Authenticate") != `DPoP algs="ES256 RS256", error="invalid_token"` {
		t.Errorf("without a proof: %d %s", w.Code, w.Header().Get("WWW-Authenticate"))
	}
	if err := o.DeleteEnrolment(t.Context(), client.SSWS(okta.Secret(a.PoP.Sign(t, okta.TypeEnrolmentUpdate,
		devicetest.NewClaims(e.ID, e.User.ID, base, time.Now())))), e.ID); err != nil {
		t.Fatal(err)
	}
	var gone *okta.Error
	if _, err := o.Pending(t.Context(), auth, pending, client.PendingRequest{}); !errors.As(err, &gone) || !gone.Gone() {
		t.Errorf("afterwards: %v", err)
	}
	if _, _, err := o.BoundToken(t.Context(), form(), key); !errors.As(err, &gone) || !gone.Gone() {
		t.Errorf("another token, afterwards: %v", err)
	}
}
