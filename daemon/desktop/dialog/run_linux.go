package dialog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// maxOutput is more than any answer of a person.
const maxOutput = 4096

// afterwards is how long what a program has printed is waited for once it has
// ended: a child of it that has run away may keep the pipe open.
const afterwards = time.Second

// program is one that shows windows.
type program struct {
	path  string
	owner int // of the file: 0 but in tests
}

// end is how a program ended.
type end struct {
	code int
	text []byte // what it printed; whoever reads it clears it
}

// run shows one window and waits for its end. The program is ended with ctx,
// together with whatever it has started, and with this process. What it prints
// goes through a pipe into memory that is cleared, since it may be a PIN.
func (p program) run(ctx context.Context, env []string, input string, args ...string) (end, error) {
	file, err := p.trusted()
	if err != nil {
		return end{}, fmt.Errorf("%w: %w", ErrNone, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return end{}, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Args[0] = p.path
	cmd.Env, cmd.Dir, cmd.Stdout = env, "/", w
	if input != "" {
		cmd.Stdin = strings.NewReader(input) // else it is /dev/null
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = group, afterwards
	// The system takes the death of the thread that started the program for that
	// of the parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	w.Close()
	if err != nil {
		return end{}, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	buf := make([]byte, maxOutput+1)
	n := 0
	read := make(chan error, 1)
	go func() {
		var err error
		n, err = io.ReadFull(r, buf)
		if err == nil {
			cancel() // no person says so much
		}
		read <- err
	}()
	waited := cmd.Wait()
	_ = group() // what it has left behind
	_ = r.SetReadDeadline(time.Now().Add(afterwards))
	err = <-read
	var exited *exec.ExitError
	switch {
	case err == nil:
		err = fmt.Errorf("%w: %s says too much", ErrFailed, p.path)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%w: %s: %w", ErrFailed, p.path, err)
	case waited != nil && (!errors.As(waited, &exited) || exited.ExitCode() < 0):
		err = fmt.Errorf("%w: %s: %w", ErrFailed, p.path, waited)
	default:
		return end{code: cmd.ProcessState.ExitCode(), text: buf[:n]}, nil
	}
	clear(buf)
	return end{}, err
}
