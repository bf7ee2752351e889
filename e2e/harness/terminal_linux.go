package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Terminal is a terminal of 100 columns in which the command line runs, and
// somebody who types there.
type Terminal struct {
	keyboard *os.File
	cmd      *exec.Cmd
	ended    chan struct{}

	mu    sync.Mutex
	shown strings.Builder
}

// Terminal runs `countersign args…` in a terminal.
func (a *Agent) Terminal(ctx context.Context, args ...string) (*Terminal, error) {
	keyboard, screen, err := pseudoTerminal()
	if err != nil {
		return nil, fmt.Errorf("opening a terminal: %w", err)
	}
	defer screen.Close()
	cmd := a.Command(ctx, args...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, screen, screen
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		keyboard.Close()
		return nil, err
	}
	t := &Terminal{keyboard: keyboard, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		part := make([]byte, 4096)
		for {
			n, err := keyboard.Read(part)
			t.mu.Lock()
			t.shown.Write(part[:n])
			t.mu.Unlock()
			if err != nil {
				return // nobody has the terminal open any more
			}
		}
	}()
	return t, nil
}

func pseudoTerminal() (keyboard, screen *os.File, err error) {
	keyboard, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(keyboard.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100})
	}
	if err == nil {
		screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		keyboard.Close()
		return nil, nil, err
	}
	return keyboard, screen, nil
}

// Shown is all that came onto the screen so far, with what moves the cursor.
func (t *Terminal) Shown() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown.String()
}

// Await waits until the screen has shown text.
func (t *Terminal) Await(ctx context.Context, text string) error {
	if !await(ctx, func() bool { return strings.Contains(t.Shown(), text) }) {
		return fmt.Errorf("waiting for %q in the terminal: %w\n%q", text, context.Cause(ctx), t.Shown())
	}
	return nil
}

// Type presses keys.
func (t *Terminal) Type(keys string) error {
	_, err := t.keyboard.WriteString(keys)
	return err
}

// End waits until the command has ended, which it does by what was typed, and
// returns its error.
func (t *Terminal) End() error {
	err := t.cmd.Wait()
	<-t.ended
	t.keyboard.Close()
	return err
}
