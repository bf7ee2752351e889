package unlock

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The key stays, its protection changes, and nothing of the old one is left.
func TestRekey(t *testing.T) {
	everyPair(t, func(t *testing.T, from, to Kind) {
		w := newWorld(t)
		m, key := w.begin(from)
		before, _ := os.ReadFile(filepath.Join(w.path, ConfigFile))
		next, err := m.Rekey(t.Context(), key, change(from, to))
		if err != nil || next.Kind() != to {
			t.Fatalf("kind %s, %v", next.Kind(), err)
		}
		if next, err = next.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.assertTidy(next, key)
		w.assertTidy(w.opens(key), key)
		after, _ := os.ReadFile(filepath.Join(w.path, ConfigFile))
		if same := from == to && leavesSecret(to); same != bytes.Equal(before, after) {
			t.Errorf("vault.json is the same: %v", !same)
		}
		if to == Passphrase {
			if _, _, err := w.start(oldPhrase); !errors.Is(err, ErrWrongPassphrase) {
				t.Errorf("the old passphrase: %v", err)
			}
		}
	})
}

// steps are where a change may be stopped.
var steps = []string{"noted", "protected", "checked", "switched", "backup follows", "removed", "note gone"}

// A fault at any step: the vault opens with the protection that Rekey says is in
// force, and once the fault is over nothing else opens it.
func TestRekeyFaultAtEveryStep(t *testing.T) {
	everyPair(t, func(t *testing.T, from, to Kind) {
		for _, step := range append(steps, "noted and on", "switched and on") {
			w := newWorld(t)
			m, key := w.begin(from)
			broken := errors.New("broken")
			step, lasts := strings.CutSuffix(step, " and on")
			failing := false
			m.step = func(name string) error {
				failing = name == step || lasts && failing
				if failing {
					return broken
				}
				return nil
			}
			next, err := m.Rekey(t.Context(), key, change(from, to))
			early := slices.Index(steps, step) < slices.Index(steps, "switched")
			if mayFail := early || lasts; err != nil && (!mayFail || !errors.Is(err, broken)) || early && err == nil {
				t.Errorf("%s: %v", step, err)
			}
			if want := map[bool]Kind{true: from, false: to}[early]; next.Kind() != want {
				t.Errorf("%s: %s in force, want %s", step, next.Kind(), want)
			}
			m.step, next.step = nil, nil
			if early && !lasts {
				w.assertTidy(next, key) // taken back at once, not at the next start
			}
			next, _ = next.Settle(t.Context())
			started := w.opens(key)
			if started.Kind() != next.Kind() {
				t.Errorf("%s: the next start has %s, not %s", step, started.Kind(), next.Kind())
			}
			settled, err := started.Settle(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			w.assertTidy(settled, key)
			w.assertTidy(w.opens(key), key)
		}
	})
}

type crash struct{}

// The world stops at any step: the next start opens the vault with the old or
// the new protection, and leaves one.
func TestRekeyStoppedAtEveryStep(t *testing.T) {
	everyPair(t, func(t *testing.T, from, to Kind) {
		for _, step := range steps {
			w := newWorld(t)
			m, key := w.begin(from)
			m.step = func(name string) error {
				if name == step {
					panic(crash{})
				}
				return nil
			}
			stopped := func() (yes bool) {
				defer func() { yes = recover() == any(crash{}) }()
				next, err := m.Rekey(t.Context(), key, change(from, to))
				if err != nil {
					t.Fatal(err)
				}
				_, err = next.Settle(t.Context())
				return err != nil
			}()
			if !stopped && leavesSecret(from) && from != to {
				t.Errorf("%s was not reached", step)
			}
			started := w.opens(key)
			if started.Kind() != from && started.Kind() != to {
				t.Fatalf("%s: kind %s", step, started.Kind())
			}
			settled, err := started.Settle(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			w.assertTidy(settled, key)
			w.assertTidy(w.opens(key), key)
		}
	})
}

// C4: whatever fails while the key gets its new protection, the old one stays in
// force, alone, and the next try works.
func TestRekeyOntoWhatFails(t *testing.T) {
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		to   Kind
		do   func(w *world)
		want error
	}{
		"keyring locked":         {Keyring, func(w *world) { w.ring.err = ErrKeyringLocked }, ErrKeyringLocked},
		"keyring absent":         {Keyring, func(w *world) { w.ring.err = ErrKeyringUnavailable }, ErrKeyringUnavailable},
		"keyring forgets":        {Keyring, func(w *world) { w.ring.forgets = true }, ErrKeyMissing},
		"TPM does not seal":      {TPM, func(w *world) { w.tpm.sealing = gone }, gone},
		"TPM does not open":      {TPM, func(w *world) { w.tpm.unsealing = gone }, gone},
		"TPM returns too much":   {TPM, func(w *world) { w.tpm.size = maxBlob + 1 }, nil},
		"TPM returns another's":  {TPM, func(w *world) { w.tpm.size = 64 }, ErrSealBroken},
		"vault.json not written": {TPM, func(w *world) { w.obstruct(ConfigFile) }, nil},
		"phrase not written":     {Passphrase, func(w *world) { w.obstruct(ConfigFile) }, nil},
		"note not written":       {Keyring, func(w *world) { w.obstruct(ConfigFile) }, nil},
		"vault.key not written":  {File, func(w *world) { w.obstruct(keyFile) }, nil},
	} {
		for _, from := range kinds {
			if from == c.to {
				continue
			}
			t.Run(fmt.Sprintf("%s, from %s", name, from), func(t *testing.T) {
				w := newWorld(t)
				m, key := w.begin(from)
				c.do(w) // the old protection may suffer, too: the key is in memory
				next, err := m.Rekey(t.Context(), key, change(from, c.to))
				if err == nil || c.want != nil && !errors.Is(err, c.want) || next.Kind() != from {
					t.Fatalf("%s in force, %v, want %v", next.Kind(), err, c.want)
				}
				if w.ring.err != nil && len(next.Leftovers()) != 0 {
					t.Errorf("a keyring that took nothing is noted: %v", next.Leftovers())
				}
				w.ring.err, w.ring.forgets, w.tpm.sealing, w.tpm.unsealing, w.tpm.size = nil, false, nil, nil, 0
				w.clear(ConfigFile)
				w.clear(keyFile)
				started := w.opens(key)
				if started.Kind() != from {
					t.Fatalf("%s at the next start", started.Kind())
				}
				settled, err := started.Settle(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				w.assertTidy(settled, key)
				if again, err := settled.Rekey(t.Context(), key, change(from, c.to)); err != nil || again.Kind() != c.to {
					t.Fatalf("again: %s, %v", again.Kind(), err)
				}
			})
		}
	}
}

// What is no change is refused before anything is touched.
func TestRekeyRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		c    Change
		want error
	}{
		"nothing":                   {c: Change{}},
		"unknown kind":              {c: Change{To: "usb"}},
		"no passphrase":             {Change{To: Passphrase}, ErrNoPassphrase},
		"two lines":                 {Change{To: Passphrase, Passphrase: Secret("a\nb")}, ErrBadPassphrase},
		"an empty line":             {Change{To: Passphrase, Passphrase: Secret("\n")}, ErrBadPassphrase},
		"lost at the end of a line": {Change{To: Passphrase, Passphrase: Secret("a\r")}, ErrBadPassphrase},
		"too long":                  {Change{To: Passphrase, Passphrase: Secret(strings.Repeat("x", maxPassphrase+1))}, ErrBadPassphrase},
		"passphrase and keyring":    {c: Change{To: Keyring, Passphrase: Secret("x")}},
		"no TPM":                    {Change{To: TPM}, ErrNoSealer},
	} {
		w := newWorld(t)
		m, key := w.begin(File)
		m.sealer = nil
		before, _ := os.ReadFile(filepath.Join(w.path, ConfigFile))
		if next, err := m.Rekey(t.Context(), key, row.c); err == nil || row.want != nil && !errors.Is(err, row.want) || next != m {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
		if now, _ := os.ReadFile(filepath.Join(w.path, ConfigFile)); !bytes.Equal(now, before) {
			t.Errorf("%s: vault.json was changed", name)
		}
		w.assertTidy(m, key)
	}
}

// C8: a passphrase prints as nothing, whatever the verb.
func TestSecretRedacts(t *testing.T) {
	c := Change{To: Passphrase, Passphrase: Secret("very secret"), Current: Secret("very secret")}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("change", "passphrase", c.Passphrase)
	out := fmt.Sprintf("%v %+v %#v %s %x %q", c, c, c, c.Passphrase, c.Passphrase, c.Passphrase) + log.String()
	if strings.Contains(out, "very") || strings.Contains(out, "76657279") || !strings.Contains(out, redacted) {
		t.Errorf("leaked: %s", out)
	}
}

// An old secret that cannot be removed is known, and removed by a later start.
func TestRekeyLeavesANote(t *testing.T) {
	for _, from := range []Kind{Keyring, File} {
		w := newWorld(t)
		m, key := w.begin(from)
		if from == Keyring {
			w.ring.err = ErrKeyringLocked
		}
		next, err := m.Rekey(t.Context(), key, Change{To: Passphrase, Passphrase: Secret(newPhrase)})
		if err != nil {
			t.Fatal(err)
		}
		if from == File {
			w.obstruct(keyFile) // Wipe does not touch what it does not know
		}
		for range 2 {
			if next, err = next.Settle(t.Context()); err == nil || !slices.Equal(next.Leftovers(), []Kind{from}) {
				t.Fatalf("%s: left %v, %v", from, next.Leftovers(), err)
			}
			next = w.opens(key)
		}
		w.ring.err = nil
		w.clear(keyFile)
		if next, err = next.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.assertTidy(next, key)
	}
}

// A copy of vault.json that a change of passphrases has left behind follows at
// the next start, but only once the vault has opened: until then it may be the
// only good one.
func TestCopyFollowsAfterUnlockOnly(t *testing.T) {
	w := newWorld(t)
	m, key := w.begin(Passphrase)
	if _, err := m.Rekey(t.Context(), key, change(Passphrase, Passphrase)); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(w.path, ConfigBackup))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.start(oldPhrase); !errors.Is(err, ErrWrongPassphrase) {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(filepath.Join(w.path, ConfigBackup)); !bytes.Equal(now, before) {
		t.Fatal("a vault that did not open has changed the copy")
	}
	m, _, err = w.start(newPhrase)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.assertTidy(m, key)
}

// Auto is the keyring, and never something weaker than there is.
func TestRekeyAuto(t *testing.T) {
	for _, from := range kinds {
		w := newWorld(t)
		m, key := w.begin(from)
		w.ring.err = ErrKeyringUnavailable
		next, err := m.Rekey(t.Context(), key, change(from, Auto))
		switch from {
		case File:
			if err != nil || next.Kind() != File {
				t.Errorf("from file: %s, %v", next.Kind(), err)
			}
		case Keyring:
			if !errors.Is(err, ErrKeyringUnavailable) || next.Kind() != Keyring {
				t.Errorf("from keyring: %s, %v", next.Kind(), err)
			}
		default:
			if !errors.Is(err, ErrWeaker) || !errors.Is(err, ErrKeyringUnavailable) || next.Kind() != from {
				t.Errorf("from %s: %s, %v", from, next.Kind(), err)
			}
		}
		w.ring.err = nil
		next, err = next.Rekey(t.Context(), key, change(from, Auto))
		if err != nil || next.Kind() != Keyring {
			t.Errorf("from %s: %s, %v", from, next.Kind(), err)
		}
		if next, err = next.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.assertTidy(next, key)
	}
}

// C2: a vault that a passphrase protects is given away for that passphrase only,
// to whoever talks to the agent; and no key but the vault's is protected.
func TestRekeyNeedsThePassphrase(t *testing.T) {
	w := newWorld(t)
	m, key := w.begin(Passphrase)
	before, _ := os.ReadFile(filepath.Join(w.path, ConfigFile))
	for _, to := range append([]Kind{Auto}, kinds...) {
		for current, want := range map[string]error{"": ErrCurrentPassphrase, newPhrase: ErrWrongPassphrase, oldPhrase + "\n": ErrWrongPassphrase} {
			c := change(Passphrase, to)
			c.Current = Secret(current)
			if next, err := m.Rekey(t.Context(), key, c); !errors.Is(err, want) || next != m {
				t.Errorf("to %s with %q: %v", to, current, err)
			}
		}
	}
	other := newKey()
	if _, err := m.Rekey(t.Context(), other, change(Passphrase, File)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := m.Rekey(t.Context(), Key{}, change(Passphrase, File)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("no key: %v", err)
	}
	if now, _ := os.ReadFile(filepath.Join(w.path, ConfigFile)); !bytes.Equal(now, before) {
		t.Error("vault.json was changed")
	}
	w.assertTidy(m, key)
}

// What a kill leaves of a half-written vault.key is the key itself: it goes, too.
func TestSettleRemovesTemporary(t *testing.T) {
	w := newWorld(t)
	m, key := w.begin(Keyring)
	noted, err := m.note(File)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(w.path, "."+keyFile+".tmp")
	if err := os.WriteFile(half, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if noted, err = noted.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.assertTidy(noted, key)
}

// What is in force is no leftover: neither is it read as one, nor removed.
func TestInForceIsNoLeftover(t *testing.T) {
	for _, kind := range []Kind{File, Keyring} {
		w := newWorld(t)
		m, _ := w.begin(kind)
		c := m.config
		c.Leftovers = []Kind{kind}
		data, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseConfig(data); err == nil {
			t.Error("a vault.json that condemns its own key was taken")
		}
		if _, err := m.with(c).Settle(t.Context()); err == nil {
			t.Error("removed what is in force")
		}
		if _, err := m.Unlock(t.Context()); err != nil {
			t.Error("the key is gone:", err)
		}
	}
}
