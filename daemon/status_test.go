package daemon

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// Somebody who enrols the same account again goes on signing in in silence, by
// the newer one; two people's accounts are still never told apart by guessing.
func TestEnrolledTwice(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	again := a.enrol(t, org)
	silent := org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedNone })
	if got := a.post(t, org.URL, silent); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	records := a.audit(t)
	if last := records[len(records)-1]; last.Outcome != "approved" || last.Account != again.ID {
		t.Fatalf("%+v, want an answer by %s", last, again.ID)
	}
}

// A status tells the truth about an org that does not answer as one.
func TestStatusOfMissingOrg(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	code := func() string {
		t.Helper()
		a.reach.forget()
		s, err := a.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Problems) == 0 {
			return ""
		}
		p := s.Problems[0]
		if p.Message == "" || p.Hint == "" {
			t.Errorf("%+v", p)
		}
		return p.Code
	}
	if got := code(); got != "" {
		t.Errorf("an org that answers: %s", got)
	}
	org.Reply("/.well-known/", oktatest.Reply{Status: 200, ContentType: "text/html", Body: "<html>captive</html>"})
	if got := code(); got != "org_unexpected_answer" {
		t.Errorf("a web page: %q", got)
	}
	org.Close()
	if got := code(); got != "org_unreachable" {
		t.Errorf("nobody there: %q", got)
	}
	if list, err := a.client.Accounts(t.Context()); err != nil || len(list.Accounts) != 1 {
		t.Errorf("the account was not kept: %v", err)
	}
}

// An account whose keys are gone is said, not found out at the next sign-in.
func TestStatusOfMissingKeys(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	_ = a.stop()
	for _, name := range []string{"keys.sealed", "keys.bak"} {
		if err := os.Remove(filepath.Join(a.config.StateDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(t.Context(), a.config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if list := d.problems(); len(list) != 1 || list[0].Code != "keys_missing" || list[0].Hint == "" {
		t.Fatalf("%+v", list)
	}
}

// Whoever asks while the vault is being unlocked waits for that, not for long.
func TestAwaitUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Daemon{ctx: t.Context()}
		start := time.Now()
		d.awaitUnlock(t.Context()) // nothing under way
		if time.Since(start) != 0 {
			t.Error("waited for nothing")
		}
		trying := make(chan struct{})
		d.trying.Store(&trying)
		d.awaitUnlock(t.Context())
		if got := time.Since(start); got != unlockMoment {
			t.Errorf("waited %s for somebody at a password prompt", got)
		}
		time.AfterFunc(time.Millisecond, func() { close(trying) })
		start = time.Now()
		d.awaitUnlock(t.Context())
		if got := time.Since(start); got != time.Millisecond {
			t.Errorf("waited %s for a keyring that answers", got)
		}
	})
}
