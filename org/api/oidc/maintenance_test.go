package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

// enrolled is a device of the fixture's user.
type enrolled struct {
	devicetest.Agent
	device.Enrolment
}

func (f *fixture) enrol() enrolled {
	f.t.Helper()
	a := devicetest.New(f.t)
	e, err := f.devices.Create(f.t.Context(), device.ByUser(f.user.ID), a.Request(f.org.Authenticators.OktaVerify))
	if err != nil {
		f.t.Fatal(err)
	}
	return enrolled{a, e}
}

func (f *fixture) assertion(e enrolled) devicetest.Claims {
	m, _ := e.Method(okta.MethodPush)
	return devicetest.NewClaims(okta.MaintenanceIssuer, e.UserID, base, f.now).With("methodEnrollmentId", m.ID)
}

func bearer(assertion string, changes ...string) url.Values {
	v := url.Values{"grant_type": {okta.GrantJWTBearer}, "client_id": {"countersign-agent"},
		"scope": {okta.ScopeMaintenanceRead + " " + okta.ScopeMaintenanceManage}, "assertion": {assertion}}
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			v.Del(changes[i])
		} else {
			v.Set(changes[i], changes[i+1])
		}
	}
	return v
}

func TestJWTBearer(t *testing.T) {
	f := setUp(t)
	e := f.enrol()
	r := f.post("/oauth2/v1/token", bearer(e.PoP.Sign(t, "JWT", f.assertion(e))))
	var answer map[string]any
	if err := json.Unmarshal([]byte(body(t, r)), &answer); err != nil || r.StatusCode != 200 {
		t.Fatalf("%d %v %v", r.StatusCode, answer, err)
	}
	access, _ := answer["access_token"].(string)
	delete(answer, "access_token")
	// Neither a refresh token nor an ID token: nobody signed in.
	if d := cmp.Diff(map[string]any{"token_type": "Bearer", "expires_in": 3600.0,
		"scope": okta.ScopeMaintenanceRead + " " + okta.ScopeMaintenanceManage}, answer); d != "" {
		t.Error(d)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(access, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	delete(claims, "jti")
	at := float64(f.now.Unix())
	if d := cmp.Diff(map[string]any{"ver": 1.0, "iss": base, "aud": base, "iat": at, "exp": at + 3600, "cid": "countersign-agent",
		"uid": f.user.ID, "sub": f.user.Login, "scp": []any{okta.ScopeMaintenanceRead, okta.ScopeMaintenanceManage}}, claims); d != "" {
		t.Error(d)
	}
	if r := f.post("/oauth2/v1/token", bearer(e.PoP.Sign(t, "JWT", f.assertion(e)), "client_id", "reader", "scope", okta.ScopeMaintenanceRead)); r.StatusCode != 200 {
		t.Errorf("another app: %d %s", r.StatusCode, body(t, r))
	}
}

func TestJWTBearerRefusals(t *testing.T) {
	f := setUp(t)
	e, other := f.enrol(), f.enrol()
	good := f.assertion(e)
	token := e.PoP.Sign(t, "JWT", good)
	used := e.PoP.Sign(t, "JWT", f.assertion(e))
	if r := f.post("/oauth2/v1/token", bearer(used)); r.StatusCode != 200 {
		t.Fatalf("%d %s", r.StatusCode, body(t, r))
	}
	const org, custom = "/oauth2/v1/token", "/oauth2/default/v1/token"
	for name, c := range map[string]struct {
		path   string
		form   url.Values
		status int
		code   string
	}{
		"the custom server":      {custom, bearer(token), 400, "unsupported_grant_type"},
		"no assertion":           {org, bearer(""), 400, "invalid_request"},
		"no client":              {org, bearer(token, "client_id", ""), 401, "invalid_client"},
		"unknown client":         {org, bearer(token, "client_id", "nope"), 401, "invalid_client"},
		"client without grant":   {org, bearer(token, "client_id", "agent"), 400, "unauthorized_client"},
		"no scope":               {org, bearer(token, "scope", ""), 400, "invalid_scope"},
		"blank scope":            {org, bearer(token, "scope", "  "), 400, "invalid_scope"},
		"the full scope":         {org, bearer(token, "scope", okta.ScopeManage), 400, "invalid_scope"},
		"the full scope, beside": {org, bearer(token, "scope", okta.ScopeMaintenanceRead+" "+okta.ScopeManage), 400, "invalid_scope"},
		"openid":                 {org, bearer(token, "scope", "openid"), 400, "invalid_scope"},
		"offline_access":         {org, bearer(token, "scope", okta.ScopeMaintenanceRead+" offline_access"), 400, "invalid_scope"},
		"a scope not the app's":  {org, bearer(token, "client_id", "reader", "scope", okta.ScopeMaintenanceManage), 400, "invalid_scope"},
		"long scope":             {org, bearer(token, "scope", strings.Repeat(okta.ScopeMaintenanceRead+" ", 30)), 400, "invalid_request"},
		"rubbish":                {org, bearer("a.b.c"), 400, "invalid_grant"},
		"huge":                   {org, bearer(strings.Repeat("a", 40000)), 400, "invalid_grant"},
		"unsigned":               {org, bearer(strings.Join(strings.Split(token, ".")[:2], ".") + "."), 400, "invalid_grant"},
		"used":                   {org, bearer(used), 400, "invalid_grant"},
		"another audience":       {org, bearer(e.PoP.Sign(t, "JWT", good.With("aud", "https://other.example.com"))), 400, "invalid_grant"},
		"another server's name":  {org, bearer(e.PoP.Sign(t, "JWT", good.With("aud", base+"/oauth2/default"))), 400, "invalid_grant"},
		"another device's key":   {org, bearer(other.PoP.Sign(t, "JWT", good)), 400, "invalid_grant"},
		"unknown issuer":         {org, bearer(e.PoP.Sign(t, "JWT", good.With("iss", "https://issuer.example.com"))), 401, "invalid_token"},
		"an access token": {org, bearer(func() string {
			r := f.post(org, bearer(other.PoP.Sign(t, "JWT", f.assertion(other))))
			var answer struct {
				AccessToken string `json:"access_token"`
			}
			_ = json.Unmarshal([]byte(body(t, r)), &answer)
			return answer.AccessToken
		}()), 401, "invalid_token"},
	} {
		if r := f.post(c.path, c.form); r.StatusCode != c.status || oauthError(t, r) != c.code {
			t.Errorf("%s: %d, want %d %s", name, r.StatusCode, c.status, c.code)
		}
	}
	// The assertion that all of these carried is still good, and once.
	if r := f.post(org, bearer(token)); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, body(t, r))
	}
}

