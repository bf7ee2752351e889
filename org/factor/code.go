package factor

import (
	"context"
	"crypto/subtle"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// drift is how many time steps a device's clock may be off, either way (RFC
// 6238, 5.2 and 6).
const drift = 1

// codePrefix tells the counts of codes from those of logins, which begin with
// their digest.
const codePrefix = "totp:"

var hashes = map[string]otp.Algorithm{"SHA1": otp.AlgorithmSHA1, "SHA256": otp.AlgorithmSHA256, "SHA512": otp.AlgorithmSHA512}

// CodeResult is what a one-time code showed. The zero value proves nothing.
type CodeResult struct {
	EnrolmentID string
	DeviceID    string
	At          time.Time
}

// Proof is what the code proves: that the person read it somewhere just now.
// The secret is no key that could not be copied, and the code can be typed into
// any page.
func (r CodeResult) Proof() (policy.Proof, bool) {
	return policy.Proof{Method: policy.TOTP, Traits: policy.UserPresence, At: r.At}, r.EnrolmentID != ""
}

// Code takes a one-time code of any of the user's devices. A code is good once:
// the step it belongs to, and all before it, are used up in the transaction
// that finds it right. Blanks are ignored. Tries are counted as those of
// passwords are, and a right one forgets them.
func (f *Factors) Code(ctx context.Context, userID string, code okta.Secret) (CodeResult, error) {
	typed := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, code.Reveal())
	subject := codePrefix + ids.Digest(userID)
	var out CodeResult
	err := f.d.DB.Write(ctx, func(tx store.Tx) error {
		now := f.d.Now()
		if err := countTry(ctx, tx, subject, codeTries, now); err != nil {
			return err
		}
		seeds, err := seedsOf(ctx, tx, userID)
		if err != nil {
			return err
		}
		seed, step, err := match(seeds, typed, now)
		if err != nil || seed == nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `UPDATE totp_secrets SET last_step = ? WHERE method_id = ? AND last_step < ?`, step, seed.method, step)
		if err != nil {
			return fmt.Errorf("taking a code: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return err // used: as wrong as any other
		}
		out = CodeResult{EnrolmentID: seed.enrolment, DeviceID: seed.device, At: now}
		if err := device.Touch(ctx, tx, seed.enrolment, now); err != nil {
			return err
		}
		return forgetTries(ctx, tx, subject)
	})
	if err != nil {
		return CodeResult{}, err
	}
	return out, nil
}

// seed is a shared secret that may be used now.
type seed struct {
	method, enrolment, device string
	secret, algorithm         string
	digits, period            int
	last                      int64 // the last step that was taken
}

func seedsOf(ctx context.Context, tx store.Tx, userID string) ([]seed, error) {
	rows, err := tx.QueryContext(ctx, `SELECT m.id, e.id, d.id, s.secret, s.algorithm, s.digits, s.period, s.last_step
		FROM totp_secrets s JOIN enrolment_methods m ON m.id = s.method_id JOIN enrolments e ON e.id = m.enrolment_id JOIN devices d ON d.id = e.device_id
		WHERE e.user_id = ? AND e.status = 'ACTIVE' AND d.status = 'ACTIVE' AND m.status = 'ACTIVE' AND m.type = 'totp'`, userID)
	if err != nil {
		return nil, fmt.Errorf("reading the secrets of one-time codes: %w", err)
	}
	defer rows.Close()
	var list []seed
	for rows.Next() {
		var s seed
		if err := rows.Scan(&s.method, &s.enrolment, &s.device, &s.secret, &s.algorithm, &s.digits, &s.period, &s.last); err != nil {
			return nil, fmt.Errorf("reading the secrets of one-time codes: %w", err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the secrets of one-time codes: %w", err)
	}
	return list, nil
}

// match finds the secret and the step that make the typed code. Every secret
// and every step is compared, whatever was found before, so that the time tells
// nothing. Steps up to the last one taken make no code any more.
func match(seeds []seed, typed string, now time.Time) (found *seed, step int64, err error) {
	for i := range seeds {
		s := &seeds[i]
		algorithm, known := hashes[s.algorithm]
		if !known || s.period < 1 || s.digits < 6 || s.digits > 8 {
			return nil, 0, fmt.Errorf("the secret of method %s has unknown parameters", s.method)
		}
		at := now.Unix() / int64(s.period)
		for n := at - drift; n <= at+drift; n++ {
			if n < 1 {
				continue
			}
			code, err := hotp.GenerateCodeCustom(s.secret, uint64(n), hotp.ValidateOpts{Digits: otp.Digits(s.digits), Algorithm: algorithm})
			if err != nil {
				return nil, 0, fmt.Errorf("making a code of method %s: %w", s.method, err)
			}
			if subtle.ConstantTimeCompare([]byte(code), []byte(typed)) == 1 && n > s.last {
				found, step = s, n
			}
		}
	}
	return found, step, nil
}
