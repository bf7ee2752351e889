package watch

import (
	"os"

	"golang.org/x/term"
)

// terminal is what is read from and what is drawn on.
type terminal struct {
	in, out *os.File
	before  *term.State // nil while it is as it was
}

func openTerminal(in, out *os.File) (*terminal, error) {
	return &terminal{in: in, out: out}, prepare(out)
}

// enter makes the terminal hand over each key, and show none by itself. Done
// again, it does so again: somebody may have changed that meanwhile.
func (t *terminal) enter() error {
	before, err := term.MakeRaw(int(t.in.Fd()))
	if err == nil && t.before == nil {
		t.before = before
	}
	return err
}

// leave makes the terminal what it was. What was typed and not read is nobody's:
// it must not become a command of the shell.
func (t *terminal) leave() {
	if t.before == nil {
		return
	}
	t.discard()
	_ = term.Restore(int(t.in.Fd()), t.before)
	t.before = nil
}

func (t *terminal) size() (cols, rows int) {
	cols, rows, err := term.GetSize(int(t.out.Fd()))
	if err != nil {
		return 0, 0
	}
	return cols, rows
}
