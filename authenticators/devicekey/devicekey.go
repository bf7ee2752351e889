// Package devicekey defines the keys that prove possession of this device and
// the stores that keep them. A store never gives a private key away: it signs.
//
// Back ends live in sub-packages (software, later tpm, enclave, ncrypt). Which
// one holds a key is chosen once, at enrolment, and is part of the key's Ref;
// it is never switched silently.
package devicekey

import (
	"context"
	"crypto"
	"errors"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Errors of stores, for callers to branch on.
var (
	ErrNotFound     = errors.New("key not found")                     // the store is fine, the key is not in it
	ErrLocked       = errors.New("key store locked")                  // unlock the vault first
	ErrUnavailable  = errors.New("key store unavailable")             // State says why
	ErrUnauthorised = errors.New("key needs the user's verification") // Authorisation missing or wrong
	ErrUnsupported  = errors.New("not supported by this key store")
	ErrTooManyTries = errors.New("key store locked after too many tries")
)

// Kind names a back end: "software", "tpm", "enclave", "ncrypt".
type Kind string

// KindSoftware keeps private keys sealed in the agent's vault.
const KindSoftware Kind = "software"

// Ref finds a key again. It holds no secret and is stored with the account.
type Ref struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"` // also the kid on the wire: an upper-case UUID
}

// Spec says what key to create. The zero value is a silent key.
type Spec struct {
	Role             okta.KeyType // what the key is for
	UserVerification bool         // signing demands an Authorisation
	AttestationNonce []byte       // freshness from the org; nil asks for no evidence
}

// Authorisation is what a key demands besides being asked: nothing for a
// silent key, the proof of user verification for others. Its zero value
// authorises silent keys only.
type Authorisation struct {
	Secret []byte // e.g. the PIN that is the TPM key's auth value; wiped by the caller
}

// Evidence is what a store can prove about a fresh key; empty for software.
type Evidence struct {
	Format string
	Data   []byte
}

// Key is one private key inside a store.
type Key interface {
	Ref() Ref
	Public() crypto.PublicKey
	Protection() jose.Protection
	// Sign signs a SHA-256 digest; ECDSA signatures are ASN.1 DER. It returns
	// ErrUnauthorised when auth does not satisfy the key.
	Sign(ctx context.Context, digest []byte, auth Authorisation) ([]byte, error)
}

// State is how a store is doing, for status and doctor.
type State struct {
	Kind  Kind
	State string // "ready", "locked", "absent", "lockout", "busy", "permission_denied", …
	Hint  string // what to do; empty when ready
}

// Store keeps keys.
type Store interface {
	Create(ctx context.Context, spec Spec) (Key, Evidence, error)
	Open(ctx context.Context, ref Ref) (Key, error)
	Delete(ctx context.Context, ref Ref) error // deleting an absent key is no error
	State(ctx context.Context) State
}

// Signer adapts a key to the token signer: one authorisation for one use.
func Signer(k Key, auth Authorisation) jose.Signer { return signer{k, auth} }

type signer struct {
	key  Key
	auth Authorisation
}

func (s signer) KeyID() string            { return s.key.Ref().ID }
func (s signer) Public() crypto.PublicKey { return s.key.Public() }
func (s signer) SignDigest(ctx context.Context, digest []byte) ([]byte, error) {
	return s.key.Sign(ctx, digest, s.auth)
}
