package clipboard

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 20 * time.Second

// display runs a display of the test's own.
func display(t *testing.T) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	server := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "64x64x8", "-nolisten", "tcp", "-noreset")
	server.ExtraFiles = []*os.File{w}
	if err := server.Start(); err != nil {
		t.Fatalf("%v; install the package xvfb", err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	})
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(number))
	t.Setenv("WAYLAND_DISPLAY", "")
}

// pasted is what the clipboard has; nothing when nobody has copied anything.
func pasted() string {
	out, err := exec.Command("xclip", "-selection", "clipboard", "-o").Output()
	if err != nil {
		return ""
	}
	return string(out)
}

func await(t *testing.T, want string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		got := pasted()
		if got == want {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the clipboard has %q, want %q", got, want)
		}
	}
}

// with finds the clipboard by one tool alone.
func with(t *testing.T, tool string) *Clipboard {
	t.Helper()
	dir := t.TempDir()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Fatalf("%v; install the package %s", err, tool)
	}
	if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
		t.Fatal(err)
	}
	c, err := find(os.Getenv, dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCopy(t *testing.T) {
	display(t)
	for _, tool := range []string{"xclip", "xsel"} {
		t.Run(tool, func(t *testing.T) {
			c := with(t, tool)
			copyIt := func(text string) {
				t.Helper()
				if err := c.Copy(t.Context(), text); err != nil {
					t.Fatal(err)
				}
				await(t, text)
			}
			copyIt("111111")
			copyIt("222222") // in its place
			c.Close()
			await(t, "")

			c.kept = time.Millisecond
			if err := c.Copy(t.Context(), "333333"); err != nil {
				t.Fatal(err)
			}
			await(t, "") // by itself

			c.kept = time.Hour
			copyIt("444444")
			theirs := exec.Command("xclip", "-selection", "clipboard", "-quiet")
			theirs.Stdin = strings.NewReader("theirs")
			if err := theirs.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = theirs.Process.Kill(); _ = theirs.Wait() }()
			await(t, "theirs")
			c.Close() // what others have copied since is left alone
			await(t, "theirs")
		})
	}
	c := with(t, "xclip")
	t.Setenv("DISPLAY", ":4242")
	if err := c.Copy(t.Context(), "555555"); err == nil || !strings.Contains(err.Error(), "display") || strings.Contains(err.Error(), "555555") {
		t.Errorf("without a display: %v", err)
	}
}

// A tool that keeps a file is asked to let go, so that it takes the file along.
func TestLetGo(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\ncase $1 in\n--clear) echo cleared >>" + dir + "/log; kill $(cat " + dir + "/pid);;\n*) echo $$ >" + dir + "/pid; cat >" + dir + "/text; exec sleep 60;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "wl-copy"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	env := func(name string) string { return map[string]string{"WAYLAND_DISPLAY": "wayland-0"}[name] }
	c, err := find(env, dir, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Copy(t.Context(), "111111"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if text, err := os.ReadFile(dir + "/text"); string(text) != "111111" {
		t.Errorf("copied %q, %v", text, err)
	}
	if log, err := os.ReadFile(dir + "/log"); string(log) != "cleared\n" {
		t.Errorf("cleared %q, %v", log, err)
	}
}

// F10: a code is given to no program that somebody else could have put there.
func TestF10OnlyTheAdministratorsPrograms(t *testing.T) {
	env := func(name string) string { return map[string]string{"DISPLAY": ":1"}[name] }
	me := uint32(os.Getuid())
	put := func(t *testing.T, mode os.FileMode) string {
		dir := t.TempDir()
		path := filepath.Join(dir, "xclip")
		if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if _, err := find(env, put(t, 0o755), me); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name, row := range map[string]struct {
		mode os.FileMode
		root uint32
	}{"others may write": {0o757, me}, "the group may write": {0o775, me}, "another's": {0o755, me + 1}} {
		if _, err := find(env, put(t, row.mode), row.root); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "administrator") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("PATH", put(t, 0o755))
	if _, err := find(env, t.TempDir(), me); !errors.Is(err, ErrNone) {
		t.Errorf("by PATH: %v", err)
	}
	if _, err := find(func(string) string { return "" }, put(t, 0o755), me); !errors.Is(err, ErrNone) {
		t.Errorf("without a display: %v", err)
	}
}
