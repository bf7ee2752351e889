package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Metadata is what the org's authorization server says of itself (okta-oidc,
// 16), as far as an agent needs it. All its addresses are the org's own.
type Metadata struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	ProofAlgorithms       []string `json:"dpop_signing_alg_values_supported"`
	Scopes                []string `json:"scopes_supported"`
}

// BindsTokens says whether the org binds tokens to keys as ours (DPoP).
func (m Metadata) BindsTokens() bool { return slices.Contains(m.ProofAlgorithms, string(jose.ES256)) }

// Metadata asks the org's authorization server who it is. An address elsewhere
// than at the org's origin is refused: codes and tokens would go there (E5, E12).
func (o *Org) Metadata(ctx context.Context) (Metadata, error) {
	var m Metadata
	a, err := o.do(ctx, call{method: http.MethodGet, url: o.url + "/.well-known/openid-configuration", accept: typeJSON, limit: maxDocument})
	if err != nil {
		return m, err
	}
	if err := o.decode(a, &m); err != nil {
		return Metadata{}, err
	}
	if m.Issuer != o.url {
		return Metadata{}, o.incomplete(a, "issuer differs from the one asked for")
	}
	for _, e := range [...]struct{ name, url string }{
		{"authorization_endpoint", m.AuthorizationEndpoint}, {"token_endpoint", m.TokenEndpoint}, {"revocation_endpoint", m.RevocationEndpoint},
	} {
		if e.url == "" && e.name == "revocation_endpoint" {
			continue
		}
		if err := o.own(e.url); err != nil {
			return Metadata{}, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return m, nil
}

// TokenResponse is a successful answer of the token endpoint.
type TokenResponse struct {
	AccessToken  okta.Secret `json:"access_token"`
	TokenType    string      `json:"token_type"`
	ExpiresIn    int64       `json:"expires_in,omitempty"` // seconds
	RefreshToken okta.Secret `json:"refresh_token,omitempty"`
	IDToken      okta.Secret `json:"id_token,omitempty"`
	Scope        string      `json:"scope,omitempty"`
}

// Token asks the org's authorization server for a token.
func (o *Org) Token(ctx context.Context, form url.Values) (TokenResponse, error) {
	t, _, err := o.BoundToken(ctx, form, nil)
	return t, err
}

// BoundToken asks for a token that is bound to key, and returns how to use it;
// without a key it is a bearer token. A server that wants a nonce in the proof
// is asked once more with it.
func (o *Org) BoundToken(ctx context.Context, form url.Values, key *ProofKey) (TokenResponse, Authorization, error) {
	c := call{
		method: http.MethodPost, url: o.url + "/oauth2/v1/token", body: []byte(form.Encode()),
		accept: typeJSON, contentType: "application/x-www-form-urlencoded",
		limit: maxAnswer, oauth: true, auth: Authorization{proof: key},
	}
	a, err := o.do(ctx, c)
	var refusal *okta.TokenError
	if errors.As(err, &refusal) && refusal.Code == "use_dpop_nonce" && key != nil && key.expects(refusal.Nonce) {
		a, err = o.do(ctx, c)
	}
	if err != nil {
		return TokenResponse{}, Authorization{}, err
	}
	if key != nil {
		key.expects(a.header.Get("DPoP-Nonce")) // the next one, ahead of time
	}
	var t TokenResponse
	if err := o.decode(a, &t); err != nil {
		return TokenResponse{}, Authorization{}, err
	}
	if t.AccessToken == "" {
		return TokenResponse{}, Authorization{}, o.incomplete(a, "access_token")
	}
	switch {
	case strings.EqualFold(t.TokenType, "DPoP") && key != nil:
		return t, DPoP(t.AccessToken, key), nil
	case strings.EqualFold(t.TokenType, "Bearer"):
		return t, Bearer(t.AccessToken), nil
	}
	return TokenResponse{}, Authorization{}, o.incomplete(a, fmt.Sprintf("token_type %.16q", t.TokenType))
}

// Revoke ends a token at the address that the metadata names, before its time.
// An empty address is an org that cannot do that.
func (o *Org) Revoke(ctx context.Context, endpoint string, token okta.Secret) error {
	if endpoint == "" {
		return nil
	}
	if err := o.own(endpoint); err != nil {
		return err
	}
	form := url.Values{"client_id": {o.clientID}, "token": {token.Reveal()}, "token_type_hint": {"access_token"}}
	_, err := o.do(ctx, call{
		method: http.MethodPost, url: endpoint, body: []byte(form.Encode()),
		accept: typeJSON, contentType: "application/x-www-form-urlencoded",
		limit: maxAnswer, discard: true, oauth: true,
	})
	return err
}
