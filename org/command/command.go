// Package command is the command line of countersign-org: it reads flags,
// listens, serves and says when it is ready. What is served is package org's.
//
// Standard output carries results only (the ready line, a link, a version);
// everything else goes to standard error. Exit codes: 0 done, 1 refused or
// failed, 2 wrong usage.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/version"
)

const program = "countersign-org"

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

// Run runs one command and returns its exit code. Cancelling ctx stops a
// server.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           program,
		Short:         "The reference org of Countersign",
		Long:          "countersign-org is an org server: it knows users and their devices, signs them in, and issues tokens.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(serveCommand(), linkCommand(), versionCommand())
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
				return printJSON(c.OutOrStdout(), info)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s (%s, %s/%s)\n", info.Program, info.Version, info.Go, info.OS, info.Arch)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

// printJSON prints one document on one line.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
