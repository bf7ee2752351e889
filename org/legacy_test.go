package org_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/org"
	"countersign.dev/org/api/admin"
	"countersign.dev/org/device/devicetest"
)

// issueLink asks the administrator's API for an enrolment link of alice's.
func issueLink(t *testing.T, s *org.Server) okta.EnrolmentLink {
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
	return link
}

func legacyRequest(a devicetest.Agent, authenticatorID string) okta.LegacyEnrolmentRequest {
	r := a.Request(authenticatorID)
	return okta.LegacyEnrolmentRequest{
		AuthenticatorID: authenticatorID, Key: okta.AuthenticatorKeyOktaVerify, Device: r.Device,
		Methods: []okta.LegacyMethodRequest{{Type: okta.MethodPush, Keys: r.Methods.Push.Keys}, {Type: okta.MethodSignedNonce, Keys: r.Methods.SignedNonce.Keys}},
	}
}

// An org of the older shape serves no other, and still all that does not
// belong to enrolment. A usual one serves both.
func TestLegacyShape(t *testing.T) {
	for _, only := range []bool{false, true} {
		s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true, LegacyOnly: only})
		link := issueLink(t, s)
		auth := []string{"Authorization", "OTDT " + link.Token.Reveal()}
		a := devicetest.New(t)
		newer := map[string]int{
			"GET " + okta.AuthenticatorConfigurationPath + "?oauthClientId=countersign-agent": 200,
			"POST " + okta.AppAuthenticatorsPath:                                              400, // without a body
			"DELETE " + okta.AppAuthenticatorsPath + "/pfdx":                                  401,
		}
		for path, want := range newer {
			if only {
				want = 404
			}
			method, path, _ := strings.Cut(path, " ")
			if w := call(s, method, path, nil, auth...); w.Code != want {
				t.Errorf("legacy %v: %s %s: %d %s", only, method, path, w.Code, w.Body)
			}
		}
		if w := call(s, "GET", okta.LegacyAuthenticatorsPath+"?key=okta_verify", nil, auth...); w.Code != 200 {
			t.Errorf("legacy %v: listing: %d %s", only, w.Code, w.Body)
		}
		w := call(s, "POST", okta.LegacyEnrolmentsPath, legacyRequest(a, link.AuthenticatorID), auth...)
		var e okta.LegacyEnrolment
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 {
			t.Fatalf("legacy %v: create: %d %s", only, w.Code, w.Body)
		}
		// The administrator finds what to change at the same address.
		token := []string{"Authorization", "SSWS " + s.AdminToken().Reveal()}
		for query, want := range map[string]string{"": link.AuthenticatorID, "?key=okta_verify": link.AuthenticatorID, "?key=okta_verify&expand=methods": "signed_nonce"} {
			if w := call(s, "GET", okta.LegacyAuthenticatorsPath+query, nil, token...); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
				t.Errorf("legacy %v: %q: %d %s", only, query, w.Code, w.Body)
			}
		}
		for path, want := range map[string]int{
			"PUT " + okta.LegacyEnrolmentsPath + "/" + e.ID:                             401,
			"PATCH " + okta.LegacyEnrolmentsPath + "/" + e.ID:                           405,
			"GET " + okta.AppAuthenticatorsPath + "/" + e.ID + "/push/notifications":    401,
			"POST /idp/authenticators/" + e.AuthenticatorID + "/transactions/ft/verify": 400,
			"POST " + okta.AppAuthenticatorsPath + "/challenge/ft/verify":               400,
			"GET " + okta.OrganizationPath:                                              200,
			"GET /api/v1/authenticators/" + e.AuthenticatorID:                           401, // the administrator's
			"POST /idp/authenticators/" + e.AuthenticatorID + "/nothing":                404,
		} {
			method, path, _ := strings.Cut(path, " ")
			if w := call(s, method, path, nil); w.Code != want {
				t.Errorf("legacy %v: %s %s: %d %s", only, method, path, w.Code, w.Body)
			}
		}
	}
}
