package unlock

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign.dev/daemon/internal/statefile"
)

func openDir(t *testing.T, path string) *statefile.Dir {
	t.Helper()
	d, err := statefile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// assertNoKey looks for the key in every file of a folder, in any usual spelling.
func assertNoKey(t *testing.T, dir *statefile.Dir, key Key) {
	t.Helper()
	spellings := [][]byte{
		key.Bytes(), []byte(hex.EncodeToString(key.Bytes())),
		[]byte(base64.RawStdEncoding.EncodeToString(key.Bytes())), []byte(base64.RawURLEncoding.EncodeToString(key.Bytes())),
	}
	names, err := dir.Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir.Path(), name))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spellings {
			if bytes.Contains(bytes.ToLower(data), bytes.ToLower(s)) {
				t.Errorf("%s holds the data key", name)
			}
		}
	}
}

func passphraseFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeRing is a keyring that answers as told.
type fakeRing struct {
	items   map[string][]byte
	err     error
	forgets bool // takes what it is given, and does not keep it
}

func (r *fakeRing) get(_ context.Context, name string) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	s, ok := r.items[name]
	if !ok {
		return nil, ErrKeyMissing
	}
	return bytes.Clone(s), nil
}

func (r *fakeRing) set(_ context.Context, name string, secret []byte) error {
	if r.err != nil {
		return r.err
	}
	if !r.forgets {
		r.items[name] = bytes.Clone(secret)
	}
	return nil
}

func (r *fakeRing) remove(_ context.Context, name string) error {
	if r.err != nil {
		return r.err
	}
	if _, ok := r.items[name]; !ok {
		return ErrKeyMissing
	}
	delete(r.items, name)
	return nil
}

