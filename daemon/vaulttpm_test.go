//go:build linux

package daemon

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/daemon/vault/unlock/keyringtest"
	"countersign.dev/ipc/api"
	"countersign.dev/okta/oktatest"
)

// onRealTPM is an agent whose vault key is sealed to swtpm, with one account.
func onRealTPM(t *testing.T) (Config, *tpmtest.TPM, *oktatest.Org) {
	t.Helper()
	chip, org, c := tpmtest.New(t), oktatest.NewOrg(t), testConfig(t)
	c.VaultKey, c.TPM = "tpm", chip.Socket
	a := startAgent(t, c)
	a.enrol(t, org)
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := chip.Loaded(); err != nil || len(left) != 0 {
		t.Fatalf("left in the TPM: %x, %v", left, err)
	}
	return c, chip, org
}

// locked asserts that the agent is locked, and returns what it says about it.
func (a *agent) locked(t *testing.T) api.Problem {
	t.Helper()
	a.unlocking.Store(0) // as after a while
	_, err := a.client.Accounts(t.Context())
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != "locked" {
		t.Fatalf("%v", err)
	}
	s, err := a.client.Status(t.Context())
	if err != nil || s.VaultKey != (api.Component{Kind: "tpm", State: "locked"}) || len(s.Problems) != 1 || s.Problems[0].Code != "vault_locked" {
		t.Fatalf("%+v, %v", s, err)
	}
	return s.Problems[0]
}

func TestVaultOnTPM(t *testing.T) {
	c, chip, org := onRealTPM(t)
	a := startAgent(t, c)
	if got := a.Ready().VaultKey; got != "tpm" {
		t.Errorf("vault key %s", got)
	}
	opens(t, a, org)
	_ = a.stop()

	// The TPM comes later than the agent, as on a slow start of a computer.
	chip.Kill()
	b := startAgent(t, c)
	if p := b.locked(t); p.Hint == "" {
		t.Errorf("%+v", p)
	}
	if err := chip.Start(); err != nil {
		t.Fatal(err)
	}
	opens(t, b, org)
	// It goes away again: the agent has its key in memory.
	chip.Kill()
	if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Errorf("without the TPM: %d", got)
	}
}

// Who waits for the unlock does not wait for an org that does not answer.
func TestUnlockedWhileAnOrgIsSilent(t *testing.T) {
	c, _, org := onRealTPM(t)
	org.Close()
	silent, err := net.Listen("tcp", strings.TrimPrefix(org.URL, "http://")) // takes connections, and no more
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a := startAgent(t, c)
	if _, err := a.client.Accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-*a.trying.Load():
	case <-time.After(2 * unlockMoment):
		t.Error("the unlock lasts as long as the org is waited for")
	}
}

// C1: a copied state folder does not open on a computer with another TPM, nor
// on the same one when its TPM was cleared. Both are said, with what to do.
func TestC1CopiedStateAndOtherTPM(t *testing.T) {
	c, chip, org := onRealTPM(t)
	copied := testConfig(t)
	copied.VaultKey, copied.TPM = "auto", tpmtest.New(t).Socket
	if err := os.CopyFS(copied.StateDir, os.DirFS(c.StateDir)); err != nil {
		t.Fatal(err)
	}
	private(t, copied.StateDir)
	lost := func(a *agent) {
		t.Helper()
		p := a.locked(t)
		if !strings.Contains(p.Message, unlock.ErrSealBroken.Error()) || !strings.Contains(p.Hint, "enrol again") {
			t.Errorf("%+v", p)
		}
		if got := check(t, a, "state"); got.State != "failed" || got.Hint != p.Hint {
			t.Errorf("%+v", got)
		}
		if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusServiceUnavailable {
			t.Errorf("status %d", got)
		}
	}
	lost(startAgent(t, copied))

	a := startAgent(t, c)
	opens(t, a, org)
	_ = a.stop()
	if err := chip.Clear(); err != nil {
		t.Fatal(err)
	}
	lost(startAgent(t, c))
}

// The key goes from everything that protects it to everything else, with a real
// keyring and a real TPM, and the agent starts from each.
func TestRekeyEverywhere(t *testing.T) {
	session, chip, org := keyringtest.New(t), tpmtest.New(t), oktatest.NewOrg(t)
	c := onKeyring(t, session)
	c.TPM = chip.Socket
	a := startAgent(t, c)
	a.enrol(t, org)
	_ = a.stop()
	c.VaultKey = "auto"
	phrase := secretFile(t, "correct horse")
	// Each ordered pair of kinds, once.
	now := "keyring"
	for _, to := range []string{
		"file", "keyring", "tpm", "keyring", "passphrase", "keyring", "keyring",
		"tpm", "file", "tpm", "tpm", "passphrase", "tpm", "passphrase", "passphrase", "file", "passphrase", "file", "file", "keyring",
	} {
		c.PassphraseFile = ""
		if now == "passphrase" {
			c.PassphraseFile = phrase
		}
		a := startAgent(t, c)
		in := api.Rekey{Kind: to}
		if to == "passphrase" {
			in.Passphrase = "correct horse"
		}
		if now == "passphrase" {
			in.Current = "correct horse"
		}
		opens(t, a, org)
		got, err := a.client.RekeyVault(t.Context(), in)
		if err != nil || got.VaultKey.Kind != to || len(a.vault.Leftovers()) != 0 {
			t.Fatalf("from %s to %s: %+v, %v", now, to, got, err)
		}
		if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
			t.Fatalf("from %s to %s: status %d", now, to, got)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		now = to
	}
	b := startAgent(t, c)
	opens(t, b, org)
	if got := len(b.audit(t)); got < 20 {
		t.Errorf("%d records", got)
	}
	_ = b.stop()
	// What protects it last is all that opens it.
	session.Stop()
	d := startAgent(t, c)
	if _, err := d.client.Accounts(t.Context()); err == nil {
		t.Error("it opens without the keyring")
	}
}

// A TPM that takes the connection and says nothing: it is asked after the agent
// listens, and keeps nobody from stopping it.
func TestSilentTPM(t *testing.T) {
	c, chip, _ := onRealTPM(t)
	chip.Kill()
	if err := os.Remove(chip.Socket); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: chip.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the TPM was asked before the agent listened: %v", err)
	}
	if err := l.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}

	a := startAgent(t, c)
	conn, err := l.Accept() // it asks
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// private gives a copied folder the modes that a state folder must have.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
