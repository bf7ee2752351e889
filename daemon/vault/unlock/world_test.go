package unlock

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fakeSealer is a TPM: what it seals, no other opens.
type fakeSealer struct {
	seed [32]byte
	// sealing and unsealing are faults; size, if set, is how much it returns.
	sealing, unsealing error
	size               int
}

func newSealer() *fakeSealer {
	s := &fakeSealer{}
	rand.Read(s.seed[:])
	return s
}

func (s *fakeSealer) aead() cipher.AEAD {
	block, err := aes.NewCipher(s.seed[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (s *fakeSealer) Seal(_ context.Context, secret []byte) ([]byte, error) {
	if s.sealing != nil {
		return nil, s.sealing
	}
	if s.size > 0 {
		return make([]byte, s.size), nil
	}
	return s.aead().Seal(nil, nil, secret, nil), nil
}

func (s *fakeSealer) Unseal(_ context.Context, blob []byte) ([]byte, error) {
	if s.unsealing != nil {
		return nil, s.unsealing
	}
	b, err := s.aead().Open(nil, nil, blob, nil)
	if err != nil {
		return nil, ErrSealBroken
	}
	return b, nil
}

var kinds = []Kind{Keyring, TPM, Passphrase, File}

const oldPhrase, newPhrase = "correct horse", "battery staple"

// world is a computer: a folder, a keyring and a TPM.
type world struct {
	t    *testing.T
	path string
	ring *fakeRing
	tpm  *fakeSealer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	memory, passes, lanes := newMemoryKiB, newPasses, newLanes
	newMemoryKiB, newPasses, newLanes = 64, 1, 1
	t.Cleanup(func() { newMemoryKiB, newPasses, newLanes = memory, passes, lanes })
	return &world{t: t, path: filepath.Join(t.TempDir(), "state"), ring: &fakeRing{items: map[string][]byte{}}, tpm: newSealer()}
}

// begin makes a vault of a kind.
func (w *world) begin(kind Kind) (*Method, Key) {
	w.t.Helper()
	o := Options{Kind: kind, Sealer: w.tpm}
	if kind == Passphrase {
		o.PassphraseFile = passphraseFile(w.t, oldPhrase)
	}
	m, err := choose(w.t.Context(), openDir(w.t, w.path), o, w.ring)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := m.Unlock(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return m, key
}

func change(from, to Kind) Change {
	c := Change{To: to}
	if from == Passphrase {
		c.Current = Secret(oldPhrase)
	}
	if to == Passphrase {
		c.Passphrase = Secret(newPhrase)
	}
	return c
}

// start is the next start of an agent that is given these passphrases.
func (w *world) start(phrase string) (*Method, Key, error) { return w.startWith(w.ring, phrase) }

func (w *world) startWith(r ring, phrase string) (*Method, Key, error) {
	w.t.Helper()
	m, err := choose(w.t.Context(), openDir(w.t, w.path), Options{Sealer: w.tpm}, r)
	if err != nil {
		w.t.Fatal(err)
	}
	m.passphraseFile = passphraseFile(w.t, phrase)
	key, err := m.Unlock(w.t.Context())
	return m, key, err
}

// opens starts an agent that knows the old passphrase, or the new one.
func (w *world) opens(key Key) *Method {
	w.t.Helper()
	var errs []error
	for _, phrase := range []string{oldPhrase, newPhrase} {
		m, got, err := w.start(phrase)
		if err == nil {
			if !bytes.Equal(got.Bytes(), key.Bytes()) {
				w.t.Fatal("another key")
			}
			return m
		}
		errs = append(errs, err)
	}
	w.t.Fatalf("the vault does not open: %v", errors.Join(errs...))
	return nil
}

// assertTidy: one protection, and nothing else that opens the vault.
func (w *world) assertTidy(m *Method, key Key) {
	w.t.Helper()
	dir := openDir(w.t, w.path)
	names, err := dir.Names()
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(names)
	want := []string{ConfigFile, ConfigBackup}
	if m.Kind() == File {
		want = append(want, keyFile)
	}
	if !slices.Equal(names, want) {
		w.t.Errorf("kind %s: folder has %v", m.Kind(), names)
	}
	if m.Kind() != File {
		assertNoKey(w.t, dir, key)
	}
	if got, want := len(w.ring.items), map[bool]int{true: 1}[m.Kind() == Keyring]; got != want {
		w.t.Errorf("kind %s: %d items in the keyring", m.Kind(), got)
	}
	config, err := os.ReadFile(filepath.Join(w.path, ConfigFile))
	if err != nil {
		w.t.Fatal(err)
	}
	backup, err := os.ReadFile(filepath.Join(w.path, ConfigBackup))
	if err != nil || !bytes.Equal(config, backup) {
		w.t.Errorf("kind %s: the copy of vault.json differs: %v\n%s\n%s", m.Kind(), err, config, backup)
	}
	if len(m.Leftovers()) != 0 {
		w.t.Errorf("kind %s: left %v", m.Kind(), m.Leftovers())
	}
}

// everyPair runs a test for each way from one kind to another.
func everyPair(t *testing.T, run func(t *testing.T, from, to Kind)) {
	for _, from := range kinds {
		for _, to := range kinds {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) { run(t, from, to) })
		}
	}
}

// obstruct makes the next Replace of a file fail, as a full disk does.
func (w *world) obstruct(name string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Join(w.path, "."+name+".tmp", "x"), 0o700); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clear(name string) {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.path, "."+name+".tmp")); err != nil {
		w.t.Fatal(err)
	}
}
