//go:build cgo && !windows

package helper

import (
	"context"
	"errors"
	"time"

	"github.com/keys-pub/go-libfido2"

	"countersign.dev/authenticators/securitykey/wire"
)

// sentinels are the errors that the library names, by their code.
var sentinels = []struct {
	err  error
	code int
}{
	{libfido2.ErrTX, -1}, {libfido2.ErrRX, -2}, {libfido2.ErrRXNotCBOR, -3}, {libfido2.ErrRXInvalidCBOR, -4}, {libfido2.ErrInvalidArgument, -7},
	{libfido2.ErrUserPresenceRequired, -8}, {libfido2.ErrInternal, -9}, {libfido2.ErrInvalidCommand, 0x01}, {libfido2.ErrInvalidLength, 0x03},
	{libfido2.ErrMissingParameter, 0x14}, {libfido2.ErrInvalidCredential, 0x22}, {libfido2.ErrOperationDenied, 0x27},
	{libfido2.ErrUnsupportedOption, 0x2b}, {libfido2.ErrInvalidOption, 0x2c}, {libfido2.ErrKeepaliveCancel, 0x2d},
	{libfido2.ErrNoCredentials, 0x2e}, {libfido2.ErrNotAllowed, 0x30}, {libfido2.ErrPinInvalid, 0x31}, {libfido2.ErrPinAuthBlocked, 0x34},
	{libfido2.ErrPinNotSet, 0x35}, {libfido2.ErrPinRequired, 0x36}, {libfido2.ErrPinPolicyViolation, 0x37}, {libfido2.ErrActionTimeout, 0x3a},
	{libfido2.ErrUPRequired, 0x3b}, {libfido2.ErrOther, 0x7f},
}

// meanings are what codes of CTAP (8.2) and of the library mean to the agent.
// What is not here is the key's fault.
var meanings = map[int]string{
	-7: wire.Unsupported, -8: thereButUntouched, 0x01: wire.Unsupported, 0x05: wire.TimedOut, 0x06: wire.InUse, 0x15: wire.Unsupported, 0x16: wire.Unsupported,
	0x17: wire.Full, 0x18: wire.Full, 0x19: wire.Excluded, 0x22: wire.NoCredential, 0x26: wire.Unsupported, 0x27: wire.NotAllowed, 0x28: wire.Full,
	0x2b: wire.Unsupported, 0x2c: wire.Unsupported, 0x2d: wire.Cancelled, 0x2e: wire.NoCredential, 0x2f: wire.TimedOut, 0x30: wire.NotAllowed,
	0x31: wire.WrongPIN, 0x32: wire.PINBlocked, 0x33: wire.NotAllowed, 0x34: wire.PINPause, 0x35: wire.PINNotSet, 0x36: needsPIN, 0x37: wire.PINRefused,
	0x39: wire.Unsupported, 0x3a: wire.TimedOut, 0x3c: needsPIN, 0x3f: needsPIN, 0x40: wire.NotAllowed,
}

// code is the number behind an error of the library's.
func code(err error) (int, bool) {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.code, true
		}
	}
	var other libfido2.Error
	if errors.As(err, &other) {
		return other.Code, true
	}
	var own number
	if errors.As(err, &own) {
		return int(own), true
	}
	return 0, false
}

// noContact says that the library could not read or write.
func noContact(err error) bool {
	n, ok := code(err)
	return ok && (n == -1 || n == -2)
}

// pulling is how long it takes to pull a key out.
const pulling = 300 * time.Millisecond

// explain turns an error of the library into one of the protocol.
func (s *session) explain(err error) error {
	var known *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, libfido2.ErrNotFIDO2):
		return fail(wire.Unsupported, "a U2F key")
	}
	n, ok := code(err)
	if !ok {
		return fail(wire.Failed, "%v", err)
	}
	meaning, ok := meanings[n]
	wait := time.Duration(0)
	if !ok {
		// A plug that is pulled loses contact before it is out.
		meaning, wait = wire.BadKey, pulling
	}
	if s.held != nil && s.held.gone(wait) {
		return fail(wire.Removed, "%v", err)
	}
	e := fail(meaning, "%v (%d)", err, n)
	if meaning == wire.WrongPIN && s.ctx.Err() == nil {
		e.TriesLeft = s.triesLeft()
	}
	return e
}

// patience is a shorter deadline.
func patience(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fail(wire.TimedOut, "no answer within %s", d))
}

// byteString is the contents of a CBOR byte string that is all there is, as the
// library gives authenticator data.
func byteString(b []byte) ([]byte, bool) {
	if len(b) == 0 || b[0]>>5 != 2 {
		return nil, false
	}
	n, head := int(b[0]&0x1f), 1
	switch {
	case n < 24:
	case n == 24 && len(b) >= 2:
		n, head = int(b[1]), 2
	case n == 25 && len(b) >= 3:
		n, head = int(b[1])<<8|int(b[2]), 3
	default:
		return nil, false
	}
	return b[head:], len(b) == head+n
}
