package token

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

func (f *fixture) enrol() device.Enrolment {
	f.t.Helper()
	r := device.NewRegistry(f.db, base, func() time.Time { return f.now })
	e, err := r.Create(f.t.Context(), device.ByUser(f.user.ID), devicetest.New(f.t).Request(f.org.Authenticators.OktaVerify))
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

func popOf(e device.Enrolment) device.Key {
	m, _ := e.Method(okta.MethodSignedNonce)
	k, _ := m.Key(okta.KeyProofOfPossession)
	return k
}

func maintenance(e device.Enrolment) Maintenance {
	return Maintenance{ClientID: "app", UserID: e.UserID, EnrolmentID: e.ID, DeviceID: e.Device.ID, KeyID: popOf(e).JWK.KeyID,
		Scopes: []string{okta.ScopeMaintenanceManage}}
}

func TestMaintenanceToken(t *testing.T) {
	f := setUp(t)
	e := f.enrol()
	tokens, err := f.IssueMaintenance(t.Context(), maintenance(e))
	if err != nil {
		t.Fatal(err)
	}
	if tokens.RefreshToken != "" || tokens.IDToken != "" || tokens.ExpiresIn != 3600 {
		t.Error("a maintenance token comes with more than itself")
	}
	c, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	if !c.ByDevice || c.EnrolmentID != e.ID || c.DeviceID != e.Device.ID || c.UserID != f.user.ID || c.KeyID != popOf(e).JWK.KeyID ||
		!c.AuthTime.IsZero() || len(c.AMR) != 0 || len(c.Scopes) != 1 || !c.Has(okta.ScopeMaintenanceManage) {
		t.Errorf("%+v", c)
	}
	if _, err := f.UserInfo(t.Context(), c); !errors.Is(err, ScopeInsufficient) {
		t.Errorf("userinfo: %v", err)
	}
	if _, err := f.VerifyAccessTokenOf(t.Context(), ServerDefault, tokens.AccessToken); !errors.Is(err, TokenInvalid) {
		t.Errorf("at the other server: %v", err)
	}
	f.now = f.now.Add(AccessLifetime)
	if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); !errors.Is(err, TokenInvalid) {
		t.Errorf("after an hour: %v", err)
	}
}

func TestMaintenanceRefused(t *testing.T) {
	f := setUp(t)
	e := f.enrol()
	for name, change := range map[string]func(*Maintenance){
		"no client":       func(m *Maintenance) { m.ClientID = "" },
		"no user":         func(m *Maintenance) { m.UserID = "" },
		"no enrolment":    func(m *Maintenance) { m.EnrolmentID = "" },
		"no device":       func(m *Maintenance) { m.DeviceID = "" },
		"no key":          func(m *Maintenance) { m.KeyID = "" },
		"no scope":        func(m *Maintenance) { m.Scopes = nil },
		"the full scope":  func(m *Maintenance) { m.Scopes = append(m.Scopes, okta.ScopeManage) },
		"openid":          func(m *Maintenance) { m.Scopes = []string{"openid"} },
		"an unknown app":  func(m *Maintenance) { m.ClientID = "nope" },
		"an unknown user": func(m *Maintenance) { m.UserID = "00unope" },
	} {
		m := maintenance(e)
		change(&m)
		if tokens, err := f.IssueMaintenance(t.Context(), m); err == nil || tokens != (Tokens{}) {
			t.Errorf("%s: issued", name)
		}
	}
}

