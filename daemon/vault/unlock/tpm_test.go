package unlock

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTPM(t *testing.T) {
	w := newWorld(t)
	m, key := w.begin(TPM)
	assertNoKey(t, m.dir, key)
	w.assertTidy(w.opens(key), key)

	// C1: on another computer the folder does not open, and says why.
	elsewhere := &world{t: t, path: w.path, ring: w.ring, tpm: newSealer()}
	if _, got, err := elsewhere.start(""); !errors.Is(err, ErrSealBroken) || !got.IsZero() {
		t.Errorf("another TPM: %v", err)
	}
	elsewhere.tpm = nil
	m, err := choose(t.Context(), openDir(t, w.path), Options{}, w.ring)
	if err != nil || m.Kind() != TPM {
		t.Fatalf("%v %v", m, err)
	}
	if got, err := m.Unlock(t.Context()); !errors.Is(err, ErrNoSealer) || !got.IsZero() {
		t.Errorf("no TPM: %v", err)
	}
	// The choice binds as any other does.
	var kind *KindError
	if _, err := choose(t.Context(), openDir(t, w.path), Options{Kind: File}, w.ring); !errors.As(err, &kind) || kind.Stored != TPM {
		t.Errorf("asked for a file: %v", err)
	}
}

// A TPM is taken when it is asked for, and has no stand-in.
func TestTPMIsNeverChosenByItself(t *testing.T) {
	for _, fault := range []error{nil, ErrKeyringUnavailable} {
		w := newWorld(t)
		w.ring.err = fault
		m, err := choose(t.Context(), openDir(t, w.path), Options{Sealer: w.tpm}, w.ring)
		if err != nil || m.Kind() == TPM {
			t.Errorf("auto chose %v, %v", m, err)
		}
	}
	for name, do := range map[string]func(w *world){
		"does not seal": func(w *world) { w.tpm.sealing = errors.New("busy") },
		"does not open": func(w *world) { w.tpm.unsealing = errors.New("busy") },
		"too much":      func(w *world) { w.tpm.size = maxBlob + 1 },
		"other bytes":   func(w *world) { w.tpm.size = 100 },
	} {
		w := newWorld(t)
		do(w)
		if m, err := choose(t.Context(), openDir(t, w.path), Options{Kind: TPM, Sealer: w.tpm}, w.ring); err == nil {
			t.Errorf("%s: made a vault of kind %s", name, m.Kind())
		}
		if _, err := os.Stat(filepath.Join(w.path, ConfigFile)); err == nil || len(w.ring.items) != 0 {
			t.Errorf("%s: left something behind", name)
		}
	}
	if _, err := choose(t.Context(), newDir(t), Options{Kind: TPM}, &fakeRing{}); !errors.Is(err, ErrNoSealer) {
		t.Errorf("no TPM: %v", err)
	}
}

// oddSealer returns something else than it was given.
type oddSealer struct{ b []byte }

func (s oddSealer) Seal(context.Context, []byte) ([]byte, error)   { return []byte("blob"), nil }
func (s oddSealer) Unseal(context.Context, []byte) ([]byte, error) { return bytes.Clone(s.b), nil }

// C4: whatever a TPM returns that is not the key leaves the vault locked.
func TestTPMReturnsOtherThings(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing": nil, "too little": make([]byte, 31), "too much": make([]byte, 33),
		"zeros": make([]byte, KeySize), "another key": []byte(strings.Repeat("k", KeySize)),
	} {
		w := newWorld(t)
		m, _ := w.begin(TPM)
		m.sealer = oddSealer{b}
		if key, err := m.Unlock(t.Context()); !errors.Is(err, ErrWrongKey) || !key.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := choose(t.Context(), newDir(t), Options{Kind: TPM, Sealer: oddSealer{b}}, w.ring); err == nil {
			t.Errorf("%s: made a vault", name)
		}
	}
}

// silentSealer answers when its caller has had enough.
type silentSealer struct{}

func (silentSealer) Seal(ctx context.Context, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silentSealer) Unseal(ctx context.Context, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A TPM that does not answer is given half a minute.
func TestTPMDeadline(t *testing.T) {
	w := newWorld(t)
	m, _ := w.begin(TPM)
	m.sealer = silentSealer{}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if _, err := m.Unlock(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != tpmTimeout {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Unlock(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// A vault.json whose sealed key is not one is refused as damaged.
func TestSealedConfig(t *testing.T) {
	w := newWorld(t)
	m, _ := w.begin(TPM)
	for name, damage := range map[string]func(c *config){
		"no sealed key":       func(c *config) { c.TPM = nil },
		"empty":               func(c *config) { c.TPM = &sealed{} },
		"too large":           func(c *config) { c.TPM = &sealed{Blob: make([]byte, maxBlob+1)} },
		"beside another kind": func(c *config) { c.Kind = File },
		"leftover tpm":        func(c *config) { c.Leftovers = []Kind{TPM} },
		"leftover twice":      func(c *config) { c.Leftovers = []Kind{File, File} },
		"leftover unknown":    func(c *config) { c.Leftovers = []Kind{"usb"} },
	} {
		c := m.config
		damage(&c)
		data, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseConfig(data); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
