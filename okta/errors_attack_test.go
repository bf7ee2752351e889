package okta

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// E12: what an org writes into its errors ends up in logs and on screens, as
// often as it likes. A little of it has to do.
func TestE12LongErrors(t *testing.T) {
	long := strings.Repeat("ü", 60<<10)
	for name, err := range map[string]error{
		"api":   &Error{HTTPStatus: 400, Code: ErrorCode(long), Summary: long, Causes: []ErrorCause{{Summary: long}}},
		"oauth": &TokenError{HTTPStatus: 400, Code: long, Description: long},
	} {
		if s := err.Error(); len(s) > 2<<10 || !utf8.ValidString(s) || !strings.HasPrefix(s, "400 üüü") {
			t.Errorf("%s: %d bytes, %.40q", name, len(s), s)
		}
	}
}
