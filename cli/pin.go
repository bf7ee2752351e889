package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

func (a *app) pinCommand() *cobra.Command {
	c := group("pin", "The PIN by which you show that it is you", `The PIN shows that it is you, at sign-ins that ask for that. It belongs to this
computer and this user; no organisation ever learns it.`)
	c.AddCommand(a.pinSet(), a.pinChange(), a.pinRemove(), a.pinReset())
	return c
}

// pinSource is where PINs come from: the terminal, or lines of standard input.
type pinSource struct {
	app   *app
	lines []string // with --stdin
	stdin bool
}

const stdinFlag = "stdin"

// pins prepares a source of that many PINs.
func (a *app) pins(cmd *cobra.Command, stdin bool, lines int) (*pinSource, error) {
	s := &pinSource{app: a, stdin: stdin}
	if !stdin {
		if _, ok := a.terminal(); !ok {
			flag := stdinFlag
			if cmd.Flags().Lookup("pin-stdin") != nil {
				flag = "pin-stdin"
			}
			return nil, usageError(cmd, errors.New(errNoTerminal.Error()+"; give it with --"+flag))
		}
		return s, nil
	}
	var err error
	if s.lines, err = readLines(a.in, lines, int64(lines)*maxPIN); err != nil {
		return nil, failed("read the PIN", err)
	}
	return s, nil
}

// next is the next line, or what ask asks for.
func (s *pinSource) next(ask func() (api.PIN, error)) (api.PIN, error) {
	if !s.stdin {
		return ask()
	}
	line := s.lines[0]
	s.lines = s.lines[1:]
	return api.PIN(line), nil
}

// prove hands the PIN that is set to do, again and again while the person types
// a wrong one and may try again.
func (s *pinSource) prove(ctx context.Context, question string, do func(pin api.PIN) error) error {
	for {
		pin, err := s.next(func() (api.PIN, error) { return s.app.askSecret(ctx, question) })
		if err != nil {
			return err
		}
		if len(pin) == 0 {
			return errors.New("no PIN was typed")
		}
		err = do(pin)
		clear(pin)
		if err == nil || s.stdin || !s.app.mayTryAgain(err) {
			return err
		}
	}
}

func (a *app) pinSet() *cobra.Command {
	var stdin bool
	c := &cobra.Command{
		Use: "set", Short: "Set a PIN", Args: takes(0, 0),
		Long: `Set a PIN. It is asked for twice, and not shown; with --stdin it is the first
line of standard input.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const tried = "set the PIN"
			return a.withPINs(cmd, stdin, 1, func(ctx context.Context, agent *client.Client, pins *pinSource) error {
				other, err := a.noPINYet(ctx, agent)
				if err != nil {
					return err
				}
				pin, err := pins.next(func() (api.PIN, error) { return a.askTwice(ctx, "new PIN:") })
				if err != nil {
					return failed(tried, err)
				}
				defer clear(pin)
				if other != "" { // whatever that unlocks, the PIN unlocks from now on
					a.errs.line("show that it is you, by your %s", describe.Method(other))
				}
				var set api.PINSet
				if err := a.byKey(ctx, agent, func(keyPIN api.PIN) (err error) {
					set, err = agent.ReplacePIN(ctx, api.SetPIN{PIN: pin, KeyPIN: keyPIN})
					return err
				}); err != nil {
					return failed(tried, err)
				}
				return show(a, set, (*app).printPINSet)
			})
		},
	}
	c.Flags().BoolVar(&stdin, stdinFlag, false, "read the PIN from standard input")
	return c
}

// noPINYet spares a person the typing when there is a PIN, and names the other
// way in which they have to show first that it is them, if there is one.
func (a *app) noPINYet(ctx context.Context, agent *client.Client) (other string, err error) {
	list, err := agent.Verification(ctx)
	if err != nil {
		return "", failed("set the PIN", err)
	}
	for _, v := range list.Verification {
		set := v.State == "ready" || v.State == "lockout"
		switch {
		case v.Method == "pin" && set:
			return "", &failure{tried: "set the PIN", err: errors.New("there is one already"), hint: "countersign pin change", code: exitFailed}
		case set && other == "":
			other = v.Method
		}
	}
	return other, nil
}

func (a *app) pinChange() *cobra.Command {
	var stdin bool
	c := &cobra.Command{
		Use: "change", Short: "Change the PIN", Args: takes(0, 0),
		Long: `Change the PIN. The old one and the new one are asked for, and not shown; with
--stdin they are the first two lines of standard input, the old one first. Wrong
ones count as they do at a sign-in.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const tried = "change the PIN"
			return a.withPINs(cmd, stdin, 2, func(ctx context.Context, agent *client.Client, pins *pinSource) error {
				var pin api.PIN
				var set api.PINSet
				err := pins.prove(ctx, "present PIN:", func(old api.PIN) (err error) {
					if pin == nil { // not again after a wrong old one
						if pin, err = pins.next(func() (api.PIN, error) { return a.askTwice(ctx, "new PIN:") }); err != nil {
							return err
						}
					}
					set, err = agent.SetPIN(ctx, pin, old)
					return err
				})
				clear(pin)
				if err != nil {
					return failed(tried, err)
				}
				return show(a, set, (*app).printPINSet)
			})
		},
	}
	c.Flags().BoolVar(&stdin, stdinFlag, false, "read both PINs from standard input")
	return c
}

