package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"countersign.dev/daemon/vault/unlock"
)

// sealer is a TPM: of what it seals, one of another name makes other bytes.
type sealer struct {
	name  string
	fault error
}

func (s *sealer) Seal(_ context.Context, secret []byte) ([]byte, error) {
	return s.pad(secret), s.fault
}

func (s *sealer) Unseal(_ context.Context, blob []byte) ([]byte, error) {
	if s.fault != nil {
		return nil, s.fault
	}
	return s.pad(blob), nil
}

func (s *sealer) pad(b []byte) []byte {
	out := slices.Clone(b)
	for i := range out {
		out[i] ^= s.name[i%len(s.name)]
	}
	return out
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, v *Vault) thing {
	t.Helper()
	var got thing
	if err := v.Load("accounts", &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// Rooms and journals do not notice that what protects their key has changed.
func TestRekey(t *testing.T) {
	dir := stateDir(t)
	tpm := &sealer{name: "this TPM"}
	v, err := Open(t.Context(), dir, Options{Key: unlock.File, Sealer: tpm})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { v.Close() }()
	if err := v.Save("accounts", thing{N: 1}); err != nil {
		t.Fatal(err)
	}
	mac := v.MACKey("audit")
	for _, row := range []struct {
		change unlock.Change
		state  string
		start  Options
	}{
		{unlock.Change{To: unlock.TPM}, "ready", Options{Sealer: tpm}},
		{unlock.Change{To: unlock.Passphrase, Passphrase: unlock.Secret("one")}, "ready", Options{PassphraseFile: writeFile(t, "one")}},
		{unlock.Change{To: unlock.Passphrase, Passphrase: unlock.Secret("two"), Current: unlock.Secret("one")}, "ready", Options{PassphraseFile: writeFile(t, "two")}},
		{unlock.Change{To: unlock.File, Current: unlock.Secret("two")}, "file_permissions_only", Options{}},
	} {
		if err := v.Rekey(t.Context(), row.change); err != nil {
			t.Fatal(err)
		}
		if kind, state := v.State(); kind != row.change.To || state != row.state || len(v.Leftovers()) != 0 {
			t.Fatalf("%s, %s, left %v", kind, state, v.Leftovers())
		}
		if err := v.Save("accounts", thing{N: load(t, v).N + 1}); err != nil {
			t.Fatal(err)
		}
		n := load(t, v).N
		v.Close()
		if v, err = Open(t.Context(), dir, row.start); err != nil {
			t.Fatal(err)
		}
		if err := v.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := v.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := load(t, v); got.N != n || string(v.MACKey("audit")) != string(mac) {
			t.Fatalf("%s: %+v", row.change.To, got)
		}
		// The passphrase file of that start is not what the next change goes by.
		v.Close()
		row.start.Sealer = tpm
		if v, err = Open(t.Context(), dir, row.start); err != nil {
			t.Fatal(err)
		}
		if err := v.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// What is locked or closed cannot be protected in another way.
func TestRekeyNeedsOpenVault(t *testing.T) {
	v := openVault(t, stateDir(t))
	before, _ := os.ReadFile(v.path(unlock.ConfigFile))
	to := unlock.Change{To: unlock.Passphrase, Passphrase: unlock.Secret("x")}
	refused := func(want error) {
		t.Helper()
		if err := v.Rekey(t.Context(), to); !errors.Is(err, want) {
			t.Errorf("rekey: %v, want %v", err, want)
		}
		if err := v.Settle(t.Context()); !errors.Is(err, want) {
			t.Errorf("settle: %v, want %v", err, want)
		}
	}
	v.Lock()
	refused(ErrLocked)
	if err := v.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.Rekey(over, to); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller has gone: %v", err)
	}
	v.Close()
	refused(ErrClosed)
	if now, _ := os.ReadFile(filepath.Join(v.Dir(), unlock.ConfigFile)); string(now) != string(before) {
		t.Error("vault.json was changed")
	}
}

// Changes at once come one after the other; readers and writers of rooms go on.
func TestConcurrentRekey(t *testing.T) {
	dir := stateDir(t)
	v, err := Open(t.Context(), dir, Options{Key: unlock.File, Sealer: &sealer{name: "this TPM"}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Save("accounts", thing{N: 7}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			to := []unlock.Kind{unlock.TPM, unlock.File}[n%2]
			if err := v.Rekey(t.Context(), unlock.Change{To: to}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for range 20 {
				v.State()
				v.Leftovers()
				if err := v.Load("accounts", &thing{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	kind, _ := v.State()
	v.Close()
	again, err := Open(t.Context(), dir, Options{Sealer: &sealer{name: "this TPM"}})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, _ := again.State(); now != kind || load(t, again).N != 7 || len(again.Leftovers()) != 0 {
		t.Errorf("%s, was %s", now, kind)
	}
	if exists, _ := again.dir.Exists("vault.key"); exists != (kind == unlock.File) {
		t.Errorf("kind %s, vault.key there: %v", kind, exists)
	}
}

// Who waits for the turn waits as long as they want to.
func TestImpatientCallers(t *testing.T) {
	v := openVault(t, stateDir(t))
	if err := v.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := map[string]func(context.Context) error{
		"unlock": v.Unlock, "settle": v.Settle, "verify": v.Verify,
		"rekey": func(ctx context.Context) error { return v.Rekey(ctx, unlock.Change{To: unlock.File}) },
	}
	ended := make(chan error, len(calls))
	for _, call := range calls {
		go func() { ended <- call(ctx) }()
	}
	cancel()
	for range calls {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	v.give()
	for name, call := range calls {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// C4: whatever is wrong with the TPM leaves the vault locked and everything in
// its place, and the cause is passed on.
func TestC4SealerFaults(t *testing.T) {
	dir := stateDir(t)
	tpm := &sealer{name: "this TPM"}
	v, err := Open(t.Context(), dir, Options{Key: unlock.TPM, Sealer: tpm})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Save("accounts", thing{N: 7}); err != nil {
		t.Fatal(err)
	}
	v.Close()
	before, err := os.ReadFile(filepath.Join(dir, unlock.ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		sealer unlock.Sealer
		want   error
	}{
		{"fault", &sealer{name: "this TPM", fault: errors.New("absent")}, nil},
		{"cleared", &sealer{name: "this TPM", fault: unlock.ErrSealBroken}, unlock.ErrSealBroken},
		{"out of time", &sealer{name: "this TPM", fault: context.DeadlineExceeded}, context.DeadlineExceeded},
		{"other bytes", &sealer{name: "that TPM"}, unlock.ErrWrongKey},
		{"no TPM at all", nil, unlock.ErrNoSealer},
	} {
		v, err := Open(t.Context(), dir, Options{Sealer: row.sealer})
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		err = v.Unlock(t.Context())
		if !errors.Is(err, ErrLocked) || row.want != nil && !errors.Is(err, row.want) || !errors.Is(v.LockReason(), ErrLocked) {
			t.Errorf("%s: %v", row.name, err)
		}
		if kind, state := v.State(); kind != unlock.TPM || state != "locked" || !v.Locked() || v.MACKey("audit") != nil {
			t.Errorf("%s: %s %s", row.name, kind, state)
		}
		if err := v.Load("accounts", &thing{}); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: load: %v", row.name, err)
		}
		if err := v.Rekey(t.Context(), unlock.Change{To: unlock.File}); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: rekey: %v", row.name, err)
		}
		v.Close()
		if now, _ := os.ReadFile(filepath.Join(dir, unlock.ConfigFile)); string(now) != string(before) {
			t.Errorf("%s: vault.json was changed", row.name)
		}
	}
	v, err = Open(t.Context(), dir, Options{Sealer: tpm})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if !v.Locked() {
		t.Error("Open has asked the TPM")
	}
	if err := v.Unlock(t.Context()); err != nil || load(t, v).N != 7 {
		t.Errorf("the TPM is well again: %v", err)
	}
}

// rekeyForever is a child that is killed at any moment.
func rekeyForever(dir string) {
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("old\n"), 0o600); err != nil {
		panic(err)
	}
	v, err := Open(context.Background(), filepath.Join(dir, "state"), Options{Sealer: &sealer{name: "this TPM"}})
	if err != nil {
		panic(err)
	}
	if err := errors.Join(v.Unlock(context.Background()), v.Settle(context.Background())); err != nil {
		panic(err)
	}
	fmt.Println("changing")
	for i := 0; ; i++ {
		if err := v.Rekey(context.Background(), unlock.Change{To: []unlock.Kind{unlock.TPM, unlock.File}[i%2]}); err != nil {
			panic(err)
		}
	}
}

// kill -9 at any moment: what is there opens, and one protection is left.
func TestKilledWhileRekeying(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	v := openVault(t, filepath.Join(dir, "state"))
	if err := v.Save("accounts", thing{N: 7}); err != nil {
		t.Fatal(err)
	}
	v.Close()
	for range 20 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "VAULT_TEST_ROLE=rekey", "VAULT_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if n, _ := out.Read(make([]byte, 16)); n == 0 {
			t.Fatal("the child did not open the vault")
		}
		timer := time.AfterFunc(rand.N(20*time.Millisecond), func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()

		v, err := Open(t.Context(), filepath.Join(dir, "state"), Options{Sealer: &sealer{name: "this TPM"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := v.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		kind, _ := v.State()
		exists, _ := v.dir.Exists("vault.key")
		if load(t, v).N != 7 || len(v.Leftovers()) != 0 || exists != (kind == unlock.File) {
			t.Errorf("kind %s, left %v, vault.key there: %v", kind, v.Leftovers(), exists)
		}
		v.Close()
	}
}
