package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/vault"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/ipc/api"
	"countersign.dev/okta/oktatest"
)

// fakeTPM seals, and fails as told.
type fakeTPM struct {
	mu    sync.Mutex
	fault error
	asked int
	wait  chan struct{} // an Unseal waits for its end; nil: it does not
}

func (f *fakeTPM) set(fault error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fakeTPM) answer(b []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.fault != nil {
		return nil, f.fault
	}
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= 0xa5
	}
	return out, nil
}

func (f *fakeTPM) Seal(_ context.Context, b []byte) ([]byte, error) { return f.answer(b) }
func (f *fakeTPM) Unseal(ctx context.Context, b []byte) ([]byte, error) {
	if f.wait != nil {
		select {
		case <-f.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return f.answer(b)
}

// onTPM is an agent whose vault key is sealed to a TPM.
func onTPM(t *testing.T) (Config, *fakeTPM) {
	t.Helper()
	c, tpm := testConfig(t), &fakeTPM{}
	c.VaultKey, c.sealer = "tpm", tpm
	return c, tpm
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The vault key of a running agent is changed over the local API; the accounts
// stay, the record says so, and the next start needs what it was told.
func TestRekeyVault(t *testing.T) {
	org := oktatest.NewOrg(t)
	c := testConfig(t)
	var log bytes.Buffer
	c.sealer, c.Log = &fakeTPM{}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a := startAgent(t, c)
	a.enrol(t, org)
	rekey := func(r api.Rekey, state string, hints ...string) {
		t.Helper()
		got, err := a.client.RekeyVault(t.Context(), r)
		if err != nil || got.VaultKey.Kind != r.Kind || got.VaultKey.State != state {
			t.Fatalf("%+v, %v", got, err)
		}
		said := strings.Join(got.Hints, "\n")
		for _, hint := range hints {
			if !strings.Contains(said, hint) {
				t.Errorf("to %s: %q is not in %q", r.Kind, hint, said)
			}
		}
		s, err := a.client.Status(t.Context())
		if err != nil || s.VaultKey != got.VaultKey || len(s.Problems) != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		if status := a.post(t, org.URL, org.Challenge(nil)); status != http.StatusOK {
			t.Fatalf("a sign-in after it: %d", status)
		}
	}
	rekey(api.Rekey{Kind: "tpm"}, "ready", "copies of vault.key", "this computer only", "--vault-key file")
	rekey(api.Rekey{Kind: "passphrase", Passphrase: "hunter-one"}, "ready", "--passphrase-file")
	_, err := a.client.RekeyVault(t.Context(), api.Rekey{Kind: "file", Current: "hunter-two"})
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != "wrong_passphrase" {
		t.Fatal(err)
	}
	rekey(api.Rekey{Kind: "passphrase", Passphrase: "hunter-two", Current: "hunter-one"}, "ready")

	var outcomes []string
	for _, r := range a.audit(t) {
		if r.Event == "vault_rekeyed" {
			outcomes = append(outcomes, r.Outcome+" "+r.Reason)
			if strings.Contains(r.Reason, "hunter-two") {
				t.Errorf("the record has a passphrase: %s", r.Reason)
			}
		}
	}
	if len(outcomes) != 4 || outcomes[0] != "done from file to tpm" || !strings.HasPrefix(outcomes[2], "failed ") || outcomes[3] != "done from passphrase to passphrase" {
		t.Errorf("%q", outcomes)
	}

	_ = a.stop()
	if strings.Contains(log.String(), "hunter") || !strings.Contains(log.String(), "vault rekeyed") { // C8
		t.Errorf("the log has a passphrase, or nothing: %s", log.String())
	}
	c.Log = nil
	var kind *unlock.KindError
	if _, err := Open(t.Context(), c); !errors.As(err, &kind) || !strings.Contains(Hint(err), "vault rekey") {
		t.Fatalf("started with --vault-key file: %v", err)
	}
	c.VaultKey, c.PassphraseFile = "auto", secretFile(t, "hunter-two")
	b := startAgent(t, c)
	if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("after a restart: %d", got)
	}
	c.PassphraseFile = secretFile(t, "hunter-one")
	_ = b.stop()
	if _, err := Open(t.Context(), c); !errors.Is(err, unlock.ErrWrongPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	c.PassphraseFile = ""
	locked := startAgent(t, c)
	s, err := locked.client.Status(t.Context())
	if err != nil || s.VaultKey.State != "locked" || !strings.Contains(s.Problems[0].Hint, "--passphrase-file") {
		t.Fatalf("%+v, %v", s, err)
	}
	_, err = locked.client.RekeyVault(t.Context(), api.Rekey{Kind: "file", Current: "hunter-two"})
	if !errors.As(err, &refusal) || refusal.Code != "locked" {
		t.Errorf("rekey of a locked agent: %v", err)
	}
}

// What cannot be done is said, with what protects the state still.
func TestRekeyVaultRefused(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
	c := testConfig(t)
	c.VaultKey, c.PassphraseFile = "passphrase", secretFile(t, "one")
	tpm := &fakeTPM{fault: &devicekey.StateError{State: devicekey.State{Kind: "tpm", State: devicekey.Busy, Hint: "wait"}, Err: errors.New("no room")}}
	c.sealer = tpm
	a := startAgent(t, c)
	before, err := os.ReadFile(filepath.Join(c.StateDir, "vault.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		in   api.Rekey
		code string
		says string
	}{
		{api.Rekey{}, "bad_kind", ""},
		{api.Rekey{Kind: "usb"}, "bad_kind", ""},
		{api.Rekey{Kind: "file", Passphrase: "x"}, "bad_passphrase", ""},
		{api.Rekey{Kind: "passphrase", Current: "one"}, "passphrase_needed", ""},
		{api.Rekey{Kind: "passphrase", Passphrase: "a\nb", Current: "one"}, "bad_passphrase", ""},
		{api.Rekey{Kind: "passphrase", Passphrase: "two"}, "current_passphrase_needed", ""},
		{api.Rekey{Kind: "passphrase", Passphrase: "two", Current: "two"}, "wrong_passphrase", ""},
		{api.Rekey{Kind: "tpm", Current: "one"}, "tpm_busy", "protected by a passphrase as before"},
		{api.Rekey{Kind: "keyring", Current: "one"}, "keyring_unavailable", "protected by a passphrase as before"},
		{api.Rekey{Kind: "auto", Current: "one"}, "keyring_unavailable", "a file would protect it less"},
	} {
		_, err := a.client.RekeyVault(t.Context(), row.in)
		var refusal *api.Error
		if !errors.As(err, &refusal) || refusal.Code != row.code || !strings.Contains(refusal.Message, row.says) {
			t.Errorf("%+v: %v, want %s", row.in, err, row.code)
		}
	}
	if s, err := a.client.Status(t.Context()); err != nil || s.VaultKey.Kind != "passphrase" || len(s.Problems) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	_ = a.stop()
	b := startAgent(t, c)
	if s, err := b.client.Status(t.Context()); err != nil || s.VaultKey.State != "ready" {
		t.Errorf("%+v, %v", s, err)
	}
	_ = b.stop()
	if now, _ := os.ReadFile(filepath.Join(c.StateDir, "vault.json")); len(now) != len(before) {
		t.Errorf("vault.json is another: %s", now)
	}
}

// C4: in each state of its TPM the agent starts, says what is wrong and what to
// do about it, answers pages with 503, and opens when the TPM is well again.
func TestC4VaultOnTPM(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, tpm := onTPM(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	_ = a.stop()
	said := map[string]bool{}
	for _, state := range []string{devicekey.Absent, devicekey.PermissionDenied, devicekey.Busy, devicekey.Lockout, devicekey.Cleared,
		devicekey.OtherDevice, devicekey.OwnerAuthSet, devicekey.TooOld, devicekey.SelfTestFailed, devicekey.Unavailable} {
		t.Run(state, func(t *testing.T) {
			hint := "do this about " + state
			tpm.set(&devicekey.StateError{State: devicekey.State{Kind: devicekey.KindTPM, State: state, Hint: hint}, Err: errors.New("what was seen")})
			b := startAgent(t, c)
			s, err := b.client.Status(t.Context())
			if err != nil || s.VaultKey != (api.Component{Kind: "tpm", State: "locked"}) || s.Accounts != 1 || len(s.Problems) != 1 {
				t.Fatalf("%+v, %v", s, err)
			}
			p := s.Problems[0]
			lost := state == devicekey.Cleared || state == devicekey.OtherDevice
			if p.Code != "vault_locked" || lost == strings.Contains(p.Message, "what was seen") || p.Hint == "" || strings.Contains(p.Hint, "enrol again") != lost ||
				strings.Contains(p.Hint, "--device-key") {
				t.Errorf("%+v", p)
			}
			if said[p.Message+p.Hint] && !lost {
				t.Errorf("%s is called like another state: %s", state, p.Message)
			}
			said[p.Message+p.Hint] = true
			if got := check(t, b, "state"); got.State != "failed" || got.Hint != p.Hint || !strings.Contains(p.Message, got.Message) {
				t.Errorf("%+v", got)
			}
			if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusServiceUnavailable {
				t.Errorf("status %d", got)
			}
			_, err = b.client.Accounts(t.Context())
			var refusal *api.Error
			if !errors.As(err, &refusal) || refusal.Code != "locked" || refusal.Hint != p.Hint {
				t.Errorf("%v", err)
			}
			tpm.set(nil)
			b.unlocking.Store(0) // as after a while
			if list, err := b.client.Accounts(t.Context()); err != nil || len(list.Accounts) != 1 {
				t.Errorf("the TPM is well again: %+v, %v", list, err)
			}
			if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
				t.Errorf("status %d", got)
			}
		})
	}
}

// A TPM is asked when the agent can be used, not before, and a slow one keeps
// nobody from asking how it is doing.
func TestTPMIsAskedAfterListening(t *testing.T) {
	c, tpm := onTPM(t)
	startAgent(t, c).stop()
	tpm.wait = make(chan struct{})
	tpm.asked = 0
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if ready := d.Ready(); !ready.Ready || ready.LoopbackPort == 0 || ready.VaultKey != "tpm" {
		t.Errorf("%+v", ready)
	}
	tpm.mu.Lock()
	if tpm.asked != 0 {
		t.Error("the TPM was asked before the agent listened")
	}
	tpm.mu.Unlock()
	d.Close()

	a := startAgent(t, c)
	time.AfterFunc(10*time.Millisecond, func() { close(tpm.wait) })
	if s, err := a.client.Status(t.Context()); err != nil || s.VaultKey.State != "ready" {
		t.Errorf("asked while it unseals: %+v, %v", s, err)
	}
}

// A stopping agent does not wait for its TPM.
func TestStopsWhileUnsealing(t *testing.T) {
	c, tpm := onTPM(t)
	startAgent(t, c).stop()
	tpm.wait = make(chan struct{})
	a := startAgent(t, c)
	start := time.Now()
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > stopWithin {
		t.Errorf("took %s", took)
	}
}

// A first start that cannot seal makes no state, and says what to do.
func TestFirstStartWithoutTPM(t *testing.T) {
	c := testConfig(t)
	c.VaultKey, c.TPM = "tpm", filepath.Join(t.TempDir(), "nothing")
	var store *devicekey.StateError
	if _, err := Open(t.Context(), c); !errors.As(err, &store) || store.State.State != devicekey.Absent || !strings.Contains(Hint(err), store.State.Hint) {
		t.Errorf("%v, hint %q", err, Hint(err))
	}
	if names, _ := filepath.Glob(filepath.Join(c.StateDir, "vault*")); len(names) != 0 {
		t.Errorf("left %v", names)
	}
}

// An agent that was killed in the middle of a change ends it at its next start,
// and says what it could not end.
func TestSettlesAtStart(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
	c, _ := onTPM(t)
	startAgent(t, c).stop()
	path := filepath.Join(c.StateDir, "vault.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte("\n}\n"), []byte(",\n  \"leftovers\": [\n    \"file\",\n    \"keyring\"\n  ]\n}\n"), 1)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(c.StateDir, "vault.key")
	if err := os.WriteFile(key, []byte("a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, c)
	events := make(chan struct{})
	go func() { // settling is behind the start
		defer close(events)
		for !slices.Equal(a.vault.Leftovers(), []unlock.Kind{unlock.Keyring}) && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	<-events
	if _, err := os.Stat(key); err == nil {
		t.Error("vault.key is still there")
	}
	s, err := a.client.Status(t.Context())
	if err != nil || len(s.Problems) != 1 || s.Problems[0].Code != "vault_key_left" || s.Problems[0].Hint == "" || s.VaultKey.State != "ready" {
		t.Errorf("%+v, %v", s, err)
	}
}

// Doctor asks for the key once more: the next start shall not be the first to
// find out that it cannot be had.
func TestDoctorVerifiesVaultKey(t *testing.T) {
	c, tpm := onTPM(t)
	a := startAgent(t, c)
	if _, err := a.client.Accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := check(t, a, "state"); got.State != "ok" || !strings.Contains(got.Message, "the TPM") {
		t.Errorf("%+v", got)
	}
	tpm.set(&devicekey.StateError{State: devicekey.State{Kind: "tpm", State: devicekey.Cleared}})
	got := check(t, a, "state")
	if got.State != "warning" || !strings.Contains(got.Message, "next start") || !strings.Contains(got.Hint, "enrol again") {
		t.Errorf("%+v", got)
	}
	if _, err := a.client.Accounts(t.Context()); err != nil || a.vault.Locked() {
		t.Errorf("the examination locked the vault: %v", err)
	}
	a.vault.Lock()
	if err := a.vault.Verify(t.Context()); !errors.Is(err, vault.ErrLocked) {
		t.Error(err)
	}
}

// The keyring's password, or the TPM, may take longer than the agent waits
// between two tries. Whoever asks meanwhile waits for that one: the state is
// opened once, and its journals have one writer.
func TestUnlockIsNotBegunTwice(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, tpm := onTPM(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	_ = a.stop()
	for range 5 {
		tpm.wait = make(chan struct{})
		a = startAgent(t, c)
		for a.trying.Load() == nil {
			runtime.Gosched() // until it has begun
		}
		first := a.trying.Load()
		for range 3 {
			a.unlocking.Store(0) // as after a while
			a.askForUnlock()
		}
		if a.trying.Load() != first {
			t.Error("a second try beside the first")
		}
		close(tpm.wait)
		for range 3 {
			if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK && got != http.StatusServiceUnavailable {
				t.Fatalf("status %d", got)
			}
		}
		if _, err := a.client.Accounts(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
	}
}
