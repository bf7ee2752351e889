// Package idtoken checks what an org says of who has signed in: an ID token
// (OpenID Connect Core, 2). It must be signed by a key of this org, for this
// app, in answer to this very sign-in; anything less is ErrInvalid (E5).
package idtoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

const (
	clockLeeway = 5 * time.Minute
	maxUserID   = 128
	maxUsername = 200
	maxMethods  = 16 // in amr
)

// ErrInvalid says that an org's word on who signed in does not hold.
var ErrInvalid = errors.New("the org's word on who signed in does not hold")

// Expected is what a token is checked against.
type Expected struct {
	Org      *client.Org
	ClientID string
	Nonce    string // of the sign-in
	Now      time.Time
}

// Person is who signed in, and how.
type Person struct {
	UserID   string
	Username string   // on one line; "" when the org does not say
	Methods  []string // amr: the methods that the org says it saw
}

// Check reads a token, with the keys that the org publishes.
func Check(ctx context.Context, token okta.Secret, want Expected) (Person, error) {
	t, err := jose.Parse(token.Reveal(), jose.IDToken)
	if err != nil {
		return Person{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	keys, _, err := want.Org.SigningKeys(ctx, want.Org.URL())
	if err != nil {
		return Person{}, fmt.Errorf("get the org's keys: %w", err)
	}
	i := slices.IndexFunc(keys, func(k jose.JWK) bool { return k.KeyID == t.Header.KeyID })
	if i < 0 {
		return Person{}, fmt.Errorf("%w: its key is not the org's", ErrInvalid)
	}
	if err := t.Verify(keys[i]); err != nil {
		return Person{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var c claims
	if err := t.Claims(&c); err != nil {
		return Person{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if what := c.wrong(want); what != "" {
		return Person{}, fmt.Errorf("%w: %s", ErrInvalid, what)
	}
	p := Person{UserID: c.Subject, Username: prompt.Clean(c.Username, maxUsername)}
	for _, m := range c.Methods[:min(len(c.Methods), maxMethods)] {
		if m = prompt.Clean(m, 16); m != "" {
			p.Methods = append(p.Methods, m)
		}
	}
	return p, nil
}

// claims are the ones that count here.
type claims struct {
	Issuer    string           `json:"iss"`
	Audience  audience         `json:"aud"`
	Party     string           `json:"azp"`
	Subject   string           `json:"sub"`
	Nonce     string           `json:"nonce"`
	IssuedAt  okta.NumericDate `json:"iat"`
	ExpiresAt okta.NumericDate `json:"exp"`
	Username  string           `json:"preferred_username"`
	Methods   []string         `json:"amr"`
}

// wrong says what does not fit; "" when all does.
func (c *claims) wrong(want Expected) string {
	switch {
	case c.Issuer != want.Org.URL():
		return "iss is another org"
	case !slices.Contains(c.Audience, want.ClientID), len(c.Audience) > 1 && c.Party != want.ClientID, c.Party != "" && c.Party != want.ClientID:
		return "aud is another app"
	case c.Nonce != want.Nonce || want.Nonce == "":
		return "nonce is another sign-in's"
	case c.Subject == "" || len(c.Subject) > maxUserID:
		return "sub is no user id"
	case want.Now.After(c.ExpiresAt.Time().Add(clockLeeway)), c.IssuedAt.Time().After(want.Now.Add(clockLeeway)):
		return "it is not good at this time; is the clock of this computer right?"
	}
	return ""
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
