// Package devicekey defines the keys that prove possession of this device and
// the stores that keep them. A store never gives a private key away: it signs.
//
// Back ends live in sub-packages (software, tpm; later enclave, ncrypt). Which
// one holds a key is chosen once, at enrolment, and is part of the key's Ref;
// it is never switched silently.
//
// A key is silent, or it demands a secret with every use: then it was made with
// UserVerification, and package verification says who may come by the secret.
// What enforces that is the back end: a TPM refuses by itself and counts wrong
// tries; software has the key encrypted under the secret.
package devicekey

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Errors of stores, for callers to branch on.
var (
	ErrNotFound     = errors.New("key not found")                     // the store is fine, the key is not in it
	ErrLocked       = errors.New("key store locked")                  // unlock the vault first
	ErrUnavailable  = errors.New("key store unavailable")             // a *StateError says why
	ErrUnauthorised = errors.New("key needs the user's verification") // Authorisation missing or wrong
	ErrUnsupported  = errors.New("not supported by this key store")
	ErrTooManyTries = errors.New("key store locked after too many tries")
)

// Kind names a back end: "software", "tpm", "enclave", "ncrypt".
type Kind string

// The kinds that this build knows.
const (
	KindSoftware Kind = "software" // private keys sealed in the agent's vault
	KindTPM      Kind = "tpm"      // private keys in a TPM 2.0
)

// Hardware says whether keys of that kind cannot be copied off the device.
func (k Kind) Hardware() bool { return k == KindTPM }

// Ref finds a key again. It holds no secret and is stored with the account.
type Ref struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"` // also the kid on the wire: an upper-case UUID
}

// Spec says what key to create. The zero value is a silent key.
type Spec struct {
	Role             okta.KeyType // what the key is for
	UserVerification bool         // signing demands the Authorisation
	// Authorisation is what the new key will demand: not empty with
	// UserVerification, empty without.
	Authorisation    Authorisation
	AttestationNonce []byte // freshness from the org; nil asks for no evidence
}

// Authorisation is what a key demands besides being asked: nothing for a
// silent key, the proof of user verification for others. Its zero value
// authorises silent keys only, and is refused by others without counting as a
// try.
type Authorisation struct {
	Secret Secret // the PIN, or a secret that verification releases; wiped by the caller
}

// Secret is what authorises a key. It prints as "[redacted]".
type Secret []byte

func (Secret) String() string       { return "[redacted]" }
func (Secret) GoString() string     { return "[redacted]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

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
	State string    // Ready, or one of the other names
	Hint  string    // what to do; empty when ready
	Until time.Time // of Lockout: when the next try is possible, as far as the store knows
	// Left is of Ready: how many wrong secrets the store takes before it locks, all
	// programs together, as of a moment ago; 0 where it does not count or say.
	Left int
}

// The names of states. What is not Ready signs nothing, but in Lockout: there
// silent keys go on.
const (
	Ready            = "ready"
	Locked           = "locked"            // the vault is
	Absent           = "absent"            // there is no such device
	PermissionDenied = "permission_denied" // it may not be opened by this user
	Busy             = "busy"              // others use it, or it has no room; again in a moment
	Lockout          = "lockout"           // too many wrong secrets, whoever's; Until says when it ends
	Cleared          = "cleared"           // it was cleared, and the keys made before are gone
	OtherDevice      = "other_device"      // the keys were made on another device
	OwnerAuthSet     = "owner_auth_set"    // somebody has taken ownership, and it takes their password
	TooOld           = "too_old"           // e.g. a TPM 1.2
	SelfTestFailed   = "self_test_failed"  // it says of itself that it is broken
	Unavailable      = "unavailable"       // any other fault
)

// StateError is the refusal of a store for a reason that has a name. It is an
// ErrUnavailable, or for Lockout an ErrTooManyTries.
type StateError struct {
	State State
	Err   error // what was seen, for the log
}

func (e *StateError) Error() string {
	s := string(e.State.Kind) + " key store: " + e.State.State
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is sorts the error for callers that branch on kinds of errors only.
func (e *StateError) Is(target error) bool {
	if e.State.State == Lockout {
		return target == ErrTooManyTries
	}
	return target == ErrUnavailable
}

func (e *StateError) Unwrap() error { return e.Err }

// Lost says whether an error of a store means that a key is gone for good: it is
// not there, or was made by a device that is another one now. Everything else
// may pass.
func Lost(err error) bool {
	var state *StateError
	if errors.As(err, &state) {
		return state.State.State == Cleared || state.State.State == OtherDevice
	}
	return errors.Is(err, ErrNotFound)
}

// Store keeps keys.
type Store interface {
	Create(ctx context.Context, spec Spec) (Key, Evidence, error)
	Open(ctx context.Context, ref Ref) (Key, error)
	Delete(ctx context.Context, ref Ref) error // deleting an absent key is no error
	// Reauthorise changes what keys demand: all of them, or none after an
	// error. It returns ErrUnauthorised when from is not what they demand.
	Reauthorise(ctx context.Context, refs []Ref, from, to Authorisation) error
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