func (a *app) pinRemove() *cobra.Command {
	var stdin bool
	c := &cobra.Command{
		Use: "remove", Short: "Remove the PIN", Args: takes(0, 0),
		Long: `Remove the PIN. Sign-ins that demand that you show that it is you are refused
then, unless there is another way: countersign verification list.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPINs(cmd, stdin, 1, func(ctx context.Context, agent *client.Client, pins *pinSource) error {
				var list api.VerificationList
				err := pins.prove(ctx, "PIN:", func(pin api.PIN) (err error) {
					list, err = agent.RemovePIN(ctx, pin)
					return err
				})
				if err != nil {
					return failed("remove the PIN", err)
				}
				return show(a, list, func(a *app, _ api.VerificationList) { a.out.line("%s the PIN", a.out.paint(green, "removed:")) })
			})
		},
	}
	c.Flags().BoolVar(&stdin, stdinFlag, false, "read the PIN from standard input")
	return c
}

func (a *app) pinReset() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "reset", Short: "Forget a PIN that you do not know any more, and its keys", Args: takes(0, 0),
		Long: `Forget a PIN that you do not know any more. The keys that it unlocks are deleted
with it: nobody can use them without it. Your accounts stay, and sign in where
nobody asks for the PIN. Afterwards set a new one, and give each account new keys
with "countersign key verify", by a sign-in at the organisation.

You are asked to confirm it by typing; scripts say --yes.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const tried = "reset the PIN"
			if _, person := a.terminal(); !person && !yes {
				return usageError(cmd, errors.New("there is no terminal to confirm it at; say --yes"))
			}
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			if !yes {
				if err := a.confirmReset(cmd.Context(), agent); err != nil {
					return failed(tried, err)
				}
			}
			reset, err := agent.ResetPIN(cmd.Context())
			if err != nil {
				return failed(tried, err)
			}
			return show(a, reset, (*app).printPINReset)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// confirmReset says what goes with the PIN, and has the person type that they
// mean it.
func (a *app) confirmReset(ctx context.Context, agent *client.Client) error {
	list, err := agent.Accounts(ctx)
	if err != nil {
		return err
	}
	a.errs.line("this forgets the PIN, and deletes the keys that it unlocks")
	for _, acc := range list.Accounts {
		if slices.Contains(acc.Verification, "userVerificationBioOrPin") {
			a.errs.line("%s at %s needs new ones then, by a sign-in there", clean(acc.Name), orgName(acc))
		}
	}
	word, err := a.ask(ctx, `type "reset" to go on:`)
	if err == nil && word != "reset" {
		err = errors.New("not confirmed; nothing was changed")
	}
	return err
}

func (a *app) printPINReset(reset api.PINReset) {
	a.out.line("%s the PIN is forgotten, and the keys that it unlocked are deleted", a.out.paint(green, "reset:"))
	a.out.line("hint: countersign pin set")
	for _, acc := range reset.Accounts {
		a.out.line("hint: then, for %s at %s: countersign key verify %s", clean(acc.Name), describe.Org(acc.Org, false), clean(acc.ID))
	}
}

// withPINs is what the commands about the PIN have in common.
func (a *app) withPINs(cmd *cobra.Command, stdin bool, lines int, do func(context.Context, *client.Client, *pinSource) error) error {
	pins, err := a.pins(cmd, stdin, lines)
	if err != nil {
		return err
	}
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	return do(cmd.Context(), agent, pins)
}

func (a *app) printPINSet(set api.PINSet) {
	word := "set:"
	if set.Changed {
		word = "changed:"
	}
	a.out.line("%s the PIN shows that it is you, at sign-ins that ask for that", a.out.paint(green, word))
	for _, acc := range set.Without {
		name := clean(acc.Name)
		if acc.User != "" && acc.User != acc.Name {
			name += " (" + clean(acc.User) + ")"
		}
		a.out.line("%s at %s has no key yet that the PIN unlocks", name, describe.Org(acc.Org, false))
		a.out.line("hint: countersign key verify %s", clean(acc.ID))
	}
}
