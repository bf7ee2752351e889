package token

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// RefreshRequest is a client's request for fresh tokens.
type RefreshRequest struct {
	ClientID            string
	AuthorizationServer string
	RefreshToken        string
	Scopes              []string // a subset of what was granted; nil for all of it
	Key                 string   // as in Redemption; must be the token's own, if it has one
}

// Refresh rotates a refresh token: the client gets new tokens, and the old
// refresh token works for RefreshGrace more, in case the answer was lost. Used
// after that it is in two hands, and everything of its sign-in is revoked.
// Authentication time and assurance stay those of the sign-in.
func (s *Service) Refresh(ctx context.Context, r RefreshRequest) (Tokens, error) {
	if r.RefreshToken == "" || len(r.RefreshToken) > maxSecret {
		return Tokens{}, RefreshInvalid
	}
	var (
		p       pending
		refused error
	)
	err := s.db.Write(ctx, func(tx store.Tx) error {
		p, refused = s.rotate(ctx, tx, r)
		return internal(refused)
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return Tokens{}, fmt.Errorf("refreshing tokens: %w", err)
	}
	return s.issue(ctx, p, "")
}

func (s *Service) rotate(ctx context.Context, tx store.Tx, r RefreshRequest) (pending, error) {
	var (
		digest    = ids.Digest(r.RefreshToken)
		now       = s.now()
		grantID   string
		key       string
		expiresAt int64
		rotatedAt sql.NullInt64
	)
	err := tx.QueryRowContext(ctx, `SELECT grant_id, key_thumbprint, expires_at, rotated_at FROM oauth_refresh_tokens WHERE hash = ?`, digest).
		Scan(&grantID, &key, &expiresAt, &rotatedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return pending{}, RefreshInvalid
	}
	if err != nil {
		return pending{}, fmt.Errorf("looking up a refresh token: %w", err)
	}
	g, revoked, err := loadGrant(ctx, tx, grantID)
	if err != nil {
		return pending{}, err
	}
	if revoked || g.ClientID != r.ClientID || g.AuthorizationServer != r.AuthorizationServer || now.UnixMilli() >= expiresAt {
		return pending{}, RefreshInvalid
	}
	// Before anything is revoked: whoever has the token without its key can do
	// nothing with it, and must not be able to end the sign-in either.
	switch {
	case key != "" && r.Key == "":
		return pending{}, ProofMissing
	case key != "" && key != r.Key:
		return pending{}, fmt.Errorf("%w: the refresh token is bound to another key", ProofInvalid)
	}
	if rotatedAt.Valid && !now.Before(time.UnixMilli(rotatedAt.Int64).Add(RefreshGrace)) {
		if err := revokeGrant(ctx, tx, grantID, now.UnixMilli()); err != nil {
			return pending{}, err
		}
		return pending{}, RefreshReused
	}
	scopes := g.Scopes
	if r.Scopes != nil {
		for _, scope := range r.Scopes {
			if !slices.Contains(g.Scopes, scope) {
				return pending{}, ScopeWidened
			}
		}
		scopes = r.Scopes
	}
	if !rotatedAt.Valid { // the grace runs from the first use, and is not prolonged by later ones
		_, err := tx.ExecContext(ctx, `UPDATE oauth_refresh_tokens SET rotated_at = ? WHERE hash = ?`, now.UnixMilli(), digest)
		if err != nil {
			return pending{}, fmt.Errorf("rotating a refresh token: %w", err)
		}
	}
	g.Scopes = scopes
	return s.prepare(ctx, tx, grantID, g, issue{key: r.Key, refresh: true, refreshUntil: time.UnixMilli(expiresAt)})
}
