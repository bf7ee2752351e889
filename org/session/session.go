// Package session keeps the org's browser sessions: that somebody signed in,
// when, and with what.
//
// A session is a row; the browser holds a random value in the cookie "sid"
// whose hash finds the row, so that a copy of the database signs nobody in.
// Every sign-in makes a new value and ends the one the browser brought
// (threats: session fixation). A session ends by sign-out, by being idle, or at
// its absolute end, whichever comes first.
package session

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

const (
	// CookieName is the name of the session cookie, as Okta calls it.
	CookieName = "sid"
	// Idle is how long a session lasts without being used.
	Idle = 2 * time.Hour
	// Absolute is how long a session lasts at most.
	Absolute = 12 * time.Hour

	// touchEvery bounds how often use is written down: the idle time need not
	// be more exact, and a page load should not wait for the writer.
	touchEvery = time.Minute
)

// Session says who signed in and how.
type Session struct {
	UserID        string
	AMR           []string // what was proven, RFC 8176 and Okta's names
	AuthTime      time.Time
	EnrolmentID   string // authenticator enrolment that answered, if one did
	DeviceID      string
	KeyID         string // key that signed, if one did
	KeyProtection string // "HARDWARE", "SOFTWARE", or empty

	CreatedAt  time.Time
	LastSeenAt time.Time
	ExpiresAt  time.Time // the absolute end
}

// Create stores s as a new session that starts at now and returns the value
// for the cookie. CreatedAt, LastSeenAt and ExpiresAt are set here.
func Create(ctx context.Context, tx store.Tx, s Session, now time.Time) (okta.Secret, error) {
	if s.UserID == "" || s.AuthTime.IsZero() {
		return "", errors.New("creating a session: no user or no time of authentication")
	}
	amr, err := json.Marshal(s.AMR)
	if err != nil {
		return "", fmt.Errorf("creating a session: %w", err)
	}
	id := ids.Secret()
	// Whatever is past its end goes now: the table stays as small as its use.
	if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE expires_at <= ?`, now.UnixMilli()); err != nil {
		return "", fmt.Errorf("removing ended sessions: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO sessions
		(hash, user_id, amr, auth_time, enrolment_id, device_id, key_id, key_protection, created_at, last_seen_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		ids.Digest(id), s.UserID, string(amr), s.AuthTime.UnixMilli(), s.EnrolmentID, s.DeviceID, s.KeyID, s.KeyProtection,
		now.UnixMilli(), now.UnixMilli(), now.Add(Absolute).UnixMilli())
	if err != nil {
		return "", fmt.Errorf("creating a session: %w", err)
	}
	return okta.Secret(id), nil
}

// Lookup returns the live session of a cookie's value, or store.ErrNotFound
// when there is none: unknown, ended, idle for too long, or past its end.
func Lookup(ctx context.Context, tx store.Tx, id okta.Secret, now time.Time) (Session, error) {
	if !wellFormed(id) {
		return Session{}, store.ErrNotFound
	}
	var (
		s                                 Session
		amr                               string
		authTime, created, seen, expireAt int64
	)
	err := tx.QueryRowContext(ctx, `SELECT user_id, amr, auth_time, enrolment_id, device_id, key_id, key_protection,
		created_at, last_seen_at, expires_at FROM sessions WHERE hash = ?`, ids.Digest(id.Reveal())).
		Scan(&s.UserID, &amr, &authTime, &s.EnrolmentID, &s.DeviceID, &s.KeyID, &s.KeyProtection, &created, &seen, &expireAt)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, store.ErrNotFound
	}
	if err != nil {
		return Session{}, fmt.Errorf("looking up a session: %w", err)
	}
	if err := json.Unmarshal([]byte(amr), &s.AMR); err != nil {
		return Session{}, fmt.Errorf("looking up a session: %w", err)
	}
	s.AuthTime, s.CreatedAt = time.UnixMilli(authTime), time.UnixMilli(created)
	s.LastSeenAt, s.ExpiresAt = time.UnixMilli(seen), time.UnixMilli(expireAt)
	if !now.Before(s.ExpiresAt) || now.Sub(s.LastSeenAt) >= Idle {
		return Session{}, store.ErrNotFound
	}
	return s, nil
}

// NeedsTouch says whether s was last seen long enough ago that Touch is due.
func (s Session) NeedsTouch(now time.Time) bool { return now.Sub(s.LastSeenAt) >= touchEvery }

// Touch notes that the session was used at now. A session that ended is left alone.
func Touch(ctx context.Context, tx store.Tx, id okta.Secret, now time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE sessions SET last_seen_at = ? WHERE hash = ? AND last_seen_at < ? AND expires_at > ?`,
		now.UnixMilli(), ids.Digest(id.Reveal()), now.UnixMilli(), now.UnixMilli())
	if err != nil {
		return fmt.Errorf("noting the use of a session: %w", err)
	}
	return nil
}

// End ends a session. Ending one that is not there is no error.
func End(ctx context.Context, tx store.Tx, id okta.Secret) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE hash = ?`, ids.Digest(id.Reveal())); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

// EndAll ends every session of a user.
func EndAll(ctx context.Context, tx store.Tx, userID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE user_id = ?`, userID); err != nil {
		return fmt.Errorf("ending the sessions of a user: %w", err)
	}
	return nil
}

// Reference is a name for a session that tells nothing about the cookie's
// value: what other tables and logs may hold. It is empty for an empty id.
func Reference(id okta.Secret) string {
	if id == "" {
		return ""
	}
	return ids.Digest(id.Reveal())
}

// FromRequest returns the cookie's value, or "" when the request has none that
// could be one of ours.
func FromRequest(r *http.Request) okta.Secret {
	c, err := r.Cookie(CookieName)
	if err != nil || !wellFormed(okta.Secret(c.Value)) {
		return ""
	}
	return okta.Secret(c.Value)
}

// SetCookie hands the session to the browser. It has no lifetime of its own:
// it goes when the browser goes, or when the server ends the session. baseURL
// is the org's own address; over https the cookie is Secure.
func SetCookie(w http.ResponseWriter, id okta.Secret, baseURL string) {
	http.SetCookie(w, cookie(id.Reveal(), baseURL))
}

// ClearCookie takes the session from the browser.
func ClearCookie(w http.ResponseWriter, baseURL string) {
	c := cookie("", baseURL)
	c.MaxAge = -1
	http.SetCookie(w, c)
}

func cookie(value, baseURL string) *http.Cookie {
	return &http.Cookie{
		Name: CookieName, Value: value, Path: "/", HttpOnly: true,
		Secure:   strings.HasPrefix(baseURL, "https://"),
		SameSite: http.SameSiteLaxMode, // sent when another site's link leads here, not with its forms or images
	}
}

// valueLength is that of ids.Secret.
const valueLength = 43

func wellFormed(id okta.Secret) bool { return len(id) == valueLength }
