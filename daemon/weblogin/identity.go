package weblogin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

const (
	clockLeeway = 5 * time.Minute
	maxUserID   = 128
)

// idClaims are the claims of an ID token that count here (OpenID Connect Core, 2).
type idClaims struct {
	Issuer    string           `json:"iss"`
	Audience  audience         `json:"aud"`
	Party     string           `json:"azp"`
	Subject   string           `json:"sub"`
	Nonce     string           `json:"nonce"`
	IssuedAt  okta.NumericDate `json:"iat"`
	ExpiresAt okta.NumericDate `json:"exp"`
	Username  string           `json:"preferred_username"`
}

// audience is one name or a list of them.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*a = list
	return nil
}

// identify notes who signed in, by the ID token. It must be signed by this org,
// for this app, in answer to this very sign-in (E5).
func (s *SignIn) identify(ctx context.Context, g *Grant, idToken okta.Secret) error {
	t, err := jose.Parse(idToken.Reveal(), jose.IDToken)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	keys, _, err := s.options.Org.SigningKeys(ctx, s.options.Org.URL())
	if err != nil {
		return fmt.Errorf("get the org's keys: %w", err)
	}
	i := slices.IndexFunc(keys, func(k jose.JWK) bool { return k.KeyID == t.Header.KeyID })
	if i < 0 {
		return fmt.Errorf("%w: its key is not the org's", ErrIDToken)
	}
	if err := t.Verify(keys[i]); err != nil {
		return fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	var c idClaims
	if err := t.Claims(&c); err != nil {
		return fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	now := s.options.Now()
	what := ""
	switch {
	case c.Issuer != s.options.Org.URL():
		what = "iss is another org"
	case !slices.Contains(c.Audience, s.options.ClientID), len(c.Audience) > 1 && c.Party != s.options.ClientID, c.Party != "" && c.Party != s.options.ClientID:
		what = "aud is another app"
	case c.Nonce != s.nonce:
		what = "nonce is another sign-in's"
	case c.Subject == "" || len(c.Subject) > maxUserID:
		what = "sub is no user id"
	case now.After(c.ExpiresAt.Time().Add(clockLeeway)), c.IssuedAt.Time().After(now.Add(clockLeeway)):
		what = "it is not good at this time; is the clock of this computer right?"
	}
	if what != "" {
		return fmt.Errorf("%w: %s", ErrIDToken, what)
	}
	g.UserID, g.Username = c.Subject, plain(c.Username, maxShown)
	return nil
}
