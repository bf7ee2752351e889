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
	"countersign.dev/org"
	"countersign.dev/org/device/devicetest"
)

// tokenFor asks for a maintenance token as an agent does.
func tokenFor(t *testing.T, s *org.Server, a devicetest.Agent, e okta.Enrolment) *httptest.ResponseRecorder {
	t.Helper()
	claims := devicetest.NewClaims(okta.MaintenanceIssuer, e.User.ID, base, time.Now()).With("methodEnrollmentId", e.Methods[okta.MethodPush].ID)
	r := httptest.NewRequest(http.MethodPost, base+"/oauth2/v1/token", strings.NewReader(url.Values{
		"grant_type": {okta.GrantJWTBearer}, "client_id": {"countersign-agent"},
		"scope": {okta.ScopeMaintenanceManage + " " + okta.ScopeMaintenanceRead}, "assertion": {a.PoP.Sign(t, okta.TypeMaintenanceGrant, claims)},
	}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// A device looks after its own enrolment with a token that its key got it, and
// after no other, even of the same person; when the enrolment ends, the token
// does, and the device hears so.
func TestMaintenanceStory(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	a, mine := enrolByLink(t, s)
	_, other := enrolByLink(t, s)
	w := tokenFor(t, s, a, mine)
	var got struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.AccessToken == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	path := func(e okta.Enrolment) string { return okta.AppAuthenticatorsPath + "/" + e.ID }
	patch := map[string]any{"methods": map[string]any{"push": map[string]any{"pushToken": "new"}}}
	asToken := func(method, path string, body any) *httptest.ResponseRecorder {
		return call(s, method, path, body, "Authorization", "Bearer "+got.AccessToken, "Content-Type", "application/merge-patch+json")
	}
	wantCode := func(what string, w *httptest.ResponseRecorder, status int, code okta.ErrorCode) {
		t.Helper()
		var e okta.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); w.Code != status || status != 200 && (err != nil || e.Code != code) {
			t.Errorf("%s: %d %s, want %d %s", what, w.Code, w.Body, status, code)
		}
	}
	pending := "/push/notifications"
	wantCode("pending", asToken("GET", path(mine)+pending, nil), 200, "")
	wantCode("update", asToken("PATCH", path(mine), patch), 200, "")
	wantCode("pending of another", asToken("GET", path(other)+pending, nil), 404, okta.CodeNotFound)
	wantCode("update of another", asToken("PATCH", path(other), patch), 404, okta.CodeNotFound)
	wantCode("delete", asToken("DELETE", path(mine), nil), 403, okta.CodeForbidden)
	wantCode("enrol", asToken("POST", okta.AppAuthenticatorsPath, devicetest.New(t).Request(mine.AuthenticatorID)), 403, okta.CodeForbidden)

	end := a.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(mine.ID, mine.User.ID, base, time.Now()))
	if w := call(s, "DELETE", path(mine), nil, "Authorization", "SSWS "+end); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	wantCode("pending, afterwards", asToken("GET", path(mine)+pending, nil), 410, okta.CodeEnrolmentDeleted)
	wantCode("another token, afterwards", tokenFor(t, s, a, mine), 410, okta.CodeEnrolmentDeleted)
}
