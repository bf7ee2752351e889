package device

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/store"
)

const (
	// proofLifetime bounds the tokens that devices sign about themselves.
	proofLifetime = 5 * time.Minute
	// proofLeeway is the tolerated difference between two clocks.
	proofLeeway = time.Minute
)

// proofClaims are the claims of both device-made tokens (devices protocol 3.5).
type proofClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  string           `json:"aud"`
	ID        string           `json:"jti"`
	IssuedAt  okta.NumericDate `json:"iat"`
	ExpiresAt okta.NumericDate `json:"exp"`
	NotBefore okta.NumericDate `json:"nbf"`
	KeyID     string           `json:"kid"`
}

// check compares everything but the signature.
func (c proofClaims) check(subject, orgURL, kid string, now time.Time) error {
	equal := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	exp, iat := c.ExpiresAt.Time(), c.IssuedAt.Time()
	switch {
	case subject == "" || !equal(c.Subject, subject):
		return errors.New("sub is someone else")
	case orgURL == "" || !equal(c.Audience, orgURL):
		return errors.New("aud is another org")
	case c.KeyID != "" && c.KeyID != kid:
		return errors.New("kid differs from the header's")
	case c.ID == "" || len(c.ID) > 128:
		return errors.New("jti is missing or too long")
	case c.ExpiresAt == 0 || c.IssuedAt == 0:
		return errors.New("exp or iat is missing")
	case exp.Sub(iat) > proofLifetime || exp.After(now.Add(proofLifetime+proofLeeway)):
		return errors.New("it lives too long")
	case !now.Before(exp.Add(proofLeeway)):
		return errors.New("it has expired")
	case iat.After(now.Add(proofLeeway)) || c.NotBefore.Time().After(now.Add(proofLeeway)):
		return errors.New("it is not valid yet")
	}
	return nil
}

// Proof is a verified "SSWS" token: the holder of an enrolment's key asks for
// something. It is good once; the operation it authorises uses it up. The zero
// value proves nothing.
type Proof struct {
	Enrolment  Enrolment // as it was when the proof was checked
	Role       okta.KeyType
	thumbprint string
	keyID      string
	claims     proofClaims
}

// UserVerified says whether the key that signed demands user verification.
func (p Proof) UserVerified() bool {
	return p.Role.VerifiesUser()
}

func invalidToken(why string) error { return okta.NewError(okta.CodeInvalidToken, why) }

// VerifyProof checks an okta-enrollmentupdate+jwt. It does not say whether the
// enrolment may be used: a deleted one is recognised too, so that its agent
// can be told.
func (r *Registry) VerifyProof(ctx context.Context, token string) (Proof, error) {
	t, err := jose.Parse(token, jose.EnrolmentUpdate)
	if err != nil {
		return Proof{}, invalidToken("the token is malformed")
	}
	var p Proof
	if err := t.Claims(&p.claims); err != nil {
		return Proof{}, invalidToken("the token is malformed")
	}
	err = r.db.Read(ctx, func(tx store.Tx) (err error) {
		p.Enrolment, err = ByID(ctx, tx, p.claims.Issuer)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return Proof{}, invalidToken("the token names no enrolment")
	}
	if err != nil {
		return Proof{}, err
	}
	key, ok := p.Enrolment.KeyByID(t.Header.KeyID)
	if !ok {
		return Proof{}, invalidToken("the token names no key of the enrolment")
	}
	if err := t.Verify(key.JWK); err != nil {
		return Proof{}, invalidToken("the token's signature does not verify")
	}
	if err := p.claims.check(p.Enrolment.UserID, r.orgURL, t.Header.KeyID, r.now()); err != nil {
		return Proof{}, invalidToken(err.Error())
	}
	p.Role, p.keyID, p.thumbprint = key.Role, key.JWK.KeyID, key.Thumbprint
	return p, nil
}

// redeem uses the proof up in the transaction of what it authorises. The key
// that signed must still be the enrolment's: it may have been replaced since.
func (p Proof) redeem(ctx context.Context, tx store.Tx, e Enrolment, now time.Time) error {
	key, ok := e.KeyByID(p.keyID)
	if !ok || key.Thumbprint != p.thumbprint || e.ID != p.Enrolment.ID {
		return invalidToken("the token names no key of the enrolment")
	}
	return p.claims.use(ctx, tx, now)
}

// use makes sure that a token is used for the first time.
func (c proofClaims) use(ctx context.Context, tx store.Tx, now time.Time) error {
	first, err := c.first(ctx, tx, now)
	if err == nil && !first {
		err = invalidToken("the token was used before")
	}
	return err
}

// first notes that a token is used, and says whether it is for the first time.
func (c proofClaims) first(ctx context.Context, tx store.Tx, now time.Time) (bool, error) {
	if _, err := tx.ExecContext(ctx, `DELETE FROM device_tokens WHERE expires_at < ?`, store.Millis(now)); err != nil {
		return false, fmt.Errorf("tidying used tokens: %w", err)
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO device_tokens (issuer, jti, expires_at) VALUES (?, ?, ?) ON CONFLICT (issuer, jti) DO NOTHING`,
		c.Issuer, c.ID, store.Millis(c.ExpiresAt.Time().Add(2*proofLeeway)))
	if err != nil {
		return false, fmt.Errorf("noting a used token: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("noting a used token: %w", err)
	}
	return n == 1, nil
}

// attestation is a verified client instance attestation.
type attestation struct {
	device     Device
	thumbprint string // of the key that signed
	claims     proofClaims
}

// verifyAttestation checks that a request which names a known device comes
// from that device. Every doubt is E0000011, upon which an agent enrols as a
// new device; only the device itself learns that it is suspended or deleted.
func (r *Registry) verifyAttestation(ctx context.Context, d okta.Device) (attestation, error) {
	if d.Attestation == nil || d.Attestation.ClientInstanceKeyAttestation == "" {
		return attestation{}, invalidToken("a known device must attest its client instance key")
	}
	t, err := jose.Parse(d.Attestation.ClientInstanceKeyAttestation, jose.ClientInstance)
	if err != nil {
		return attestation{}, invalidToken("the attestation is malformed")
	}
	var a attestation
	if err := t.Claims(&a.claims); err != nil {
		return attestation{}, invalidToken("the attestation is malformed")
	}
	err = r.db.Read(ctx, func(tx store.Tx) (err error) {
		a.device, err = deviceByID(ctx, tx, d.ID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return attestation{}, invalidToken("the device is not known")
	}
	if err != nil {
		return attestation{}, err
	}
	key := a.device.ClientInstanceKey
	if t.Header.KeyID != key.KeyID || a.device.ClientInstanceID != d.ClientInstanceID || a.claims.Issuer != d.ClientInstanceID {
		return attestation{}, invalidToken("the attestation is for another client instance")
	}
	if err := t.Verify(key); err != nil {
		return attestation{}, invalidToken("the attestation's signature does not verify")
	}
	if err := a.claims.check(d.ID, r.orgURL, t.Header.KeyID, r.now()); err != nil {
		return attestation{}, invalidToken(err.Error())
	}
	if a.thumbprint, err = key.Thumbprint(); err != nil {
		return attestation{}, fmt.Errorf("reading a stored client instance key: %w", err)
	}
	if refusal := a.device.Refusal(); refusal != nil {
		return attestation{}, refusal
	}
	return a, nil
}
