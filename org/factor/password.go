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

// Deps is what the checker of factors works with; all but the last two are
// required.
type Deps struct {
	DB      *store.DB
	Signer  Signer
	Hasher  *directory.Hasher
	BaseURL string // of the org
	Now     func() time.Time
	Log     *slog.Logger
	// Notify is told, after the commit, whose pending lists have changed.
	Notify func(enrolmentIDs []string)
	// Reported takes what a person reported as not theirs, in the transaction
	// that records the denial.
	Reported func(ctx context.Context, tx store.Tx, r Report) error
}

// Report is somebody's word that a challenge was not theirs.
type Report struct {
	Challenge   Challenge
	EnrolmentID string
	UserID      string
	At          time.Time
}

// Factors checks factors.
type Factors struct{ d Deps }

// New makes a checker of factors.
func New(d Deps) *Factors {
	if d.Notify == nil {
		d.Notify = func([]string) {}
	}
	if d.Reported == nil {
		d.Reported = func(context.Context, store.Tx, Report) error { return nil }
	}
	return &Factors{d}
}

// How wrong passwords and codes slow the next try: the first few are free, then
// the wait doubles up to a bound.
const freeTries = 5

type limits struct {
	maxWait time.Duration
	forget  time.Duration // without a try, all is forgotten
}

// Anybody can type a wrong password, so the bound is one that a person can live
// with. A code has few digits, is tried by who has the password, and there are
// other ways: a month of guesses finds one with a chance of one in a hundred.
var (
	passwordTries = limits{30 * time.Second, 15 * time.Minute}
	codeTries     = limits{15 * time.Minute, 24 * time.Hour}
)

// ErrThrottled says that a password or a code was not even looked at: too many
// wrong ones came before.
var ErrThrottled = errors.New("too many wrong tries")

// Password says whether password is the one of user, who has typed login. user
// is zero for an unknown login, which costs the same time and is never right.
//
// The try is counted before the password is hashed, so that parallel guesses
// count too; a right one clears the count with ForgetTries. known is a browser
// in which the user has signed in before, or "": it has a count of its own, so
// that a stranger who guesses all day does not keep the user out.
func (f *Factors) Password(ctx context.Context, user directory.User, login, known string, password okta.Secret) (bool, error) {
	if err := f.d.DB.Write(ctx, func(tx store.Tx) error { return countTry(ctx, tx, trySubject(login, known), passwordTries, f.d.Now()) }); err != nil {
		return false, err
	}
	ok, err := f.d.Hasher.Verify(ctx, user.PasswordHash, password)
	if err != nil {
		return false, fmt.Errorf("checking a password: %w", err)
	}
	return ok && user.Active(), nil
}

func countTry(ctx context.Context, tx store.Tx, subject string, l limits, now time.Time) error {
	var failures int
	var notBefore, updated int64
	err := tx.QueryRowContext(ctx, `SELECT failures, not_before, updated_at FROM password_attempts WHERE subject = ?`, subject).
		Scan(&failures, &notBefore, &updated)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("counting a try: %w", err)
	}
	if now.Sub(store.Time(updated)) >= l.forget {
		failures, notBefore = 0, 0
	}
	if now.Before(store.Time(notBefore)) {
		return ErrThrottled
	}
	failures++
	next := now
	if failures >= freeTries {
		next = now.Add(min(time.Second<<min(failures-freeTries, 10), l.maxWait))
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO password_attempts (subject, failures, not_before, updated_at) VALUES (?, ?, ?, ?)
		 ON CONFLICT (subject) DO UPDATE SET failures = excluded.failures, not_before = excluded.not_before, updated_at = excluded.updated_at`,
		subject, failures, store.Millis(next), store.Millis(now)); err != nil {
		return fmt.Errorf("counting a try: %w", err)
	}
	return nil
}

// ForgetTries forgets the wrong passwords of a login after a right one.
func ForgetTries(ctx context.Context, tx store.Tx, login, known string) error {
	return forgetTries(ctx, tx, trySubject(login, known))
}

func forgetTries(ctx context.Context, tx store.Tx, subject string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM password_attempts WHERE subject = ?`, subject); err != nil {
		return fmt.Errorf("clearing tries: %w", err)
	}
	return nil
}

// trySubject is a digest, so that the table keeps no list of what people typed
// into the user name field.
func trySubject(login, known string) string {
	subject := ids.Digest(strings.ToLower(strings.TrimSpace(login)))
	if known != "" {
		subject += ":" + known
	}
	return subject
}
