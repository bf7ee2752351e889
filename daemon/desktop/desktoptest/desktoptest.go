//go:build linux

// Package desktoptest gives tests a desktop of their own: a screen that nobody
// sees (Xvfb) with a window manager (openbox), hands to press keys and the mouse
// (xdotool), and an eye (ImageMagick's import). Nothing of the person's real
// desktop or home is used, and all ends with the test.
package desktoptest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is for programs that start, and windows that come and go.
const patience = 20 * time.Second

// Desktop is a screen and who is at it. Close it.
type Desktop struct {
	// Display is the name of the screen, as in DISPLAY.
	Display string
	// Home is a private home folder, Runtime a private runtime folder. Both are
	// removed by Close.
	Home, Runtime string

	programs []*exec.Cmd
	ends     []chan struct{}
}

// Start makes a desktop that ends with the test.
func Start(t testing.TB) *Desktop {
	t.Helper()
	d, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// New makes a desktop, e.g. one for all tests of a package, in TestMain.
func New() (*Desktop, error) {
	dir, err := os.MkdirTemp("", "desk") // a socket's path holds 107 bytes
	if err != nil {
		return nil, err
	}
	d := &Desktop{Home: filepath.Join(dir, "home"), Runtime: filepath.Join(dir, "run")}
	if err := d.start(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Desktop) start() error {
	for _, dir := range []string{d.Home, d.Runtime} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	// The server picks a free display and says so when it is ready.
	said, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	server, err := program("Xvfb", "xvfb", "-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset")
	if err == nil {
		server.ExtraFiles = []*os.File{tell}
		err = d.Run(server)
	}
	tell.Close()
	if err != nil {
		return err
	}
	if err := said.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	number, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server Xvfb does not start: %w", err)
	}
	d.Display = ":" + strings.TrimSpace(number)

	manager, err := program("openbox", "openbox", "--sm-disable")
	if err == nil {
		err = d.Run(manager)
	}
	if err != nil {
		return err
	}
	return d.until("openbox to manage windows", func() bool {
		out, err := d.tool("xprop", "x11-utils", "-root", "_NET_SUPPORTING_WM_CHECK")
		return err == nil && strings.Contains(out, "window id")
	})
}

// Close ends everything that runs on the desktop.
func (d *Desktop) Close() {
	for i := len(d.programs) - 1; i >= 0; i-- {
		syscall.Kill(-d.programs[i].Process.Pid, syscall.SIGKILL)
		<-d.ends[i]
	}
	d.programs, d.ends = nil, nil
	os.RemoveAll(filepath.Dir(d.Home))
}

// Run starts a program on the desktop that Close ends. Its environment is Env,
// unless it has one.
func (d *Desktop) Run(c *exec.Cmd) error {
	if c.Env == nil {
		c.Env = d.Env()
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // should the test be killed
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Wait()
	}()
	d.programs, d.ends = append(d.programs, c), append(d.ends, ended)
	return nil
}

// Env is the environment of a program on the desktop: this process's, with the
// private folders and the private screen, and no bus.
func (d *Desktop) Env() []string {
	env := os.Environ()
	for name, value := range d.Vars() {
		env = append(env, name+"="+value)
	}
	return env
}

// Vars are the variables that make a program use the desktop. An address of a
// bus where none is keeps libraries from starting one.
func (d *Desktop) Vars() map[string]string {
	return map[string]string{
		"DISPLAY": d.Display, "WAYLAND_DISPLAY": "", "XAUTHORITY": "",
		"HOME": d.Home, "XDG_RUNTIME_DIR": d.Runtime,
		"XDG_CONFIG_HOME": filepath.Join(d.Home, ".config"), "XDG_CACHE_HOME": filepath.Join(d.Home, ".cache"),
		"XDG_DATA_HOME":            filepath.Join(d.Home, ".local", "share"),
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + filepath.Join(d.Runtime, "no-bus"),
		"LANG":                     "C.UTF-8", "LC_ALL": "C.UTF-8", "LANGUAGE": "",
	}
}

// Use makes the desktop that of this process until the test ends.
func (d *Desktop) Use(t testing.TB) {
	t.Helper()
	for name, value := range d.Vars() {
		t.Setenv(name, value)
	}
}

// Screenshot writes what is on the screen to a PNG file.
func (d *Desktop) Screenshot(t testing.TB, file string) {
	t.Helper()
	d.must(t, "import", "imagemagick", "-silent", "-window", "root", "-strip", file)
}

// Screenshot writes the window with its frame to a PNG file.
func (w Window) Screenshot(t testing.TB, file string) {
	t.Helper()
	w.d.must(t, "import", "imagemagick", "-silent", "-frame", "-window", w.ID, "-strip", file)
}

// Do presses keys and moves the mouse: a command of xdotool.
func (d *Desktop) Do(t testing.TB, args ...string) {
	t.Helper()
	d.must(t, "xdotool", "xdotool", args...)
}

// Window is a window that is shown.
type Window struct {
	ID string
	d  *Desktop
}

// Windows are those with a title that are shown.
func (d *Desktop) Windows(title string) []Window {
	out, err := d.tool("xdotool", "xdotool", "search", "--onlyvisible", "--name", "^"+title+"$")
	if err != nil {
		return nil // none is an error
	}
	var list []Window
	for _, id := range strings.Fields(out) {
		list = append(list, Window{ID: id, d: d})
	}
	return list
}

// Wait waits for a window with a title, a regular expression, and gives it the
// keyboard.
func (d *Desktop) Wait(t testing.TB, title string) Window {
	t.Helper()
	var w Window
	err := d.until("a window "+title+" with the keyboard", func() bool {
		list := d.Windows(title)
		if len(list) == 0 {
			return false
		}
		w = list[0]
		focus, err := d.tool("xdotool", "xdotool", "windowactivate", w.ID, "getactivewindow")
		return err == nil && strings.TrimSpace(focus) == w.ID
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Gone waits until a window is not shown any more.
func (w Window) Gone(t testing.TB) {
	t.Helper()
	err := w.d.until("the window to go", func() bool {
		out, err := w.d.tool("xwininfo", "x11-utils", "-id", w.ID)
		return err != nil || !strings.Contains(out, "IsViewable")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Keys presses keys in the window that has the keyboard, as xdotool names them:
// "Tab", "Return", "alt+F4".
func (w Window) Keys(t testing.TB, keys ...string) {
	t.Helper()
	w.d.Do(t, append([]string{"key", "--delay", "20"}, keys...)...)
}

// Type types text.
func (w Window) Type(t testing.TB, text string) {
	t.Helper()
	w.d.Do(t, "type", "--delay", "20", text)
}

// Shut closes the window as its frame's button does.
func (w Window) Shut(t testing.TB) {
	t.Helper()
	w.Keys(t, "alt+F4")
}

// until asks again and again, for events of windows have no waiter but polling.
func (d *Desktop) until(what string, is func() bool) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(25 * time.Millisecond) {
		if is() {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("waited in vain for " + what)
		}
	}
}

func (d *Desktop) must(t testing.TB, name, pkg string, args ...string) {
	t.Helper()
	if out, err := d.tool(name, pkg, args...); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (d *Desktop) tool(name, pkg string, args ...string) (string, error) {
	c, err := program(name, pkg, args...)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c = exec.CommandContext(ctx, c.Path, args...)
	c.Env = d.Env()
	out, err := c.CombinedOutput()
	return string(out), err
}

func program(name, pkg string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%s is missing; install the package %s", name, pkg)
	}
	return exec.Command(path, args...), nil
}
