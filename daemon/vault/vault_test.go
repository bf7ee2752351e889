package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"countersign.dev/daemon/vault/unlock"
)

// roles are what the test binary can be as the child of a test.
var roles = map[string]func(){"rekey": func() { rekeyForever(os.Getenv("VAULT_TEST_DIR")) }}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv("VAULT_TEST_ROLE")]; role != nil {
		role()
		return
	}
	os.Exit(m.Run())
}

func stateDir(t testing.TB) string { return filepath.Join(t.TempDir(), "state") }

func openVault(t testing.TB, dir string) *Vault {
	t.Helper()
	v, err := Open(t.Context(), dir, Options{Key: unlock.File})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	if err := v.LockReason(); err != nil {
		t.Fatal(err)
	}
	return v
}

type thing struct {
	N    int
	Text string
}

func TestSaveLoad(t *testing.T) {
	dir := stateDir(t)
	v := openVault(t, dir)
	var got thing
	if err := v.Load("accounts", &got); !errors.Is(err, ErrNoRoom) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("never written: %v", err)
	}
	for n := range 3 {
		if err := v.Save("accounts", thing{n, "text"}); err != nil {
			t.Fatal(err)
		}
	}
	mac := v.MACKey("claims")
	if len(mac) != 32 || bytes.Equal(mac, v.MACKey("audit")) {
		t.Error("MAC keys are not two of 32 bytes")
	}
	if kind, state := v.State(); kind != unlock.File || state != "file_permissions_only" {
		t.Errorf("state %s %s", kind, state)
	}
	v.Close()

	v = openVault(t, dir)
	if err := v.Load("accounts", &got); err != nil || got.N != 2 {
		t.Fatalf("%v %v", got, err)
	}
	if !bytes.Equal(mac, v.MACKey("claims")) {
		t.Error("MAC key changed")
	}
	// A first Save after start goes on from the generation on disk.
	if err := v.Save("accounts", thing{N: 3}); err != nil || v.rooms["accounts"] != 4 {
		t.Errorf("generation %d, %v", v.rooms["accounts"], err)
	}
	// The backup is the generation before, good for taking its place.
	v.Close()
	if err := os.Rename(filepath.Join(dir, "accounts.bak"), filepath.Join(dir, "accounts.sealed")); err != nil {
		t.Fatal(err)
	}
	v = openVault(t, dir)
	if err := v.Load("accounts", &got); err != nil || got.N != 2 {
		t.Fatalf("backup in place: %v %v", got, err)
	}
}

func TestLockAndClose(t *testing.T) {
	v := openVault(t, stateDir(t))
	if err := v.Save("accounts", thing{N: 1}); err != nil {
		t.Fatal(err)
	}
	refused := func(want error) {
		t.Helper()
		if err := v.Load("accounts", &thing{}); !errors.Is(err, want) {
			t.Errorf("load: %v, want %v", err, want)
		}
		if err := v.Save("accounts", thing{}); !errors.Is(err, want) {
			t.Errorf("save: %v, want %v", err, want)
		}
		if !v.Locked() || v.MACKey("x") != nil {
			t.Error("not locked")
		}
	}
	key := v.key
	v.Lock()
	if !key.IsZero() {
		t.Error("data key is still in memory")
	}
	refused(ErrLocked)
	if err := v.SaveIndex(Index{Accounts: []IndexEntry{{OrgURL: "https://a.example", EnrolmentID: "pfd1"}}}); err != nil {
		t.Error(err)
	}
	if i, err := v.LoadIndex(); err != nil || len(i.Accounts) != 1 {
		t.Errorf("index of a locked vault: %v %v", i, err)
	}
	if err := v.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got thing
	if err := v.Load("accounts", &got); err != nil || got.N != 1 {
		t.Errorf("%v %v", got, err)
	}
	v.Close()
	refused(ErrClosed)
	if err := v.Unlock(t.Context()); err == nil {
		t.Error("unlocked a closed vault")
	}
}