func TestFile(t *testing.T) {
	dir := newDir(t)
	m, err := Choose(t.Context(), dir, Options{Kind: File})
	if err != nil {
		t.Fatal(err)
	}
	key, err := m.Unlock(t.Context())
	if err != nil || key.IsZero() {
		t.Fatal(err)
	}
	again, err := Choose(t.Context(), dir, Options{})
	if err != nil || again.Kind() != File {
		t.Fatalf("%v %v", again, err)
	}
	same, err := again.Unlock(t.Context())
	if err != nil || !bytes.Equal(same.Bytes(), key.Bytes()) {
		t.Fatalf("second unlock: %v", err)
	}

	path := filepath.Join(dir.Path(), keyFile)
	for name, breakIt := range map[string]struct {
		do   func() error
		want error
	}{
		"another key":  {func() error { return os.WriteFile(path, []byte(strings.Repeat("ab", 32)+"\n"), 0o600) }, ErrWrongKey},
		"no key":       {func() error { return os.WriteFile(path, []byte("hello\n"), 0o600) }, ErrWrongKey},
		"open to all":  {func() error { return os.Chmod(path, 0o644) }, statefile.ErrExposed}, // C6
		"missing file": {func() error { return os.Remove(path) }, ErrKeyMissing},
	} {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := breakIt.do(); err != nil {
			t.Fatal(err)
		}
		if _, err := again.Unlock(t.Context()); !errors.Is(err, breakIt.want) {
			t.Errorf("%s: %v, want %v", name, err, breakIt.want)
		}
		os.Remove(path)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPassphrase(t *testing.T) {
	defer func(m uint32) { newMemoryKiB = m }(newMemoryKiB)
	newMemoryKiB = 1 << 10
	dir := newDir(t)
	right := passphraseFile(t, "correct horse\n")
	m, err := Choose(t.Context(), dir, Options{PassphraseFile: right})
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind() != Passphrase {
		t.Fatalf("kind %s", m.Kind())
	}
	key, err := m.Unlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	assertNoKey(t, dir, key) // C1
	for name, c := range map[string]struct {
		file string
		want error
	}{
		"wrong": {passphraseFile(t, "battery staple\n"), ErrWrongPassphrase},
		"empty": {passphraseFile(t, "\n"), ErrNoPassphrase},
		"none":  {"", ErrNoPassphrase},
	} {
		again, err := Choose(t.Context(), dir, Options{PassphraseFile: c.file})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Unlock(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// The line break at the end is not part of it.
	again, err := Choose(t.Context(), dir, Options{Kind: Passphrase, PassphraseFile: passphraseFile(t, "correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	same, err := again.Unlock(t.Context())
	if err != nil || !bytes.Equal(same.Bytes(), key.Bytes()) {
		t.Fatalf("second unlock: %v", err)
	}
	// Cheaper parameters than those it was made with do not open it.
	again.config.Passphrase.Passes = 1
	if _, err := again.Unlock(t.Context()); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("other costs: %v", err)
	}
}

func TestStoredChoiceBinds(t *testing.T) {
	ring := &fakeRing{items: map[string][]byte{}}
	dir := newDir(t)
	m, err := choose(t.Context(), dir, Options{}, ring)
	if err != nil || m.Kind() != Keyring {
		t.Fatalf("%v %v", m, err)
	}
	var kind *KindError
	if _, err := choose(t.Context(), dir, Options{Kind: File}, ring); !errors.As(err, &kind) || kind.Stored != Keyring {
		t.Errorf("asked for file: %v", err)
	}
	if _, err := choose(t.Context(), dir, Options{PassphraseFile: passphraseFile(t, "x")}, ring); !errors.As(err, &kind) {
		t.Errorf("asked for passphrase: %v", err)
	}
	// C4: whatever is wrong with the keyring, the vault stays locked and its kind stays.
	for _, fault := range []error{ErrKeyringLocked, ErrKeyringUnavailable, ErrKeyMissing, context.DeadlineExceeded} {
		ring.err = fault
		m, err := choose(t.Context(), dir, Options{}, ring)
		if err != nil || m.Kind() != Keyring {
			t.Fatalf("%v: %v %v", fault, m, err)
		}
		if key, err := m.Unlock(t.Context()); !errors.Is(err, fault) || !key.IsZero() {
			t.Errorf("%v: unlock said %v", fault, err)
		}
	}
	ring.err = nil
	for name := range ring.items {
		ring.items[name] = []byte(strings.Repeat("00", KeySize))
	}
	if _, err := m.Unlock(t.Context()); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
}

func TestAutoFallsBackOnFirstStartOnly(t *testing.T) {
	ring := &fakeRing{err: ErrKeyringUnavailable}
	dir := newDir(t)
	m, err := choose(t.Context(), dir, Options{}, ring)
	if err != nil || m.Kind() != File || !errors.Is(m.Fallback(), ErrKeyringUnavailable) {
		t.Fatalf("%v %v", m, err)
	}
	ring.err, ring.items = nil, map[string][]byte{}
	m, err = choose(t.Context(), dir, Options{}, ring)
	if err != nil || m.Kind() != File || len(ring.items) != 0 {
		t.Errorf("second start: %v %v", m, err)
	}
	// Asked for by name, the keyring has no stand-in.
	ring.err = ErrKeyringLocked
	dir = newDir(t)
	if _, err := choose(t.Context(), dir, Options{Kind: Keyring}, ring); !errors.Is(err, ErrKeyringLocked) {
		t.Errorf("keyring by name: %v", err)
	}
	if names, _ := dir.Names(); len(names) != 0 {
		t.Errorf("left behind %v", names)
	}
}

// C8: a key prints as nothing, whatever the verb.
func TestKeyRedacts(t *testing.T) {
	key := newKey()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", key, "in", struct{ K Key }{key})
	encoded, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %s %x %X %q %d", key, key, key, key, key, key, key, key) + log.String() + string(encoded)
	if strings.Contains(strings.ToLower(out), hex.EncodeToString(key.Bytes()[:4])) || !strings.Contains(out, redacted) {
		t.Errorf("key leaked: %s", out)
	}
	key.Wipe()
	if !key.IsZero() {
		t.Error("not wiped")
	}
}

func FuzzConfig(f *testing.F) {
	good := config{Version: 1, ID: "ABC", Kind: Passphrase, Check: strings.Repeat("ab", 16), Passphrase: &wrapped{
		KDF: "argon2id", Salt: make([]byte, 16), MemoryKiB: newMemoryKiB, Passes: newPasses, Lanes: newLanes, Key: make([]byte, sealedKeySize)}}
	data, err := good.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"id":"A","kind":"file","check":"00112233445566778899aabbccddeeff"}`))
	tpm := config{Version: 1, ID: "ABC", Kind: TPM, Check: strings.Repeat("ab", 16), TPM: &sealed{Blob: make([]byte, 200)}, Leftovers: []Kind{File, Keyring}}
	if data, err = tpm.encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"id":"A","kind":"tpm","check":"00112233445566778899aabbccddeeff","tpm":{"blob":""}}`))
	f.Add([]byte(`{"version":1,"id":"A","kind":"file","check":"00112233445566778899aabbccddeeff","leftovers":["file"]}`))
	f.Add([]byte(`{"version":1,"kind":"auto"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		// What is accepted is a stored kind with bounded costs, and survives a round trip.
		if !slices.Contains(kinds, c.Kind) {
			t.Fatalf("accepted kind %q", c.Kind)
		}
		if (c.Kind == TPM) != (c.TPM != nil) || c.TPM != nil && (len(c.TPM.Blob) == 0 || len(c.TPM.Blob) > maxBlob) {
			t.Fatalf("accepted kind %s with %+v", c.Kind, c.TPM)
		}
		if (c.Kind == Passphrase) != (c.Passphrase != nil) {
			t.Fatalf("accepted kind %s with %+v", c.Kind, c.Passphrase)
		}
		if len(c.Leftovers) > 2 || slices.Contains(c.Leftovers, c.Kind) || slices.ContainsFunc(c.Leftovers, func(k Kind) bool { return !leavesSecret(k) }) {
			t.Fatalf("accepted kind %s with leftovers %v", c.Kind, c.Leftovers)
		}
		if p := c.Passphrase; p != nil && (p.MemoryKiB > maxMemoryKiB || p.Passes > maxPasses || p.Lanes > maxLanes || p.Lanes == 0) {
			t.Fatalf("accepted costs %+v", p)
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseConfig(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
