package dialog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign.dev/bus/bustest"
	"countersign.dev/ipc/describe"
)

// fake writes a program in place of zenity or kdialog: a shell script that
// first notes its arguments in the file it returns, one a line.
func fake(t *testing.T, name, script string) (program, string) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "bin")
	if err != nil {
		t.Fatal(err)
	}
	p, args := program{path: filepath.Join(dir, name), owner: os.Geteuid()}, filepath.Join(dir, "args")
	text := fmt.Sprintf("#!/bin/sh\nfor a; do printf '%%s\\n' \"$a\"; done >>%s\necho -- >>%s\n%s\n", args, args, script)
	if err := os.WriteFile(p.path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return p, args
}

// by asks by such a program, as if every answer took its time.
func by(p program) *asker {
	a := newAsker(p)
	a.environment = func(context.Context) ([]string, error) { return []string{"PATH=/usr/bin:/bin", "DISPLAY=:none"}, nil }
	a.since = func(time.Time) time.Duration { return time.Hour }
	return a
}

// TestB3ProgramsGoneWrong: what a broken, killed or lying program does is no
// approval.
func TestB3ProgramsGoneWrong(t *testing.T) {
	for _, name := range []string{"zenity", "kdialog"} {
		for _, test := range []struct{ name, script string }{
			{"exit 0", "exit 0"},
			{"exit 0 and yes", "echo Approve; exit 0"},
			{"exit 1", "exit 1"},
			{"exit 255 and yes", "echo Approve; exit 255"},
			{"another label", "echo Approve all; exit 102"},
			{"two answers", "printf 'Approve\\nDeny\\n'; exit 102"},
			{"no end of line", "printf Approve; exit 103"},
			{"killed", "echo Approve; kill -9 $$"},
			{"ended", "echo Approve; kill $$"},
			{"a flood", "while :; do echo Approve; done"},
			{"a little too much", "head -c 4097 /dev/zero | tr '\\0' '\\n'; exit 102"},
			{"bytes", "printf '\\000\\377Approve\\n'; exit 102"},
		} {
			t.Run(name+"/"+test.name, func(t *testing.T) {
				p, _ := fake(t, name, test.script)
				answer, err := by(p).Ask(t.Context(), question())
				if !errors.Is(err, ErrFailed) || answer.Verdict != Closed {
					t.Errorf("%+v, %v", answer, err)
				}
			})
		}
	}
	for _, typed := range []string{"exit 100", "echo; exit 100", "echo 42; exit 0", "echo 42; exit 102", "echo 42 >&2; exit 100"} {
		p, _ := fake(t, "zenity", typed)
		q := question()
		q.Entry = Number
		if answer, err := by(p).Ask(t.Context(), q); !errors.Is(err, ErrFailed) || answer.Verdict != Closed {
			t.Errorf("%s: %+v, %v", typed, answer, err)
		}
	}
}

// TestDialogIsKilledWhole: with the time everything ends that the program has
// started, also what ignores signals and what keeps the pipe.
func TestDialogIsKilledWhole(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	p, _ := fake(t, "zenity", "trap '' TERM INT HUP; sleep 1000 & echo $$ $! >"+pids+"; wait")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := by(p).Ask(ctx, question())
		done <- err
	}()
	var list []string
	for deadline := time.Now().Add(10 * time.Second); len(list) < 2 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(pids)
		list = strings.Fields(string(b))
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	if len(list) != 2 {
		t.Fatalf("%q", list)
	}
	for _, s := range list {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		gone := func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(b), ") Z ") // or its new parent has not looked yet
		}
		for deadline := time.Now().Add(10 * time.Second); !gone(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d lives", pid)
			}
		}
	}

	// A child that keeps the pipe holds nothing up.
	p, _ = fake(t, "zenity", "setsid sh -c 'echo $$ >"+pids+"; exec sleep 1000' & while [ ! -s "+pids+" ]; do sleep 0.01; done; echo Deny; exit 102")
	os.Remove(pids)
	if answer, err := by(p).Ask(t.Context(), question()); answer.Verdict != Closed || !errors.Is(err, ErrFailed) {
		t.Errorf("%+v, %v", answer, err)
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

// TestDialogHasItsTime: at its end the program is ended, and nothing answered.
func TestDialogHasItsTime(t *testing.T) {
	p, _ := fake(t, "zenity", "exec sleep 1000")
	q := question()
	q.Until = time.Now().Add(200 * time.Millisecond)
	if answer, err := by(p).Ask(t.Context(), q); err != nil || answer.Verdict != Closed || time.Now().Before(q.Until) {
		t.Errorf("%+v, %v", answer, err)
	}
}

// TestF10DialogEnvironment poisons the environment: nothing that names code or
// changes what an answer means reaches the program.
func TestF10DialogEnvironment(t *testing.T) {
	poison := map[string]string{
		"LD_PRELOAD": "/evil.so", "LD_LIBRARY_PATH": "/evil", "GTK_MODULES": "evil", "GTK_PATH": "/evil", "GTK_EXE_PREFIX": "/evil",
		"GTK_IM_MODULE_FILE": "/evil", "GDK_PIXBUF_MODULE_FILE": "/evil", "GIO_EXTRA_MODULES": "/evil", "GIO_MODULE_DIR": "/evil",
		"QT_PLUGIN_PATH": "/evil", "QT_QPA_PLATFORM_PLUGIN_PATH": "/evil", "QML2_IMPORT_PATH": "/evil", "PATH": "/evil", "SSH_ASKPASS": "/evil",
		"ZENITY_OK": "1", "ZENITY_CANCEL": "0", "ZENITY_ESC": "100", "DIALOG_OK": "1", "BASH_ENV": "/evil", "ENV": "/evil", "LC_ALL": "C",
		"XDG_CONFIG_HOME": "/evil", "PYTHONPATH": "/evil",
	}
	for name, value := range poison {
		t.Setenv(name, value)
	}
	t.Setenv("DISPLAY", ":7")
	t.Setenv("GTK_THEME", "Adwaita:dark")
	seen := filepath.Join(t.TempDir(), "env")
	p, _ := fake(t, "zenity", "tr '\\0' '\\n' </proc/$$/environ >"+seen+"; readlink /proc/$$/cwd /proc/$$/fd/0 >>"+seen+"; exit 102")
	a := newAsker(p)
	a.Ask(t.Context(), question())
	b, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	if strings.Contains(string(b), "evil") {
		t.Errorf("poison came through:\n%s", b)
	}
	for _, want := range []string{"DISPLAY=:7", "GTK_THEME=Adwaita:dark", "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "ZENITY_OK=100", "ZENITY_ESC=102", "/", "/dev/null"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is missing in\n%s", want, b)
		}
	}
	for _, l := range lines {
		name, _, ok := strings.Cut(l, "=")
		if ok && !slices.Contains(passed, name) && name != "PATH" && name != "LC_ALL" && !strings.HasPrefix(name, "ZENITY_") {
			t.Errorf("%s came through", l)
		}
	}
}