func TestSecondAgentRefused(t *testing.T) {
	dir := stateDir(t)
	v := openVault(t, dir)
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("second open: %v", err)
	}
	v.Close()
	openVault(t, dir)
}

// Whatever happens to a file, it is refused by name with its backup, and never
// written over.
func TestDamage(t *testing.T) {
	cases := map[string]func(t *testing.T, dir, file string) error{
		"truncated": func(_ *testing.T, _, file string) error { return os.Truncate(file, 20) },
		"cut":       func(_ *testing.T, _, file string) error { return os.Truncate(file, 60) },
		"empty":     func(_ *testing.T, _, file string) error { return os.Truncate(file, 0) },
		"missing":   func(_ *testing.T, _, file string) error { return os.Remove(file) },
		"flipped": func(t *testing.T, _, file string) error {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(file, b, 0o600)
		},
		"generation": func(t *testing.T, _, file string) error {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			b[headerSize-1]++
			return os.WriteFile(file, b, 0o600)
		},
		"another room": func(_ *testing.T, dir, file string) error {
			return os.Rename(filepath.Join(dir, "settings.sealed"), file)
		},
		"a folder": func(_ *testing.T, _, file string) error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return os.Mkdir(file, 0o700)
		},
		"too large": func(_ *testing.T, _, file string) error { return os.Truncate(file, maxSealed+1) },
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			dir := stateDir(t)
			v := openVault(t, dir)
			for _, room := range []string{"accounts", "settings"} {
				for n := range 2 {
					if err := v.Save(room, thing{N: n, Text: strings.Repeat("x", 100)}); err != nil {
						t.Fatal(err)
					}
				}
			}
			v.Close()
			file := filepath.Join(dir, "accounts.sealed")
			if err := damage(t, dir, file); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(file)

			v = openVault(t, dir)
			for _, err := range []error{v.Load("accounts", &thing{}), v.Save("accounts", thing{N: 9})} {
				var d *DamagedError
				if !errors.As(err, &d) || d.File != file || d.Reason == "" || d.Backup != filepath.Join(dir, "accounts.bak") {
					t.Errorf("%v", err)
				}
			}
			if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
				t.Error("the damaged file was changed")
			}
		})
	}
}

