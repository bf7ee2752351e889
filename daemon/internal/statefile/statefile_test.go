package statefile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("STATEFILE_TEST_WRITE"); dir != "" {
		writeForever(dir)
	}
	os.Exit(m.Run())
}

func open(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// C6: modes are right from the first moment, also under umask 000.
func TestModesUnderOpenUmask(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("mode bits mean nothing on Windows")
	}
	if os.Getenv("STATEFILE_TEST_UMASK") == "" {
		// The umask belongs to the whole process: a child has one of its own.
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", `umask 000; exec "$0" -test.run='^TestModesUnderOpenUmask$'`, exe)
		cmd.Env = append(os.Environ(), "STATEFILE_TEST_UMASK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	base := filepath.Join(t.TempDir(), "made", "deep")
	d := open(t, filepath.Join(base, "state"))
	d.step = func(call string) error { assertModes(t, base, call); return nil }
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Replace("a", []byte("x"), "a.bak"); err != nil {
			t.Fatal(err)
		}
	}
	assertModes(t, base, "end")
}

func assertModes(t *testing.T, base, when string) {
	filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s: %s has mode %o", when, path, info.Mode().Perm())
		}
		return nil
	})
}

// What a plain mkdir leaves is fit for a first start, and closed by it.
func TestEmptyFolderIsClosed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("mode bits mean nothing on Windows")
	}
	path := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// C6, C7: folders that are not ours alone are refused, with what to do.
func TestHostileFolders(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("mode bits mean nothing on Windows")
	}
	real := filepath.Join(t.TempDir(), "real")
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(t.TempDir(), "dangling")
	if err := os.Symlink(filepath.Join(real, "none"), dangling); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse := func(path string, want error) {
		t.Helper()
		d, err := Open(path)
		if err == nil {
			d.Close()
		}
		var f *FolderError
		if !errors.Is(err, want) || (errors.As(err, &f) && f.Hint == "") {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	refuse(link, ErrSymlink)
	refuse(dangling, ErrSymlink)
	if _, err := Open(file); err == nil {
		t.Error("a file was taken for a folder")
	}
	if err := os.WriteFile(filepath.Join(real, "something"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o770, 0o707, 0o750, 0o705, 0o701, 0o710} {
		if err := os.Chmod(real, mode); err != nil {
			t.Fatal(err)
		}
		refuse(real, ErrExposed)
		if info, err := os.Stat(real); err != nil || info.Mode().Perm() != mode {
			t.Errorf("a refused folder was changed to %v, %v", info.Mode(), err)
		}
	}
	if os.Geteuid() != 0 {
		refuse("/", ErrForeign)
		return
	}
	if err := os.Chmod(real, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(real, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	refuse(real, ErrForeign)
}

// C7: a link inside the folder is neither followed nor written through.
func TestHostileFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege on Windows")
	}
	d := open(t, filepath.Join(t.TempDir(), "state"))
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", ".a.tmp", "a.bak", ".a.bak.tmp"} {
		if err := os.Symlink(outside, filepath.Join(d.Path(), name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Read("a", 100); !errors.Is(err, ErrNotFile) {
		t.Errorf("read through a link: %v", err)
	}
	if err := d.Replace("a", []byte("new"), "a.bak"); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Read("a", 100); err != nil || string(got) != "new" {
		t.Errorf("%q %v", got, err)
	}
	if got, _ := os.ReadFile(outside); string(got) != "precious" {
		t.Errorf("outside file is now %q", got)
	}
	for _, name := range []string{"../outside", "/etc/passwd", "x/../../y"} {
		if _, err := d.Read(name, 100); err == nil {
			t.Errorf("read %s", name)
		}
		if err := d.Replace(name, nil, ""); err == nil {
			t.Errorf("wrote %s", name)
		}
	}
	if err := os.Chmod(filepath.Join(d.Path(), "a"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read("a", 100); !errors.Is(err, ErrExposed) {
		t.Errorf("read an exposed file: %v", err)
	}
	if _, err := d.Read("none", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Whatever call the world stops before: the old or the new content, and the
// next Replace works.
func TestCrashAtEveryCall(t *testing.T) {
	stop := errors.New("the world stops")
	for at := 1; ; at++ {
		d := open(t, filepath.Join(t.TempDir(), "state"))
		for _, content := range []string{"older", "old"} {
			if err := d.Replace("a", []byte(content), "a.bak"); err != nil {
				t.Fatal(err)
			}
		}
		calls, last := 0, ""
		d.step = func(call string) error {
			if calls++; calls >= at { // nothing runs after the end, cleaning up neither
				return stop
			}
			last = call
			return nil
		}
		err := d.Replace("a", []byte("new"), "a.bak")
		d.step = nil
		got, rerr := d.Read("a", 100)
		if rerr != nil || (string(got) != "old" && string(got) != "new") {
			t.Fatalf("stopped after %q: %q, %v", last, got, rerr)
		}
		bak, rerr := d.Read("a.bak", 100)
		if rerr != nil || (string(bak) != "older" && string(bak) != "old") {
			t.Fatalf("stopped after %q: backup %q, %v", last, bak, rerr)
		}
		if string(got) == "new" && string(bak) != "old" {
			t.Fatalf("stopped after %q: new without the old as backup", last)
		}
		previous := string(got)
		if err := d.Replace("a", []byte("newer"), "a.bak"); err != nil {
			t.Fatalf("next Replace after %q: %v", last, err)
		}
		bak, _ = d.Read("a.bak", 100)
		if string(bak) != previous {
			t.Fatalf("after %q: backup of the next one is %q, want %q", last, bak, previous)
		}
		names, _ := d.Names()
		if len(names) != 2 {
			t.Fatalf("after %q: left %v", last, names)
		}
		if err == nil {
			if at < 8 {
				t.Fatalf("only %d calls seen", at)
			}
			return
		}
	}
}

// A full disk, say, leaves nothing behind.
func TestErrorAtEveryCall(t *testing.T) {
	broken := errors.New("broken")
	for at := 1; ; at++ {
		d := open(t, filepath.Join(t.TempDir(), "state"))
		if err := d.Replace("a", []byte("old"), "a.bak"); err != nil {
			t.Fatal(err)
		}
		calls := 0
		d.step = func(string) error {
			if calls++; calls == at {
				return broken
			}
			return nil
		}
		err := d.Replace("a", []byte("new"), "a.bak")
		if ok, eerr := d.Exists(".a.tmp"); ok || eerr != nil {
			t.Fatalf("temporary is there after error at call %d", at)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
	}
}

func writeForever(path string) {
	d, err := Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("writing")
	for i := 0; ; i++ {
		if err := d.Replace("a", bytes.Repeat([]byte(strconv.Itoa(i%10)), 8<<10), "a.bak"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// kill -9 in the middle of it, again and again.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d := open(t, path)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "STATEFILE_TEST_WRITE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 16))
		for range round * 50 { // reads meanwhile see whole files only
			assertWhole(t, d, "a")
		}
		cmd.Process.Kill()
		cmd.Wait()
		assertWhole(t, d, "a")
		assertWhole(t, d, "a.bak")
	}
}

func assertWhole(t *testing.T, d *Dir, name string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(d.Path(), name))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil || len(got) != 8<<10 || bytes.Count(got, got[:1]) != len(got) {
		t.Fatalf("%s: %d bytes, %v", name, len(got), err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	first, second := open(t, path), open(t, path)
	if err := first.Lock(); err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if err := second.Lock(); !errors.Is(err, ErrInUse) || !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Fatalf("second lock: %v", err)
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); err != nil {
		t.Fatalf("after unlock: %v", err)
	}
}
