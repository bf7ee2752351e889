// Package token issues, redeems and revokes what the org's two authorization
// servers hand out: authorization codes, interaction codes, access tokens, ID
// tokens and refresh tokens (spec okta-oidc 5, 10, 12).
//
// One sign-in for one client is a *grant*: a row that everything issued from
// it points to. Revoking the row ends the codes, the refresh tokens and the
// access tokens of that sign-in together; a replayed authorization code and a
// refresh token used again after its grace do exactly that.
//
// Three rules hold throughout. What works once is consumed in the transaction
// that checks it, so that of any number of parallel redemptions one wins.
// Nothing is signed inside a transaction: the row is written first, the JWT is
// made after. Whatever is a bearer secret is stored as a hash only.
//
// There are two issuers: the org itself (base URL), and the custom server
// "default" (base URL + /oauth2/default). A code, refresh token or access
// token of one is worth nothing at the other.
package token

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// Lifetimes, fixed as Okta's org server has them.
const (
	CodeLifetime    = 300 * time.Second
	AccessLifetime  = time.Hour
	IDLifetime      = time.Hour
	RefreshLifetime = 90 * 24 * time.Hour
	// RefreshGrace is how long a refresh token still works after its first
	// use, for a client that lost the answer.
	RefreshGrace = 30 * time.Second
)

// The authorization servers by their id, as in Grant.AuthorizationServer.
const (
	ServerOrg     = ""
	ServerDefault = "default"
)

// Signer signs the org's tokens and recognises them again; *signingkey.Ring does.
type Signer interface {
	Sign(ctx context.Context, typ string, claims any) (string, error)
	Verify(token string, use jose.Use, claims any) error
}

// Deps is what a Service works with. Now may be nil for the real clock.
type Deps struct {
	DB      *store.DB
	Signing Signer
	BaseURL string // the org's own address, without a trailing slash
	Now     func() time.Time
}

// Service issues and checks codes and tokens. It is safe for concurrent use.
type Service struct {
	db      *store.DB
	signing Signer
	baseURL string
	now     func() time.Time
	nonces  nonces
}

// New returns a Service.
func New(d Deps) *Service {
	if d.Now == nil {
		d.Now = time.Now
	}
	return &Service{db: d.DB, signing: d.Signing, baseURL: strings.TrimSuffix(d.BaseURL, "/"), now: d.Now, nonces: newNonces()}
}

// Grant is what one finished sign-in gives one client.
type Grant struct {
	ClientID            string
	UserID              string
	AuthorizationServer string // ServerOrg or ServerDefault
	RedirectURI         string
	Nonce               string
	CodeChallenge       string // PKCE S256; required
	Scopes              []string
	AMR                 []string
	AuthTime            time.Time
	EnrolmentID         string // authenticator enrolment that answered, if one did
	DeviceID            string
	KeyID               string
	ACR                 string
	SessionID           string // session.Reference of the browser session, if there is one
	// ByDevice says that a device asked by its own key and nobody signed in; see
	// IssueMaintenance.
	ByDevice bool
}

func (g Grant) has(scope string) bool { return slices.Contains(g.Scopes, scope) }

// Tokens is the token endpoint's answer.
type Tokens struct {
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	AccessToken  string `json:"access_token"`
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
}

// String keeps the tokens out of logs.
func (Tokens) String() string { return "[redacted tokens]" }

// GoString implements fmt.GoStringer.
func (Tokens) GoString() string { return "[redacted tokens]" }

// LogValue implements slog.LogValuer.
func (Tokens) LogValue() slog.Value { return slog.StringValue("[redacted tokens]") }

// Issuer returns the claim "iss" of an authorization server's tokens, and
// false for a server that does not exist.
func (s *Service) Issuer(server string) (string, bool) {
	switch server {
	case ServerOrg:
		return s.baseURL, true
	case ServerDefault:
		return s.baseURL + "/oauth2/default", true
	}
	return "", false
}

// audience returns the claim "aud" of an authorization server's access tokens.
func (s *Service) audience(server string) string {
	if server == ServerDefault {
		return "api://default"
	}
	return s.baseURL
}