// C2: the token ends with the key that got it, whoever has it.
func TestMaintenanceEndsWithItsKey(t *testing.T) {
	f := setUp(t)
	r := device.NewRegistry(f.db, base, func() time.Time { return f.now })
	a, fresh := devicetest.New(t), devicetest.NewKey(t)
	e, err := r.Create(t.Context(), device.ByUser(f.user.ID), a.Request(f.org.Authenticators.OktaVerify))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := f.IssueMaintenance(t.Context(), maintenance(e))
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := fresh.JWK.Thumbprint()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{"signed_nonce.proofOfPossession": thumbprint, "push.proofOfPossession": thumbprint}
	agreement := a.PoP.Sign(t, okta.TypeKeyChange, devicetest.NewClaims(e.ID, e.UserID, base, f.now).With("keys", keys))
	var p device.Patch
	jwk := string(fresh.Raw(t))
	if err := json.Unmarshal([]byte(`{"keyChange":"`+agreement+`","methods":{"push":{"keys":{"proofOfPossession":`+jwk+`}},"signed_nonce":{"keys":{"proofOfPossession":`+jwk+`}}}}`), &p); err != nil {
		t.Fatal(err)
	}
	if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); err != nil {
		t.Fatal(err)
	}
	after, err := r.Update(t.Context(), device.AsUser(f.user.ID), e.ID, p)
	if err != nil {
		t.Fatal(err)
	}
	var refusal *okta.Error
	if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); !errors.Is(err, TokenInvalid) || errors.As(err, &refusal) {
		t.Errorf("the old key's token: %v", err)
	}
	if tokens, err = f.IssueMaintenance(t.Context(), maintenance(after)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); err != nil {
		t.Errorf("the new key's token: %v", err)
	}
}

// Strong is what two classes of factors make of a sign-in, and no device.
func TestStrong(t *testing.T) {
	for _, c := range []struct {
		amr      []string
		byDevice bool
		want     bool
	}{
		{nil, false, false}, {[]string{"pwd"}, false, false}, {[]string{"okta_verify", "swk"}, false, false},
		{[]string{"pwd", "okta_verify", "swk", "mfa"}, false, true}, {[]string{"mfa"}, true, false},
	} {
		if got := (AccessClaims{AMR: c.amr, ByDevice: c.byDevice}).Strong(); got != c.want {
			t.Errorf("%v, by device %v: %v", c.amr, c.byDevice, got)
		}
	}
}

// The token ends with what it is for. A sign-in that was answered by the same
// enrolment does not: a person did that.
func TestMaintenanceTokenEndsWithItsEnrolment(t *testing.T) {
	for name, c := range map[string]struct {
		change func(context.Context, store.Tx, device.Enrolment, time.Time) error
		want   okta.ErrorCode // "" for a refusal without a code
	}{
		"enrolment deleted": {func(ctx context.Context, tx store.Tx, e device.Enrolment, now time.Time) error {
			return device.SetStatus(ctx, tx, e.ID, device.StatusDeleted, now)
		}, okta.CodeEnrolmentDeleted},
		"enrolment suspended": {func(ctx context.Context, tx store.Tx, e device.Enrolment, now time.Time) error {
			return device.SetStatus(ctx, tx, e.ID, device.StatusSuspended, now)
		}, okta.CodeEnrolmentSuspended},
		"device deleted": {func(ctx context.Context, tx store.Tx, e device.Enrolment, now time.Time) error {
			return device.SetDeviceStatus(ctx, tx, e.Device.ID, device.StatusDeleted, now)
		}, okta.CodeDeviceDeleted},
		"user suspended": {func(ctx context.Context, tx store.Tx, e device.Enrolment, now time.Time) error {
			return directory.SetUserStatus(ctx, tx, e.UserID, directory.StatusSuspended, now)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			e := f.enrol()
			tokens, err := f.IssueMaintenance(t.Context(), maintenance(e))
			if err != nil {
				t.Fatal(err)
			}
			g := f.grant()
			g.EnrolmentID, g.DeviceID = e.ID, e.Device.ID
			persons, err := f.RedeemCode(t.Context(), f.redemption(f.code(g)))
			if err != nil {
				t.Fatal(err)
			}
			f.write(func(ctx context.Context, tx store.Tx) error { return c.change(ctx, tx, e, f.now) })
			_, err = f.VerifyAccessToken(t.Context(), tokens.AccessToken)
			var got okta.ErrorCode
			var refusal *okta.Error
			if errors.As(err, &refusal) {
				got = refusal.Code
			}
			if !errors.Is(err, TokenInvalid) || got != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
			_, err = f.VerifyAccessToken(t.Context(), persons.AccessToken)
			if ended := err != nil; ended != (c.want == "") {
				t.Errorf("the person's token: %v", err)
			}
		})
	}
}
