// Command countersignd is the agent: one per user session. It keeps the keys,
// answers challenges that browsers bring, and asks the person when it must.
//
// Standard output carries results only (the ready line, a version); everything
// else goes to standard error. Exit codes: 0 done, 1 refused or failed, 2 wrong
// usage.
package main

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

const program = "countersignd"

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// failure is an error of a command that ran, as opposed to one that was typed
// wrong.
type failure struct {
	err  error
	hint string // what to do about it; may be empty
	code int    // 0 means exitFailed
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs one command and returns its exit code. Cancelling ctx stops the
// agent.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           program,
		Short:         "The Countersign agent",
		Long:          "countersignd is the agent of Countersign: it keeps your keys and answers sign-ins with them.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(runCommand(), versionCommand())
	typed, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var f *failure
	if !errors.As(err, &f) {
		// How Go parses numbers is of no use to a person.
		why, _, _ := strings.Cut(err.Error(), ": strconv.")
		f = &failure{err: errors.New("understand the command: " + why), hint: "see: " + typed.CommandPath() + " --help", code: exitUsage}
	}
	fmt.Fprintf(stderr, "%s: %v\n", program, f)
	if f.hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", f.hint)
	}
	if f.code != 0 {
		return f.code
	}
	return exitFailed
}

func versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			info := version.Of(program)
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(info)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s (%s, %s/%s)\n", info.Program, info.Version, info.Go, info.OS, info.Arch)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}
