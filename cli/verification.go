package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

func (a *app) verificationCommand() *cobra.Command {
	c := group("verification", "Ways to show that it is you", `Ways to show that it is you, at sign-ins that ask for that. The PIN has commands
of its own: countersign pin --help.`)
	c.AddCommand(a.verificationList(), a.verificationSwitch(true), a.verificationSwitch(false))
	return c
}

func (a *app) verificationList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "All ways, and how they are doing", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := agent.Verification(cmd.Context())
			if err != nil {
				return failed("list the ways to show that it is you", err)
			}
			return show(a, list, (*app).printVerification)
		},
	}
}

func (a *app) printVerification(list api.VerificationList) {
	rows := make([][]string, len(list.Verification))
	for i, v := range list.Verification {
		rows[i] = []string{clean(v.Method), describe.Method(v.Method), verificationState(v, a.now())}
	}
	a.out.table([]string{"METHOD", "NAME", "STATE"}, rows)
	for _, v := range list.Verification {
		if v.Hint != "" && v.State == "not_set" {
			a.out.hang("hint: ", 6, clean(v.Hint))
		}
	}
	if list.GraceSeconds > 0 {
		a.out.line("once shown, it counts for %s", describe.Span(time.Duration(list.GraceSeconds)*time.Second))
	}
}

// verificationState says how a way is doing.
func verificationState(v api.Verification, now time.Time) string {
	switch v.State {
	case "ready":
		if v.Method == "pin" && v.TriesLeft > 0 {
			return "ready, " + describe.Tries(v.TriesLeft)
		}
		return "ready"
	case "not_set":
		return "not set up"
	case "lockout":
		if v.Until.IsZero() {
			return "locked after too many wrong tries"
		}
		return "locked until " + describe.Until(v.Until, now)
	case "absent":
		return because("not on this computer", v.Hint)
	}
	return because(strings.ReplaceAll(clean(v.State), "_", " "), v.Hint)
}

// because adds a reason, when there is one.
func because(state, why string) string {
	if why == "" {
		return state
	}
	return state + ": " + clean(why)
}

