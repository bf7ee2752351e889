//go:build unix

package unlock

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"countersign.dev/daemon/internal/statefile"
)

// diskRing is a keyring that outlives its program: one file for each item.
type diskRing struct{ dir string }

func (r diskRing) path(name string) string {
	return filepath.Join(r.dir, hex.EncodeToString([]byte(name)))
}

func (r diskRing) get(_ context.Context, name string) ([]byte, error) {
	b, err := os.ReadFile(r.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrKeyMissing
	}
	return b, err
}

func (r diskRing) set(_ context.Context, name string, secret []byte) error {
	return os.WriteFile(r.path(name), secret, 0o600)
}

func (r diskRing) remove(_ context.Context, name string) error {
	err := os.Remove(r.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return ErrKeyMissing
	}
	return err
}

// TestCrashChild is not a test of its own: TestKilledWhileRekeying runs it in a
// process that kills itself at a step.
func TestCrashChild(t *testing.T) {
	dir, at := os.Getenv("CRASH_DIR"), os.Getenv("CRASH_AT")
	if dir == "" {
		return
	}
	w := newWorld(t)
	w.tpm = &fakeSealer{} // the same one in both processes
	state, err := statefile.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	from, to := Kind(os.Getenv("CRASH_FROM")), Kind(os.Getenv("CRASH_TO"))
	m, err := choose(t.Context(), state, Options{Kind: from, Sealer: w.tpm, PassphraseFile: os.Getenv("CRASH_PASSPHRASE")}, diskRing{filepath.Join(dir, "ring")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := m.Unlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Told before the change: whatever opens the vault afterwards opens this.
	if err := os.WriteFile(filepath.Join(dir, "check"), []byte(checkOf(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	m.step = func(name string) error {
		if name == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
	m, err = m.Rekey(t.Context(), key, change(from, to))
	if err == nil {
		_, err = m.Settle(t.Context())
	}
	fmt.Println("survived", err)
}

// kill -9 at each step of a change: the next start opens the vault with the old
// or the new protection, and leaves one.
func TestKilledWhileRekeying(t *testing.T) {
	for _, pair := range [][2]Kind{
		{Keyring, File}, {File, Keyring}, {File, Passphrase}, {Passphrase, File}, {Passphrase, Passphrase},
		{File, TPM}, {TPM, Keyring}, {TPM, TPM},
	} {
		from, to := pair[0], pair[1]
		for _, step := range steps {
			t.Run(fmt.Sprintf("%s to %s, %s", from, to, step), func(t *testing.T) {
				dir := t.TempDir()
				ring := diskRing{filepath.Join(dir, "ring")}
				if err := os.Mkdir(ring.dir, 0o700); err != nil {
					t.Fatal(err)
				}
				c := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.count=1")
				// What it leaves behind when it is killed goes with our folder.
				c.Env = append(os.Environ(), "TMPDIR="+dir, "CRASH_DIR="+dir, "CRASH_AT="+step, "CRASH_FROM="+string(from), "CRASH_TO="+string(to))
				if from == Passphrase {
					c.Env = append(c.Env, "CRASH_PASSPHRASE="+passphraseFile(t, oldPhrase))
				}
				out, err := c.CombinedOutput()
				// Without an old secret outside vault.json there is none to remove.
				reached := step != "removed" && step != "note gone" || leavesSecret(from)
				if survived := strings.Contains(string(out), "survived <nil>"); survived == reached || (err == nil) == reached {
					t.Fatalf("killed at %q: %v\n%s", step, err, out)
				}
				check, err := os.ReadFile(filepath.Join(dir, "check"))
				if err != nil {
					t.Fatal(err)
				}

				w := newWorld(t)
				w.path = filepath.Join(dir, "state")
				w.tpm = &fakeSealer{} // the same one in both processes
				m, key, err := w.startWith(ring, oldPhrase)
				if err != nil {
					m, key, err = w.startWith(ring, newPhrase)
				}
				if err != nil || checkOf(key) != string(check) {
					t.Fatalf("the vault does not open: %v", err)
				}
				if m, err = m.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.ring.items = map[string][]byte{}
				if items, _ := os.ReadDir(ring.dir); len(items) > 0 {
					w.ring.items["one"] = nil
				}
				w.assertTidy(m, key)
			})
		}
	}
}
