// Package cli is the countersign command: a client of the agent's local API and
// nothing else. One file holds one group of commands.
//
// Rules of the terminal: the first line of an answer is the answer. People and
// scripts get the same struct by two renderers, words or, with --json, one
// document (or one a line for streams); nothing else goes to stdout. Errors go
// to stderr as "countersign: what was tried: why", with a "hint:" line when
// there is something to do. Text from outside is cleaned before it is shown.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/client"
	"countersign.dev/ipc/paths"
	"countersign.dev/program"
)

// frontEnd is the name under which this program asks the person.
const frontEnd = "cli"

// app is what every command needs.
type app struct {
	in     io.Reader
	out    screen
	errs   screen
	now    func() time.Time
	socket string // --socket
	json   bool   // --json
	begun  bool   // the command line was understood
	stream bool   // the command runs until interrupted, which is no failure
}

// Main runs the command line of this process and returns its exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	a := &app{in: in, out: newScreen(out), errs: newScreen(errs), now: time.Now}
	written := &sink{w: out}
	a.out.w = written
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(written)
	root.SetErr(errs)
	typed, err := root.ExecuteContextC(ctx)
	switch {
	case a.stream && ctx.Err() != nil:
		err = nil
	case err != nil && !a.begun:
		err = usageError(typed, err)
	case err == nil && written.err != nil:
		err = written.err
	}
	return a.report(err)
}

func (a *app) root() *cobra.Command {
	root := group("countersign", "Approve sign-ins from this computer",
		`Countersign answers sign-ins with keys that stay on this computer.
This command asks the agent, countersignd, which must be running.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 cannot reach the agent,
4 denied by the user, 5 timed out.`)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRun = func(*cobra.Command, []string) { a.begun = true }
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", "", "the agent's socket (default $"+paths.EnvSocket+" or the usual place)")
	flags.BoolVar(&a.json, "json", false, "print JSON for scripts")
	root.AddCommand(
		a.statusCommand(),
		a.accountCommand(),
		a.keyCommand(),
		a.promptCommand(),
		a.pauseCommand(),
		a.resumeCommand(),
		a.pinCommand(),
		a.verificationCommand(),
		a.securityKeyCommand(),
		a.codeCommand(),
		a.deviceCommand(),
		a.vaultCommand(),
		a.eventsCommand(),
		a.auditCommand(),
		a.doctorCommand(),
		a.versionCommand(),
		a.completionCommand(),
		program.ManCommand(),
	)
	root.CompletionOptions.DisableDefaultCmd = true // ours knows its shells
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	for _, c := range everyCommand(root) {
		c.DisableFlagsInUseLine = !c.HasLocalFlags()
	}
	return root
}

// helpCommand is cobra's, but a word that is no command is a usage error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &failure{tried: "show the help", err: fmt.Errorf("there is no command %q", strings.Join(args, " ")),
					hint: "see: " + c.Root().Name() + " help", code: exitUsage}
			}
			return about.Help()
		},
	}
}

func everyCommand(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		list = append(list, everyCommand(sub)...)
	}
	return list
}

// group is a command that only holds others: alone it prints its help, and a
// word that it does not know is a usage error.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &failure{tried: "understand the command", err: fmt.Errorf("there is no command %q", args[0]),
					hint: "see: " + c.CommandPath() + " --help", code: exitUsage}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
}

// takes accepts between least and most arguments, and else shows the line that
// would have been right. An empty one is a script's variable that was never
// set: it is not the same as none, which may stand for the only one there is.
func takes(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least || len(args) > most:
			return fmt.Errorf("it is used so: %s", c.UseLine())
		case slices.Contains(args, ""):
			return fmt.Errorf("an argument is empty; it is used so: %s", c.UseLine())
		}
		return nil
	}
}

// oneOf accepts an argument only when it is among the command's words.
func oneOf(c *cobra.Command, args []string) error {
	for _, arg := range args {
		if !slices.Contains(c.ValidArgs, arg) {
			return fmt.Errorf("%q is not one of: %s", arg, strings.Join(c.ValidArgs, ", "))
		}
	}
	return nil
}

// agent makes the client for the socket that flag or environment name.
func (a *app) agent() (*client.Client, error) {
	socket := a.socket
	if socket == "" {
		var err error
		if socket, err = paths.Socket(""); err != nil {
			return nil, &failure{tried: "find the agent", err: err, hint: "say where it is with --socket or $" + paths.EnvSocket, code: exitNoAgent}
		}
	}
	if err := paths.CheckSocket(socket); err != nil {
		return nil, &failure{tried: "reach the agent", err: err, code: exitUsage}
	}
	return client.New(socket), nil
}

// show prints value as JSON or hands it to the renderer for people.
func show[T any](a *app, value T, people func(*app, T)) error {
	if a.json {
		return writeJSON(a.out.w, value)
	}
	people(a, value)
	return nil
}
