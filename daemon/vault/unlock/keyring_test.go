package unlock

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign.dev/daemon/vault/unlock/keyringtest"
)

// patient makes the first start wait for a keyring on a busy machine.
func patient(t *testing.T) {
	t.Helper()
	before := probeTimeout
	probeTimeout = 30 * time.Second
	t.Cleanup(func() { probeTimeout = before })
}

// mustChoose opens the vault key of a folder, or makes it.
func mustChoose(t *testing.T, path string, o Options) *Method {
	t.Helper()
	m, err := Choose(t.Context(), openDir(t, path), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestKeyring(t *testing.T) {
	patient(t)
	keyringtest.New(t).Start("right")
	dir := newDir(t)
	m, err := Choose(t.Context(), dir, Options{})
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
	again, err := Choose(t.Context(), dir, Options{})
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
	if err := again.ring.remove(t.Context(), again.itemName()); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Unlock(t.Context()); !errors.Is(err, ErrKeyMissing) {
		t.Errorf("missing item: %v, want ErrKeyMissing", err)
	}
	if err := again.ring.remove(t.Context(), again.itemName()); err != nil && !errors.Is(err, ErrKeyMissing) {
		t.Errorf("removed twice: %v", err)
	}
}

// C4: a locked keyring is a state; it neither opens the vault nor makes a new key.
func TestKeyringLocked(t *testing.T) {
	patient(t)
	session := keyringtest.New(t)
	session.Start("right")
	state := filepath.Join(t.TempDir(), "state")
	if _, err := mustChoose(t, state, Options{Kind: Keyring}).Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	locked := func(how string) {
		t.Helper()
		m := mustChoose(t, state, Options{})
		if m.Kind() != Keyring {
			t.Fatalf("%s: kind %s", how, m.Kind())
		}
		key, err := m.Unlock(t.Context())
		t.Logf("%s: %v", how, err)
		if !errors.Is(err, ErrKeyringLocked) && !errors.Is(err, ErrKeyringUnavailable) || !key.IsZero() {
			t.Errorf("%s: %v", how, err)
		}
		if err := m.ring.remove(t.Context(), m.itemName()); err == nil || errors.Is(err, ErrKeyMissing) {
			t.Errorf("%s: removed: %v", how, err)
		}
		names, err := m.dir.Names()
		if err != nil || strings.Contains(strings.Join(names, " "), keyFile) {
			t.Errorf("%s: folder has %v, %v", how, names, err)
		}
	}
	session.Lock()
	locked("locked under way")
	session.Stop()
	session.Start("wrong")
	locked("logged in with another password")
	// A first start beside it does not wait for anybody either.
	first, err := Choose(t.Context(), newDir(t), Options{})
	if err != nil || first.Kind() != File || first.Fallback() == nil {
		t.Errorf("first start with a locked keyring: %v", err)
	}
	session.Stop()
	session.Start("right")
	if _, err := mustChoose(t, state, Options{}).Unlock(t.Context()); err != nil {
		t.Errorf("open again: %v", err)
	}
}

// A keyring that is not there is waited for by nobody, and found when it comes:
// each try looks anew.
func TestKeyringComesLater(t *testing.T) {
	patient(t)
	session := keyringtest.New(t)
	session.Start("right")
	state := filepath.Join(t.TempDir(), "state")
	key, err := mustChoose(t, state, Options{Kind: Keyring}).Unlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session.Stop()
	m := mustChoose(t, state, Options{})
	for range 2 {
		if _, err := m.Unlock(t.Context()); !errors.Is(err, ErrKeyringUnavailable) {
			t.Fatalf("without a keyring: %v", err)
		}
	}
	session.Start("right")
	same, err := m.Unlock(t.Context())
	if err != nil || !bytes.Equal(same.Bytes(), key.Bytes()) {
		t.Fatalf("the keyring came: %v", err)
	}
}

// A keyring that has nobody to answer for it ends with the caller's patience.
func TestKeyringDeadline(t *testing.T) {
	keyringtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := (helper{}).get(ctx, "countersign test"); !errors.Is(err, ErrKeyringUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