// A device that proves itself hears in MyAccount's words that it is gone or
// suspended; a stranger that names the same method hears invalid_grant.
func TestJWTBearerTellsTheDeviceAlone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(ctx context.Context, tx store.Tx, e enrolled, now time.Time) error
		status int
		code   okta.ErrorCode
	}{
		"enrolment deleted": {func(ctx context.Context, tx store.Tx, e enrolled, now time.Time) error {
			return device.SetStatus(ctx, tx, e.ID, device.StatusDeleted, now)
		}, 410, okta.CodeEnrolmentDeleted},
		"enrolment suspended": {func(ctx context.Context, tx store.Tx, e enrolled, now time.Time) error {
			return device.SetStatus(ctx, tx, e.ID, device.StatusSuspended, now)
		}, 423, okta.CodeEnrolmentSuspended},
		"device suspended": {func(ctx context.Context, tx store.Tx, e enrolled, now time.Time) error {
			return device.SetDeviceStatus(ctx, tx, e.Device.ID, device.StatusSuspended, now)
		}, 403, okta.CodeDeviceSuspended},
		"user suspended": {func(ctx context.Context, tx store.Tx, e enrolled, now time.Time) error {
			return directory.SetUserStatus(ctx, tx, e.UserID, directory.StatusSuspended, now)
		}, 423, okta.CodeUserSuspended},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			e, stranger := f.enrol(), f.enrol()
			f.write(func(ctx context.Context, tx store.Tx) error { return c.change(ctx, tx, e, f.now) })
			if r := f.post("/oauth2/v1/token", bearer(stranger.PoP.Sign(t, "JWT", f.assertion(e)))); r.StatusCode != 400 || oauthError(t, r) != "invalid_grant" {
				t.Errorf("stranger: %d", r.StatusCode)
			}
			r := f.post("/oauth2/v1/token", bearer(e.PoP.Sign(t, "JWT", f.assertion(e))))
			text := body(t, r)
			var got okta.Error
			if err := json.Unmarshal([]byte(text), &got); err != nil || r.StatusCode != c.status || got.Code != c.code || strings.Contains(text, `"error"`) {
				t.Errorf("%d %s", r.StatusCode, text)
			}
		})
	}
}
