//go:build unix

package watch

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

const maxChunk = 4096

// prepare has nothing to do: terminals understand what they are told.
func prepare(*os.File) error { return nil }

// read reads the terminal until stop is called, which returns at once. input is
// closed when the terminal is gone.
func (t *terminal) read(s *stream, input chan<- []byte) (stop func()) {
	wake, stopped, err := os.Pipe()
	if err != nil {
		close(input)
		return func() {}
	}
	s.do(func() {
		defer wake.Close()
		in, end := int(t.in.Fd()), int(wake.Fd())
		buffer := make([]byte, maxChunk)
		for {
			if ready, err := readable(in, end); err != nil || !ready {
				if err != nil {
					close(input)
				}
				clear(buffer)
				return
			}
			n, err := unix.Read(in, buffer)
			switch {
			case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
				continue
			case err != nil || n <= 0:
				close(input)
				return
			}
			select {
			case input <- append([]byte(nil), buffer[:n]...):
			case <-s.done:
			}
		}
	})
	return func() { stopped.Close() }
}

// readable waits until there is something to read at fd, or false once the other
// end of the pipe end is closed.
func readable(fd, end int) (bool, error) {
	for {
		var set unix.FdSet
		if fd >= unix.FD_SETSIZE || end >= unix.FD_SETSIZE {
			return false, errors.New("too many open files")
		}
		set.Set(fd)
		set.Set(end)
		switch _, err := unix.Select(max(fd, end)+1, &set, nil, nil, nil); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, err
		}
		return !set.IsSet(end), nil
	}
}

// discard reads away what is there, up to a bound.
func (t *terminal) discard() {
	fd := int(t.in.Fd())
	buffer := make([]byte, maxChunk)
	defer clear(buffer)
	for range 256 {
		var set unix.FdSet
		if fd >= unix.FD_SETSIZE {
			return
		}
		set.Set(fd)
		n, err := unix.Select(fd+1, &set, nil, nil, &unix.Timeval{})
		if err != nil || n == 0 {
			return
		}
		if n, err := unix.Read(fd, buffer); err != nil || n <= 0 {
			return
		}
	}
}

// notify passes on the signals that concern a terminal.
func notify(signals chan<- os.Signal) (stop func()) {
	signal.Notify(signals, unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT, unix.SIGHUP, unix.SIGQUIT)
	return func() { signal.Stop(signals) }
}

// meaning is what a signal asks for.
func meaning(s os.Signal) effect {
	switch s {
	case unix.SIGTSTP:
		return effect{suspend: true}
	case unix.SIGCONT:
		return effect{resumed: true}
	case unix.SIGHUP, unix.SIGQUIT:
		return effect{quit: true}
	}
	return effect{} // another size is seen at the next drawing
}

// stopProcess stops this process and what runs with it, as Ctrl-Z does.
func stopProcess() error { return syscall.Kill(0, syscall.SIGSTOP) }
