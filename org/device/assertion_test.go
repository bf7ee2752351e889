package device_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// assertion are the claims by which e asks for a maintenance token.
func (h *house) assertion(e device.Enrolment, t okta.Method) devicetest.Claims {
	h.t.Helper()
	m, ok := e.Method(t)
	if !ok {
		h.t.Fatalf("no method %s", t)
	}
	return devicetest.NewClaims(okta.MaintenanceIssuer, e.UserID, orgURL, h.clock()).With("methodEnrollmentId", m.ID)
}

func TestAssertion(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	for _, method := range []okta.Method{okta.MethodPush, okta.MethodSignedNonce} {
		got, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", h.assertion(e, method)))
		want := device.Asserted{UserID: h.alice.ID, EnrolmentID: e.ID, DeviceID: e.Device.ID, KeyID: a.PoP.JWK.KeyID}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", method, got, err, want)
		}
	}
}

// Whatever is wrong with an assertion, the answer is the same, and says nothing
// about the enrolment (E5).
func TestAssertionRefused(t *testing.T) {
	h := newHouse(t)
	a, b := devicetest.New(t), devicetest.New(t)
	req := h.request(a)
	req.Methods.SignedNonce.Keys.UserVerification = a.UV.Raw(t)
	e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
	if err != nil {
		t.Fatal(err)
	}
	bobs := h.enrol(b, h.bob)
	good := h.assertion(e, okta.MethodPush)
	bobsMethod, _ := bobs.Method(okta.MethodPush)
	now := h.clock()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	as := func(k devicetest.Key, kid string) devicetest.Key { k.JWK.KeyID = kid; return k }
	for name, token := range map[string]string{
		"empty":                    "",
		"rubbish":                  "a.b.c",
		"another audience":         a.PoP.Sign(t, "JWT", good.With("aud", "https://other.example.com")),
		"trailing slash":           a.PoP.Sign(t, "JWT", good.With("aud", orgURL+"/")),
		"no audience":              a.PoP.Sign(t, "JWT", good.With("aud", nil)),
		"the token endpoint":       a.PoP.Sign(t, "JWT", good.With("aud", orgURL+"/oauth2/v1/token")),
		"a list of audiences":      a.PoP.Sign(t, "JWT", good.With("aud", []string{orgURL})),
		"another user":             a.PoP.Sign(t, "JWT", good.With("sub", h.bob.ID)),
		"a login":                  a.PoP.Sign(t, "JWT", good.With("sub", h.alice.Login)),
		"no subject":               a.PoP.Sign(t, "JWT", good.With("sub", nil)),
		"no method":                a.PoP.Sign(t, "JWT", good.With("methodEnrollmentId", nil)),
		"an enrolment as method":   a.PoP.Sign(t, "JWT", good.With("methodEnrollmentId", e.ID)),
		"bob's method":             a.PoP.Sign(t, "JWT", good.With("methodEnrollmentId", bobsMethod.ID)),
		"bob's method and subject": a.PoP.Sign(t, "JWT", good.With("methodEnrollmentId", bobsMethod.ID).With("sub", h.bob.ID)),
		"bob's key":                b.PoP.Sign(t, "JWT", good),
		"bob's key, alice's kid":   as(b.PoP, a.PoP.JWK.KeyID).Sign(t, "JWT", good),
		"unknown kid":              as(a.PoP, "other").Sign(t, "JWT", good),
		"no kid":                   as(a.PoP, "").Sign(t, "JWT", good),
		"the client instance key":  a.Client.Sign(t, "JWT", good),
		"a verification key":       a.UV.Sign(t, "JWT", h.assertion(e, okta.MethodSignedNonce)),
		"no typ":                   a.PoP.Sign(t, "", good),
		"another typ":              a.PoP.Sign(t, okta.TypeEnrolmentUpdate, good),
		"kid claim differs":        a.PoP.Sign(t, "JWT", good.With("kid", "other")),
		"no jti":                   a.PoP.Sign(t, "JWT", good.With("jti", nil)),
		"long jti":                 a.PoP.Sign(t, "JWT", good.With("jti", strings.Repeat("j", 129))),
		"no exp":                   a.PoP.Sign(t, "JWT", good.With("exp", nil)),
		"no iat":                   a.PoP.Sign(t, "JWT", good.With("iat", nil)),
		"lives too long":           a.PoP.Sign(t, "JWT", good.With("exp", at(6*time.Minute))),
		"expired":                  a.PoP.Sign(t, "JWT", good.With("iat", at(-7*time.Minute)).With("exp", at(-2*time.Minute))),
		"of the future":            a.PoP.Sign(t, "JWT", good.With("iat", at(2*time.Minute)).With("exp", at(5*time.Minute))),
		"not yet":                  a.PoP.Sign(t, "JWT", good.With("nbf", at(2*time.Minute))),
	} {
		if got, err := h.RedeemAssertion(t.Context(), token); !errors.Is(err, device.ErrAssertion) || code(err) != okta.ErrorCode("not an okta error: "+err.Error()) || got != (device.Asserted{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, issuer := range []any{nil, "", e.ID, "urn:okta:devices:app:other"} {
		if _, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", good.With("iss", issuer))); !errors.Is(err, device.ErrAssertionIssuer) {
			t.Errorf("issuer %v: %v", issuer, err)
		}
	}
	// None of that has used the assertion up.
	if _, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", good)); err != nil {
		t.Error(err)
	}
}

func TestAssertionIsGoodOnce(t *testing.T) {
	h := newHouse(t)
	a, b := devicetest.New(t), devicetest.New(t)
	e, bobs := h.enrol(a, h.alice), h.enrol(b, h.bob)
	claims := h.assertion(e, okta.MethodPush)
	if _, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", claims)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]devicetest.Claims{"the same": claims, "re-signed": claims.With("exp", h.clock().Add(time.Minute).Unix())} {
		if _, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", c)); !errors.Is(err, device.ErrAssertion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nobody can use up another's.
	if _, err := h.RedeemAssertion(t.Context(), b.PoP.Sign(t, "JWT", h.assertion(bobs, okta.MethodPush).With("jti", claims["jti"]))); err != nil {
		t.Errorf("bob's with the same jti: %v", err)
	}
	h.pass(5*time.Minute + 59*time.Second) // within the leeway it must still be known
	if _, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", claims)); !errors.Is(err, device.ErrAssertion) {
		t.Errorf("at the end of the leeway: %v", err)
	}
}

