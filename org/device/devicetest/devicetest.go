// Package devicetest is a fake agent for tests: it has keys, asks for
// enrolments and signs what a device signs, honestly unless told otherwise.
package devicetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
)

// Key is a private key with its public JWK.
type Key struct {
	Private crypto.Signer
	JWK     jose.JWK
}

// NewKey makes a P-256 key.
func NewKey(t testing.TB) Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return KeyOf(t, private)
}

// KeyOf wraps a private key.
func KeyOf(t testing.TB, private crypto.Signer) Key {
	t.Helper()
	jwk, err := jose.NewJWK(ids.New("kid"), private.Public(), jose.ProtectionSoftware)
	if err != nil {
		t.Fatal(err)
	}
	return Key{private, jwk}
}

// Raw is the key's JWK as it stands in a request.
func (k Key) Raw(t testing.TB) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(k.JWK)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Sign makes a token.
func (k Key) Sign(t testing.TB, typ string, claims any) string {
	t.Helper()
	token, err := jose.Sign(context.Background(), jose.SoftwareSigner(k.JWK.KeyID, k.Private), typ, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Agent is one installation on one device.
type Agent struct {
	Client, PoP, UV Key
}

// New makes an agent with fresh keys.
func New(t testing.TB) Agent { return Agent{NewKey(t), NewKey(t), NewKey(t)} }

// Request asks for a signed-nonce and a push method on a new device.
func (a Agent) Request(authenticatorID string) okta.EnrolmentRequest {
	keys := func() *okta.MethodKeys { return &okta.MethodKeys{ProofOfPossession: &a.PoP.JWK} }
	return okta.EnrolmentRequest{
		AuthenticatorID: authenticatorID,
		Device: okta.Device{
			ClientInstanceKey: &a.Client.JWK, Platform: "LINUX", OSVersion: "6.1.0", DisplayName: "workshop",
			BundleID: "countersign", Version: "0.1.0", SDKVersion: okta.DeviceSDK,
		},
		Methods: okta.MethodRequests{
			SignedNonce: &okta.MethodRequest{Keys: keys()},
			Push:        &okta.MethodRequest{PushToken: new(string), Keys: keys()},
		},
	}
}

// OnDevice changes a request to name a known device.
func (a Agent) OnDevice(req okta.EnrolmentRequest, deviceID, clientInstanceID, attestation string) okta.EnrolmentRequest {
	req.Device.ID, req.Device.ClientInstanceID, req.Device.ClientInstanceKey = deviceID, clientInstanceID, nil
	req.Device.Attestation = &okta.DeviceAttestation{ClientInstanceKeyAttestation: attestation}
	return req
}

// Claims are those of the tokens that a device signs about itself.
type Claims map[string]any

// NewClaims are good claims, made now.
func NewClaims(issuer, subject, audience string, now time.Time) Claims {
	return Claims{
		"iss": issuer, "sub": subject, "aud": audience, "jti": ids.New(""),
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "nbf": now.Add(-5 * time.Minute).Unix(),
	}
}

// With returns the claims with one changed; nil removes it.
func (c Claims) With(name string, value any) Claims {
	out := Claims{}
	for k, v := range c {
		out[k] = v
	}
	if value == nil {
		delete(out, name)
	} else {
		out[name] = value
	}
	return out
}
