package account

import (
	"context"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// attest signs that this device holds its client instance key (3.5).
func (b *Book) attest(ctx context.Context, a *Account) (string, error) {
	return b.sign(ctx, a.Device.Key, okta.TypeClientInstance, a.Device.ClientInstanceID, a.Device.ID, a.OrgURL)
}

// ownLife is how long the tokens are good that the agent makes about itself.
const ownLife = 5 * time.Minute

// ownClaims are the claims of the tokens the agent makes about itself.
type ownClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  string           `json:"aud"`
	ID        string           `json:"jti"`
	IssuedAt  okta.NumericDate `json:"iat"`
	ExpiresAt okta.NumericDate `json:"exp"`
	NotBefore okta.NumericDate `json:"nbf"`
	KeyID     string           `json:"kid"`
}

func (b *Book) sign(ctx context.Context, ref devicekey.Ref, typ, iss, sub, aud string) (string, error) {
	key, err := b.opts.Keys.Open(ctx, ref)
	if err != nil {
		return "", err
	}
	return b.signWith(ctx, key, devicekey.Authorisation{}, typ, iss, sub, aud)
}

func (b *Book) signWith(ctx context.Context, key devicekey.Key, auth devicekey.Authorisation, typ, iss, sub, aud string) (string, error) {
	now := b.opts.Now()
	return jose.Sign(ctx, devicekey.Signer(key, auth), typ, ownClaims{
		Issuer: iss, Subject: sub, Audience: aud, ID: UUID(),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(ownLife)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		KeyID: key.Ref().ID,
	})
}
