package factor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// Factors checks factors.
type Factors struct {
	db      *store.DB
	signer  Signer
	hasher  *directory.Hasher
	baseURL string
	now     func() time.Time
	log     *slog.Logger
}

// New makes a checker of factors for the org at baseURL.
func New(db *store.DB, signer Signer, hasher *directory.Hasher, baseURL string, now func() time.Time, log *slog.Logger) *Factors {
	return &Factors{db: db, signer: signer, hasher: hasher, baseURL: baseURL, now: now, log: log}
}

// How wrong passwords slow the next try: the first few are free, then the wait
// doubles up to a bound that a person can live with, so that nobody can lock
// somebody else out for long.
const (
	freeTries = 5
	maxWait   = 30 * time.Second
	forget    = 15 * time.Minute // without a try, all is forgotten
)

// ErrThrottled says that a password was not even looked at: too many wrong ones
// came before.
var ErrThrottled = errors.New("too many wrong passwords")

// Password says whether password is the one of user, who has typed login. user
// is zero for an unknown login, which costs the same time and is never right.
//
// The try is counted before the password is hashed, so that parallel guesses
// count too; a right one clears the count with ForgetTries.
func (f *Factors) Password(ctx context.Context, user directory.User, login string, password okta.Secret) (bool, error) {
	if err := f.db.Write(ctx, func(tx store.Tx) error { return countTry(ctx, tx, login, f.now()) }); err != nil {
		return false, err
	}
	ok, err := f.hasher.Verify(ctx, user.PasswordHash, password)
	if err != nil {
		return false, fmt.Errorf("checking a password: %w", err)
	}
	return ok && user.Active(), nil
}

func countTry(ctx context.Context, tx store.Tx, login string, now time.Time) error {
	var failures int
	var notBefore, updated int64
	subject := trySubject(login)
	err := tx.QueryRowContext(ctx, `SELECT failures, not_before, updated_at FROM password_attempts WHERE subject = ?`, subject).
		Scan(&failures, &notBefore, &updated)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("counting a password try: %w", err)
	}
	if now.Sub(store.Time(updated)) >= forget {
		failures, notBefore = 0, 0
	}
	if now.Before(store.Time(notBefore)) {
		return ErrThrottled
	}
	failures++
	next := now
	if failures >= freeTries {
		next = now.Add(min(time.Second<<min(failures-freeTries, 10), maxWait))
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO password_attempts (subject, failures, not_before, updated_at) VALUES (?, ?, ?, ?)
		 ON CONFLICT (subject) DO UPDATE SET failures = excluded.failures, not_before = excluded.not_before, updated_at = excluded.updated_at`,
		subject, failures, store.Millis(next), store.Millis(now)); err != nil {
		return fmt.Errorf("counting a password try: %w", err)
	}
	return nil
}

// ForgetTries forgets the wrong passwords of a login after a right one.
func ForgetTries(ctx context.Context, tx store.Tx, login string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM password_attempts WHERE subject = ?`, trySubject(login)); err != nil {
		return fmt.Errorf("clearing password tries: %w", err)
	}
	return nil
}

// trySubject is a digest, so that the table keeps no list of what people typed
// into the user name field.
func trySubject(login string) string { return ids.Digest(strings.ToLower(strings.TrimSpace(login))) }
