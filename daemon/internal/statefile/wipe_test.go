package statefile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// What was wiped is in no file of the folder any more, nor behind a second name
// that somebody gave it.
func TestWipe(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state"))
	if err := d.Wipe("a"); err != nil {
		t.Fatal("nothing there:", err)
	}
	secret := bytes.Repeat([]byte("secret"), 2000)
	if err := d.Replace("a", secret, ""); err != nil {
		t.Fatal(err)
	}
	// As a Replace that was killed leaves it.
	if err := os.WriteFile(filepath.Join(d.Path(), ".a.tmp"), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "second")
	if err := os.Link(filepath.Join(d.Path(), "a"), second); err != nil {
		t.Skip("no hard links here:", err)
	}
	if err := d.Wipe("a"); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Names(); err != nil || len(names) != 0 {
		t.Errorf("left %v, %v", names, err)
	}
	if left, err := os.ReadFile(second); err != nil || len(bytes.Trim(left, "\x00")) != 0 {
		t.Errorf("the content is still on the disk (%v)", err)
	}
}

// Whatever call the world stops before, the next Wipe ends it.
func TestWipeStoppedAtEveryCall(t *testing.T) {
	stop := errors.New("the world stops")
	for at := 1; ; at++ {
		d := open(t, filepath.Join(t.TempDir(), "state"))
		if err := d.Replace("a", []byte("secret"), ""); err != nil {
			t.Fatal(err)
		}
		calls := 0
		d.step = func(string) error {
			if calls++; calls >= at {
				return stop
			}
			return nil
		}
		err := d.Wipe("a")
		d.step = nil
		if again := d.Wipe("a"); again != nil {
			t.Fatal(again)
		}
		if exists, _ := d.Exists("a"); exists {
			t.Fatalf("stopped at call %d: still there", at)
		}
		if err == nil {
			if at < 4 {
				t.Fatalf("only %d calls seen", at-1)
			}
			return
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
}

// C7: a link is not written through, and a folder is left alone.
func TestWipeHostileFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege on Windows")
	}
	for _, name := range []string{"a", ".a.tmp"} {
		d := open(t, filepath.Join(t.TempDir(), "state"))
		outside := filepath.Join(t.TempDir(), "outside")
		if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(d.Path(), name)); err != nil {
			t.Fatal(err)
		}
		if err := d.Wipe("a"); !errors.Is(err, ErrNotFile) {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(outside); string(got) != "precious" {
			t.Errorf("outside file is now %q", got)
		}
	}
	d := open(t, filepath.Join(t.TempDir(), "state"))
	if err := os.Mkdir(filepath.Join(d.Path(), "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Wipe("a"); !errors.Is(err, ErrNotFile) {
		t.Errorf("a folder: %v", err)
	}
	if err := d.Wipe("../outside"); err == nil {
		t.Error("wiped outside of the folder")
	}
}
