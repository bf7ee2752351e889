package clipboard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// folder is where the programs are looked for, and nowhere else.
const folder = "/usr/bin"

// tools own what they have copied for as long as they run: that is how X11 and
// Wayland work. The text comes on their standard input.
var tools = []struct {
	display string // the variable that says that there is one
	name    string
	args    []string
	clear   []string // makes it let go by itself
}{
	// This one keeps a file for as long as it runs.
	{"WAYLAND_DISPLAY", "wl-copy", []string{"--foreground", "--type", "text/plain"}, []string{"--clear"}},
	{"DISPLAY", "xclip", []string{"-selection", "clipboard", "-quiet", "-in"}, nil},
	{"DISPLAY", "xsel", []string{"--clipboard", "--nodetach", "--input"}, nil},
}

// environment is all that they are told of ours.
var environment = []string{"DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "HOME", "LANG"}

const (
	// failing is how long a tool takes at most to find that it cannot do it.
	failing = 300 * time.Millisecond
	ending  = 2 * time.Second
)

// Clipboard is that of the display.
type Clipboard struct {
	path        string
	args, clear []string
	kept        time.Duration // Kept, but in tests

	mu    sync.Mutex // held while something is copied; guards what follows
	owner *owner
}

// owner is a tool that runs.
type owner struct {
	*Clipboard
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // set before exited is closed
	stop   func()
}

// Find returns the clipboard of this display, or ErrNone.
func Find() (*Clipboard, error) { return find(os.Getenv, folder, 0) }

func find(getenv func(string) string, folder string, root uint32) (*Clipboard, error) {
	err := ErrNone
	for _, t := range tools {
		if getenv(t.display) == "" {
			continue
		}
		path, wrong := trusted(filepath.Join(folder, t.name), root)
		if wrong == nil {
			return &Clipboard{path: path, args: t.args, clear: t.clear, kept: Kept}, nil
		}
		if !errors.Is(wrong, os.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrNone, wrong)
		}
	}
	return nil, err
}

// trusted is a program that nobody but the administrator can change: it is given
// a code.
func trusted(path string, root uint32) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != root || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s is not the administrator's alone", path)
	}
	return path, nil
}

func (c *Clipboard) command(args []string) *exec.Cmd {
	cmd := exec.Command(c.path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{}
	for _, name := range environment {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// Copy puts text on the clipboard, in place of what it put there before.
func (c *Clipboard) Copy(ctx context.Context, text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGo()
	var says strings.Builder
	o := &owner{Clipboard: c, cmd: c.command(c.args), exited: make(chan struct{})}
	o.cmd.Stdin, o.cmd.Stderr, o.cmd.WaitDelay = strings.NewReader(text), &says, ending
	if err := o.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(o.exited)
		o.err = o.cmd.Wait()
	}()
	late := time.NewTimer(failing)
	defer late.Stop()
	select {
	case <-late.C:
	case <-o.exited:
		if o.err != nil {
			return fmt.Errorf("%s: %s", filepath.Base(c.path), strings.Join(strings.Fields(says.String()+" "+o.err.Error()), " "))
		}
		return nil // something else has been copied by now
	case <-ctx.Done():
		o.end()
		return ctx.Err()
	}
	timer := time.AfterFunc(c.kept, o.end)
	o.stop = func() {
		timer.Stop()
		o.end()
	}
	c.owner = o
	return nil
}

// end makes a tool let go of what it has copied. One that has exited has nothing
// any more: somebody else has copied something.
func (o *owner) end() {
	if o.clear != nil && !o.gone(0) {
		clear := o.command(o.clear)
		clear.WaitDelay = ending
		if clear.Start() == nil {
			kill := time.AfterFunc(ending, func() { _ = clear.Process.Kill() })
			_ = clear.Wait()
			kill.Stop()
			if o.gone(ending) {
				return
			}
		}
	}
	_ = o.cmd.Process.Kill()
	<-o.exited
}

// gone says whether it has exited, or does so soon.
func (o *owner) gone(wait time.Duration) bool {
	select {
	case <-o.exited:
		return true
	default:
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-o.exited:
		return true
	case <-late.C:
		return false
	}
}

// letGo ends the tool that runs. The caller holds the lock.
func (c *Clipboard) letGo() {
	if c.owner != nil {
		c.owner.stop()
		c.owner = nil
	}
}

// Close takes away what was copied.
func (c *Clipboard) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGo()
}
