package myaccount

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whatever the headers of a poll say, nobody waits longer than allowed, and
// nobody's list is taken for known who does not name it.
func FuzzPollHeaders(f *testing.F) {
	for _, s := range []string{"wait=55", "wait=-1", "wait=1e9", `wait="5", wait=6`, "respond-async;wait=3", "WAIT = 0007", ",,,=;=,wait", "wait=\x00"} {
		f.Add(s, `"x", W/"y"`)
	}
	f.Fuzz(func(t *testing.T, prefer, known string) {
		h := http.Header{"Prefer": {prefer}, "If-None-Match": {known}}
		wait := preferredWait(h)
		if wait < 0 || wait > maxWait || wait%time.Second != 0 {
			t.Errorf("%q: %v", prefer, wait)
		}
		if again := preferredWait(http.Header{"Prefer": {prefer, "wait=60"}}); wait > 0 && again != wait {
			t.Errorf("%q: a second preference counts: %v", prefer, again)
		}
		const tag = `"AAAAAAAAAAAAAAAAAAAAAA"`
		if matches(h["If-None-Match"], tag) && !strings.Contains(known, tag) && !strings.Contains(known, "*") {
			t.Errorf("%q is taken for %s", known, tag)
		}
	})
}
