package securitykey

import (
	"errors"
	"fmt"

	"countersign.dev/authenticators/securitykey/wire"
)

// Errors of operations, for callers to branch on.
var (
	ErrNoKey        = errors.New("no security key is plugged in")
	ErrRemoved      = errors.New("the security key was pulled out")
	ErrOtherKey     = errors.New("another security key is plugged in now")
	ErrPIN          = errors.New("wrong PIN of the security key") // a *PINError
	ErrPINNeeded    = errors.New("the security key wants its PIN")
	ErrPINNotSet    = errors.New("the security key has no PIN")
	ErrPINRefused   = errors.New("the security key does not take this PIN")
	ErrNotAllowed   = errors.New("the security key does not allow it")
	ErrNoCredential = errors.New("the security key is not enrolled there")
	ErrExcluded     = errors.New("the security key is enrolled there already")
	ErrFull         = errors.New("the security key is full")
	ErrTimedOut     = errors.New("the security key was not touched in time, or did not answer")
	ErrCancelled    = errors.New("cancelled")
	ErrUnsupported  = errors.New("the security key cannot do this")
	ErrInUse        = errors.New("another program uses the security key")
	ErrNoPermission = errors.New("no permission to use the security key")
	ErrNotBuilt     = errors.New("built without security-key support")
	ErrBySystem     = errors.New("only Windows itself does this to a security key")
	ErrOldSystem    = errors.New("this version of Windows talks to no security keys")
	ErrHelper       = errors.New("the program that talks to security keys is unusable") // a *HelperError
	ErrBadKey       = errors.New("the security key misbehaves")
)

// PINError is a wrong PIN, or why none helps. It is ErrPIN.
type PINError struct {
	Left    int  // tries that are left, 0 if unknown or Blocked
	Blocked bool // no tries are left: only a reset helps
	Pause   bool // three wrong ones in a row: it must be plugged in again
}

func (e *PINError) Error() string {
	switch {
	case e.Blocked:
		return "the PIN of the security key is blocked"
	case e.Pause:
		return "too many wrong PINs: plug the security key in again"
	case e.Left > 0:
		return fmt.Sprintf("%v: %d tries left", ErrPIN, e.Left)
	}
	return ErrPIN.Error()
}

// Is makes it ErrPIN.
func (e *PINError) Is(target error) bool { return target == ErrPIN }

// PINNeededError is ErrPINNeeded with the tries that are left, 0 if unknown.
type PINNeededError struct{ Left int }

func (e *PINNeededError) Error() string { return ErrPINNeeded.Error() }

// Is makes it ErrPINNeeded.
func (e *PINNeededError) Is(target error) bool { return target == ErrPINNeeded }

// HelperError says why the helper is not used, or what it did. It is ErrHelper.
type HelperError struct {
	Path string
	Why  string
}

func (e *HelperError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%v: it %s", ErrHelper, e.Why)
	}
	return fmt.Sprintf("%v: %s %s", ErrHelper, e.Path, e.Why)
}

// missing is why a helper is not used that nobody has installed.
const missing = "is missing"

// Missing says whether there is none, so that this computer is one without
// support for security keys.
func (e *HelperError) Missing() bool { return e.Why == missing }

// Is makes it ErrHelper.
func (e *HelperError) Is(target error) bool { return target == ErrHelper }

var byCode = map[string]error{
	wire.NoKey: ErrNoKey, wire.Removed: ErrRemoved, wire.OtherKey: ErrOtherKey, wire.PINNotSet: ErrPINNotSet, wire.PINRefused: ErrPINRefused,
	wire.NotAllowed: ErrNotAllowed, wire.NoCredential: ErrNoCredential, wire.Excluded: ErrExcluded, wire.Full: ErrFull,
	wire.TimedOut: ErrTimedOut, wire.Cancelled: ErrCancelled, wire.Unsupported: ErrUnsupported, wire.InUse: ErrInUse,
	wire.NoPermission: ErrNoPermission, wire.NotBuilt: ErrNotBuilt, wire.BadKey: ErrBadKey,
	wire.BySystem: ErrBySystem, wire.OldSystem: ErrOldSystem,
}

// errorOf gives the error of a code. Its text is ours: what the helper says is for
// the log.
func errorOf(e *wire.Error) error {
	switch e.Code {
	case wire.WrongPIN:
		return &PINError{Left: max(0, e.TriesLeft)}
	case wire.PINBlocked:
		return &PINError{Blocked: true}
	case wire.PINPause:
		return &PINError{Pause: true}
	case wire.BadRequest:
		return &HelperError{Why: "does not understand the agent"}
	case wire.Failed:
		return &HelperError{Why: "failed"}
	}
	if err, known := byCode[e.Code]; known {
		return err
	}
	return &HelperError{Why: "gave an unknown error"}
}
