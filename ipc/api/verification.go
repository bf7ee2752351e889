package api

import (
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

// PIN is what the person types to be verified. It is read from JSON and never
// written: not as JSON, not to a log, not into an error. Only the client sends
// one, by Reveal.
type PIN []byte

// maxPIN bounds the bytes of a PIN on the wire; what a PIN may be is for the
// agent to say.
const maxPIN = 256

var errPIN = errors.New("a PIN is not written")

func (PIN) String() string       { return "[redacted]" }
func (PIN) GoString() string     { return "[redacted]" }
func (PIN) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalJSON fails: a PIN that could be written would be, one day.
func (PIN) MarshalJSON() ([]byte, error) { return nil, errPIN }

// MarshalText fails too.
func (PIN) MarshalText() ([]byte, error) { return nil, errPIN }

// UnmarshalJSON reads a string.
func (p *PIN) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil || len(s) > maxPIN {
		return errors.New("not a PIN")
	}
	*p = PIN(s)
	return nil
}

// Reveal returns the PIN for the one who sends it.
func (p PIN) Reveal() string { return string(p) }

// Verification is one way to verify the person, and how it is doing.
type Verification struct {
	Method string `json:"method"` // "pin", "fingerprint", "password", "security_key"
	State  string `json:"state"`  // "ready", "not_set", "lockout", "absent", "unavailable"
	// TriesLeft are the wrong PINs that are left before a pause.
	TriesLeft int       `json:"triesLeft,omitempty"`
	Until     time.Time `json:"until,omitzero"` // of "lockout"
	Hint      string    `json:"hint,omitempty"`
}

// VerificationList is every way to verify the person.
type VerificationList struct {
	Verification []Verification `json:"verification"`
	// GraceSeconds is for how long a verification counts for further sign-ins.
	GraceSeconds int `json:"graceSeconds,omitempty"`
}

// SetPIN sets the PIN, or changes it when there is one.
type SetPIN struct {
	PIN    PIN `json:"pin"`
	OldPIN PIN `json:"oldPin,omitempty"`
	// KeyPIN is the PIN of the security key that verifies the person until now.
	KeyPIN PIN `json:"keyPin,omitempty"`
}

// RemovePIN proves that who removes the PIN knows it.
type RemovePIN struct {
	PIN PIN `json:"pin"`
}

// ResetPIN forgets the PIN without knowing it, and deletes the keys that it
// unlocks. It says nothing yet; a body is asked for because that is an act.
type ResetPIN struct{}

// PINReset is what went with the PIN.
type PINReset struct {
	// Accounts are those whose keys were deleted. They sign in as before, where no
	// verification is demanded.
	Accounts []AccountName `json:"accounts"`
}

// PINSet is what came of setting a PIN.
type PINSet struct {
	Changed bool         `json:"changed"` // there was one
	State   Verification `json:"state"`
	// Without are the accounts that have no key yet that the PIN unlocks, so that
	// it does nothing for them.
	Without []AccountName `json:"without"`
}

// AccountName is an account, as far as it takes to name it.
type AccountName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	User string `json:"user"`
	Org  string `json:"org"` // URL
}

// EnableVerification turns a method on or off. While a PIN is set, it takes the
// PIN. "security_key" is turned on with the only key that is plugged in, or the
// one that is touched first.
type EnableVerification struct {
	Enabled bool `json:"enabled"`
	PIN     PIN  `json:"pin,omitempty"`
	// KeyPIN is the PIN of the security key that takes part, if one does.
	KeyPIN PIN `json:"keyPin,omitempty"`
}