// TestF10DialogProgram: a program that somebody else could have put there, or
// could change, is not run, and PATH finds none.
func TestF10DialogProgram(t *testing.T) {
	getenv := func(string) string { return ":7" }
	look := func(p program) error {
		_, err := find(getenv, filepath.Dir(p.path), p.owner)
		return err
	}
	p, args := fake(t, "zenity", "exit 0")
	if err := look(p); err != nil {
		t.Fatal(err)
	}
	other := p
	if other.owner++; os.Geteuid() != 0 && look(other) == nil {
		t.Error("another user's program is taken")
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(p.path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if look(p) == nil {
			t.Error("another user's program is taken")
		}
		if err := os.Chown(p.path, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		path string
		mode os.FileMode
	}{{p.path, 0o720}, {p.path, 0o702}, {p.path, 0o600}, {filepath.Dir(p.path), 0o770}, {filepath.Dir(p.path), 0o777}} {
		if err := os.Chmod(test.path, test.mode); err != nil {
			t.Fatal(err)
		}
		if look(p) == nil {
			t.Errorf("%s with %o is taken", test.path, test.mode)
		}
		if _, err := by(p).Ask(t.Context(), question()); !errors.Is(err, ErrNone) {
			t.Errorf("%s with %o was run: %v", test.path, test.mode, err)
		}
		if err := os.Chmod(test.path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// A link is as good as what it leads to.
	target, _ := fake(t, "elsewhere", "exit 0")
	if err := os.Remove(p.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target.path, p.path); err != nil {
		t.Fatal(err)
	}
	if err := look(p); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(target.path, 0o722); err != nil {
		t.Fatal(err)
	}
	if look(p) == nil {
		t.Error("a link to what others can change is taken")
	}
	if err := os.Chmod(target.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(target.path), 0o777); err != nil {
		t.Fatal(err)
	}
	if look(p) == nil {
		t.Error("a link into a folder that others can change is taken")
	}
	if err := os.Mkdir(filepath.Join(filepath.Dir(p.path), "kdialog"), 0o700); err != nil { // no file
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(p.path))
	if look(p) == nil {
		t.Error("a folder is taken for a program")
	}
	if _, err := os.Stat(args); err == nil {
		t.Error("a program was run")
	}
}

func TestFind(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	both, err := os.MkdirTemp(t.TempDir(), "bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zenity", "kdialog"} {
		if err := os.WriteFile(filepath.Join(both, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	one := t.TempDir()
	if err := os.Chmod(one, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(one, "kdialog"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ folder, desktop, want string }{
		{both, "", "zenity"}, {both, "GNOME", "zenity"}, {both, "KDE", "kdialog"}, {both, "ubuntu:KDE", "kdialog"}, {one, "GNOME", "kdialog"}, {none, "KDE", ""},
	} {
		env := map[string]string{"XDG_CURRENT_DESKTOP": test.desktop, "WAYLAND_DISPLAY": "wayland-0"}
		w, err := find(func(name string) string { return env[name] }, test.folder, os.Geteuid())
		switch {
		case test.want == "" && !errors.Is(err, ErrNone):
			t.Errorf("%v: %v", test, err)
		case test.want != "" && (err != nil || w.Name() != test.want):
			t.Errorf("%v: %v, %v", test, w, err)
		}
	}
	// Without a name of a display, a socket of one will do, if its name can be
	// asked for.
	runtime := t.TempDir()
	env := map[string]string{"XDG_RUNTIME_DIR": runtime}
	if err := os.WriteFile(filepath.Join(runtime, "wayland-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find(func(name string) string { return env[name] }, both, os.Geteuid()); !errors.Is(err, ErrNone) {
		t.Errorf("with nobody to ask for its name: %v", err)
	}
	env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/run/somewhere"
	if _, err := find(func(name string) string { return env[name] }, both, os.Geteuid()); err != nil {
		t.Error(err)
	}
}

// TestDisplayOfTheUserManager: an agent that was started before the desktop
// asks the user manager where it is, when it has to ask.
func TestDisplayOfTheUserManager(t *testing.T) {
	address := bustest.Start(t)
	for _, name := range passed {
		t.Setenv(name, "")
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	if _, err := environment(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("without a manager: %v", err)
	}
	m := bustest.NewMock(t, address, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
	get := func(value string) {
		m.Method("/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties", "Get", "ss", "v", "ret = "+value)
	}
	get(`dbus.Array(["DISPLAY=:5", "XAUTHORITY=/run/x", "LD_PRELOAD=/evil.so", "PATH=/evil", "nonsense"], signature="s")`)
	env, err := environment(t.Context())
	if err != nil || !slices.Contains(env, "DISPLAY=:5") || !slices.Contains(env, "XAUTHORITY=/run/x") || strings.Contains(strings.Join(env, " "), "evil") {
		t.Errorf("%q, %v", env, err)
	}
	for _, value := range []string{`dbus.Array([], signature="s")`, `dbus.String("DISPLAY=:5")`, `dbus.Array(["LANG=C"], signature="s")`} {
		get(value)
		if env, err := environment(t.Context()); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %q, %v", value, env, err)
		}
	}
	// An own display is taken without asking.
	env, err = compose([]string{"DISPLAY=:1", "LD_PRELOAD=x"}, func() ([]string, error) { t.Error("asked"); return nil, nil })
	if err != nil || !slices.Contains(env, "DISPLAY=:1") || !slices.Contains(env, "DBUS_SESSION_BUS_ADDRESS=disabled:") || len(env) != len(fixed)+2 {
		t.Errorf("%q, %v", env, err)
	}
}

// TestB9DialogText: what a text may contain is shown as it is, in each kind of
// window.
func TestB9DialogText(t *testing.T) {
	p := newPage(Question{Heading: `Pay_roll & <b> \074`, Facts: []describe.Fact{{Name: "from", Value: "a\nb\u202ec"}}, Problem: "<i>"})
	p.last = "L"
	for _, test := range []struct{ kind, got, want string }{
		{"markup", zenityMarkup(p), "<span size=\"large\" weight=\"bold\">Pay_roll &amp; &lt;b&gt; \\\\074</span>\n\nFrom: a\ufffdb\ufffdc\n\n" + sayAdvice + "\n" + saySafe + "\n\n<b>&lt;i&gt;</b>\nL"},
		{"plain", zenityPlain(p), "Pay__roll & <b> \\\\074\n\nFrom: a\ufffdb\ufffdc\n\n" + sayAdvice + "\n" + saySafe + "\n\n<i>\nL"},
		{"rich", kdialogText(p, "&amp;&amp;"), "<qt><p><big><b>Pay_roll &amp;&amp; &lt;b&gt; \\\\074</b></big></p><table><tr><td>From&nbsp;&nbsp;</td><td>a\ufffdb\ufffdc</td></tr></table><p>" +
			sayAdvice + "<br/>" + saySafe + "</p><p><b>&lt;i&gt;</b></p><p>L</p></qt>"},
		{"rich report", kdialogLines([]string{`a & <b>`, `\n`}, `\`), `<qt>a &amp; &lt;b&gt;<br/>\n</qt>`},
	} {
		if test.got != test.want {
			t.Errorf("%s:\n%q\nwant\n%q", test.kind, test.got, test.want)
		}
	}
	long := newPage(Question{Heading: strings.Repeat("x", 5000), Unusual: []string{strings.Repeat("wide 字 ", 200)}})
	for _, l := range strings.Split(zenityPlain(long), "\n") {
		if columns(l) > 100 {
			t.Errorf("a line of %d columns", columns(l))
		}
	}
	for _, test := range []struct {
		text string
		want string
	}{{"", ""}, {"one two", "one|two"}, {"abcdefghij", "abcde|fghij"}, {"a abcdefg b", "a|abcde|fg b"}, {"字字字", "字字|字"}} {
		if got := strings.Join(wrap(test.text, 5), "|"); got != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}