// issue signs what a transaction prepared, after it. The nonce goes into the ID
// token; it is empty after a refresh.
func (s *Service) issue(ctx context.Context, p pending, nonce string) (Tokens, error) {
	g := p.grant
	issuer, ok := s.Issuer(g.AuthorizationServer)
	if !ok {
		return Tokens{}, fmt.Errorf("issuing tokens: no authorization server %q", g.AuthorizationServer)
	}
	now := s.now()
	at, err := s.signing.Sign(ctx, "", accessClaims{
		Version: 1, ID: p.accessID, Issuer: issuer, Audience: s.audience(g.AuthorizationServer),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(AccessLifetime)),
		ClientID: g.ClientID, UserID: g.UserID, Scopes: g.Scopes,
		AuthTime: authTime(g), ACR: g.ACR, Subject: p.user.Login, Confirmation: p.confirmation(),
	})
	if err != nil {
		return Tokens{}, fmt.Errorf("signing an access token: %w", err)
	}
	t := Tokens{
		TokenType: "Bearer", ExpiresIn: int(AccessLifetime.Seconds()), AccessToken: at,
		Scope: strings.Join(g.Scopes, " "), RefreshToken: p.refresh.Reveal(),
	}
	if p.key != "" {
		t.TokenType = "DPoP"
	}
	if !g.has("openid") {
		return t, nil
	}
	id := idClaims{
		Version: 1, ID: "ID." + ids.Secret(), Issuer: issuer, Subject: g.UserID, Audience: g.ClientID,
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(IDLifetime)),
		AuthTime: okta.DateOf(g.AuthTime), AMR: g.AMR, ACR: g.ACR, IDP: p.orgID,
		Nonce: nonce, AccessTokenHash: halfHash(at),
	}
	if g.has("profile") {
		id.Name, id.PreferredUsername = p.user.Name(), p.user.Login
	}
	if g.has("email") {
		id.Email = p.user.Email
	}
	if t.IDToken, err = s.signing.Sign(ctx, "", id); err != nil {
		return Tokens{}, fmt.Errorf("signing an ID token: %w", err)
	}
	return t, nil
}

// accessClaims are the claims of an access token (spec 12): "scp" is a list,
// there is neither "scope" nor "client_id".
type accessClaims struct {
	Version   int              `json:"ver"`
	ID        string           `json:"jti"`
	Issuer    string           `json:"iss"`
	Audience  string           `json:"aud"`
	IssuedAt  okta.NumericDate `json:"iat"`
	ExpiresAt okta.NumericDate `json:"exp"`
	ClientID  string           `json:"cid"`
	UserID    string           `json:"uid"`
	Scopes    []string         `json:"scp"`
	AuthTime  okta.NumericDate `json:"auth_time,omitempty"` // absent when nobody signed in
	ACR       string           `json:"acr,omitempty"`
	Subject   string           `json:"sub"` // the login
	// Confirmation names the key that the token is bound to; nil for a bearer's.
	Confirmation *confirmation `json:"cnf,omitempty"`
}

// idClaims are the claims of an ID token. It travels beside an access token,
// so it is the thin one; /userinfo has the rest.
type idClaims struct {
	Version         int              `json:"ver"`
	ID              string           `json:"jti"`
	Issuer          string           `json:"iss"`
	Subject         string           `json:"sub"` // the user id
	Audience        string           `json:"aud"`
	IssuedAt        okta.NumericDate `json:"iat"`
	ExpiresAt       okta.NumericDate `json:"exp"`
	AuthTime        okta.NumericDate `json:"auth_time"`
	AMR             []string         `json:"amr"`
	ACR             string           `json:"acr,omitempty"`
	IDP             string           `json:"idp"`
	Nonce           string           `json:"nonce,omitempty"`
	AccessTokenHash string           `json:"at_hash"`

	Name              string `json:"name,omitempty"`
	PreferredUsername string `json:"preferred_username,omitempty"`
	Email             string `json:"email,omitempty"`
}

// authTime is when somebody signed in; 0 when nobody did.
func authTime(g Grant) okta.NumericDate {
	if g.AuthTime.IsZero() {
		return 0
	}
	return okta.DateOf(g.AuthTime)
}

// halfHash is at_hash of OpenID Connect for RS256.
func halfHash(token string) string {
	h := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(h[:16])
}

// maxSecret bounds codes and tokens before they are hashed or looked up.
const maxSecret = 8 << 10

// activeUser loads the user of a grant and refuses one who may no longer sign in.
func activeUser(ctx context.Context, tx store.Tx, g Grant) (directory.User, error) {
	user, err := directory.UserByID(ctx, tx, g.UserID)
	if errors.Is(err, store.ErrNotFound) {
		return directory.User{}, UserNotActive
	}
	if err != nil {
		return directory.User{}, fmt.Errorf("loading the user of a grant: %w", err)
	}
	if !user.Active() {
		return directory.User{}, UserNotActive
	}
	assigned, err := directory.Assigned(ctx, tx, g.UserID, g.ClientID)
	if err != nil {
		return directory.User{}, fmt.Errorf("checking the app's assignment: %w", err)
	}
	if !assigned {
		return directory.User{}, UserNotAssigned
	}
	return user, nil
}
