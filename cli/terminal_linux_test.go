package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty returns both ends of a new pseudo-terminal.
func pty(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		person.Close() // ends what still reads at the other end
		program.Close()
	})
	return person, program
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	modes, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return modes.Lflag&unix.ECHO != 0
}

// silent waits until the terminal shows nothing any more of what is typed.
func silent(t *testing.T, f *os.File) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); echoes(t, f); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the terminal shows what is typed")
		}
	}
}

// C8: what is typed is not shown, and the terminal is as it was afterwards.
func TestC8PINIsNotShown(t *testing.T) {
	person, program := pty(t)
	a := &app{in: program, errs: screen{w: program}}
	type got struct {
		pin string
		err error
	}
	done := make(chan got, 1)
	go func() {
		pin, err := a.askSecret(t.Context(), "PIN:")
		done <- got{string(pin), err}
	}()
	silent(t, program)
	if _, err := io.WriteString(person, "314159\n"); err != nil {
		t.Fatal(err)
	}
	if g := <-done; g.pin != "314159" || g.err != nil {
		t.Fatalf("%+v", g)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays silent")
	}
	shown := make([]byte, 1024)
	n, err := person.Read(shown)
	if err != nil || !strings.Contains(string(shown[:n]), "PIN:") || strings.Contains(string(shown[:n]), "314159") {
		t.Errorf("shown: %q, %v", shown[:n], err)
	}
}

// An interrupt ends the question and leaves the terminal as it was.
func TestInterruptedQuestion(t *testing.T) {
	_, program := pty(t)
	var errs bytes.Buffer
	a := &app{in: program, errs: screen{w: &errs}}
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.askSecret(ctx, "PIN:")
		done <- err
	}()
	silent(t, program)
	interrupt()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays silent")
	}
	if got := failed("set the PIN", ctx.Err()).Error(); got != "set the PIN: interrupted" {
		t.Error(got)
	}
}

func TestNoTerminal(t *testing.T) {
	for _, in := range []io.Reader{strings.NewReader("314159\n"), bytes.NewBufferString("x")} {
		if _, err := (&app{in: in}).askSecret(t.Context(), "PIN:"); !errors.Is(err, errNoTerminal) {
			t.Errorf("%T: %v", in, err)
		}
	}
}
