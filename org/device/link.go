package device

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// LinkLifetime is how long an enrolment link waits to be used.
const LinkLifetime = 10 * time.Minute

// Link is the right to enrol one device for one user, once.
type Link struct {
	Token     okta.Secret
	ExpiresAt time.Time
}

// IssueLink makes a link for a user. Only a digest of its token is stored.
func IssueLink(ctx context.Context, tx store.Tx, userID string, now time.Time) (Link, error) {
	l := Link{Token: okta.Secret(ids.Secret()), ExpiresAt: now.Add(LinkLifetime)}
	// Links that nobody used are of no interest any more; used ones stay, for
	// an agent that repeats its request.
	if _, err := tx.ExecContext(ctx, `DELETE FROM enrolment_links WHERE consumed_at IS NULL AND expires_at < ?`, store.Millis(now)); err != nil {
		return Link{}, fmt.Errorf("tidying enrolment links: %w", err)
	}
	_, err := tx.ExecContext(ctx,
		`INSERT INTO enrolment_links (token_digest, user_id, created_at, expires_at) VALUES (?, ?, ?, ?)`,
		ids.Digest(l.Token.Reveal()), userID, store.Millis(now), store.Millis(l.ExpiresAt))
	if err != nil {
		return Link{}, fmt.Errorf("issuing an enrolment link: %w", err)
	}
	return l, nil
}

// errLink is one answer for unknown, expired and used: whoever guesses learns
// nothing.
func errLink() error { return okta.NewError(okta.CodeInvalidToken, "the enrolment link is not valid") }

// CheckLink says whether a link's token admits to what is needed before
// enrolling. It does not use the link up, and takes one that was used, too, as
// long as it would have been good: its agent may not have heard the answer.
func (r *Registry) CheckLink(ctx context.Context, token okta.Secret) error {
	return r.db.Read(ctx, func(tx store.Tx) error {
		var userID string
		var expires int64
		err := tx.QueryRowContext(ctx, `SELECT user_id, expires_at FROM enrolment_links WHERE token_digest = ?`,
			ids.Digest(token.Reveal())).Scan(&userID, &expires)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errLink()
		case err != nil:
			return fmt.Errorf("looking up an enrolment link: %w", err)
		case token == "" || !r.now().Before(store.Time(expires)):
			return errLink()
		}
		return activeUser(ctx, tx, userID)
	})
}

// redeemed is what a link's token stands for.
type redeemed struct {
	digest, userID string
	enrolmentID    string // of an earlier use with the same key; else ""
}

// redeem checks a link for a device with the given key. A used link is good
// for one thing only: telling the same device the same answer again.
func redeem(ctx context.Context, tx store.Tx, token okta.Secret, popThumbprint string, now time.Time) (redeemed, error) {
	r := redeemed{digest: ids.Digest(token.Reveal())}
	var expires int64
	var consumed sql.NullInt64
	var enrolment, pop sql.NullString
	err := tx.QueryRowContext(ctx,
		`SELECT user_id, expires_at, consumed_at, enrolment_id, pop_thumbprint FROM enrolment_links WHERE token_digest = ?`, r.digest).
		Scan(&r.userID, &expires, &consumed, &enrolment, &pop)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return redeemed{}, errLink()
	case err != nil:
		return redeemed{}, fmt.Errorf("looking up an enrolment link: %w", err)
	case consumed.Valid:
		if !enrolment.Valid || !pop.Valid || pop.String != popThumbprint {
			return redeemed{}, errLink()
		}
		r.enrolmentID = enrolment.String
		return r, nil
	case !now.Before(store.Time(expires)):
		return redeemed{}, errLink()
	}
	return r, nil
}

// consume marks the link as used by an enrolment. It runs in the transaction
// of redeem, and still insists on being the first.
func (r redeemed) consume(ctx context.Context, tx store.Tx, e Enrolment, popThumbprint string, now time.Time) error {
	res, err := tx.ExecContext(ctx,
		`UPDATE enrolment_links SET consumed_at = ?, enrolment_id = ?, pop_thumbprint = ? WHERE token_digest = ? AND consumed_at IS NULL`,
		store.Millis(now), e.ID, popThumbprint, r.digest)
	if err != nil {
		return fmt.Errorf("using up an enrolment link: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errLink(), err)
	}
	return nil
}
