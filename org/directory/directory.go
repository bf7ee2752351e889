// Package directory knows who the org's users are, which apps they may use,
// and which web origins the org trusts.
//
// Every function takes a transaction, so that what a caller decides rests on
// one consistent view. Passwords are the exception: a Hasher works outside of
// any transaction, because Argon2id is slow on purpose.
package directory

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// The statuses of a user. Only ACTIVE may sign in; the zero value may not.
const (
	StatusActive        = "ACTIVE"
	StatusSuspended     = "SUSPENDED"
	StatusDeprovisioned = "DEPROVISIONED" // deleted for everyone who asks
)

// User is a person who can sign in.
type User struct {
	ID, Login, FirstName, LastName, Email, Status string
	PasswordHash                                  PasswordHash
	// AutoPush says that the person has a push sent without being asked first.
	AutoPush             bool
	CreatedAt, UpdatedAt time.Time
}

// Active says whether the user may do anything at all.
func (u User) Active() bool { return u.Status == StatusActive }

// Refusal is the error that tells a client why the user may not act, or nil
// for an active user.
func (u User) Refusal() *okta.Error {
	switch u.Status {
	case StatusActive:
		return nil
	case StatusDeprovisioned:
		return okta.NewError(okta.CodeUserDeleted)
	default:
		return okta.NewError(okta.CodeUserSuspended)
	}
}

// Name is the user's full name.
func (u User) Name() string { return strings.TrimSpace(u.FirstName + " " + u.LastName) }

// Group is a set of users.
type Group struct{ ID, Name string }

// EveryoneGroup is the group that each user belongs to.
const EveryoneGroup = "Everyone"

// OrgInfo says which org this is.
type OrgInfo struct {
	ID              string
	Authenticators  AuthenticatorIDs
	NumberChallenge NumberChallenge
	CreatedAt       time.Time
}

// AuthenticatorIDs are the ids of the org's authenticators.
type AuthenticatorIDs struct {
	Password, OktaVerify string
	WebAuthn             string // "" unless the org takes security keys (OrgWebAuthn)
}

// Org returns who this org is.
func Org(ctx context.Context, tx store.Tx) (OrgInfo, error) {
	var o OrgInfo
	var created int64
	err := tx.QueryRowContext(ctx, `SELECT o.id, o.password_authenticator_id, o.verify_authenticator_id, COALESCE(a.id, ''), o.number_challenge, o.created_at
		FROM org o LEFT JOIN authenticators a ON a.key = ? AND a.status = ?`, KeyWebAuthn, AuthenticatorActive).
		Scan(&o.ID, &o.Authenticators.Password, &o.Authenticators.OktaVerify, &o.Authenticators.WebAuthn, &o.NumberChallenge, &created)
	o.CreatedAt = store.Time(created)
	return o, found("the org", err)
}

// EnsureOrg gives the org its ids the first time, and returns them.
func EnsureOrg(ctx context.Context, tx store.Tx, now time.Time) (OrgInfo, error) {
	o, err := Org(ctx, tx)
	if !errors.Is(err, store.ErrNotFound) {
		return o, err
	}
	o = OrgInfo{
		ID:             ids.New(ids.Org),
		Authenticators: AuthenticatorIDs{Password: ids.New(ids.Authenticator), OktaVerify: ids.New(ids.Authenticator)},
		CreatedAt:      now,
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO org (id, password_authenticator_id, verify_authenticator_id, created_at) VALUES (?, ?, ?, ?)`,
		o.ID, o.Authenticators.Password, o.Authenticators.OktaVerify, store.Millis(now)); err != nil {
		return OrgInfo{}, fmt.Errorf("founding the org: %w", err)
	}
	return Org(ctx, tx)
}

const userColumns = `id, login, first_name, last_name, email, status, password_hash, auto_push, created_at, updated_at`

// UserByLogin finds a user by login name, in any case of letters.
func UserByLogin(ctx context.Context, tx store.Tx, login string) (User, error) {
	return scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE login_folded = ?`, fold(login)))
}

