package token

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// AccessClaims is what a valid access token says.
type AccessClaims struct {
	ID                  string // jti
	UserID              string
	Login               string
	ClientID            string
	AuthorizationServer string
	Scopes              []string
	AuthTime            time.Time
	ExpiresAt           time.Time
	AMR                 []string
	ACR                 string
	EnrolmentID         string
	DeviceID            string
	KeyID               string
	// ByDevice says that the token is its enrolment's own: good for that one,
	// and for nothing that takes a person.
	ByDevice bool
	Key      string // thumbprint of the key that the token is bound to; "" for a bearer's
}

// Has says whether the token carries a scope.
func (c AccessClaims) Has(scope string) bool { return slices.Contains(c.Scopes, scope) }

// Strong says that whoever signed in proved factors of two classes. A token
// that a device got by its own key is never that: nobody signed in.
func (c AccessClaims) Strong() bool { return !c.ByDevice && slices.Contains(c.AMR, amrMulti) }

// amrMulti is the authentication method reference of several factors (RFC 8176).
const amrMulti = "mfa"

// VerifyAccessToken checks an access token of the org's own authorization
// server, which the org's APIs take: signature, issuer, audience, expiry, not
// revoked, user still active. It returns TokenInvalid for anything else; for the
// token of an enrolment that is gone or suspended, with the *okta.Error that
// says so. One that is bound to a key is invalid here, too: see
// VerifyBoundToken.
func (s *Service) VerifyAccessToken(ctx context.Context, token string) (AccessClaims, error) {
	return s.VerifyAccessTokenOf(ctx, ServerOrg, token)
}

// VerifyAccessTokenOf does the same for the tokens of the named server, and
// refuses those of every other (E5).
func (s *Service) VerifyAccessTokenOf(ctx context.Context, server, token string) (AccessClaims, error) {
	return s.verifyAccess(ctx, server, token, "")
}

// verifyAccess takes a token that is bound to exactly this key; "" is none.
func (s *Service) verifyAccess(ctx context.Context, server, token, key string) (AccessClaims, error) {
	c, err := s.readAccess(server, token)
	if err != nil {
		return AccessClaims{}, fmt.Errorf("verifying an access token: %w", err)
	}
	out := AccessClaims{
		ID: c.ID, Login: c.Subject, AuthorizationServer: server, Scopes: c.Scopes,
		ExpiresAt: c.ExpiresAt.Time(), ACR: c.ACR,
	}
	err = s.db.Read(ctx, func(tx store.Tx) error {
		var grantID, bound string
		var revokedAt sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT grant_id, key_thumbprint, revoked_at FROM oauth_access_tokens WHERE id = ?`, c.ID).
			Scan(&grantID, &bound, &revokedAt)
		if errors.Is(err, sql.ErrNoRows) || err == nil && revokedAt.Valid {
			return TokenInvalid
		}
		if err != nil {
			return fmt.Errorf("looking up an access token: %w", err)
		}
		if bound != key || bound != c.key() {
			return TokenInvalid
		}
		g, revoked, err := loadGrant(ctx, tx, grantID)
		if err != nil {
			return err
		}
		// The row decides; the claims must agree with it.
		if revoked || g.UserID != c.UserID || g.ClientID != c.ClientID || g.AuthorizationServer != server {
			return TokenInvalid
		}
		if _, err := activeUser(ctx, tx, g); err != nil {
			return err
		}
		if err := activeEnrolment(ctx, tx, g); err != nil {
			return err
		}
		out.UserID, out.ClientID, out.AuthTime = g.UserID, g.ClientID, g.AuthTime
		out.AMR, out.EnrolmentID, out.DeviceID, out.KeyID = g.AMR, g.EnrolmentID, g.DeviceID, g.KeyID
		out.ByDevice, out.Key = g.ByDevice, bound
		return nil
	})
	if err == nil {
		return out, nil
	}
	var refusal *okta.Error
	if internal(err) == nil && !errors.As(err, &refusal) {
		err = TokenInvalid // why is nobody's business
	}
	return AccessClaims{}, fmt.Errorf("verifying an access token: %w", err)
}

func (c accessClaims) key() string {
	if c.Confirmation == nil {
		return ""
	}
	return c.Confirmation.Thumbprint
}

// readAccess checks all that the token itself can tell.
func (s *Service) readAccess(server, token string) (accessClaims, error) {
	issuer, known := s.Issuer(server)
	if !known || token == "" || len(token) > maxSecret {
		return accessClaims{}, TokenInvalid
	}
	var c accessClaims
	if err := s.signing.Verify(token, jose.AccessToken, &c); err != nil {
		return accessClaims{}, errors.Join(TokenInvalid, err)
	}
	// An ID token of this org has its signature too; the id's prefix and the
	// audience tell them apart.
	ok := c.Issuer == issuer && c.Audience == s.audience(server) && strings.HasPrefix(c.ID, "AT.") &&
		c.UserID != "" && c.ClientID != "" && s.now().Before(c.ExpiresAt.Time())
	if !ok {
		return accessClaims{}, TokenInvalid
	}
	return c, nil
}

// Revoke ends a token of the client at the named server: a refresh token with
// everything of its sign-in, an access token alone. An unknown token and
// another client's are passed over in silence, as RFC 7009 wants it.
func (s *Service) Revoke(ctx context.Context, server, clientID, token string) error {
	if token == "" || len(token) > maxSecret {
		return nil
	}
	now := s.now().UnixMilli()
	access, accessErr := s.readAccess(server, token)
	err := s.db.Write(ctx, func(tx store.Tx) error {
		if accessErr == nil {
			if access.ClientID != clientID {
				return nil
			}
			_, err := tx.ExecContext(ctx, `UPDATE oauth_access_tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`, now, access.ID)
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE oauth_grants SET revoked_at = ?
			WHERE client_id = ? AND authorization_server = ? AND revoked_at IS NULL
			AND id IN (SELECT grant_id FROM oauth_refresh_tokens WHERE hash = ?)`,
			now, clientID, server, ids.Digest(token))
		return err
	})
	if err != nil {
		return fmt.Errorf("revoking a token: %w", err)
	}
	return nil
}

// UserInfo returns all claims of the token's scopes about its user, as the
// userinfo endpoint answers them. The token must carry openid.
func (s *Service) UserInfo(ctx context.Context, c AccessClaims) (map[string]any, error) {
	if !c.Has("openid") {
		return nil, ScopeInsufficient
	}
	var user directory.User
	err := s.db.Read(ctx, func(tx store.Tx) (err error) {
		user, err = directory.UserByID(ctx, tx, c.UserID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("loading a user: %w", err)
	}
	claims := map[string]any{"sub": user.ID}
	if c.Has("profile") {
		claims["name"] = user.Name()
		claims["given_name"] = user.FirstName
		claims["family_name"] = user.LastName
		claims["preferred_username"] = user.Login
		claims["locale"] = "en-GB"
		claims["updated_at"] = user.CreatedAt.Unix()
	}
	if c.Has("email") {
		claims["email"] = user.Email
		claims["email_verified"] = true
	}
	return claims, nil
}
