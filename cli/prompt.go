package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

func (a *app) promptCommand() *cobra.Command {
	c := group("prompt", "Sign-ins that wait for your answer", "")
	c.AddCommand(a.promptList(), a.promptWatch(), a.promptShow(), a.promptApprove(), a.promptDeny(), a.promptCancel(), a.promptResume())
	return c
}

func (a *app) promptList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "What is waiting", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := agent.Prompts(cmd.Context(), frontEnd)
			if err != nil {
				return failed("list what is waiting", err)
			}
			return show(a, list, func(a *app, list api.PromptList) {
				switch {
				case list.Hold != nil:
					a.printHold(list.Hold)
				case len(list.Prompts) == 0:
					a.out.line("no sign-in is waiting")
				}
				for i, p := range list.Prompts {
					if i > 0 {
						a.out.line("")
					}
					a.printPrompt(p)
				}
			})
		},
	}
}

func (a *app) promptShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [ID]", Short: "Open the dialog of a sign-in on the desktop", Args: takes(0, 1),
		Long: "Open the dialog of a sign-in on the desktop: of the one with this ID, or the only one that is\nwaiting. Nothing is answered by that.",
		RunE: func(cmd *cobra.Command, args []string) error {
			const tried = "show the sign-in"
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			p, err := a.pick(cmd.Context(), agent, answer{id: strings.Join(args, "")}, nil)
			if err != nil {
				return err
			}
			if err := agent.ShowPrompt(cmd.Context(), p.ID); err != nil {
				return failed(tried, err)
			}
			return show(a, shown{ID: p.ID, Shown: true}, func(a *app, _ shown) {
				a.out.line("%s %s", a.out.paint(green, "shown:"), describe.SignIn(p))
			})
		},
	}
}

// shown says that a window was opened.
type shown struct {
	ID    string `json:"id,omitempty"` // of a prompt
	Shown bool   `json:"shown"`
}

// answer is what approve and deny have in common.
type answer struct {
	id       string
	wait     time.Duration
	waits    bool // the command has --wait
	decision api.Decision
}

var errNegativeWait = errors.New("--wait is not negative")

func (a *app) promptApprove() *cobra.Command {
	ans := answer{waits: true, decision: api.Decision{Action: "approve"}}
	var pinStdin bool
	c := &cobra.Command{
		Use: "approve [ID]", Short: "Let a sign-in pass", Args: takes(0, 1),
		Long: "Let a sign-in pass: the one with this ID, or the only one that is waiting. One that was asked\nfor several times needs its ID or its number, so that you answer the one that you have seen.\n\nOne that needs your PIN asks for it, without showing it; --pin-stdin reads it from standard input.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if ans.wait < 0 {
				return usageError(cmd, errNegativeWait)
			}
			if pinStdin {
				pin, err := readLine(a.in, maxPIN)
				if err != nil {
					return failed("read the PIN", err)
				}
				ans.decision.PIN = api.PIN(pin)
			}
			return a.decide(cmd.Context(), ans, args)
		},
	}
	c.Flags().DurationVar(&ans.wait, "wait", 0, "wait this long for a sign-in, e.g. 10s")
	c.Flags().StringVar(&ans.decision.Number, "number", "", "the number that the sign-in page shows")
	c.Flags().StringVar(&ans.decision.Account, "account", "", "the account to sign in with, when several fit")
	c.Flags().BoolVar(&pinStdin, "pin-stdin", false, "read the PIN from standard input")
	c.Flags().StringVar(&ans.decision.Verification, "by", "", "show that it is you by this: pin, fingerprint, password or security_key")
	return c
}

func (a *app) promptDeny() *cobra.Command {
	ans := answer{waits: true, decision: api.Decision{Action: "deny"}}
	c := &cobra.Command{
		Use: "deny [ID]", Short: "Refuse a sign-in", Args: takes(0, 1),
		Long: "Refuse a sign-in: the one with this ID, or the only one that is waiting.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if ans.wait < 0 {
				return usageError(cmd, errNegativeWait)
			}
			return a.decide(cmd.Context(), ans, args)
		},
	}
	c.Flags().DurationVar(&ans.wait, "wait", 0, "wait this long for a sign-in, e.g. 10s")
	c.Flags().BoolVar(&ans.decision.Report, "report", false, "this wasn't me: tell the organisation, and hold the account's pushes back")
	return c
}

