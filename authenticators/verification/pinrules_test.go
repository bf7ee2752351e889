package verification

import (
	"errors"
	"testing"
	"unicode/utf8"

	"countersign.dev/authenticators/devicekey"
)

// FuzzPIN: what is taken as a PIN keeps the rules, and can be tried later.
func FuzzPIN(f *testing.F) {
	for _, s := range []string{"", "1234", "7890", "271828", "äöüß", "\xff\xff\xff\xff", "aaaa", "12\x0034"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, pin []byte) {
		err := checkPIN(devicekey.Secret(pin))
		if err != nil {
			if !errors.Is(err, ErrPIN) {
				t.Error(err)
			}
			return
		}
		if checkForm(pin) != nil || !utf8.Valid(pin) || utf8.RuneCount(pin) < 4 || len(pin) > 63 {
			t.Errorf("taken: %q", pin)
		}
		different := false
		for _, r := range string(pin) {
			first, _ := utf8.DecodeRune(pin)
			different = different || r != first
		}
		if !different {
			t.Errorf("taken: %q", pin)
		}
	})
}
