package cli

import "testing"

// A11: somebody else than was asked for signed in, and the org had not told the
// agent in time. A name that merely begins alike is another's.
func TestA11SomebodyElse(t *testing.T) {
	for _, row := range []struct {
		asked, user string
		other       bool
	}{
		{"", "alice@example.com", false},
		{"alice", "alice@example.com", false},
		{"ALICE@example.com", "alice@example.com", false},
		{"alice", "alice", false},
		{"alice", "alice2@example.com", true},
		{"ali", "alice@example.com", true},
		{"alice@example.co", "alice@example.com", true},
		{"alice@", "alice@example.com", true},
		{"alice", "mallory@example.com", true},
		{"alice", "", true},
	} {
		if got := somebodyElse(row.asked, row.user); got != row.other {
			t.Errorf("asked for %q, got %q: %t", row.asked, row.user, got)
		}
	}
}
