package token

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// The kinds of code. An interaction code is no authorization code: each is
// refused where the other is expected.
const (
	kindAuthorization = "authorization"
	kindInteraction   = "interaction"
)

// IssueCode writes the grant and an authorization code for it, inside the
// caller's transaction, and returns the code.
func (s *Service) IssueCode(ctx context.Context, tx store.Tx, g Grant) (string, error) {
	return s.issueCode(ctx, tx, kindAuthorization, g)
}

// IssueInteractionCode does the same for the end of an embedded sign-in.
func (s *Service) IssueInteractionCode(ctx context.Context, tx store.Tx, g Grant) (string, error) {
	return s.issueCode(ctx, tx, kindInteraction, g)
}

func (s *Service) issueCode(ctx context.Context, tx store.Tx, kind string, g Grant) (string, error) {
	if err := s.checkGrant(g); err != nil {
		return "", fmt.Errorf("issuing a code: %w", err)
	}
	now := s.now()
	if err := prune(ctx, tx, now); err != nil {
		return "", err
	}
	id, err := insertGrant(ctx, tx, g, now)
	if err != nil {
		return "", err
	}
	code := ids.Secret()
	_, err = tx.ExecContext(ctx, `INSERT INTO oauth_codes
		(hash, kind, grant_id, redirect_uri, nonce, code_challenge, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		ids.Digest(code), kind, id, g.RedirectURI, g.Nonce, g.CodeChallenge, now.Add(CodeLifetime).UnixMilli())
	if err != nil {
		return "", fmt.Errorf("issuing a code: %w", err)
	}
	return code, nil
}

// checkGrant refuses a grant with a hole in it: whoever made it skipped a check.
func (s *Service) checkGrant(g Grant) error {
	_, known := s.Issuer(g.AuthorizationServer)
	switch {
	case !known:
		return fmt.Errorf("no authorization server %q", g.AuthorizationServer)
	case g.ClientID == "" || g.UserID == "" || g.RedirectURI == "":
		return errors.New("the grant names no client, user or redirect URI")
	case !ValidChallenge(g.CodeChallenge):
		return errors.New("the grant has no PKCE challenge")
	case len(g.Scopes) == 0 || g.AuthTime.IsZero():
		return errors.New("the grant has no scope or no time of authentication")
	}
	return nil
}

// Redemption is a client's request to turn a code into tokens.
type Redemption struct {
	ClientID            string
	AuthorizationServer string
	Code                string
	RedirectURI         string // must equal the request's; may be empty for an interaction code
	Verifier            string // PKCE code_verifier
	Key                 string // thumbprint of the proven key to bind the tokens to; "" for none
}

// RedeemCode turns an authorization code into tokens, once. A second
// redemption is refused and revokes what the first one gave, since one of the
// two was not the client.
func (s *Service) RedeemCode(ctx context.Context, r Redemption) (Tokens, error) {
	return s.redeem(ctx, kindAuthorization, r)
}

// RedeemInteractionCode turns an interaction code into tokens, once. Here a
// second redemption is refused and no more: the Sign-In Widget itself redirects
// with a code it has already redeemed, and its page then tries again.
func (s *Service) RedeemInteractionCode(ctx context.Context, r Redemption) (Tokens, error) {
	return s.redeem(ctx, kindInteraction, r)
}

func (s *Service) redeem(ctx context.Context, kind string, r Redemption) (Tokens, error) {
	if r.Code == "" || len(r.Code) > maxSecret {
		return Tokens{}, CodeInvalid
	}
	var (
		p       pending
		nonce   string
		refused error // committed with the transaction: a refusal consumes the code too
	)
	err := s.db.Write(ctx, func(tx store.Tx) error {
		var c codeRow
		c, refused = s.consume(ctx, tx, kind, r)
		if refused != nil {
			return internal(refused)
		}
		nonce = c.nonce
		var err error
		p, err = s.prepare(ctx, tx, c.grantID, c.grant, issue{key: r.Key, refresh: c.grant.has("offline_access"), refreshUntil: s.now().Add(RefreshLifetime)})
		refused = err
		return internal(err)
	})
	if err != nil {
		return Tokens{}, fmt.Errorf("redeeming a code: %w", err)
	}
	if refused != nil {
		return Tokens{}, fmt.Errorf("redeeming a code: %w", refused)
	}
	return s.issue(ctx, p, nonce)
}

type codeRow struct {
	grantID, redirectURI, nonce, challenge string
	grant                                  Grant
}

// consume finds the code, marks it used whatever the checks say, and then
// checks it. A code gets one try: whoever holds it without the verifier must
// not be able to keep trying.
func (s *Service) consume(ctx context.Context, tx store.Tx, kind string, r Redemption) (codeRow, error) {
	var (
		c         codeRow
		expiresAt int64
		usedAt    sql.NullInt64
		digest    = ids.Digest(r.Code)
		now       = s.now().UnixMilli()
	)
	err := tx.QueryRowContext(ctx, `SELECT grant_id, redirect_uri, nonce, code_challenge, expires_at, used_at
		FROM oauth_codes WHERE hash = ? AND kind = ?`, digest, kind).
		Scan(&c.grantID, &c.redirectURI, &c.nonce, &c.challenge, &expiresAt, &usedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return c, CodeInvalid
	}
	if err != nil {
		return c, fmt.Errorf("looking up a code: %w", err)
	}
	var revoked bool
	if c.grant, revoked, err = loadGrant(ctx, tx, c.grantID); err != nil {
		return c, err
	}
	// Another client, or the same client at the other server, learns nothing
	// and changes nothing.
	if c.grant.ClientID != r.ClientID || c.grant.AuthorizationServer != r.AuthorizationServer {
		return c, CodeInvalid
	}
	if usedAt.Valid {
		if kind == kindAuthorization {
			if err := revokeGrant(ctx, tx, c.grantID, now); err != nil {
				return c, err
			}
		}
		return c, CodeInvalid
	}
	if _, err := tx.ExecContext(ctx, `UPDATE oauth_codes SET used_at = ? WHERE hash = ?`, now, digest); err != nil {
		return c, fmt.Errorf("consuming a code: %w", err)
	}
	redirectFits := r.RedirectURI == c.redirectURI || kind == kindInteraction && r.RedirectURI == ""
	switch {
	case revoked || now >= expiresAt:
		return c, CodeInvalid
	case !redirectFits:
		return c, RedirectMismatch
	case !verifies(r.Verifier, c.challenge):
		return c, PKCEFailed
	}
	return c, nil
}

// pending is what a transaction decided to issue; signing comes after it.
type pending struct {
	grant    Grant
	user     directory.User
	orgID    string
	accessID string
	key      string // thumbprint of the key that the tokens are bound to
	refresh  okta.Secret
}

func (p pending) confirmation() *confirmation {
	if p.key == "" {
		return nil
	}
	return &confirmation{p.key}
}

// issue says what to issue beside an access token, and how.
type issue struct {
	key          string // thumbprint of the key to bind it to; "" for none
	refresh      bool
	refreshUntil time.Time
}

// prepare writes the rows of an access token and, if wanted, of a refresh token.
func (s *Service) prepare(ctx context.Context, tx store.Tx, grantID string, g Grant, i issue) (pending, error) {
	user, err := activeUser(ctx, tx, g)
	if err != nil {
		return pending{}, err
	}
	org, err := directory.Org(ctx, tx)
	if err != nil {
		return pending{}, fmt.Errorf("loading the organisation: %w", err)
	}
	p := pending{grant: g, user: user, orgID: org.ID, accessID: "AT." + ids.Secret(), key: i.key}
	accessUntil := s.now().Add(AccessLifetime)
	_, err = tx.ExecContext(ctx, `INSERT INTO oauth_access_tokens (id, grant_id, key_thumbprint, expires_at) VALUES (?, ?, ?, ?)`,
		p.accessID, grantID, i.key, accessUntil.UnixMilli())
	if err != nil {
		return pending{}, fmt.Errorf("recording an access token: %w", err)
	}
	last := accessUntil
	if i.refresh {
		if i.refreshUntil.After(last) {
			last = i.refreshUntil
		}
		p.refresh = okta.Secret(ids.Secret())
		_, err = tx.ExecContext(ctx, `INSERT INTO oauth_refresh_tokens (hash, grant_id, key_thumbprint, expires_at) VALUES (?, ?, ?, ?)`,
			ids.Digest(p.refresh.Reveal()), grantID, i.key, i.refreshUntil.UnixMilli())
		if err != nil {
			return pending{}, fmt.Errorf("recording a refresh token: %w", err)
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE oauth_grants SET expires_at = ? WHERE id = ? AND expires_at < ?`,
		last.UnixMilli(), grantID, last.UnixMilli())
	if err != nil {
		return pending{}, fmt.Errorf("prolonging a grant: %w", err)
	}
	return p, nil
}

