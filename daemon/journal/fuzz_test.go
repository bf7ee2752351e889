package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen: whatever is in the file, only a beginning of what we wrote comes
// out, and what we wrote is never changed by opening it.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed.log")
	j, err := Open(path, testKey)
	if err != nil {
		f.Fatal(err)
	}
	payloads := []string{"a", `{"b":2}`, ""}
	fill(f, j, payloads...)
	j.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0, 0, 0))
	f.Add(bytes.Replace(good, []byte("b"), []byte("c"), 1))
	f.Add([]byte("countersign-journal/1 1 0 0 0\n"))
	f.Add([]byte("\n\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x.log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(path, testKey)
		now, _ := os.ReadFile(path)
		if err != nil {
			if !bytes.Equal(now, data) {
				t.Fatal("a refused journal was changed")
			}
			return
		}
		defer j.Close()
		if !bytes.HasPrefix(good, now) || !bytes.HasPrefix(data, now) {
			t.Fatalf("accepted %q", now)
		}
		n := 0
		err = j.Replay(func(_ uint64, payload, _, _ []byte) error {
			if n >= len(payloads) || string(payload) != payloads[n] {
				t.Fatalf("forged record %q", payload)
			}
			n++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
