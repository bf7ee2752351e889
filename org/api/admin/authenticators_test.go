package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type listed struct {
	ID, Key, Name, Status string
	Settings              *struct {
		ChannelBinding struct{ Style, Required string }
	}
}

func put(h http.Handler, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("PUT", base+path, strings.NewReader(body))
	r.Header.Set("Authorization", "SSWS the-admin-token")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestNumberChallengeSetting(t *testing.T) {
	h, _, org := setUpOrg(t, "the-admin-token")
	read := func(path string, dst any) {
		t.Helper()
		w := call(h, "GET", path, "SSWS the-admin-token")
		if err := json.Unmarshal(w.Body.Bytes(), dst); w.Code != 200 || err != nil {
			t.Fatalf("%s: %d %s %v", path, w.Code, w.Body, err)
		}
	}
	path, password := "/api/v1/authenticators/"+org.Authenticators.OktaVerify, "/api/v1/authenticators/"+org.Authenticators.Password
	var first listed
	read(path, &first)
	if first.Key != "okta_verify" || first.Settings == nil || first.Settings.ChannelBinding.Style != "NUMBER_CHALLENGE" ||
		first.Settings.ChannelBinding.Required != "ALWAYS" || first.Status != "ACTIVE" || first.ID != org.Authenticators.OktaVerify {
		t.Fatalf("%+v", first)
	}
	for _, required := range []string{"NEVER", "HIGH_RISK_ONLY", "ALWAYS"} {
		w := put(h, path, `{"key":"okta_verify","name":"Okta Verify","settings":{"channelBinding":{"style":"NUMBER_CHALLENGE","required":"`+required+`"},"compliance":{"fips":"OPTIONAL"}}}`)
		var said, kept listed
		if err := json.Unmarshal(w.Body.Bytes(), &said); w.Code != 200 || err != nil {
			t.Fatalf("%s: %d %s", required, w.Code, w.Body)
		}
		read(path, &kept)
		if said.Settings.ChannelBinding.Required != required || kept.Settings.ChannelBinding.Required != required {
			t.Errorf("%s: said %+v, kept %+v", required, said, kept)
		}
	}
	for body, want := range map[string]int{
		`{}`: 200, // nothing to change
		`{"settings":{"channelBinding":{"style":"NUMBER_CHALLENGE","required":"SOMETIMES"}}}`: 400,
		`{"settings":{"channelBinding":{"style":"NUMBER_CHALLENGE","required":"never"}}}`:     400,
		`{"settings":{"channelBinding":{"style":"NUMBER_CHALLENGE"}}}`:                        400,
		`{"settings":{"channelBinding":{"style":"SMOKE","required":"NEVER"}}}`:                400,
		`{"key":"google_otp"}`: 400,
		`{"settings":`:         400,
		`{"settings":{"channelBinding":{"style":"NUMBER_CHALLENGE","required":"NEVER","required":"NEVER"}}}`: 400,
	} {
		if w := put(h, path, body); w.Code != want {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	var kept listed
	read(path, &kept)
	if kept.Settings.ChannelBinding.Required != "ALWAYS" {
		t.Errorf("a refused change was kept: %+v", kept)
	}
	if w := put(h, "/api/v1/authenticators/aut0", `{}`); w.Code != 404 {
		t.Errorf("unknown: %d", w.Code)
	}
	var plain listed
	if read(password, &plain); plain.Key != "okta_password" || plain.Settings != nil {
		t.Errorf("%+v", plain)
	}
	if w := put(h, password, `{"settings":{"channelBinding":{"style":"NUMBER_CHALLENGE","required":"NEVER"}}}`); w.Code != 400 {
		t.Errorf("of the password: %d", w.Code)
	}
	for _, c := range []struct{ method, path string }{{"GET", path}, {"PUT", path}} {
		if w := call(h, c.method, c.path, "SSWS wrong"); w.Code != 401 {
			t.Errorf("%s %s without the token: %d", c.method, c.path, w.Code)
		}
	}
	if w := call(h, "DELETE", path, "SSWS the-admin-token"); w.Code != 405 {
		t.Errorf("DELETE: %d", w.Code)
	}
}
