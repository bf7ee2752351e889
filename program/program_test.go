package program

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func example() *cobra.Command {
	root := &cobra.Command{Use: "example", Short: "An example", Long: "Example shows things.\n\n.Leading dots and 'quotes' are text."}
	run := &cobra.Command{Use: "run THING", Short: "Run a thing", Args: cobra.ExactArgs(1), Example: "  example run a-b",
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "refused":
				return &Failure{Err: errText("run it: refused"), Hint: "ask again"}
			case "usage":
				return &Failure{Err: errText("run it: cannot"), Code: Usage}
			}
			return nil
		}}
	run.Flags().String("state", "", "folder of the `DIR` state")
	root.AddCommand(run)
	return root
}

type errText string

func (e errText) Error() string { return string(e) }

func TestRun(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"run it", Done, ""},
		{"run refused", Failed, "example: run it: refused\nhint: ask again\n"},
		{"run usage", Usage, "example: run it: cannot\n"},
		{"run", Usage, "hint: see: example run --help\n"},
		{"walk", Usage, "understand the command: "},
		{"help walk", Usage, "no command \"walk\""},
		{"help run", Done, ""},
		{"version --json", Done, ""},
		{"", Done, ""},
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), example(), strings.Fields(c.args), &out, &errs)
		if code != c.code || !strings.Contains(errs.String(), c.stderr) || code == Done && errs.Len() != 0 || code != Done && out.Len() != 0 {
			t.Errorf("%q: %d\nstdout %q\nstderr %q", c.args, code, out.String(), errs.String())
		}
	}
}

func TestManPage(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Run(t.Context(), example(), []string{"man"}, &out, &errs); code != Done {
		t.Fatal(errs.String())
	}
	for _, want := range []string{
		".TH EXAMPLE 1", "example \\- An example", "\n.PP\n\\&.Leading dots", ".SS run THING", "\\-\\-state \\fIDIR\\fR", "example run a\\-b", ".SS version",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
