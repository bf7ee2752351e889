package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"countersign.dev/ipc/api"
)

const maxPIN = 1 << 10 // bytes of a line that may hold one; what a PIN may be is for the agent to say

var errNoTerminal = errors.New("there is no terminal to ask for the PIN at")

// terminal returns standard input if a person can be asked there.
func (a *app) terminal() (*os.File, bool) {
	f, ok := a.in.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// askSecret asks for a line that the terminal does not show; it may be empty.
func (a *app) askSecret(ctx context.Context, question string) (api.PIN, error) {
	line, err := a.asks(ctx, question, silently)
	if err == nil {
		a.errs.line("") // the person's own does not show
	}
	return api.PIN(line), err
}

// silently reads a line that the terminal does not show. The file is held meanwhile:
// closed after an interrupt, its number would be that of another one, which the end
// of the reading would make show what is typed.
func silently(f *os.File) (line []byte, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if held := raw.Control(func(fd uintptr) { line, err = term.ReadPassword(int(fd)) }); held != nil {
		return nil, held
	}
	return line, err
}

// ask asks for a line that the terminal shows; it may be empty.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	line, err := a.asks(ctx, question, func(f *os.File) ([]byte, error) { return bufio.NewReader(f).ReadBytes('\n') })
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return string(bytes.TrimSpace(line)), err
}

// asks asks at the terminal. The question goes to standard error: standard output
// belongs to the answer.
func (a *app) asks(ctx context.Context, question string, read func(f *os.File) ([]byte, error)) ([]byte, error) {
	f, ok := a.terminal()
	if !ok {
		return nil, errNoTerminal
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(a.errs.w, question+" ")
	type typed struct {
		line []byte
		err  error
	}
	// A read from a terminal cannot be called off. After an interrupt it is left
	// to the end of this process, which is near; the terminal is not.
	done := make(chan typed, 1)
	go func() {
		line, err := read(f)
		done <- typed{line, err}
	}()
	select {
	case got := <-done:
		return got.line, got.err
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		a.errs.line("")
		return nil, ctx.Err()
	}
}

// askTwice asks for a new PIN and once more for the same.
func (a *app) askTwice(ctx context.Context, question string) (api.PIN, error) {
	pin, err := a.askSecret(ctx, question)
	if err != nil {
		return nil, err
	}
	if len(pin) == 0 {
		return nil, errors.New("no PIN was typed")
	}
	again, err := a.askSecret(ctx, "the same again:")
	if err != nil {
		return nil, err
	}
	if string(pin) != string(again) {
		return nil, errors.New("the two are not the same")
	}
	return pin, nil
}

// readLines reads that many lines, of at most so many bytes together: a secret
// is better there than in an argument, which others could see.
func readLines(in io.Reader, lines int, most int64) ([]string, error) {
	r := bufio.NewReader(io.LimitReader(in, most))
	var list []string
	for range lines {
		line, err := r.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" && lines == 1:
			return nil, errors.New("standard input has none")
		case line == "":
			return nil, fmt.Errorf("standard input has fewer than %d lines", lines)
		}
		list = append(list, line)
	}
	return list, nil
}

// readLine reads one line.
func readLine(in io.Reader, most int64) (string, error) {
	list, err := readLines(in, 1, most)
	if err != nil {
		return "", err
	}
	return list[0], nil
}

// mayTryAgain says whether an error means that the PIN was wrong and may be
// typed again, and tells the person.
func (a *app) mayTryAgain(err error) bool {
	refused := (*api.Error)(nil)
	if !errors.As(err, &refused) || refused.Code != "wrong_pin" && refused.Code != "wrong_key_pin" {
		return false
	}
	a.errs.line("%s", clean(refused.Message))
	return true
}

// needsPIN says whether an error means that nothing is done without the PIN.
func needsPIN(err error) bool {
	refused := (*api.Error)(nil)
	return errors.As(err, &refused) && refused.Code == "verification_required"
}
