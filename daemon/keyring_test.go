package daemon

import (
	"net/http"
	"strings"
	"testing"

	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/daemon/vault/unlock/keyringtest"
	"countersign.dev/okta/oktatest"
)

// onKeyring is an agent whose vault key is in a real keyring.
func onKeyring(t *testing.T, session *keyringtest.Session) Config {
	t.Helper()
	session.Start("right")
	c := testConfig(t)
	c.VaultKey = string(unlock.Keyring)
	return c
}

// The keyring is asked once, when the vault opens, and by no challenge
// (performance row 10).
func TestNoKeyringCallsPerChallenge(t *testing.T) {
	session, org := keyringtest.New(t), oktatest.NewOrg(t)
	c := onKeyring(t, session)
	a := startAgent(t, c)
	a.enrol(t, org)
	_ = a.stop()

	before := session.Connections()
	b := startAgent(t, c)
	if list, err := b.client.Accounts(t.Context()); err != nil || len(list.Accounts) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	opened := session.Connections()
	if got := opened - before - 1; got != 1 {
		t.Errorf("a start asked the keyring %d times, want once", got)
	}
	for range 20 {
		if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
	}
	if _, err := b.client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := session.Connections() - opened - 1; got != 0 {
		t.Errorf("20 challenges asked the keyring %d times", got)
	}
}

// C4: a keyring that is locked between two challenges keeps nobody from signing
// in: the agent has its key in memory. The next start finds the vault locked,
// says so, and opens it when the person has opened the keyring.
func TestC4KeyringLocksUnderWay(t *testing.T) {
	session, org := keyringtest.New(t), oktatest.NewOrg(t)
	c := onKeyring(t, session)
	a := startAgent(t, c)
	a.enrol(t, org)
	if got := check(t, a, "state"); got.State != "ok" || !strings.Contains(got.Message, "the OS keyring") {
		t.Errorf("%+v", got)
	}
	session.Lock()
	for range 3 {
		if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
			t.Fatalf("with a locked keyring: %d", got)
		}
	}
	if s, err := a.client.Status(t.Context()); err != nil || s.VaultKey.State != "ready" || len(s.Problems) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if got := check(t, a, "state"); got.State != "warning" || !strings.Contains(got.Message, "next start") || !strings.Contains(got.Hint, "keyring") {
		t.Errorf("%+v", got)
	}
	_ = a.stop()

	b := startAgent(t, c)
	lockedAgent(t, b, org, "locked", "unlock the desktop's keyring")
	session.Stop() // as a new login
	session.Start("right")
	opens(t, b, org)
}

// C4: without a keyring the agent starts locked, and opens the vault when one
// comes, without a restart.
func TestC4KeyringComesLater(t *testing.T) {
	session, org := keyringtest.New(t), oktatest.NewOrg(t)
	c := onKeyring(t, session)
	a := startAgent(t, c)
	a.enrol(t, org)
	_ = a.stop()
	session.Stop()

	b := startAgent(t, c)
	lockedAgent(t, b, org, "does not answer", "start the desktop's keyring")
	session.Start("right")
	opens(t, b, org)
}

// lockedAgent asserts that the agent is locked for that reason, and acts so.
func lockedAgent(t *testing.T, a *agent, org *oktatest.Org, reason, hint string) {
	t.Helper()
	s, err := a.client.Status(t.Context())
	if err != nil || s.VaultKey.Kind != "keyring" || s.VaultKey.State != "locked" || s.Accounts != 1 || len(s.Problems) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if p := s.Problems[0]; p.Code != "vault_locked" || !strings.Contains(p.Message, reason) || !strings.Contains(p.Hint, hint) {
		t.Errorf("%+v", p)
	}
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
}

// opens asserts that the next call opens the vault.
func opens(t *testing.T, a *agent, org *oktatest.Org) {
	t.Helper()
	a.unlocking.Store(0) // as after a while
	if list, err := a.client.Accounts(t.Context()); err != nil || len(list.Accounts) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}