func (a *app) verificationSwitch(enable bool) *cobra.Command {
	name, short := "enable", "Allow a way to show that it is you"
	if !enable {
		name, short = "disable", "Allow a way no longer"
	}
	var pinStdin bool
	c := &cobra.Command{
		Use: name + " METHOD", Short: short,
		Args:      cobra.MatchAll(takes(1, 1), oneOf),
		ValidArgs: []string{"fingerprint", "password", "security_key"},
		Long: short + `: fingerprint, password (of this computer) or security_key. While a PIN
is set, this takes the PIN.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			tried := name + " the " + describe.Method(args[0])
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := a.switchVerification(cmd, agent, args[0], enable, pinStdin)
			if err != nil {
				return failed(tried, err)
			}
			return show(a, list, func(a *app, list api.VerificationList) {
				i := slices.IndexFunc(list.Verification, func(v api.Verification) bool { return v.Method == args[0] })
				state := "unknown"
				if i >= 0 {
					state = verificationState(list.Verification[i], a.now())
				}
				a.out.line("%s %s, %s", a.out.paint(green, name+"d:"), describe.Method(args[0]), state)
			})
		},
	}
	c.Flags().BoolVar(&pinStdin, "pin-stdin", false, "read the PIN from standard input")
	return c
}

func (a *app) switchVerification(cmd *cobra.Command, agent *client.Client, method string, enable, pinStdin bool) (list api.VerificationList, err error) {
	ctx := cmd.Context()
	if method == "security_key" && enable {
		return a.enableKey(ctx, agent, pinStdin)
	}
	if !pinStdin {
		// Without the PIN first: only the agent knows whether it takes one. A security
		// key that verifies until now may want its own.
		err = a.byKey(ctx, agent, func(pin api.PIN) (err error) {
			list, err = agent.SwitchVerification(ctx, method, api.EnableVerification{Enabled: enable, KeyPIN: pin})
			return err
		})
		if _, ok := a.terminal(); !needsPIN(err) || !ok {
			return list, err
		}
	}
	pins, err := a.pins(cmd, pinStdin, 1)
	if err != nil {
		return list, err
	}
	err = pins.prove(ctx, "PIN:", func(pin api.PIN) (err error) {
		list, err = agent.EnableVerification(ctx, method, enable, pin)
		return err
	})
	return list, err
}

// enableKey has the security key that is plugged in verify the person: it is
// touched twice, to be enrolled and to show that it works.
func (a *app) enableKey(ctx context.Context, agent *client.Client, pinStdin bool) (list api.VerificationList, err error) {
	which := "" // of several, the one that was touched and wants its PIN
	do := func(pin api.PIN) (err error) {
		if which != "" {
			list, err = agent.VerifyByKey(ctx, which, pin)
		} else {
			list, err = agent.SwitchVerification(ctx, "security_key", api.EnableVerification{Enabled: true, KeyPIN: pin})
		}
		var refused *api.Error
		if errors.As(err, &refused) && refused.Code == "key_pin_needed" {
			which = refused.Key
		}
		return err
	}
	if !pinStdin {
		err = a.byKey(ctx, agent, do)
		return list, err
	}
	line, err := readLine(a.in, maxPIN)
	if err != nil {
		return list, err
	}
	pin := api.PIN(line)
	defer clear(pin)
	err = a.touching(ctx, agent, func() error { return do(pin) })
	return list, err
}

// needOf says what an approval of a prompt needs of verification.
func needOf(p api.Prompt, account string) string {
	for _, c := range p.Choices {
		if c.Account == account && c.UserVerification != "" {
			return c.UserVerification
		}
	}
	return p.UserVerification
}

// approveVerified approves a prompt, and asks for the PIN if it takes one and
// there is somebody to ask.
func (a *app) approveVerified(ctx context.Context, agent *client.Client, p api.Prompt, d api.Decision) (api.PromptOutcome, error) {
	given := len(d.PIN) > 0 || d.Verification != ""
	_, person := a.terminal()
	need := needOf(p, d.Account)
	asks := need == "required" || need == "preferred"
	switch {
	case d.Verification == "pin" && len(d.PIN) == 0 && person:
		p.VerificationMethods = nil // nothing but the PIN
		return a.approveByPIN(ctx, agent, p, d, "required")
	case d.Verification == "security_key" && len(d.PIN) == 0 && d.Action == "approve":
		return a.approveByKey(ctx, agent, p, d)
	case d.Verification == "security_key" && d.Action == "approve":
		var o api.PromptOutcome
		err := a.touching(ctx, agent, func() (err error) { o, err = agent.DecidePrompt(ctx, p.ID, d); return err })
		return o, err
	case given, d.Action != "approve", p.Verified:
	case asks && len(p.VerificationMethods) > 0 && !slices.Contains(p.VerificationMethods, "pin"):
		if need == "required" {
			d.Verification = p.VerificationMethods[0]
			if d.Verification == "security_key" {
				return a.approveByKey(ctx, agent, p, d)
			}
			a.errs.line("show that it is you, by your %s", describe.Method(d.Verification))
		}
	case asks && person:
		return a.approveByPIN(ctx, agent, p, d, need)
	}
	o, err := agent.DecidePrompt(ctx, p.ID, d)
	if needsPIN(err) && !given && person {
		return a.approveByPIN(ctx, agent, p, d, "required") // it was not known before
	}
	return o, err
}

// approveByKey approves a prompt by the security key, whose PIN is asked for if it
// wants one.
func (a *app) approveByKey(ctx context.Context, agent *client.Client, p api.Prompt, d api.Decision) (o api.PromptOutcome, err error) {
	err = a.byKey(ctx, agent, func(pin api.PIN) (err error) {
		d.PIN, d.Verification = pin, "security_key"
		o, err = agent.DecidePrompt(ctx, p.ID, d)
		return err
	})
	return o, err
}

// approveByPIN asks for the PIN until it is right, or there are no more tries.
func (a *app) approveByPIN(ctx context.Context, agent *client.Client, p api.Prompt, d api.Decision, need string) (api.PromptOutcome, error) {
	question, other := "PIN:", ""
	for _, method := range p.VerificationMethods {
		if method != "pin" {
			other = method
			break
		}
	}
	switch {
	case need == "preferred":
		question = "PIN, or Enter to go on without:"
	case other != "":
		question = "PIN, or Enter for your " + describe.Method(other) + ":"
	}
	for {
		pin, err := a.askSecret(ctx, question)
		if err != nil {
			return api.PromptOutcome{}, err
		}
		if len(pin) == 0 && need != "preferred" && other == "" {
			return api.PromptOutcome{}, &failure{tried: "approve the sign-in", err: fmt.Errorf("no PIN was typed; the sign-in still waits"),
				hint: "to tell the organisation that you will not: countersign prompt cancel " + p.ID, code: exitFailed}
		}
		d.PIN, d.Verification = pin, ""
		if len(pin) == 0 && need != "preferred" {
			d.Verification = other
			if other == "security_key" {
				return a.approveByKey(ctx, agent, p, d)
			}
		}
		o, err := agent.DecidePrompt(ctx, p.ID, d)
		clear(pin)
		if err == nil || !a.mayTryAgain(err) {
			return o, err
		}
	}
}
