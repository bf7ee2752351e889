package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

func (e *estate) call(method, path, body string, want int, dst any) {
	e.t.Helper()
	r := httptest.NewRequest(method, base+path, strings.NewReader(body))
	r.Header.Set("Authorization", token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != want {
		e.t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, want, w.Body)
	}
	if dst != nil {
		if err := json.Unmarshal(w.Body.Bytes(), dst); err != nil {
			e.t.Fatal(err)
		}
	}
}

func TestSecurityKeysOfAUser(t *testing.T) {
	e := newEstate(t)
	storetest.Write(t, e.db, func(tx store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO security_keys (id, user_id, credential_id, public_key, aaguid, format, attestation, transports, sign_count,
			backup_eligible, verified_at, suspect_at, created_at, last_used_at)
			VALUES ('fwf1', ?, 'a', 'b', 'ee882879-721c-4913-9775-3dfcce97072a', 'packed', 'basic_full', '[]', 7, 0, 0, 2000, 1000, 2000)`, e.alice.ID)
		return err
	})
	type key struct {
		ID, FactorType, Provider, Status string
		Profile                          struct{ CredentialID, AuthenticatorName, SuspectedCopy string }
		Links                            map[string]any `json:"_links"`
	}
	var list []key
	e.call("GET", "/api/v1/users/alice@example.com/factors", "", 200, &list)
	if len(list) != 1 || list[0].ID != "fwf1" || list[0].FactorType != "webauthn" || list[0].Provider != "FIDO" || list[0].Status != "ACTIVE" ||
		list[0].Profile.AuthenticatorName != "YubiKey 5 Series" || list[0].Profile.CredentialID != "a" || list[0].Profile.SuspectedCopy == "" || list[0].Links["self"] == nil {
		t.Fatalf("%+v", list)
	}
	e.call("GET", "/api/v1/users/bob@example.com/factors", "", 200, &list)
	if len(list) != 0 {
		t.Errorf("bob has %+v", list)
	}
	var one key
	e.call("GET", "/api/v1/users/"+e.alice.ID+"/factors/fwf1", "", 200, &one)
	if one.ID != "fwf1" {
		t.Errorf("%+v", one)
	}
	for _, path := range []string{"/users/bob@example.com/factors/fwf1", "/users/alice@example.com/factors/fwf2", "/users/nobody/factors/fwf1"} {
		e.call("GET", "/api/v1"+path, "", 404, nil)
		e.call("DELETE", "/api/v1"+path, "", 404, nil)
	}
	e.call("DELETE", "/api/v1/users/alice@example.com/factors/fwf1", "", 204, nil)
	e.call("DELETE", "/api/v1/users/alice@example.com/factors/fwf1", "", 404, nil)
	for _, path := range []string{"/users/alice@example.com/factors", "/authenticators/webauthn/methods"} {
		if w := call(e.Handler, "GET", "/api/v1"+path, "SSWS another"); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d for a stranger", path, w.Code)
		}
	}
}

func TestSecurityKeySettings(t *testing.T) {
	e := newEstate(t)
	e.call("GET", "/api/v1/authenticators/webauthn", "", 404, nil)
	e.call("POST", "/api/v1/authenticators/webauthn/lifecycle/activate", "", 404, nil)
	var a directory.WebAuthn
	storetest.Write(t, e.db, func(tx store.Tx) (err error) {
		a, err = directory.EnsureWebAuthn(t.Context(), tx, true, time.Now())
		return err
	})
	var got struct{ ID, Key, Type, Status string }
	e.call("GET", "/api/v1/authenticators/"+a.ID, "", 200, &got)
	if got.ID != a.ID || got.Key != "webauthn" || got.Type != "security_key" || got.Status != "ACTIVE" {
		t.Errorf("%+v", got)
	}
	methods := "/api/v1/authenticators/" + a.ID + "/methods"
	var m struct {
		Type     string
		Settings directory.WebAuthnSettings
	}
	e.call("GET", methods+"/webauthn", "", 200, &m)
	if m.Type != "webauthn" || m.Settings.UserVerification != "PREFERRED" || m.Settings.Attachment != "ANY" || m.Settings.ResidentKeyRequirement != "DISCOURAGED" || len(m.Settings.AAGUIDGroups) != 0 {
		t.Errorf("%+v", m)
	}
	e.call("PUT", methods+"/webauthn", `{"settings":{"userVerification":"REQUIRED","attachment":"ROAMING","residentKeyRequirement":"REQUIRED","aaguidGroups":[{"name":"ours","aaguids":["EE882879-721c-4913-9775-3dfcce97072a"]}]}}`, 200, &m)
	if s := m.Settings; s.UserVerification != "REQUIRED" || s.Attachment != "ROAMING" || s.ResidentKeyRequirement != "REQUIRED" || !s.Allows("ee882879-721c-4913-9775-3dfcce97072a") || s.Allows("00000000-0000-0000-0000-000000000000") {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{`{"userVerification":"MAYBE"}`, `{"attachment":"GLUED"}`, `{"residentKeyRequirement":"LATER"}`, `{"aaguidGroups":[{"name":"x","aaguids":["y"]}]}`,
		`{"aaguidGroups":[{"name":"","aaguids":["ee882879-721c-4913-9775-3dfcce97072a"]}]}`, `{"aaguidGroups":[{"name":"none","aaguids":[]}]}`} {
		e.call("PUT", methods+"/webauthn", `{"settings":`+bad+`}`, 400, nil)
	}
	e.call("PUT", methods+"/otp", `{}`, 404, nil)
	e.call("GET", methods+"/otp", "", 404, nil)
	e.call("POST", "/api/v1/authenticators/webauthn/lifecycle/deactivate", "", 200, &got)
	if got.Status != "INACTIVE" {
		t.Errorf("%+v", got)
	}
	// Switched off, it stays so when the demonstration is started again.
	storetest.Write(t, e.db, func(tx store.Tx) error {
		again, err := directory.EnsureWebAuthn(t.Context(), tx, true, time.Now())
		if again.Active() || again.ID != a.ID || again.Settings.UserVerification != "REQUIRED" {
			t.Errorf("%+v", again)
		}
		return err
	})
	e.call("POST", "/api/v1/authenticators/webauthn/lifecycle/explode", "", 404, nil)
	e.call("POST", "/api/v1/authenticators/"+e.info.Authenticators.Password+"/lifecycle/deactivate", "", 404, nil)
}