func insertGrant(ctx context.Context, tx store.Tx, g Grant, now time.Time) (id string, err error) {
	amr, err := json.Marshal(g.AMR)
	if err != nil {
		return "", fmt.Errorf("recording a grant: %w", err)
	}
	id = ids.New(grantPrefix)
	_, err = tx.ExecContext(ctx, `INSERT INTO oauth_grants
		(id, client_id, user_id, authorization_server, scopes, amr, acr, auth_time, enrolment_id, device_id, key_id, session_id, by_device, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		id, g.ClientID, g.UserID, g.AuthorizationServer, strings.Join(g.Scopes, " "), string(amr), g.ACR,
		millis(g.AuthTime), g.EnrolmentID, g.DeviceID, g.KeyID, g.SessionID, g.ByDevice, now.UnixMilli(), now.Add(CodeLifetime).UnixMilli())
	if err != nil {
		return "", fmt.Errorf("recording a grant: %w", err)
	}
	return id, nil
}

const grantPrefix = "oar" // as Okta's ids of refresh token grants start

func loadGrant(ctx context.Context, tx store.Tx, id string) (g Grant, revoked bool, err error) {
	var (
		scopes, amr string
		authTime    int64
		revokedAt   sql.NullInt64
	)
	err = tx.QueryRowContext(ctx, `SELECT client_id, user_id, authorization_server, scopes, amr, acr, auth_time,
		enrolment_id, device_id, key_id, session_id, by_device, revoked_at FROM oauth_grants WHERE id = ?`, id).
		Scan(&g.ClientID, &g.UserID, &g.AuthorizationServer, &scopes, &amr, &g.ACR, &authTime,
			&g.EnrolmentID, &g.DeviceID, &g.KeyID, &g.SessionID, &g.ByDevice, &revokedAt)
	if err != nil {
		return Grant{}, false, fmt.Errorf("loading a grant: %w", err)
	}
	if err := json.Unmarshal([]byte(amr), &g.AMR); err != nil {
		return Grant{}, false, fmt.Errorf("loading a grant: %w", err)
	}
	g.Scopes = strings.Fields(scopes)
	if authTime != 0 {
		g.AuthTime = time.UnixMilli(authTime)
	}
	return g, revokedAt.Valid, nil
}

// millis is 0 for no time at all.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func revokeGrant(ctx context.Context, tx store.Tx, id string, now int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE oauth_grants SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`, now, id)
	if err != nil {
		return fmt.Errorf("revoking a grant: %w", err)
	}
	return nil
}