// UserByID finds a user by id.
func UserByID(ctx context.Context, tx store.Tx, id string) (User, error) {
	return scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = ?`, id))
}

func scanUser(row *sql.Row) (User, error) {
	var u User
	var hash string
	var created, updated int64
	err := row.Scan(&u.ID, &u.Login, &u.FirstName, &u.LastName, &u.Email, &u.Status, &hash, &u.AutoPush, &created, &updated)
	u.PasswordHash, u.CreatedAt, u.UpdatedAt = PasswordHash(hash), store.Time(created), store.Time(updated)
	return u, found("the user", err)
}

// CreateUser stores a new user, who also becomes a member of Everyone, and
// returns it with its id.
func CreateUser(ctx context.Context, tx store.Tx, u User, now time.Time) (User, error) {
	u.ID, u.CreatedAt, u.UpdatedAt = ids.New(ids.User), now, now
	if u.Status == "" {
		u.Status = StatusActive
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO users (id, login, login_folded, first_name, last_name, email, status, password_hash, created_at, updated_at)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		u.ID, u.Login, fold(u.Login), u.FirstName, u.LastName, u.Email, u.Status, string(u.PasswordHash),
		store.Millis(now), store.Millis(now)); err != nil {
		return User{}, fmt.Errorf("creating user: %w", err)
	}
	everyone, err := EnsureGroup(ctx, tx, EveryoneGroup, now)
	if err != nil {
		return User{}, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO group_members (group_id, user_id) VALUES (?, ?)`, everyone.ID, u.ID)
	if err != nil {
		return User{}, fmt.Errorf("adding user to %s: %w", EveryoneGroup, err)
	}
	return u, nil
}

// SetUserStatus changes what a user may do.
func SetUserStatus(ctx context.Context, tx store.Tx, userID, status string, now time.Time) error {
	res, err := tx.ExecContext(ctx, `UPDATE users SET status = ?, updated_at = ? WHERE id = ?`, status, store.Millis(now), userID)
	if err != nil {
		return fmt.Errorf("changing user status: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return found("the user", errors.Join(sql.ErrNoRows, err))
	}
	return nil
}

// SetAutoPush remembers whether the user has pushes sent without being asked.
func SetAutoPush(ctx context.Context, tx store.Tx, userID string, on bool, now time.Time) error {
	if _, err := tx.ExecContext(ctx, `UPDATE users SET auto_push = ?, updated_at = ? WHERE id = ?`, boolInt(on), store.Millis(now), userID); err != nil {
		return fmt.Errorf("remembering automatic pushes: %w", err)
	}
	return nil
}

// EnsureGroup finds or creates a group by name.
func EnsureGroup(ctx context.Context, tx store.Tx, name string, now time.Time) (Group, error) {
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO user_groups (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING`,
		ids.New(ids.Group), name, store.Millis(now)); err != nil {
		return Group{}, fmt.Errorf("creating group: %w", err)
	}
	g := Group{Name: name}
	err := tx.QueryRowContext(ctx, `SELECT id FROM user_groups WHERE name = ?`, name).Scan(&g.ID)
	return g, found("the group", err)
}

// Groups returns the names of a user's groups.
func Groups(ctx context.Context, tx store.Tx, userID string) ([]string, error) {
	return list(ctx, tx, "groups", `SELECT g.name FROM user_groups g
		JOIN group_members m ON m.group_id = g.id WHERE m.user_id = ? ORDER BY g.name`, userID)
}

// fold makes logins that differ only in the case of letters equal.
func fold(login string) string { return strings.ToLower(strings.TrimSpace(login)) }

// found turns "no rows" into the error that the rooms agree on.
func found(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("looking up %s: %w", what, store.ErrNotFound)
	default:
		return fmt.Errorf("looking up %s: %w", what, err)
	}
}

// list reads one column of strings.
func list(ctx context.Context, tx store.Tx, what, query string, args ...any) ([]string, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", what, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, fmt.Errorf("listing %s: %w", what, err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing %s: %w", what, err)
	}
	return out, nil
}

func encodeList(l []string) string {
	if l == nil {
		l = []string{}
	}
	b, _ := json.Marshal(l) // strings always encode
	return string(b)
}
