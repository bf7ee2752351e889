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

	"countersign.dev/cli/internal/ptytest"
)

// C8: what is typed is not shown, and the terminal is as it was afterwards.
func TestC8PINIsNotShown(t *testing.T) {
	person, program := ptytest.Open(t)
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
	ptytest.Silent(t, program)
	if _, err := io.WriteString(person, "314159\n"); err != nil {
		t.Fatal(err)
	}
	if g := soon(t, done, "the question"); g.pin != "314159" || g.err != nil {
		t.Fatalf("%+v", g)
	}
	if !ptytest.Echoes(t, program) {
		t.Error("the terminal stays silent")
	}
	if err := person.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	shown := make([]byte, 1024)
	n, err := person.Read(shown)
	if err != nil || !strings.Contains(string(shown[:n]), "PIN:") || strings.Contains(string(shown[:n]), "314159") {
		t.Errorf("shown: %q, %v", shown[:n], err)
	}
}

// An interrupt ends the question and leaves the terminal as it was.
func TestInterruptedQuestion(t *testing.T) {
	_, program := ptytest.Open(t)
	var errs bytes.Buffer
	a := &app{in: program, errs: screen{w: &errs}}
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.askSecret(ctx, "PIN:")
		done <- err
	}()
	ptytest.Silent(t, program)
	interrupt()
	if err := soon(t, done, "the interrupted question"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !ptytest.Echoes(t, program) {
		t.Error("the terminal stays silent")
	}
	if got := failed("set the PIN", ctx.Err()).Error(); got != "set the PIN: interrupted" {
		t.Error(got)
	}
	// What still reads there holds its file: another terminal does not get its number,
	// and is not made to show what is typed.
	link := fmt.Sprintf("/proc/self/fd/%d", program.Fd())
	before, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	program.Close()
	ptytest.Open(t)
	if after, err := os.Readlink(link); err != nil || after != before {
		t.Errorf("%q became %q, %v", before, after, err)
	}
}

func TestNoTerminal(t *testing.T) {
	for _, in := range []io.Reader{strings.NewReader("314159\n"), bytes.NewBufferString("x")} {
		if _, err := (&app{in: in}).askSecret(t.Context(), "PIN:"); !errors.Is(err, errNoTerminal) {
			t.Errorf("%T: %v", in, err)
		}
	}
}
