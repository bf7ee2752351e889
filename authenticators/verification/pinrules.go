package verification

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"countersign.dev/authenticators/devicekey"
)

// A PIN has 4 characters at least and 63 bytes at most, in UTF-8: what FIDO2
// asks of a PIN (CTAP 2.1, 6.5.1), so that one rule fits this PIN and a security
// key's. It is taken as typed, without Unicode normalisation: a keyboard types
// the same bytes each time, and the tables would weigh more than the rest of
// this package.
const (
	minPIN = 4  // characters
	maxPIN = 63 // bytes
)

// checkPIN refuses what cannot be a PIN, and what is guessed first: one
// character repeated, and a plain run, up or down (1234, 9876, 7890, abcd).
func checkPIN(pin devicekey.Secret) error {
	if err := checkForm(pin); err != nil {
		return err
	}
	first, size := utf8.DecodeRune(pin)
	same, up, down := true, true, true
	for last, rest := first, pin[size:]; len(rest) > 0; rest = rest[size:] {
		var r rune
		r, size = utf8.DecodeRune(rest)
		same = same && r == last
		up = up && (r == last+1 || last == '9' && r == '0')
		down = down && (r == last-1 || last == '0' && r == '9')
		last = r
	}
	switch {
	case same:
		return fmt.Errorf("%w: it is one character repeated", ErrPIN)
	case up, down:
		return fmt.Errorf("%w: it is a plain run", ErrPIN)
	}
	return nil
}

// checkForm refuses what no PIN of ours ever was. So a slip costs no try.
func checkForm(pin devicekey.Secret) error {
	switch {
	case len(pin) > maxPIN:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrPIN, maxPIN)
	case !utf8.Valid(pin):
		return fmt.Errorf("%w: it is not text", ErrPIN)
	case utf8.RuneCount(pin) < minPIN:
		return fmt.Errorf("%w: it is shorter than %d characters", ErrPIN, minPIN)
	}
	for rest := pin; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: it has a control character", ErrPIN)
		}
		rest = rest[size:]
	}
	return nil
}
