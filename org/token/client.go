package token

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
)

// maxAssertionLife is how far ahead a client may date its assertion.
const maxAssertionLife = time.Hour

// ClientClaims are the claims of the assertion by which a client proves itself
// (private_key_jwt, RFC 7523).
type ClientClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  audience         `json:"aud"`
	ID        string           `json:"jti"`
	IssuedAt  okta.NumericDate `json:"iat"`
	ExpiresAt okta.NumericDate `json:"exp"`
	NotBefore okta.NumericDate `json:"nbf"`
}

// audience is one string, or a list of one: an assertion that is good at two
// places is good at none.
type audience string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*a = audience(one)
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("%d audiences", len(list))
	}
	*a = audience(list[0])
	return nil
}

// VerifyClientAssertion checks an assertion of a client for the endpoint that
// it calls, and uses it up if it has an id.
func (s *Service) VerifyClientAssertion(ctx context.Context, assertion string, app directory.App, endpoint string) error {
	refuse := func(why string) error { return fmt.Errorf("%w: %s", ClientProof, why) }
	t, err := jose.Parse(assertion, jose.ClientAssertion)
	if err != nil {
		return refuse(err.Error())
	}
	key, ok := app.Key(t.Header.KeyID)
	if !ok {
		return refuse("no key of the client")
	}
	if err := t.Verify(key); err != nil {
		return refuse(err.Error())
	}
	var c ClientClaims
	if err := t.Claims(&c); err != nil {
		return refuse(err.Error())
	}
	equal := func(a, b string) bool { return b != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	now := s.now()
	switch {
	case !equal(c.Issuer, app.ClientID) || !equal(c.Subject, app.ClientID):
		return refuse("iss or sub is another client")
	case !equal(string(c.Audience), endpoint):
		return refuse("aud is another endpoint")
	case c.ExpiresAt == 0 || !now.Before(c.ExpiresAt.Time().Add(proofLeeway)):
		return refuse("it has expired")
	case c.ExpiresAt.Time().After(now.Add(maxAssertionLife)):
		return refuse("it lives too long")
	case c.IssuedAt.Time().After(now.Add(proofLeeway)) || c.NotBefore.Time().After(now.Add(proofLeeway)):
		return refuse("it is not valid yet")
	case len(c.ID) > maxProofID:
		return refuse("jti is too long")
	case c.ID == "":
		return nil
	}
	return s.useOnce(ctx, "client:"+app.ClientID, c.ID, c.ExpiresAt.Time().Add(2*proofLeeway), ClientProof)
}
