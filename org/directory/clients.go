package directory

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// AuthMethod is how an app proves who it is at the token endpoint; a client has
// one and no other (spec okta-oidc 5.2).
type AuthMethod string

// The methods. The zero value counts as AuthNone.
const (
	AuthNone       AuthMethod = "none" // a public client
	AuthBasic      AuthMethod = "client_secret_basic"
	AuthPost       AuthMethod = "client_secret_post"
	AuthPrivateKey AuthMethod = "private_key_jwt"
)

const (
	minClientSecret  = 32 // characters; they are made by machines
	maxClientSecrets = 2  // so that one can be replaced without an outage
	maxClientKeys    = 10
)

// Confidential says whether the app can prove who it is.
func (a App) Confidential() bool {
	switch a.AuthMethod {
	case AuthBasic, AuthPost, AuthPrivateKey:
		return true
	}
	return false
}

// Key returns the app's key with a key id.
func (a App) Key(kid string) (jose.JWK, bool) {
	for _, k := range a.Keys {
		if kid != "" && k.KeyID == kid {
			return k, true
		}
	}
	return jose.JWK{}, false
}

// credentials checks how the app is to prove itself.
func (a App) credentials() (method AuthMethod, keys string, err error) {
	method = a.AuthMethod
	switch {
	case method == "":
		method = AuthNone
	case method == AuthNone, method == AuthBasic, method == AuthPost, method == AuthPrivateKey:
	default:
		return "", "", fmt.Errorf("unknown authentication method %.40q", method)
	}
	if (method == AuthPrivateKey) != (len(a.Keys) > 0) || len(a.Keys) > maxClientKeys {
		return "", "", fmt.Errorf("%d keys with authentication method %s", len(a.Keys), method)
	}
	for i, k := range a.Keys {
		if _, err := k.PublicKey(); err != nil {
			return "", "", fmt.Errorf("key %d: %w", i, err)
		}
		if known, _ := a.Key(k.KeyID); k.KeyID == "" || known != k {
			return "", "", fmt.Errorf("key %d has no key id of its own", i)
		}
	}
	b, err := json.Marshal(append([]jose.JWK{}, a.Keys...))
	return method, string(b), err
}

// AddClientSecret gives an app a secret; a digest of it is kept. The oldest of
// three goes.
func AddClientSecret(ctx context.Context, tx store.Tx, clientID string, secret okta.Secret, now time.Time) error {
	if len(secret.Reveal()) < minClientSecret {
		return fmt.Errorf("adding a client secret: at least %d characters", minClientSecret)
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO app_secrets (client_id, digest, created_at) VALUES (?, ?, ?) ON CONFLICT (client_id, digest) DO NOTHING`,
		clientID, ids.Digest(secret.Reveal()), store.Millis(now)); err != nil {
		return fmt.Errorf("adding a client secret: %w", err)
	}
	if _, err := tx.ExecContext(ctx,
		`DELETE FROM app_secrets WHERE client_id = ? AND digest NOT IN
		 (SELECT digest FROM app_secrets WHERE client_id = ? ORDER BY created_at DESC, digest LIMIT ?)`,
		clientID, clientID, maxClientSecrets); err != nil {
		return fmt.Errorf("removing an old client secret: %w", err)
	}
	return nil
}

// CheckClientSecret says whether a secret is one of the app's. All of them are
// looked at, each in a time that tells nothing (E10).
func CheckClientSecret(ctx context.Context, tx store.Tx, clientID string, secret okta.Secret) (ok bool, err error) {
	digests, err := list(ctx, tx, "client secrets", `SELECT digest FROM app_secrets WHERE client_id = ? ORDER BY digest`, clientID)
	if err != nil {
		return false, err
	}
	if secret == "" {
		return false, nil
	}
	given := []byte(ids.Digest(secret.Reveal()))
	found := 0
	for _, d := range digests {
		found |= subtle.ConstantTimeCompare(given, []byte(d))
	}
	return found == 1, nil
}
