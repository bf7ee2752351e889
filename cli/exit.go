package cli

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

// Exit codes, as promised to scripts.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitNoAgent = 3
	exitDenied  = 4
	exitTimeout = 5
)

// failure is an error on its way to the person: what was tried, why not, what
// to do about it, and the exit code.
type failure struct {
	tried string
	err   error // nil: everything was said on stdout, only the code is left
	hint  string
	code  int
}

func (f *failure) Error() string {
	if f.err == nil {
		return f.tried
	}
	return f.tried + ": " + f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// failed says what was tried and turns what is known about err into advice.
func failed(tried string, err error) error {
	f := &failure{tried: tried, err: err, code: exitFailed}
	var refused *api.Error
	var foreign *client.ForeignError
	var whole *failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &whole):
		return err // says all of that itself
	case errors.As(err, &refused):
		f.hint = refused.Hint
	case errors.As(err, &foreign):
		f.hint, f.code = "another program answers there and got nothing from us; check --socket", exitNoAgent
	case errors.Is(err, client.ErrNotRunning):
		f.hint, f.code = "start it with: countersignd run", exitNoAgent
		if errors.Is(err, fs.ErrPermission) {
			f.hint = "an agent serves only the user who started it: run this as that user, or start your own with: countersignd run"
		}
	case errors.Is(err, client.ErrStreamEnded):
		f.hint, f.code = "it is stopping, or this program was too slow", exitNoAgent
	case errors.Is(err, context.DeadlineExceeded):
		f.err, f.code = errors.New("timed out"), exitTimeout
	case errors.Is(err, context.Canceled):
		f.err = errors.New("interrupted")
	}
	return f
}

// usageError is for a command line that was not understood; c is as much of it
// as was.
func usageError(c *cobra.Command, err error) error {
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	// How Go parses durations and numbers is of no use to a person.
	why, _, _ := strings.Cut(strings.Replace(err.Error(), ": time: ", ": strconv.", 1), ": strconv.")
	return &failure{tried: "understand the command", err: errors.New(why), hint: "see: " + c.CommandPath() + " --help", code: exitUsage}
}

// report prints an error and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitDone
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{tried: "write the answer", err: err, code: exitFailed}
	}
	if f.err != nil {
		a.errs.line("%s %s: %s", a.errs.paint(bold, "countersign:"), f.tried, cleanLines(f.err.Error()))
		if f.hint != "" {
			a.errs.line("%s %s", a.errs.paint(bold, "hint:"), clean(f.hint))
		}
	}
	return f.code
}

// cleanLines cleans an error that may be joined from several.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "; ")
}