func TestDamagedConfig(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"missing":   os.Remove,
		"truncated": func(file string) error { return os.Truncate(file, 10) },
		"unknown":   func(file string) error { return os.WriteFile(file, []byte(`{"version":2}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := stateDir(t)
			v := openVault(t, dir)
			if err := v.Save("accounts", thing{N: 1}); err != nil {
				t.Fatal(err)
			}
			v.Close()
			file := filepath.Join(dir, unlock.ConfigFile)
			if err := damage(file); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), dir, Options{})
			var d *DamagedError
			if !errors.As(err, &d) || d.File != file || d.Backup == "" {
				t.Fatalf("%v", err)
			}
			// What the message names mends it.
			if err := os.Rename(d.Backup, file); err != nil {
				t.Fatal(err)
			}
			var got thing
			if err := openVault(t, dir).Load("accounts", &got); err != nil || got.N != 1 {
				t.Errorf("%v %v", got, err)
			}
		})
	}
}

// A crash in the middle of the first start leaves something a second one takes.
func TestFirstStartInterrupted(t *testing.T) {
	dir := stateDir(t)
	openVault(t, dir).Close()
	if err := os.Remove(filepath.Join(dir, unlock.ConfigFile)); err != nil { // written last
		t.Fatal(err)
	}
	if err := openVault(t, dir).Save("accounts", thing{}); err != nil {
		t.Error(err)
	}
}

// C1: a copy of the state folder without the key file opens nothing, and
// neither do the sealed files beside another vault's key.
func TestCopiedFolderDoesNotOpen(t *testing.T) {
	dir := stateDir(t)
	v := openVault(t, dir)
	canary := "canary-4f6b7a"
	if err := v.Save("keys", thing{Text: canary}); err != nil {
		t.Fatal(err)
	}
	v.Close()
	copied := stateDir(t)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(copied, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, os.Chmod(path, 0o700))
		}
		data, rerr := os.ReadFile(path)
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s holds a secret in the clear", path)
		}
		return errors.Join(rerr, os.Chmod(path, 0o600))
	})
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(copied, "vault.key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	tryOpen := func(want error) {
		t.Helper()
		v, err := Open(t.Context(), copied, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if !v.Locked() || !errors.Is(v.LockReason(), want) || !errors.Is(v.LockReason(), ErrLocked) {
			t.Errorf("locked %t: %v", v.Locked(), v.LockReason())
		}
		if err := v.Load("keys", &thing{}); !errors.Is(err, ErrLocked) {
			t.Errorf("load: %v", err)
		}
	}
	tryOpen(unlock.ErrKeyMissing)
	other := stateDir(t)
	openVault(t, other).Close()
	foreign, err := os.ReadFile(filepath.Join(other, "vault.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	tryOpen(unlock.ErrWrongKey)
}

// C4: a keyring that is gone leaves the vault locked, index readable, state kept.
func TestKeyringGone(t *testing.T) {
	dir := stateDir(t)
	v := openVault(t, dir)
	if err := v.SaveIndex(Index{Accounts: []IndexEntry{{OrgURL: "https://a.example"}}}); err != nil {
		t.Fatal(err)
	}
	v.Close()
	file := filepath.Join(dir, unlock.ConfigFile)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte(`"kind": "file"`), []byte(`"kind": "keyring"`), 1)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
	v, err = Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Unlock(t.Context()); !errors.Is(err, ErrLocked) || (runtime.GOOS == "linux" && !errors.Is(err, unlock.ErrKeyringUnavailable)) {
		t.Errorf("unlock: %v", err)
	}
	if kind, state := v.State(); kind != unlock.Keyring || state != "locked" {
		t.Errorf("%s %s", kind, state)
	}
	if i, err := v.LoadIndex(); err != nil || len(i.Accounts) != 1 {
		t.Errorf("%v %v", i, err)
	}
}

// C7: names are never paths.
func TestRoomNames(t *testing.T) {
	v := openVault(t, stateDir(t))
	for _, name := range []string{"", "..", "../x", "/etc/passwd", "a/b", "A", "a.b", "a\x00", "-a", strings.Repeat("a", 33), "ä"} {
		if err := v.Save(name, 1); err == nil {
			t.Errorf("saved %q", name)
		}
		if err := v.Load(name, new(int)); err == nil || errors.Is(err, ErrNoRoom) {
			t.Errorf("loaded %q: %v", name, err)
		}
	}
	if err := v.Save("large", strings.Repeat("x", MaxRoom)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	v := openVault(t, stateDir(t))
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			room := string(rune('a' + n%3))
			for i := range 5 {
				if err := v.Save(room, thing{N: i}); err != nil && !errors.Is(err, ErrLocked) {
					t.Error(err)
				}
				v.MACKey("x")
				if n == 0 {
					v.Lock()
					v.Unlock(t.Context())
				}
			}
		})
	}
	wg.Wait()
}

// FuzzOpenRoom: nothing but the very bytes that were sealed opens.
func FuzzOpenRoom(f *testing.F) {
	v := openVault(f, stateDir(f))
	plain := []byte(`{"keys":[]}`)
	good := sealRoom(v.seal, "keys", 7, plain)
	f.Add(good)
	f.Add(sealRoom(v.seal, "accounts", 7, plain))
	f.Add(good[:len(good)-1])
	f.Add([]byte(magic))
	for _, at := range []int{0, 7, 15, 16, 30, len(good) - 1} {
		b := bytes.Clone(good)
		b[at] ^= 0x80
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := openRoom(v.seal, "keys", data)
		if (err == nil) != bytes.Equal(data, good) {
			t.Fatalf("opened %x: %v", data, err)
		}
		if err == nil && !bytes.Equal(got, plain) {
			t.Fatal("opened as something else")
		}
	})
}
