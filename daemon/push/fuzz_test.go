package push

import (
	"slices"
	"strings"
	"testing"

	"countersign.dev/okta"
)

// FuzzList: whatever is on a list, what is taken from it was on it, each once
// for each time that it stood there, and nothing that is no push.
func FuzzList(f *testing.F) {
	good := challenge(f, "one", 7).Challenge
	f.Add(good + " " + good + " a.b.c")
	f.Add(strings.Replace(good, ".", ".A", 1) + " " + good)
	f.Add("")
	f.Fuzz(func(t *testing.T, list string) {
		var in []okta.PendingChallenge
		var given []string
		for _, token := range strings.Split(list, " ") {
			given = append(given, token)
			in = append(in, okta.PendingChallenge{PayloadVersion: okta.PayloadVersion, Challenge: token})
		}
		for _, token := range newestFirst(in) {
			i := slices.Index(given, token)
			if i < 0 {
				t.Fatalf("%q was not on the list", token)
			}
			given = slices.Delete(given, i, i+1)
			if strings.Count(token, ".") != 2 {
				t.Fatalf("%q is no token", token)
			}
		}
	})
}
