package device

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"

	"countersign.dev/okta"
	"countersign.dev/org/store"
)

// What this org's one-time codes are (RFC 6238): what every authenticator app
// can make.
const (
	TOTPAlgorithm = "SHA1"
	TOTPDigits    = 6
	TOTPPeriod    = 30 // seconds

	seedBytes = 20 // as long as the hash (RFC 4226, 4)
)

// putSeed gives a totp method its shared secret.
func putSeed(ctx context.Context, tx store.Tx, methodID string) error {
	var b [seedBytes]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	if _, err := tx.ExecContext(ctx, `INSERT INTO totp_secrets (method_id, secret, algorithm, digits, period) VALUES (?, ?, ?, ?, ?)`,
		methodID, base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]), TOTPAlgorithm, TOTPDigits, TOTPPeriod); err != nil {
		return fmt.Errorf("storing the secret of one-time codes: %w", err)
	}
	return nil
}

// revealSeed adds the shared secret to an enrolment that is being created: the
// agent has no other way to learn it, and asks again when the answer got lost.
// Once the org has taken a code the agent has the secret, and nobody is told
// again.
func revealSeed(ctx context.Context, tx store.Tx, e *Enrolment) error {
	for i := range e.Methods {
		m := &e.Methods[i]
		if m.Type != okta.MethodTOTP {
			continue
		}
		var secret string
		err := tx.QueryRowContext(ctx, `SELECT secret FROM totp_secrets WHERE method_id = ? AND last_step = 0`, m.ID).Scan(&secret)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("reading the secret of one-time codes: %w", err)
		}
		m.SharedSecret = okta.SharedSecret(secret)
	}
	return nil
}

// forgetSeeds removes the shared secrets of enrolments that are gone for good;
// those of suspended ones stay, to work again.
func forgetSeeds(ctx context.Context, tx store.Tx, which, id string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM totp_secrets WHERE method_id IN
		(SELECT m.id FROM enrolment_methods m JOIN enrolments e ON e.id = m.enrolment_id WHERE `+which+`)`, id); err != nil {
		return fmt.Errorf("forgetting the secrets of one-time codes: %w", err)
	}
	return nil
}
