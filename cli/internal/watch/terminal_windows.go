package watch

import (
	"os"

	"golang.org/x/sys/windows"
)

const maxChunk = 4096

// prepare has the console understand what it is told.
func prepare(out *os.File) error {
	var mode uint32
	console := windows.Handle(out.Fd())
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return err
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING|windows.ENABLE_PROCESSED_OUTPUT)
}

// read reads the console. A read from it cannot be called off: the last one is
// left to the end of this process, which is near.
func (t *terminal) read(s *stream, input chan<- []byte) (stop func()) {
	go func() {
		buffer := make([]byte, maxChunk)
		for {
			n, err := t.in.Read(buffer)
			if err != nil {
				close(input)
				return
			}
			select {
			case input <- append([]byte(nil), buffer[:n]...):
			case <-s.done:
				return
			}
		}
	}()
	return func() {}
}

// discard forgets what was typed and not read.
func (t *terminal) discard() { _ = windows.FlushConsoleInputBuffer(windows.Handle(t.in.Fd())) }

// notify has nothing to pass on: a console has no such signals.
func notify(chan<- os.Signal) (stop func()) { return func() {} }

func meaning(os.Signal) effect { return effect{} }

func stopProcess() error { return nil }
