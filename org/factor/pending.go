package factor

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/store"
)

// Insert stores a new challenge and withdraws any other that its sign-in has
// pending: there is one at a time. It returns the enrolments whose pending lists
// change, for Deps.Notify after the commit. A push beyond the user's measure is
// ErrPushThrottled.
func Insert(ctx context.Context, tx store.Tx, c Challenge) (changed []string, err error) {
	if c.Method == okta.MethodPush {
		if err := mayPush(ctx, tx, c.UserID, c.CreatedAt); err != nil {
			return nil, err
		}
	}
	if changed, err = Withdraw(ctx, tx, c.SigninID); err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO challenges (id, signin_id, method, user_id, issuer, nonce, page_origin, user_verification, user_mediation,
		   token, correct_number, transaction_type, status, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.ID, c.SigninID, string(c.Method), c.UserID, c.Issuer, c.Nonce, c.PageOrigin, string(c.UserVerification), string(c.UserMediation),
		c.Token, c.Number, c.TransactionType, string(Pending), store.Millis(c.CreatedAt), store.Millis(c.ExpiresAt)); err != nil {
		return nil, fmt.Errorf("storing a challenge: %w", err)
	}
	for _, t := range c.Targets {
		if _, err := tx.ExecContext(ctx, `INSERT INTO challenge_targets (challenge_id, enrolment_id, token) VALUES (?, ?, ?)`,
			c.ID, t.EnrolmentID, t.Token); err != nil {
			return nil, fmt.Errorf("storing a push: %w", err)
		}
		changed = append(changed, t.EnrolmentID)
	}
	return changed, nil
}

// Withdraw ends what a sign-in has pending. It returns the enrolments whose
// pending lists change.
func Withdraw(ctx context.Context, tx store.Tx, signinID string) (changed []string, err error) {
	return end(ctx, tx, Withdrawn, `signin_id = ?`, signinID)
}

// end closes the pending challenges that where names, and returns the
// enrolments that had them in their lists.
func end(ctx context.Context, tx store.Tx, as Status, where string, args ...any) ([]string, error) {
	changed, err := targets(ctx, tx, `c.status = 'PENDING' AND c.`+where, args...)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE challenges SET status = ? WHERE status = 'PENDING' AND `+where, append([]any{string(as)}, args...)...); err != nil {
		return nil, fmt.Errorf("ending challenges: %w", err)
	}
	return changed, nil
}

// targets lists the enrolments that have challenges in their pending lists.
func targets(ctx context.Context, tx store.Tx, where string, args ...any) ([]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT t.enrolment_id FROM challenges c JOIN challenge_targets t ON t.challenge_id = c.id WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("listing the targets of challenges: %w", err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("listing the targets of challenges: %w", err)
		}
		list = append(list, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing the targets of challenges: %w", err)
	}
	return list, nil
}

// ByID finds a challenge, without its targets.
func ByID(ctx context.Context, tx store.Tx, id string) (Challenge, error) {
	c := Challenge{ID: id}
	var result string
	var created, expires, answered int64
	err := tx.QueryRowContext(ctx,
		`SELECT signin_id, method, user_id, issuer, nonce, page_origin, user_verification, user_mediation, token, correct_number, transaction_type, status, result,
		   created_at, expires_at, answered_at FROM challenges WHERE id = ?`, id).
		Scan(&c.SigninID, &c.Method, &c.UserID, &c.Issuer, &c.Nonce, &c.PageOrigin, &c.UserVerification, &c.UserMediation,
			&c.Token, &c.Number, &c.TransactionType, &c.Status, &result, &created, &expires, &answered)
	if errors.Is(err, sql.ErrNoRows) {
		return Challenge{}, fmt.Errorf("looking up a challenge: %w", store.ErrNotFound)
	}
	if err != nil {
		return Challenge{}, fmt.Errorf("looking up a challenge: %w", err)
	}
	if result != "" {
		if err := json.Unmarshal([]byte(result), &c.Result); err != nil {
			return Challenge{}, fmt.Errorf("reading the result of challenge %s: %w", id, err)
		}
	}
	c.CreatedAt, c.ExpiresAt, c.AnsweredAt = store.Time(created), store.Time(expires), store.Time(answered)
	return c, nil
}

// PendingPush lists the push challenges that wait for an enrolment, oldest
// first.
func PendingPush(ctx context.Context, tx store.Tx, enrolmentID string, now time.Time) ([]okta.PendingChallenge, error) {
	rows, err := tx.QueryContext(ctx,
		`SELECT t.token FROM challenge_targets t JOIN challenges c ON c.id = t.challenge_id
		 WHERE t.enrolment_id = ? AND c.status = 'PENDING' AND c.method = 'push' AND c.expires_at > ?
		 ORDER BY c.created_at, c.id`, enrolmentID, store.Millis(now))
	if err != nil {
		return nil, fmt.Errorf("listing pending challenges: %w", err)
	}
	defer rows.Close()
	list := []okta.PendingChallenge{}
	for rows.Next() {
		p := okta.PendingChallenge{PayloadVersion: okta.PayloadVersion}
		if err := rows.Scan(&p.Challenge); err != nil {
			return nil, fmt.Errorf("listing pending challenges: %w", err)
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing pending challenges: %w", err)
	}
	return list, nil
}

// Sweep ends what has expired and removes what means nothing any more. It
// returns the enrolments whose pending lists change.
func Sweep(ctx context.Context, tx store.Tx, now time.Time) (changed []string, err error) {
	if changed, err = end(ctx, tx, Expired, `expires_at <= ?`, store.Millis(now)); err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM answer_ids WHERE expires_at <= ?`, store.Millis(now)); err != nil {
		return nil, fmt.Errorf("removing old answer ids: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM password_attempts WHERE updated_at <= ? AND (subject NOT LIKE ? OR updated_at <= ?)`,
		store.Millis(now.Add(-passwordTries.forget)), codePrefix+"%", store.Millis(now.Add(-codeTries.forget))); err != nil {
		return nil, fmt.Errorf("removing old attempts: %w", err)
	}
	return changed, nil
}
