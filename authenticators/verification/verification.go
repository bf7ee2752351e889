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
	PIN         Method = "pin"          // the agent's own PIN
	Fingerprint Method = "fingerprint"  // fprintd on Linux
	Password    Method = "password"     // the account's password, through polkit
	SecurityKey Method = "security_key" // user verification by a FIDO2 key
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
}

// Verified says that the user was there, for one purpose. The zero value says
// nothing and authorises nothing.
type Verified struct {
	purpose string
	method  Method
	at      time.Time
	secrets map[okta.KeyType]devicekey.Secret
}

// For says whether this is a verification for that purpose.
func (v Verified) For(purpose string) bool { return v.purpose != "" && v.purpose == purpose }

// Method is how the user was verified; "" of the zero value.
func (v Verified) Method() Method { return v.method }

// Authorise returns what keys of a role demand, if the method may release them
// and has what they demand.
func (v Verified) Authorise(role okta.KeyType) (devicekey.Authorisation, bool) {
	secret, ok := v.secrets[role]
	if !ok || len(secret) == 0 || !v.method.Satisfies(role) {
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
