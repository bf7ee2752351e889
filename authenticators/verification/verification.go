// Package verification says whether the user is there. It is asked before a
// key that demands user verification signs, and it fails closed: nothing but a
// positive, timely answer of a method that is set up verifies anybody.
//
// What a method yields is a Verified: good for one purpose, in the hand of the
// caller that asked, and carrying the secret that the keys of certain roles
// demand. So a missing check is no missing if: without a Verified there is no
// secret, and without the secret the key does not sign.
//
// Two ways lead to a secret. The PIN is the secret itself, typed each time and
// kept nowhere. The other methods (a fingerprint, the account's password, a
// security key) only say yes or no; for those the secret is random, lies in the
// vault, and is released after a yes. Who has the vault open in memory has those
// secrets: that is less than a PIN checked by hardware, and is why the methods
// stand apart in the table below.
package verification

import (
	"context"
	"errors"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// Method is a way to verify the user.
type Method string

// The methods.
const (
	PIN         Method = "pin"         // the agent's own PIN
	Fingerprint Method = "fingerprint" // fprintd on Linux
	Password    Method = "password"    // the account's password, through polkit
	// SecurityKey is user verification by a FIDO2 key: by its own PIN, which
	// Request.KeyPIN passes on, or a finger on it.
	SecurityKey Method = "security_key"
)

// satisfies is the one policy: which method releases the keys of which role.
// Only biometrics make a key biometric. A PIN-gated key is never reported as
// that (okta-devices 2.3).
var satisfies = map[okta.KeyType][]Method{
	okta.KeyUserVerification:         {Fingerprint},
	okta.KeyUserVerificationBioOrPIN: {PIN, Fingerprint, Password, SecurityKey},
}

// Satisfies says whether the method may release keys of a role. Unknown methods
// and roles satisfy nothing.
func (m Method) Satisfies(role okta.KeyType) bool { return slices.Contains(satisfies[role], m) }

// Errors of a verification, for callers to branch on. Each means that nobody
// was verified.
var (
	ErrNotSetUp  = errors.New("this way to verify yourself is not set up")
	ErrWrong     = errors.New("not verified")             // a wrong PIN, another finger; a *TryError says how many are left
	ErrTooMany   = errors.New("too many wrong tries")     // a *TryError says until when
	ErrCancelled = errors.New("verification cancelled")   // by the person
	ErrTimedOut  = errors.New("verification timed out")   // nobody did anything
	ErrAbsent    = errors.New("verification unavailable") // no such device or service, or it is broken
)

// Errors of changing how users verify themselves.
var (
	ErrPIN    = errors.New("this PIN cannot be used")        // wrapped with why
	ErrPINSet = errors.New("there is a PIN already")         // ChangePIN replaces it
	ErrInUse  = errors.New("keys of accounts depend on it")  // remove or replace those first
	ErrNoUse  = errors.New("this way would release no keys") // e.g. a password where the PIN guards them
	ErrBroken = errors.New("verification state not usable")  // it could not be read or written, or makes no sense
)

// TryError is ErrWrong or ErrTooMany with what is left.
type TryError struct {
	Method Method
	Left   int       // tries that are left before a pause; 0 with Until set
	Until  time.Time // when the next try is possible; zero: now
	Err    error     // ErrWrong or ErrTooMany
}

func (e *TryError) Error() string { return e.Err.Error() }
func (e *TryError) Unwrap() error { return e.Err }

// State is how a method is doing, for status, doctor and front ends.
type State struct {
	Method Method
	State  string    // "ready", "not_set", "lockout", "absent", "unavailable"
	Left   int       // of the PIN: tries before a pause
	Until  time.Time // of "lockout"
	Hint   string    // what to do; empty when ready
}

// Request asks for one verification.
type Request struct {
	Purpose string // what for: the id of a prompt or of an operation; never empty
	Reason  string // for the person, e.g. "Sign in to Payroll"
	Method  Method // "" takes PIN when there is one, else the first that is ready
	PIN     devicekey.Secret
	// KeyPIN is the PIN of a security key, for SecurityKey alone. It is nil at first,
	// and for keys that read fingers.
	KeyPIN devicekey.Secret
	// Fresh asks the user now, whatever grace is left: for operations that change
	// keys, the PIN or methods.
	Fresh bool
}

// Verifier is a method besides the PIN: it says yes or no, and has no secret.
type Verifier interface {
	Method() Method
	// State says whether it could be asked now. It is called often and waits for
	// nobody.
	State(ctx context.Context) State
	// Verify returns nil only when the user was there just now. It ends when ctx
	// does, and leaves nothing running. Errors wrap one of this package's;
	// ErrWrong is the one that counts as a try. A *TryError may say that the
	// device leaves fewer tries than the service does.
	Verify(ctx context.Context, req Request) error
}

// goodFor is how long a Verified may be used: from the moment in which the user
// was there, or in which grace stood in for it.
const goodFor = 2 * time.Minute

// Verified says that the user was there, for one purpose. It is good for two
// minutes, and no longer than the PIN and the methods stay what they were: what
// it holds would else be put into new keys. The zero value says nothing and
// authorises nothing.
type Verified struct {
	purpose string
	method  Method
	at      time.Time // the user was there
	from    time.Time // given out
	now     func() time.Time
	same    func() bool // PIN and methods are what they were
	secrets map[okta.KeyType]devicekey.Secret
}

// For says whether this is a verification for that purpose, in time.
func (v Verified) For(purpose string) bool {
	return v.purpose != "" && v.purpose == purpose && v.fresh()
}

// Method is how the user was verified; "" of the zero value.
func (v Verified) Method() Method { return v.method }

// At is when the user was there; with grace, earlier than Verify was called.
func (v Verified) At() time.Time { return v.at }

func (v Verified) fresh() bool { return v.now != nil && v.same() && !over(v.from, v.now(), goodFor) }

// Authorise returns what keys of a role demand, if the method may release them
// and has what they demand, in time. A new key of that role is made with it too.
func (v Verified) Authorise(role okta.KeyType) (devicekey.Authorisation, bool) {
	secret, ok := v.secrets[role]
	if !ok || len(secret) == 0 || !v.method.Satisfies(role) || !v.fresh() {
		return devicekey.Authorisation{}, false
	}
	return devicekey.Authorisation{Secret: secret}, true
}

// Wipe clears the secrets. Whoever was given a Verified calls it when done.
func (v Verified) Wipe() {
	for _, s := range v.secrets {
		clear(s)
	}
}

// over says whether a span that began at since has ended: by the clock that
// runs on when somebody sets the time, or by the one that runs on while the
// machine sleeps. A time before its beginning ends it too.
func over(since, now time.Time, span time.Duration) bool {
	d := now.Sub(since)
	return d < 0 || d >= span || now.Round(0).Sub(since.Round(0)) >= span
}
