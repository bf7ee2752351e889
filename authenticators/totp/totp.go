// Package totp computes time-based one-time codes (RFC 6238).
//
// A code is derived from a seed that the agent shares with one org or service,
// and the time. The package holds nothing: seeds live in the sealed state, and
// a Seed prints as nothing wherever it might leak.
package totp

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

// Seed is the shared secret of a code, base32 (RFC 4648) without padding. It
// prints as nothing; encoded as JSON, which happens in the sealed state only,
// it is itself.
type Seed string

const redacted = "[redacted]"

// Reveal returns the seed.
func (s Seed) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (Seed) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Seed) GoString() string { return redacted }

// Format implements fmt.Formatter, since %x and %q would bypass String.
func (Seed) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Seed) LogValue() slog.Value { return slog.StringValue(redacted) }

// Algorithm is the hash of the HMAC.
type Algorithm string

// The algorithms.
const (
	SHA1   Algorithm = "SHA1"
	SHA256 Algorithm = "SHA256"
	SHA512 Algorithm = "SHA512"
)

var algorithms = map[Algorithm]otp.Algorithm{SHA1: otp.AlgorithmSHA1, SHA256: otp.AlgorithmSHA256, SHA512: otp.AlgorithmSHA512}

// Parameters are all that a code is made from. Use Check before Code.
type Parameters struct {
	Seed      Seed      `json:"seed"`
	Algorithm Algorithm `json:"algorithm"`
	Digits    int       `json:"digits"` // 6 to 8
	Period    int       `json:"period"` // seconds
}

// Limits of Parameters.
const (
	minSeed   = 10 // bytes; some services give no more
	maxSeed   = 128
	maxPeriod = 3600
)

// Errors of Check and Code.
var (
	// ErrParameters says that no code can be made from the parameters.
	ErrParameters = errors.New("one-time code parameters not usable")
	// ErrClock says that the time is before 1970, where no time step lies.
	ErrClock = errors.New("the clock is before 1970")
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Check refuses parameters that give no codes, or weak ones. The error wraps
// ErrParameters and never names the seed.
func (p Parameters) Check() error {
	seed, err := encoding.DecodeString(strings.ToUpper(string(p.Seed)))
	switch {
	case err != nil:
		return fmt.Errorf("%w: the seed is not base32", ErrParameters)
	case len(seed) < minSeed || len(seed) > maxSeed:
		return fmt.Errorf("%w: the seed has %d bytes", ErrParameters, len(seed))
	case p.Digits < 6 || p.Digits > 8:
		return fmt.Errorf("%w: %d digits", ErrParameters, p.Digits)
	case p.Period < 1 || p.Period > maxPeriod:
		return fmt.Errorf("%w: a period of %d seconds", ErrParameters, p.Period)
	}
	if _, ok := algorithms[p.Algorithm]; !ok {
		return fmt.Errorf("%w: algorithm %.16q", ErrParameters, p.Algorithm)
	}
	return nil
}

// Code returns the code of the time step that t lies in, and how long it is
// good for. Its errors are ErrParameters and ErrClock.
func (p Parameters) Code(t time.Time) (code string, left time.Duration, err error) {
	if err := p.Check(); err != nil {
		return "", 0, err
	}
	if t.Unix() < 0 {
		return "", 0, ErrClock
	}
	step := t.Unix() / int64(p.Period)
	code, err = hotp.GenerateCodeCustom(strings.ToUpper(string(p.Seed)), uint64(step), hotp.ValidateOpts{
		Digits: otp.Digits(p.Digits), Algorithm: algorithms[p.Algorithm],
	})
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrParameters, err)
	}
	return code, time.Unix((step+1)*int64(p.Period), 0).Sub(t), nil
}
