// Package program is what Countersign's long-running programs do alike as
// programs: they run one command, print results to standard output and
// everything else to standard error, and end with the exit codes that scripts
// and packages rely on. The command line, which speaks to people and has more
// codes, has its own way in package cli.
package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"countersign.dev/version"
)

// Exit codes.
const (
	Done   = 0
	Failed = 1 // refused or failed
	Usage  = 2 // typed wrong
)

// Failure is an error of a command that ran, or was asked for something it
// cannot do. Any other error of a command counts as typed wrong.
type Failure struct {
	Err  error
	Hint string // what to do about it; may be empty
	Code int    // 0 means Failed
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Main runs the commands of this process until SIGTERM or SIGINT and returns
// its exit code.
func Main(commands func() *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, commands(), os.Args[1:], os.Stdout, os.Stderr)
}

// Run runs one command of root, which gets version, help and man commands, and
// returns the exit code. Cancelling ctx ends what runs until stopped. An error
// is printed as "program: what was tried: why", with a "hint:" line when there
// is something to do.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Args = cobra.NoArgs
	if root.RunE == nil { // a program of one purpose runs without a command
		root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(versionCommand(root.Name()), ManCommand())
	root.SetHelpCommand(helpCommand())
	typed, err := root.ExecuteContextC(ctx)
	if err == nil {
		return Done
	}
	var f *Failure
	if !errors.As(err, &f) {
		// How Go parses numbers is of no use to a person.
		why, _, _ := strings.Cut(err.Error(), ": strconv.")
		f = &Failure{Err: errors.New("understand the command: " + why), Hint: "see: " + typed.CommandPath() + " --help", Code: Usage}
	}
	fmt.Fprintf(stderr, "%s: %v\n", root.Name(), f)
	if f.Hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", f.Hint)
	}
	if f.Code != Done {
		return f.Code
	}
	return Failed
}

func versionCommand(name string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			info := version.Of(name)
			if asJSON {
				return PrintJSON(c.OutOrStdout(), info)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), info)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

// helpCommand is cobra's, but a word that is no command is wrong usage.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("there is no command %q", strings.Join(args, " "))
			}
			return about.Help()
		},
	}
}

// PrintJSON prints one document on one line.
func PrintJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
