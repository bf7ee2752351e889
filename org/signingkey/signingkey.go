// Package signingkey holds the org's own keys: the ones that sign challenges
// and tokens, and whose public halves the keys endpoint publishes.
//
// A key goes through three states. NEXT is published before it ever signs, so
// that clients which cache keys already know it; ACTIVE signs; EXPIRED signs
// no more but is published until everything it signed has run out. All keys
// are RSA of 2048 bits for RS256, the one algorithm that every client of the
// protocol verifies.
package signingkey

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// State says what a key is for now.
type State string

// The states of a key.
const (
	Next    State = "NEXT"
	Active  State = "ACTIVE"
	Expired State = "EXPIRED"
)

const (
	bits = 2048
	// publishExpired outlives every token the org signs; the longest lives an
	// hour.
	publishExpired = 24 * time.Hour
	// maxAge is how long clients may keep the published keys. Since NEXT is
	// always among them, a rotation breaks nobody's cache.
	maxAge = time.Hour
)

type key struct {
	id        string
	state     State
	private   *rsa.PrivateKey
	public    jose.JWK
	expiredAt time.Time
}

// Ring is the org's set of keys. Keys are parsed once and kept in memory:
// signing touches no database, and so can never happen while one is locked.
type Ring struct {
	db  *store.DB
	now func() time.Time

	rotating sync.Mutex // one rotation at a time; never held while signing

	mu   sync.RWMutex
	keys []key // guarded by mu; replaced, not changed
}

// Open loads the keys and makes those that are missing.
func Open(ctx context.Context, db *store.DB) (*Ring, error) { return open(ctx, db, time.Now) }

func open(ctx context.Context, db *store.DB, now func() time.Time) (*Ring, error) {
	r := &Ring{db: db, now: now}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	have := map[State]bool{}
	for _, k := range r.keys {
		have[k.state] = true
	}
	for _, state := range []State{Active, Next} {
		if have[state] {
			continue
		}
		k, err := generate() // slow, so before the transaction
		if err != nil {
			return nil, err
		}
		if err := db.Write(ctx, func(tx store.Tx) error { return insert(ctx, tx, k, state, now()) }); err != nil {
			return nil, err
		}
	}
	return r, r.load(ctx)
}

// Sign signs claims with the active key.
func (r *Ring) Sign(ctx context.Context, typ string, claims any) (string, error) {
	k, err := r.active()
	if err != nil {
		return "", err
	}
	return jose.Sign(ctx, jose.SoftwareSigner(k.id, k.private), typ, claims)
}

func (r *Ring) active() (key, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		if k.state == Active {
			return k, nil
		}
	}
	return key{}, errors.New("no active signing key")
}

// Public returns the keys to publish and how long a client may keep them.
func (r *Ring) Public(ctx context.Context) ([]jose.JWK, time.Duration) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.now()
	var out []jose.JWK
	for _, k := range r.keys {
		if k.published(now) {
			out = append(out, k.public)
		}
	}
	return out, maxAge
}

func (k key) published(now time.Time) bool {
	return k.state != Expired || now.Before(k.expiredAt.Add(publishExpired))
}

// ErrUnknownKey says that a token names no key of this org.
var ErrUnknownKey = errors.New("not a key of this org")

// Verify checks a token that this org signed itself and decodes its claims. It
// checks form and signature; times and meaning are the caller's.
func (r *Ring) Verify(token string, use jose.Use, claims any) error {
	t, err := jose.Parse(token, use)
	if err != nil {
		return err
	}
	pub, ok := r.publicKey(t.Header.KeyID)
	if !ok {
		return ErrUnknownKey
	}
	if err := t.Verify(pub); err != nil {
		return err
	}
	return t.Claims(claims)
}

func (r *Ring) publicKey(kid string) (jose.JWK, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.now()
	for _, k := range r.keys {
		// A key that has never signed verifies nothing either.
		if k.id == kid && k.state != Next && k.published(now) {
			return k.public, true
		}
	}
	return jose.JWK{}, false
}

// Rotate retires the active key, lets the next one sign and makes a new next.
func (r *Ring) Rotate(ctx context.Context) error {
	r.rotating.Lock()
	defer r.rotating.Unlock()
	fresh, err := generate()
	if err != nil {
		return err
	}
	now := r.now()
	err = r.db.Write(ctx, func(tx store.Tx) error {
		for _, step := range []struct {
			query string
			args  []any
		}{
			{`DELETE FROM signing_keys WHERE state = 'EXPIRED' AND expired_at < ?`, []any{store.Millis(now.Add(-publishExpired))}},
			{`UPDATE signing_keys SET state = 'EXPIRED', expired_at = ? WHERE state = 'ACTIVE'`, []any{store.Millis(now)}},
			{`UPDATE signing_keys SET state = 'ACTIVE' WHERE state = 'NEXT'`, nil},
		} {
			if _, err := tx.ExecContext(ctx, step.query, step.args...); err != nil {
				return err
			}
		}
		return insert(ctx, tx, fresh, Next, now)
	})
	if err != nil {
		return fmt.Errorf("rotating signing keys: %w", err)
	}
	return r.load(ctx)
}

func (r *Ring) load(ctx context.Context) error {
	var keys []key
	err := r.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT kid, state, private_key, expired_at FROM signing_keys ORDER BY created_at DESC, kid`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k key
			var private string
			var expired sql.NullInt64
			if err := rows.Scan(&k.id, &k.state, &private, &expired); err != nil {
				return err
			}
			if expired.Valid {
				k.expiredAt = store.Time(expired.Int64)
			}
			if err := k.parse(private); err != nil {
				return fmt.Errorf("key %s: %w", k.id, err)
			}
			keys = append(keys, k)
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("loading signing keys: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = keys
	return nil
}

func (k *key) parse(private string) error {
	der, err := base64.StdEncoding.DecodeString(private)
	if err != nil {
		return errors.New("stored key is not base64")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return errors.New("stored key is not PKCS #8")
	}
	rsaKey, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return errors.New("stored key is not an RSA key")
	}
	k.private = rsaKey
	if k.public, err = jose.NewJWK(k.id, rsaKey.Public(), ""); err != nil {
		return err
	}
	k.public.Algorithm, k.public.Use = string(jose.RS256), "sig"
	return nil
}

func generate() (*rsa.PrivateKey, error) {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	return k, nil
}

func insert(ctx context.Context, tx store.Tx, k *rsa.PrivateKey, state State, now time.Time) error {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("encoding a signing key: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO signing_keys (kid, state, private_key, created_at) VALUES (?, ?, ?, ?)`,
		ids.Secret(), string(state), base64.StdEncoding.EncodeToString(der), store.Millis(now))
	if err != nil {
		return fmt.Errorf("storing a signing key: %w", err)
	}
	return nil
}
