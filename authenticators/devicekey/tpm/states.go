package tpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
)

// What goes wrong below the TPM's own codes.
var (
	errPort    = errors.New("the TPM does not answer")
	errGarbage = errors.New("the TPM's answer makes no sense")
	errTooOld  = errors.New("the TPM speaks version 1.2")
	errAbsent  = errors.New("there is no TPM")
	errStale   = errors.New("the TPM was reset meanwhile")
	errHangs   = errors.New("the TPM does not return from a command")
)

// hints say what to do about a state; docs/hardware.md has them at length.
var hints = map[string]string{
	devicekey.Absent:           "switch the TPM on in the firmware set-up (also called fTPM, PTT or security processor)",
	devicekey.PermissionDenied: "let this user use the TPM: install the udev rule 70-countersign-tpm.rules, or add the user to the group tss, and sign in again; docs/hardware.md says what that allows",
	devicekey.Busy:             "another program uses the TPM: try again in a moment",
	devicekey.Lockout:          "too many wrong secrets were tried on this computer's TPM, by whichever program: wait, and do not try meanwhile",
	devicekey.Cleared:          "the TPM was cleared, and the keys made before are gone: enrol again with countersign account add ORG_URL",
	devicekey.OtherDevice:      "these keys were made by the TPM of another computer: enrol this one with countersign account add ORG_URL",
	devicekey.OwnerAuthSet:     "somebody has given the TPM's owner hierarchy a password: remove it (tpm2_changeauth -c owner -p PASSWORD), or have a storage root key kept at 0x81000001",
	devicekey.TooOld:           "a TPM 2.0 is needed; some can be switched or updated to it in the firmware set-up",
	devicekey.SelfTestFailed:   "the TPM says that it is broken: switch the computer off and on again",
	devicekey.Unavailable:      "start the agent again; if that does not help, switch the computer off and on again",
}

// refuse makes the refusal for a state.
func (t *TPM) refuse(state string, cause error) *devicekey.StateError {
	return &devicekey.StateError{State: devicekey.State{Kind: devicekey.KindTPM, State: state, Hint: hints[state]}, Err: cause}
}

// fault gives an error its name. What is not about the TPM stays what it is.
func (t *TPM) fault(err error) error {
	var named *devicekey.StateError
	switch {
	case err == nil, errors.As(err, &named),
		errors.Is(err, context.Canceled),
		errors.Is(err, devicekey.ErrUnauthorised), errors.Is(err, devicekey.ErrNotFound),
		errors.Is(err, devicekey.ErrLocked), errors.Is(err, devicekey.ErrUnsupported):
		return err
	}
	return t.refuse(sort(err), err)
}

// stateOf is fault as a state.
func (t *TPM) stateOf(err error) devicekey.State {
	var named *devicekey.StateError
	if errors.As(t.fault(err), &named) {
		return named.State
	}
	return t.refuse(devicekey.Unavailable, err).State
}

// sort says which state an error shows.
func sort(err error) string {
	switch {
	case errors.Is(err, errTooOld):
		return devicekey.TooOld
	case errors.Is(err, errAbsent), errors.Is(err, fs.ErrNotExist), absent(err):
		return devicekey.Absent
	case errors.Is(err, fs.ErrPermission), forbidden(err):
		return devicekey.PermissionDenied
	case errors.Is(err, context.DeadlineExceeded), occupied(err), noRoom(err):
		return devicekey.Busy
	}
	var code tpm2.TPMRC
	if !errors.As(err, &code) {
		return devicekey.Unavailable
	}
	switch {
	case again(code), code == tpm2.TPMRCCanceled:
		return devicekey.Busy
	case code == tpm2.TPMRCFailure, code == tpm2.TPMRCNeedsTest:
		return devicekey.SelfTestFailed
	case code == tpm2.TPMRCLockout:
		return devicekey.Lockout
	case code == rcBadTag:
		return devicekey.TooOld
	}
	return devicekey.Unavailable
}

// rcBadTag is what a TPM 1.2 says to a command of 2.0, and the other way round.
const rcBadTag tpm2.TPMRC = 0x1E

// noRoom says that the TPM has no place left for an object or a session.
func noRoom(err error) bool {
	for _, code := range [...]tpm2.TPMRC{
		tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCMemory, tpm2.TPMRCObjectHandles,
		tpm2.TPMRCSessionHandles, tpm2.TPMRCContextGap, tpm2.TPMRCTooManyContexts,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// stale says that the TPM does not know a handle which it gave us.
func stale(err error) bool {
	if errors.Is(err, errStale) {
		return true
	}
	var code tpm2.TPMRC
	if !errors.As(err, &code) {
		return false
	}
	return errors.Is(code, tpm2.TPMRCHandle) ||
		code >= tpm2.TPMRCReferenceH0 && code <= tpm2.TPMRCReferenceH6 ||
		code >= tpm2.TPMRCReferenceS0 && code <= tpm2.TPMRCReferenceS6
}

// inOrder says that the TPM, or we before it was asked, refused in good order:
// what lies in it is as we know it.
func inOrder(err error) bool {
	if errors.Is(err, errPort) || errors.Is(err, errGarbage) || stale(err) || noRoom(err) {
		return false
	}
	var named *devicekey.StateError
	var code tpm2.TPMRC
	return errors.As(err, &named) || errors.As(err, &code) && again(code) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, devicekey.ErrUnauthorised) || errors.Is(err, devicekey.ErrNotFound) || errors.Is(err, devicekey.ErrLocked)
}

// mayTry refuses a try that, if wrong, would lock the TPM for everybody on this
// computer: disk encryption and other programs count with the same counter.
func (l *link) mayTry() error {
	s, err := l.session()
	if err != nil {
		return err
	}
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTPermanent),
		PropertyCount: uint32(tpm2.TPMPTLockoutRecovery-tpm2.TPMPTPermanent) + 1,
	}.Execute(l, s.with(nil, audited))
	if err != nil {
		return fmt.Errorf("ask for the count of wrong tries: %w", err)
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return errors.Join(errGarbage, err)
	}
	seen := map[tpm2.TPMPT]uint32{}
	for _, p := range list.TPMProperty {
		seen[p.Property] = p.Value
	}
	counter, okCounter := seen[tpm2.TPMPTLockoutCounter]
	most, okMost := seen[tpm2.TPMPTMaxAuthFail]
	if !okCounter || !okMost {
		return errors.Join(errGarbage, errors.New("it does not say how many tries were wrong"))
	}
	if seen[tpm2.TPMPTPermanent]&inLockout == 0 && counter < most-1 && most > 0 {
		l.tpm.counted(most - 1 - counter)
		return nil
	}
	return l.tpm.lockedOut(seen[tpm2.TPMPTLockoutInterval], nil)
}

const inLockout = 1 << 9 // of TPMA_PERMANENT

// lockedOut is the refusal of a try. The TPM forgets one wrong try each
// interval, and does not say when the one that runs has begun.
func (t *TPM) lockedOut(interval uint32, cause error) error {
	e := t.refuse(devicekey.Lockout, cause)
	if interval != 0 {
		e.State.Until = t.now().Add(time.Duration(interval) * time.Second)
	}
	return e
}