// E7: of any number of redemptions of one assertion, one succeeds.
func TestParallelAssertions(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	token := a.PoP.Sign(t, "JWT", h.assertion(h.enrol(a, h.alice), okta.MethodPush))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := h.RedeemAssertion(t.Context(), token); err == nil {
				won.Add(1)
			} else if !errors.Is(err, device.ErrAssertion) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d redemptions succeeded", won.Load())
	}
}

// A device that has proven itself hears that it is gone or suspended; whoever
// has not hears what everybody hears.
func TestAssertionOfWhatIsNotActive(t *testing.T) {
	type change func(ctx context.Context, tx store.Tx, h *house, e device.Enrolment) error
	user := func(status string) change {
		return func(ctx context.Context, tx store.Tx, h *house, _ device.Enrolment) error {
			return directory.SetUserStatus(ctx, tx, h.alice.ID, status, h.clock())
		}
	}
	enrolment := func(status string) change {
		return func(ctx context.Context, tx store.Tx, h *house, e device.Enrolment) error {
			return device.SetStatus(ctx, tx, e.ID, status, h.clock())
		}
	}
	dev := func(status string) change {
		return func(ctx context.Context, tx store.Tx, h *house, e device.Enrolment) error {
			return device.SetDeviceStatus(ctx, tx, e.Device.ID, status, h.clock())
		}
	}
	for name, c := range map[string]struct {
		change change
		want   okta.ErrorCode
	}{
		"enrolment deleted":   {enrolment(device.StatusDeleted), okta.CodeEnrolmentDeleted},
		"enrolment suspended": {enrolment(device.StatusSuspended), okta.CodeEnrolmentSuspended},
		"device deleted":      {dev(device.StatusDeleted), okta.CodeDeviceDeleted},
		"device suspended":    {dev(device.StatusSuspended), okta.CodeDeviceSuspended},
		"user suspended":      {user(directory.StatusSuspended), okta.CodeUserSuspended},
		"user gone":           {user(directory.StatusDeprovisioned), okta.CodeUserDeleted},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			a := devicetest.New(t)
			e := h.enrol(a, h.alice)
			claims := h.assertion(e, okta.MethodPush)
			storetest.Write(t, h.db, func(tx store.Tx) error { return c.change(t.Context(), tx, h, e) })

			stranger := devicetest.NewKey(t)
			stranger.JWK.KeyID = a.PoP.JWK.KeyID
			_, err := h.RedeemAssertion(t.Context(), stranger.Sign(t, "JWT", claims))
			if !errors.Is(err, device.ErrAssertion) {
				t.Errorf("a stranger hears %v", err)
			}
			got, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", claims))
			h.wantCode("the device", err, c.want)
			if got != (device.Asserted{}) {
				t.Errorf("%+v beside a refusal", got)
			}
			if _, err := h.RedeemAssertion(t.Context(), a.PoP.Sign(t, "JWT", claims)); !errors.Is(err, device.ErrAssertion) {
				t.Errorf("a refused assertion works twice: %v", err)
			}
		})
	}
}

func FuzzAssertion(f *testing.F) {
	h := newHouse(f)
	a := devicetest.New(f)
	e := h.enrol(a, h.alice)
	good := a.PoP.Sign(f, "JWT", h.assertion(e, okta.MethodPush))
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head, string(raw), signature)
	f.Add(head, `{}`, signature)
	f.Add("e30", `{"methodEnrollmentId":null,"exp":1e400}`, "")
	f.Fuzz(func(t *testing.T, head, claims, signature string) {
		token := head + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + signature
		got, err := h.RedeemAssertion(t.Context(), token)
		if err == nil && token != good {
			t.Fatalf("forged: %q gives %+v", token, got)
		}
		if err != nil && !errors.Is(err, device.ErrAssertion) && !errors.Is(err, device.ErrAssertionIssuer) {
			t.Fatalf("%q: %v", token, err)
		}
	})
}
