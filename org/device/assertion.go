package device

import (
	"context"
	"errors"
	"fmt"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/store"
)

// Why an assertion of the jwt-bearer grant proves nothing. Who sent it is told
// no more than which of the two it is.
var (
	ErrAssertionIssuer = errors.New("the assertion is of an unknown issuer")
	ErrAssertion       = errors.New("the assertion does not prove an enrolment")
)

// Asserted is a device that has proven to hold the key of an enrolment.
type Asserted struct {
	UserID, EnrolmentID, DeviceID string
	KeyID                         string
}

// assertionClaims are okta.MaintenanceAssertion, as somebody wrote them.
type assertionClaims struct {
	proofClaims
	MethodID string `json:"methodEnrollmentId"`
}

// RedeemAssertion checks the assertion by which a device asks for a maintenance
// token (devices protocol 3.6), and uses it up. The errors are ErrAssertion and
// ErrAssertionIssuer for one that proves nothing, and an *okta.Error for a
// device that has proven itself, but may not be used: that it is gone or
// suspended is told to nobody else.
func (r *Registry) RedeemAssertion(ctx context.Context, assertion string) (Asserted, error) {
	t, err := jose.Parse(assertion, jose.MaintenanceAssertion)
	if err != nil {
		return Asserted{}, fmt.Errorf("%w: %w", ErrAssertion, err)
	}
	var c assertionClaims
	if err := t.Claims(&c); err != nil {
		return Asserted{}, fmt.Errorf("%w: %w", ErrAssertion, err)
	}
	switch {
	case c.Issuer != okta.MaintenanceIssuer:
		return Asserted{}, ErrAssertionIssuer
	case t.Header.Type != okta.TypeMaintenanceGrant:
		return Asserted{}, fmt.Errorf("%w: typ %.40q", ErrAssertion, t.Header.Type)
	}
	var out Asserted
	var refused error // committed with the transaction: a refused assertion is used up, too
	err = r.db.Write(ctx, func(tx store.Tx) error {
		e, err := ofMethod(ctx, tx, c.MethodID)
		if err != nil {
			return err
		}
		key, err := r.asserting(t, c, e)
		if err != nil {
			return err
		}
		used := c.proofClaims
		used.Issuer = c.MethodID // the issuer is everybody's; nobody may use up another's
		if err := used.use(ctx, tx, r.now()); err != nil {
			var refusal *okta.Error
			if errors.As(err, &refusal) {
				return fmt.Errorf("%w: %w", ErrAssertion, errors.New("it was used before"))
			}
			return err
		}
		if refused = activeUser(ctx, tx, e.UserID); refused == nil {
			refused = refusalOf(e)
		}
		var refusal *okta.Error
		if refused != nil && !errors.As(refused, &refusal) {
			return refused
		}
		out = Asserted{UserID: e.UserID, EnrolmentID: e.ID, DeviceID: e.Device.ID, KeyID: key.JWK.KeyID}
		return nil
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return Asserted{}, err
	}
	return out, nil
}

// asserting returns the key that signed, which must be the proof-of-possession
// key of the very method that the assertion names.
func (r *Registry) asserting(t *jose.Token, c assertionClaims, e Enrolment) (Key, error) {
	for _, m := range e.Methods {
		if m.ID != c.MethodID {
			continue
		}
		key, ok := m.Key(okta.KeyProofOfPossession)
		if !ok || t.Header.KeyID == "" || key.JWK.KeyID != t.Header.KeyID {
			break
		}
		if err := t.Verify(key.JWK); err != nil {
			return Key{}, fmt.Errorf("%w: %w", ErrAssertion, err)
		}
		if err := c.check(e.UserID, r.orgURL, t.Header.KeyID, r.now()); err != nil {
			return Key{}, fmt.Errorf("%w: %w", ErrAssertion, err)
		}
		return key, nil
	}
	return Key{}, fmt.Errorf("%w: it names no key of the method", ErrAssertion)
}

// ofMethod finds the enrolment that a method belongs to, in whatever status.
func ofMethod(ctx context.Context, tx store.Tx, methodID string) (Enrolment, error) {
	e, err := one(load(ctx, tx, `WHERE e.id = (SELECT enrolment_id FROM enrolment_methods WHERE id = ?)`, methodID))
	if errors.Is(err, store.ErrNotFound) {
		return Enrolment{}, fmt.Errorf("%w: it names no method", ErrAssertion)
	}
	return e, err
}
