package factor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign.dev/aaguid"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// MaxKeys is how many security keys one person may have.
const MaxKeys = 10

// SecurityKey is a WebAuthn credential of a person.
type SecurityKey struct {
	ID, UserID     string
	CredentialID   string // base64url
	PublicKey      string // COSE, base64url
	AAGUID         string
	Format         string // of the attestation
	Attestation    string // what it was worth: "none", "basic_full", …
	Transports     []string
	SignCount      uint32
	BackupEligible bool      // the private key may be copied to other devices
	VerifiedAt     time.Time // when it last verified the person; zero: never
	SuspectAt      time.Time // when its counter went back; zero: never
	CreatedAt      time.Time
	LastUsedAt     time.Time
}

// Name is what the key is called: its model, as far as that is known. A model
// is what the key says of itself.
func (k SecurityKey) Name() string {
	if m := aaguid.Name(k.AAGUID); m != "" {
		return m
	}
	return "Security key"
}

// Traits are what the key can prove at best. A key of the older kind (U2F)
// never verifies anybody; of others that shows when they are asked.
func (k SecurityKey) Traits() policy.Traits {
	t := policy.PhishingResistant | policy.UserPresence
	if !k.BackupEligible {
		t |= policy.DeviceBound
	}
	if k.Format != formatU2F || !k.VerifiedAt.IsZero() {
		t |= policy.UserVerification
	}
	return t
}

const keyColumns = `id, user_id, credential_id, public_key, aaguid, format, attestation, transports, sign_count, backup_eligible, verified_at, suspect_at, created_at, last_used_at`

// KeysOfUser lists a person's security keys, oldest first.
func KeysOfUser(ctx context.Context, tx store.Tx, userID string) ([]SecurityKey, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+keyColumns+` FROM security_keys WHERE user_id = ? ORDER BY created_at, id`, userID)
	if err != nil {
		return nil, fmt.Errorf("listing security keys: %w", err)
	}
	defer rows.Close()
	var list []SecurityKey
	for rows.Next() {
		var k SecurityKey
		var transports string
		var verified, suspect, created, used int64
		if err := rows.Scan(&k.ID, &k.UserID, &k.CredentialID, &k.PublicKey, &k.AAGUID, &k.Format, &k.Attestation, &transports,
			&k.SignCount, &k.BackupEligible, &verified, &suspect, &created, &used); err != nil {
			return nil, fmt.Errorf("listing security keys: %w", err)
		}
		if err := json.Unmarshal([]byte(transports), &k.Transports); err != nil {
			return nil, fmt.Errorf("reading security key %s: %w", k.ID, err)
		}
		k.VerifiedAt, k.SuspectAt, k.CreatedAt, k.LastUsedAt = timeOrNever(verified), timeOrNever(suspect), store.Time(created), store.Time(used)
		list = append(list, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing security keys: %w", err)
	}
	return list, nil
}

func timeOrNever(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return store.Time(ms)
}

func millisOrNever(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return store.Millis(t)
}

// AddKey stores a new security key and uses up the challenge that it answered.
// A credential that is there already, whoever's it is, is a *KeyError.
func AddKey(ctx context.Context, tx store.Tx, c Challenge, k SecurityKey, now time.Time) error {
	if err := takeChallenge(ctx, tx, c, k, now); err != nil {
		return err
	}
	if err := NewKey(ctx, tx, k); err != nil {
		return err
	}
	transports, err := json.Marshal(k.Transports)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO security_keys (`+keyColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)`,
		k.ID, k.UserID, k.CredentialID, k.PublicKey, k.AAGUID, k.Format, k.Attestation, string(transports), k.SignCount, k.BackupEligible,
		millisOrNever(k.VerifiedAt), store.Millis(now), store.Millis(now)); err != nil {
		return fmt.Errorf("storing a security key: %w", err)
	}
	return nil
}

// NewKey refuses a credential that is there already, whoever's it is, and one
// too many.
func NewKey(ctx context.Context, tx store.Tx, k SecurityKey) error {
	var same, all int
	if err := tx.QueryRowContext(ctx, `SELECT
		(SELECT COUNT(*) FROM security_keys WHERE credential_id = ? OR public_key = ?), (SELECT COUNT(*) FROM security_keys WHERE user_id = ?)`,
		k.CredentialID, k.PublicKey, k.UserID).Scan(&same, &all); err != nil {
		return fmt.Errorf("looking for a security key: %w", err)
	}
	switch {
	case same > 0:
		return keyError(KeyKnown, errors.New("the credential is enrolled already"))
	case all >= MaxKeys:
		return keyError(KeyTooMany, fmt.Errorf("%d keys are enrolled", all))
	}
	return nil
}

// UseKey notes that a key has signed, and uses up the challenge that it
// answered. The counter is compared once more with what is stored now: of two
// answers with the same count one is taken.
func UseKey(ctx context.Context, tx store.Tx, c Challenge, u KeyUse, now time.Time) error {
	if err := takeChallenge(ctx, tx, c, u.Key, now); err != nil {
		return err
	}
	verified := millisOrNever(u.Key.VerifiedAt)
	if u.Verified {
		verified = store.Millis(now)
	}
	res, err := tx.ExecContext(ctx, `UPDATE security_keys SET sign_count = ?, verified_at = ?, last_used_at = ?
		WHERE id = ? AND (sign_count < ? OR (sign_count = 0 AND ? = 0))`,
		u.SignCount, verified, store.Millis(now), u.Key.ID, u.SignCount, u.SignCount)
	if err != nil {
		return fmt.Errorf("noting the use of a security key: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, ErrKeyRaced)
	}
	return nil
}

// ErrKeyRaced says that another answer was faster: the challenge is used up, or
// the key has counted on or is gone.
var ErrKeyRaced = errors.New("another answer was faster")

// takeChallenge uses up a challenge, if it can still be answered.
func takeChallenge(ctx context.Context, tx store.Tx, c Challenge, k SecurityKey, now time.Time) error {
	result, err := json.Marshal(Result{UserID: k.UserID, EnrolmentID: k.ID})
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx,
		`UPDATE challenges SET status = ?, result = ?, answered_at = ? WHERE id = ? AND method = ? AND user_id = ? AND status = 'PENDING' AND expires_at > ?`,
		string(Approved), string(result), store.Millis(now), c.ID, string(MethodWebAuthn), k.UserID, store.Millis(now))
	if err != nil {
		return fmt.Errorf("taking the answer of a security key: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, ErrKeyRaced)
	}
	return nil
}

// SuspectKey notes that a key's counter went back: there may be a copy of it.
func SuspectKey(ctx context.Context, tx store.Tx, id string, now time.Time) error {
	if _, err := tx.ExecContext(ctx, `UPDATE security_keys SET suspect_at = ? WHERE id = ?`, store.Millis(now), id); err != nil {
		return fmt.Errorf("noting a suspect security key: %w", err)
	}
	return nil
}

// RemoveKey takes a security key from a person: what it has proven counts no
// more. It is store.ErrNotFound when they have no such key.
func RemoveKey(ctx context.Context, tx store.Tx, userID, id string) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM security_keys WHERE id = ? AND user_id = ?`, id, userID)
	if err != nil {
		return fmt.Errorf("removing a security key: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("removing a security key: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("removing a security key: %w", store.ErrNotFound)
	}
	return nil
}

func newKeyID() string { return ids.New(ids.SecurityKey) }