func (a *app) promptCancel() *cobra.Command {
	ans := answer{decision: api.Decision{Action: "cancel_verification"}}
	c := &cobra.Command{
		Use: "cancel [ID]", Short: "Tell the organisation that you will not show that it is you", Args: takes(0, 1),
		Long: `Answer a sign-in that needs your PIN or the like without it: nothing is
approved, and the organisation is told why. It may offer you another way.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.decide(cmd.Context(), ans, args) },
	}
	c.Flags().StringVar(&ans.decision.Account, "account", "", "the account that it is for, when several fit")
	return c
}

func (a *app) promptResume() *cobra.Command {
	return &cobra.Command{
		Use: "resume ACCOUNT", Short: "Let pushes of an account through again, after a report", Args: takes(1, 1),
		Long: "Let pushes of an account through again. They are held back once a sign-in was reported with\n\"prompt deny --report\". ACCOUNT is an ID, a name or a login.",
		RunE: func(cmd *cobra.Command, args []string) error {
			const tried = "let pushes through again"
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := agent.Accounts(cmd.Context())
			if err != nil {
				return failed(tried, err)
			}
			id, err := accountNamed(list, args[0])
			if err != nil {
				return &failure{tried: tried, err: err, hint: "countersign account list", code: exitFailed}
			}
			account, err := agent.ResumePushes(cmd.Context(), id)
			if err != nil {
				return failed(tried, err)
			}
			return show(a, account, func(a *app, acc api.Account) {
				a.out.line("%s pushes of %s at %s reach you again", a.out.paint(green, "resumed:"), clean(acc.User), orgName(acc))
			})
		},
	}
}

// accountNamed finds the one account with that id, name or login. An id is
// never taken for something else.
func accountNamed(list api.AccountList, name string) (id string, err error) {
	var found []string
	for _, acc := range list.Accounts {
		switch {
		case acc.ID == name:
			return acc.ID, nil
		case acc.Name == name || strings.EqualFold(acc.User, name):
			found = append(found, acc.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", errors.New("there is no such account")
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d accounts are called that: %s", len(found), strings.Join(found, ", "))
}

// verbs are the actions in words.
var verbs = map[string]string{"approve": "approve", "deny": "deny", "cancel_verification": "cancel"}

// decide finds the prompt, answers it and reports how it ended.
func (a *app) decide(ctx context.Context, ans answer, args []string) error {
	if len(args) == 1 {
		ans.id = args[0]
	}
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	next, stop, err := await(ctx, agent, ans.wait)
	if err != nil {
		return err
	}
	defer stop()
	p, err := a.pick(ctx, agent, ans, next)
	if err != nil {
		return err
	}
	tried := verbs[ans.decision.Action] + " the sign-in"
	switch {
	case ans.decision.Action == "approve" && ans.id == "" && p.Repeats > 0 && !p.NeedsNumber:
		// The one that the person has looked at may be gone, and this one a
		// stranger's (B5).
		return &failure{tried: tried, err: fmt.Errorf("it was asked for %s, and only the newest counts", describe.Plural(p.Repeats+1, "time")),
			hint: "look at it and name it: countersign prompt list", code: exitFailed}
	case ans.decision.Action == "approve" && len(p.Numbers) > 0 && ans.decision.Number == "":
		return &failure{tried: tried, err: errors.New("it needs the number that the sign-in page shows: " + strings.Join(p.Numbers, ", ")),
			hint: fmt.Sprintf("countersign prompt approve %s --number N", p.ID), code: exitFailed}
	case ans.decision.Action == "approve" && p.NeedsNumber && ans.decision.Number == "":
		return &failure{tried: tried, err: errors.New("it needs the number that the sign-in page shows"),
			hint: fmt.Sprintf("countersign prompt approve %s --number N", p.ID), code: exitFailed}
	case ans.decision.Action != "deny" && len(p.Choices) > 0 && ans.decision.Account == "":
		return &failure{tried: tried, err: errors.New("several accounts fit"),
			hint: "name one with --account: " + choices(p), code: exitFailed}
	}
	outcome, err := a.approveVerified(ctx, agent, p, ans.decision)
	if refused := (*api.Error)(nil); errors.As(err, &refused) && (refused.Code == "prompt_expired" || refused.Code == "prompt_withdrawn") {
		// Too late is an end like others, for scripts too.
		if a.json {
			if err := writeJSON(a.out.w, api.PromptOutcome{ID: p.ID, Outcome: "expired", Reason: strings.TrimPrefix(refused.Code, "prompt_")}); err != nil {
				return err
			}
		}
		return &failure{tried: tried, err: err, hint: refused.Hint, code: exitTimeout}
	}
	if err != nil {
		return failed(tried, err)
	}
	return a.outcome(tried, ans.decision, p, outcome)
}

func choices(p api.Prompt) string {
	var ids []string
	for _, c := range p.Choices {
		ids = append(ids, c.Account+" ("+c.User+")")
	}
	return strings.Join(ids, ", ")
}

// nextEvent returns the next event, or an error once there is none.
type nextEvent func() (api.Event, error)

// await subscribes for as long as wait says. A subscription also tells the agent
// that somebody is here to ask; it stands until stop is called, which is after
// the answer. Without a wait there is none.
func await(ctx context.Context, agent *client.Client, wait time.Duration) (next nextEvent, stop func(), err error) {
	if wait <= 0 {
		return nil, func() {}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("none came within %s", wait))
	over := func(err error) error {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) { // in whatever that has broken
			return &failure{tried: "wait for a sign-in", err: context.Cause(ctx), code: exitTimeout}
		}
		return failed("wait for a sign-in", err)
	}
	events, err := agent.Subscribe(ctx, frontEnd)
	if err != nil {
		err = over(err)
		cancel()
		return nil, nil, err
	}
	pull, stopPull := iter.Pull2(events)
	next = func() (api.Event, error) {
		e, err, ok := pull()
		if !ok {
			err = client.ErrStreamEnded
		}
		if err != nil {
			return e, over(err)
		}
		return e, nil
	}
	return next, func() { cancel(); stopPull() }, nil
}

// pick returns the prompt that is meant, after waiting for it when next is
// there to wait with. Two that wait at once are never told apart by guessing
// (B5).
func (a *app) pick(ctx context.Context, agent *client.Client, ans answer, next nextEvent) (api.Prompt, error) {
	const tried = "find the sign-in"
	list, err := agent.Prompts(ctx, frontEnd)
	if err != nil {
		return api.Prompt{}, failed(tried, err)
	}
	if ans.id != "" {
		for _, p := range list.Prompts {
			if p.ID == ans.id {
				return p, nil
			}
		}
	} else if len(list.Prompts) == 1 {
		return list.Prompts[0], nil
	} else if len(list.Prompts) > 1 {
		var ids []string
		for _, p := range list.Prompts {
			ids = append(ids, fmt.Sprintf("%s (%s, %s)", p.ID, p.App, p.User))
		}
		hint := "name one: " + strings.Join(ids, ", ")
		if len(ids) > 2 { // a hint is one line
			hint = "name one of those that this shows: countersign prompt list"
		}
		return api.Prompt{}, &failure{tried: tried, err: fmt.Errorf("%d are waiting", len(ids)), hint: hint, code: exitFailed}
	}
	switch {
	case next != nil:
	case ans.id != "":
		// Not waiting any more: the agent knows how it ended.
		return api.Prompt{ID: ans.id}, nil
	default:
		if f := a.onHold(tried, list.Hold); f != nil {
			return api.Prompt{}, f
		}
		f := &failure{tried: tried, err: errors.New("no sign-in is waiting"), code: exitFailed}
		if ans.waits {
			f.hint = "wait for one with --wait 30s"
		}
		return api.Prompt{}, f
	}
	for {
		e, err := next()
		if err != nil {
			return api.Prompt{}, err
		}
		if e.Type == "prompt" && e.Prompt != nil && (ans.id == "" || e.Prompt.ID == ans.id) {
			return *e.Prompt, nil
		}
	}
}

// outcome reports how a prompt ended; only the end that was asked for is a
// success.
func (a *app) outcome(tried string, d api.Decision, p api.Prompt, o api.PromptOutcome) error {
	if a.json {
		if err := writeJSON(a.out.w, o); err != nil {
			return err
		}
	}
	wanted := map[string]string{"approve": "approved", "deny": "denied", "cancel_verification": "refused"}[d.Action]
	if o.Outcome == wanted {
		if !a.json {
			if wanted == "refused" {
				wanted = "cancelled"
			}
			a.out.line("%s %s", a.out.paint(green, wanted+":"), describe.SignIn(p))
			if o.Reason != "" { // e.g. that the org has not confirmed it yet
				a.out.line("%s", clean(o.Reason))
			}
			if d.Report {
				account := p.Account
				if account == "" {
					account = "ACCOUNT"
				}
				a.out.line("reported: further pushes of this account are held back")
				a.out.line("hint: when it is safe again: countersign prompt resume %s", clean(account))
			}
		}
		return nil
	}
	f := &failure{tried: tried, code: exitFailed}
	_, reason := describe.Ended(o)
	if reason != "" {
		reason = " (" + reason + ")"
	}
	switch o.Outcome {
	case "denied":
		f.code = exitDenied
		f.err = errors.New("it was denied" + reason)
	case "expired":
		f.code = exitTimeout
		f.err = errors.New("it expired" + reason)
	case "approved":
		f.err = errors.New("it was already approved" + reason)
	default:
		f.err = errors.New("it was refused" + reason)
	}
	return f
}
