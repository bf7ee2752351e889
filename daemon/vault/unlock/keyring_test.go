package unlock

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// underKeyring runs this test binary again, this one test only, in a private
// home with a session bus of its own and a gnome-keyring that was unlocked with
// the given password. It says whether it is that inner run already.
func underKeyring(t *testing.T, home, password string) (inner bool) {
	t.Helper()
	if os.Getenv("UNLOCK_TEST_INNER") != "" {
		awaitKeyring(t)
		return true
	}
	for _, tool := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian: apt install gnome-keyring dbus)", tool)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := t.TempDir()
	for _, dir := range []string{home, run} {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The daemon stays in the foreground of the session's shell and ends with
	// it: nothing is left behind, whatever the test does.
	script := `mkfifo "$XDG_RUNTIME_DIR/started"
gnome-keyring-daemon --foreground --unlock --components=secrets <"$UNLOCK_TEST_PASSWORD" >"$XDG_RUNTIME_DIR/started" &
keyring=$!
read -r line <"$XDG_RUNTIME_DIR/started"
"$@"; status=$?
kill $keyring; wait $keyring
exit $status`
	passwordFile := filepath.Join(run, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "dbus-run-session", "--", "sh", "-c", script, "sh",
		exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = []string{
		"UNLOCK_TEST_INNER=1", "UNLOCK_TEST_PASSWORD=" + passwordFile, "UNLOCK_TEST_HOME=" + home,
		// Nothing to activate: else a call that comes too early makes the bus
		// start a second, locked keyring.
		"XDG_DATA_DIRS=" + run, "XDG_DATA_HOME=" + filepath.Join(home, "share"),
		"HOME=" + home, "XDG_RUNTIME_DIR=" + run, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + run, "GORACE=" + os.Getenv("GORACE"),
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("inner run: %v\n%s", err, out)
	}
	return false
}

// awaitKeyring returns when the keyring is on the bus. A busy machine takes its
// time.
func awaitKeyring(t *testing.T) {
	t.Helper()
	probeTimeout = 30 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), probeTimeout)
	defer cancel()
	for {
		_, err := helper{}.get(ctx, "countersign test")
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		if !errors.Is(err, ErrKeyringUnavailable) {
			return
		}
	}
}

func TestKeyring(t *testing.T) {
	if !underKeyring(t, t.TempDir(), "right") {
		return
	}
	dir := newDir(t)
	m, err := Choose(t.Context(), dir, Auto, "")
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind() != Keyring {
		t.Fatalf("auto chose %s: %v", m.Kind(), m.Fallback())
	}
	key, err := m.Unlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Choose(t.Context(), dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	same, err := again.Unlock(t.Context())
	if err != nil || !bytes.Equal(same.Bytes(), key.Bytes()) {
		t.Fatalf("second unlock: %v", err)
	}
	// No secret in the folder: the key is the keyring's.
	assertNoKey(t, dir, key)

	// A missing item is a typed state and makes no new key.
	again.config.ID = "SOMEOTHERVAULT"
	if _, err := again.Unlock(t.Context()); !errors.Is(err, ErrKeyMissing) {
		t.Errorf("missing item: %v, want ErrKeyMissing", err)
	}
}

// C4: a locked keyring is a state; it neither opens the vault nor makes a new key.
func TestKeyringLocked(t *testing.T) {
	home := t.TempDir()
	if os.Getenv("UNLOCK_TEST_INNER") != "" {
		awaitKeyring(t)
		home = os.Getenv("UNLOCK_TEST_HOME")
		state := filepath.Join(home, "state")
		if _, err := os.Stat(state); err != nil {
			keepInKeyring(t, state)
			return
		}
		findLocked(t, state)
		return
	}
	underKeyring(t, home, "right") // makes the keyring and the vault
	underKeyring(t, home, "wrong") // finds it locked
}

func keepInKeyring(t *testing.T, state string) {
	m, err := Choose(t.Context(), openDir(t, state), Keyring, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func findLocked(t *testing.T, state string) {
	dir := openDir(t, state)
	m, err := Choose(t.Context(), dir, Auto, "")
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind() != Keyring {
		t.Fatalf("kind %s", m.Kind())
	}
	_, err = m.Unlock(t.Context())
	t.Logf("a locked keyring says: %v", err)
	if !errors.Is(err, ErrKeyringLocked) && !errors.Is(err, ErrKeyringUnavailable) {
		t.Errorf("locked keyring: %v", err)
	}
	names, err := dir.Names()
	if err != nil || strings.Contains(strings.Join(names, " "), keyFile) {
		t.Errorf("folder has %v, %v", names, err)
	}
	// A first start beside it does not wait for anybody either.
	first, err := Choose(t.Context(), newDir(t), Auto, "")
	if err != nil || first.Kind() != File || first.Fallback() == nil {
		t.Errorf("first start with a locked keyring: %v", err)
	}
}
