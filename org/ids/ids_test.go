package ids_test

import (
	"regexp"
	"testing"

	"countersign.dev/org/ids"
)

func TestShape(t *testing.T) {
	for _, c := range []struct {
		made string
		want string
	}{
		{ids.New(ids.User), `^00u[0-9A-Za-z]{17}$`},
		{ids.New(ids.Enrolment), `^pfd[0-9A-Za-z]{17}$`},
		{ids.Transaction(), `^ft[0-9A-Za-z]{32}$`},
		{ids.Secret(), `^[0-9A-Za-z_-]{43}$`},
		{ids.Digest("x"), `^[0-9A-Za-z_-]{43}$`},
	} {
		if !regexp.MustCompile(c.want).MatchString(c.made) {
			t.Errorf("%q does not match %s", c.made, c.want)
		}
	}
}

func TestNeverTwice(t *testing.T) {
	seen := map[string]bool{}
	for range 10000 {
		for _, id := range []string{ids.New(ids.User), ids.Secret(), ids.Transaction()} {
			if seen[id] {
				t.Fatalf("%s came twice", id)
			}
			seen[id] = true
		}
	}
	if ids.Digest("a") == ids.Digest("b") {
		t.Error("two secrets, one digest")
	}
}
