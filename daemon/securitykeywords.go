package daemon

import (
	"errors"
	"fmt"
	"net/http"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/verification/fido"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// keyReasons say in words what is the matter with a security key.
var keyReasons = []struct {
	is      error
	status  int
	code    string
	message string // "" means the error's own
	hint    string
}{
	{securitykey.ErrPINNeeded, http.StatusForbidden, "key_pin_needed", "this takes the PIN of the security key", "on a terminal it is asked for; scripts use --pin-stdin"},
	{fido.ErrWhichKey, http.StatusConflict, "key_needed", "", "pull the others out, and try again"},
	{securitykey.ErrOtherKey, http.StatusConflict, "other_key", "another security key is plugged in now than the one that you were shown; nothing was done", "countersign securitykey list"},
	{securitykey.ErrNoKey, http.StatusConflict, "no_key", "no security key is plugged in", "plug it in, and try again"},
	{securitykey.ErrRemoved, http.StatusConflict, "key_removed", "the security key was pulled out", "plug it in, and begin again"},
	{securitykey.ErrPINNotSet, http.StatusConflict, "key_pin_not_set", "the security key has no PIN, and this takes one", "countersign securitykey pin set"},
	{securitykey.ErrPINRefused, http.StatusBadRequest, "bad_key_pin", "the security key does not take this PIN", "it has at least 4 characters, and at most 63 bytes; some keys want more"},
	{securitykey.ErrNotAllowed, http.StatusConflict, "key_not_allowed", "the security key does not allow this now", "some things are only allowed within ten seconds of plugging it in: pull it out, plug it in, and try again at once"},
	{securitykey.ErrNoCredential, http.StatusConflict, "key_not_enrolled", "this security key is not enrolled for that", "take the one that is: countersign securitykey list"},
	{securitykey.ErrExcluded, http.StatusConflict, "key_enrolled_already", "this security key is enrolled already", ""},
	{securitykey.ErrFull, http.StatusConflict, "key_full", "the security key has no room for more", "make some: countersign securitykey credential delete"},
	{securitykey.ErrTimedOut, http.StatusConflict, "key_timed_out", "the security key was not touched in time, or did not answer", "try again, and touch it when it blinks"},
	{securitykey.ErrCancelled, http.StatusConflict, "key_cancelled", "cancelled; the security key does not wait any more", ""},
	{securitykey.ErrUnsupported, http.StatusConflict, "key_unsupported", "the security key cannot do this", "countersign securitykey info shows what it can"},
	{securitykey.ErrBySystem, http.StatusConflict, "key_unsupported", describe.KeyBySystem, describe.KeyBySystemHint},
	{securitykey.ErrInUse, http.StatusConflict, "key_in_use", "another program uses the security key", "end what it does there, often a sign-in in a browser, and try again"},
	{securitykey.ErrNoPermission, http.StatusForbidden, "key_no_permission", "this user may not use the security key", udevHint},
	{securitykey.ErrNotBuilt, http.StatusNotImplemented, "key_not_built", "this build of Countersign has no support for security keys", "install a package with countersign-sk, or build it with libfido2 and a C compiler at hand"},
	{securitykey.ErrOldSystem, http.StatusNotImplemented, "key_not_built", "this version of Windows talks to no security keys", "Windows 10 version 1903 and later do"},
	{securitykey.ErrHelper, http.StatusServiceUnavailable, "key_helper_unusable", "", "install Countersign again, all of its programs from one package"},
	{securitykey.ErrBadKey, http.StatusBadGateway, "key_misbehaves", "the security key answered what it must not; nothing was done by it", "plug it in again; if it stays so, do not use this key"},
}

const udevHint = "install the udev rule packaging/udev/70-countersign-fido.rules, or the one of your system for security keys, and plug the key in again"

// keyError says what an error of a security key means; nil for other errors.
func keyError(err error) *api.Error {
	var pin *securitykey.PINError
	if errors.As(err, &pin) {
		return keyPINError(pin)
	}
	for _, r := range keyReasons {
		if !errors.Is(err, r.is) {
			continue
		}
		e := &api.Error{Status: r.status, Code: r.code, Message: r.message, Hint: r.hint}
		var helper *securitykey.HelperError
		var needed *securitykey.PINNeededError
		switch {
		case errors.As(err, &needed):
			e.TriesLeft = needed.Left
		case e.Message == "" && errors.As(err, &helper):
			e.Message = prompt.Clean(helper.Error(), 300)
		case e.Message == "":
			e.Message = prompt.Clean(err.Error(), 240)
		}
		return e
	}
	return nil
}

// keyPINError says what is left after a wrong PIN of a key.
func keyPINError(pin *securitykey.PINError) *api.Error {
	switch {
	case pin.Blocked:
		return &api.Error{Status: http.StatusLocked, Code: "key_pin_blocked", Message: "the PIN of the security key is blocked after too many wrong ones",
			Hint: "only a reset helps, which deletes all that is on it: countersign securitykey reset"}
	case pin.Pause:
		return &api.Error{Status: http.StatusLocked, Code: "key_pin_pause", Message: "three wrong PINs in a row: the security key takes no more for now", Hint: "pull it out, plug it in, and try again"}
	}
	e := &api.Error{Status: http.StatusForbidden, Code: "wrong_key_pin", Message: "the PIN of the security key is wrong", TriesLeft: pin.Left}
	switch {
	case pin.Left == 1:
		e.Message += ", 1 try left before it is blocked for good"
	case pin.Left > 1:
		e.Message += fmt.Sprintf(", %d tries left", pin.Left)
	}
	return e
}
