package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	readyTimeout = 60 * time.Second // a race binary on a busy machine
	stopTimeout  = 15 * time.Second // then it is killed

	// StopPromise is how long a program may take to stop: 2 s, and longer with
	// the race detector in it.
	StopPromise = 2 * time.Second * raceSlowness
)

// Process is one running daemon. Its standard error, and whatever it prints
// on standard output after the ready line, goes to the file Log.
type Process struct {
	Name string
	Log  string

	cmd      *exec.Cmd
	exited   chan struct{} // closed after err is set
	err      error         // from Wait
	stopOnce sync.Once
	stopErr  error
	inside   func() error // ends what is no process at all; else nil
}

// startProcess runs bin in its own process group, with nothing but env to see of
// its surroundings, and waits for the line that says it is ready, which it
// decodes into ready.
func startProcess(ctx context.Context, dir, name string, env []string, ready any, bin string, args ...string) (*Process, error) {
	logPath := filepath.Join(dir, name+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = env
	cmd.Stderr = log
	cmd.SysProcAttr = ownGroup()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		log.Close()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{Name: name, Log: logPath, cmd: cmd, exited: make(chan struct{})}

	line := make(chan []byte, 1)
	go func() {
		defer close(p.exited)
		r := bufio.NewReader(stdout)
		first, _ := r.ReadBytes('\n')
		line <- first
		io.Copy(log, r)
		p.err = cmd.Wait()
		log.Close()
	}()

	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case first := <-line:
		if err := json.Unmarshal(first, ready); err != nil {
			p.Stop()
			return nil, fmt.Errorf("starting %s: its first line is not a ready line: %q\n%s", name, first, p.Tail())
		}
		return p, nil
	case <-ctx.Done():
		p.Stop()
		return nil, fmt.Errorf("starting %s: no ready line: %w\n%s", name, ctx.Err(), p.Tail())
	}
}

// inProcess is a Process that is none: stop ends what runs inside the test.
func inProcess(name string, stop func() error) *Process {
	p := &Process{Name: name, exited: make(chan struct{})}
	p.inside = sync.OnceValue(func() error { defer close(p.exited); return stop() })
	return p
}

// programEnv is all a program sees of its surroundings: no bus, no keyring and
// no settings of the person who runs the tests. A program with the race detector
// says by its exit code that it found one, and does not wait a second for more
// at every exit.
func programEnv(home string) []string {
	return []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "NO_COLOR=1", "GORACE=exitcode=66 atexit_sleep_ms=10",
		"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + filepath.Join(home, "no-bus")}
}

// Stop asks the process to end and waits for it. It fails when the process
// had to be killed, ended with an error, took longer than the 2 s it promises
// or reported a data race. Further calls return the same answer.
func (p *Process) Stop() error {
	if p.inside != nil {
		return p.inside()
	}
	p.stopOnce.Do(func() { p.stopErr = p.stop() })
	return p.stopErr
}

func (p *Process) stop() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s had ended by itself: %w\n%s", p.Name, orNil(p.err), p.Tail())
	default:
	}
	began := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not stop within %v and was killed\n%s", p.Name, stopTimeout, p.Tail())
	}
	if took := time.Since(began); took > StopPromise {
		return fmt.Errorf("%s took %v to stop, %v is promised\n%s", p.Name, took.Round(time.Millisecond), StopPromise, p.Tail())
	}
	if log, err := os.ReadFile(p.Log); err == nil {
		if at := bytes.Index(log, []byte("WARNING: DATA RACE")); at >= 0 {
			return fmt.Errorf("%s reported a data race\n%s", p.Name, log[at:min(len(log), at+6000)])
		}
	}
	if p.err != nil {
		return fmt.Errorf("%s stopped with an error: %w\n%s", p.Name, p.err, p.Tail())
	}
	return nil
}

// Kill ends the process and everything it started, without asking.
func (p *Process) Kill() {
	killGroup(p.cmd)
	<-p.exited
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Tail returns the end of the log, for a message to a person.
func (p *Process) Tail() string {
	log, err := os.ReadFile(p.Log)
	if err != nil {
		return ""
	}
	const most = 4000
	if len(log) > most {
		log = append([]byte("…"), log[len(log)-most:]...)
	}
	return fmt.Sprintf("--- %s\n%s", p.Log, log)
}

func orNil(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