// RevokeAll ends every sign-in of a user: codes and tokens, those that devices
// got by their own keys apart, which end and begin again with the user.
func RevokeAll(ctx context.Context, tx store.Tx, userID string, now time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE oauth_grants SET revoked_at = ? WHERE user_id = ? AND by_device = 0 AND revoked_at IS NULL`, now.UnixMilli(), userID)
	if err != nil {
		return fmt.Errorf("revoking the grants of a user: %w", err)
	}
	return nil
}

// prune drops what can be of no use any more; a grant takes its own with it. A
// used code is kept until it expires, a rotated refresh token as long as it
// would have lived: that is how a second use is recognised.
func prune(ctx context.Context, tx store.Tx, now time.Time) error {
	for _, q := range [...]string{
		`DELETE FROM oauth_grants WHERE expires_at <= ?`,
		`DELETE FROM oauth_codes WHERE expires_at <= ?`,
		`DELETE FROM oauth_access_tokens WHERE expires_at <= ?`,
	} {
		if _, err := tx.ExecContext(ctx, q, now.UnixMilli()); err != nil {
			return fmt.Errorf("removing what has expired: %w", err)
		}
	}
	return nil
}

// internal lets a refusal commit: only a failure of the server rolls back.
func internal(err error) error {
	var r Reason
	if errors.As(err, &r) {
		return nil
	}
	return err
}

// ValidChallenge says whether s can be a PKCE S256 challenge: 32 bytes in base64url.
func ValidChallenge(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == sha256.Size && len(s) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// verifies is the S256 check of RFC 7636. An empty challenge fits nothing.
func verifies(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || challenge == "" {
		return false
	}
	h := sha256.Sum256([]byte(verifier))
	want := base64.RawURLEncoding.EncodeToString(h[:])
	return subtle.ConstantTimeCompare([]byte(want), []byte(challenge)) == 1
}
