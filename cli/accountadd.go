package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

const (
	addTried   = "add the account"
	maxLink    = 8 << 10
	cancelWait = 2 * time.Second // an interrupted command does not stay longer
)

func (a *app) accountAdd() *cobra.Command {
	var in api.BeginEnrolment
	var noBrowser bool
	var by proof
	c := &cobra.Command{
		Use: "add ORG_URL|LINK|-", Short: "Add an account: sign in with the browser, or use an enrolment link", Args: takes(1, 1),
		Long: `Add an account at your organisation to this computer.

With the organisation's address, your browser opens there: sign in, and this
computer is added. With an enrolment link that your organisation gave you,
nobody is asked anything; it works once, for a short time. On a computer that
others use too, write - for it and give it on standard input: the arguments of
a program can be seen by everybody.

When a PIN is set, it is asked for first, so that keys are made that it unlocks;
without it the account is added without such keys. --pin-stdin reads it from
standard input; after the link, when that is read from there, too.`,
		Example: "  countersign account add https://id.example.com\n  countersign account add 'oktaverify://alice@example.com/?t=…'",
		RunE: func(cmd *cobra.Command, args []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			if isAddress(args[0]) {
				in.Org = args[0]
				return a.addInBrowser(cmd.Context(), agent, in, by, noBrowser)
			}
			if in.Username != "" || noBrowser {
				return usageError(cmd, errors.New("--username and --no-browser go with an organisation's address, not with a link"))
			}
			add := api.AddAccount{Link: args[0], Name: in.Name}
			if add.Link == "-" {
				lines := 1
				if by.stdin {
					lines = 2
				}
				list, err := readLines(a.in, lines, maxLink)
				if err != nil {
					return failed("read the enrolment link", err)
				}
				add.Link = list[0]
				if by.stdin {
					by.typed = api.PIN(list[1])
				}
			}
			var account api.Account
			err = a.proving(cmd.Context(), agent, by, may, func(pin api.PIN, method string) (err error) {
				add.PIN, add.Verification = pin, method
				account, err = agent.AddAccount(cmd.Context(), add)
				return err
			})
			if err != nil {
				return failed(addTried, err)
			}
			return show(a, account, a.added(cmd.Context(), agent))
		},
	}
	c.Flags().StringVar(&in.Name, "name", "", "the name to show for it")
	c.Flags().StringVar(&in.Username, "username", "", "who signs in; the organisation's form is filled in with it")
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address instead of opening it")
	by.flags(c)
	return c
}

// isAddress tells an organisation's address from an enrolment link. What could
// be neither is left to the agent to name.
func isAddress(s string) bool {
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return strings.EqualFold(scheme, "https") || strings.EqualFold(scheme, "http")
	}
	return strings.ContainsAny(s, ".:") && !strings.ContainsAny(s, " ?&=@")
}

// added prints an account that was added, and what it lacks.
func (a *app) added(ctx context.Context, agent *client.Client) func(*app, api.Account) {
	return func(a *app, acc api.Account) {
		a.out.line("%s %s signs in to %s from this computer", a.out.paint(green, "added:"), clean(acc.User), orgName(acc))
		a.printAccount(acc)
		a.notes(acc)
		if len(acc.Verification) > 0 || len(acc.Notes) > 0 {
			return
		}
		if pin, others := waysOf(ctx, agent); pin.State == "ready" || pin.State == "lockout" || len(others) > 0 {
			a.out.line("it has no key that takes your verification; sign-ins that demand one are refused")
			a.out.line("hint: countersign key verify %s", clean(acc.ID))
		}
	}
}

// notes prints what went otherwise than one would think.
func (a *app) notes(acc api.Account) {
	for _, note := range acc.Notes {
		a.out.hang(a.out.paint(yellow, "note: "), 6, describe.Clean(note, 400))
	}
}

// addInBrowser lets the person sign in, and waits.
func (a *app) addInBrowser(ctx context.Context, agent *client.Client, in api.BeginEnrolment, by proof, noBrowser bool) error {
	var e api.Enrolment
	err := a.proving(ctx, agent, by, may, func(pin api.PIN, method string) (err error) {
		in.PIN, in.Verification = pin, method
		e, err = agent.BeginEnrolment(ctx, in)
		return err
	})
	if err != nil {
		return failed(addTried, err)
	}
	account, err := a.awaitSignIn(ctx, agent, e, addTried, noBrowser)
	if err != nil {
		return err
	}
	if somebodyElse(in.Username, account.User) {
		a.errs.line("%s %s signed in, not %s", a.errs.paint(bold, "note:"), clean(account.User), clean(in.Username))
	}
	return show(a, account, a.added(ctx, agent))
}

// awaitSignIn sends the person to the browser, and waits for the end of what
// they sign in for.
func (a *app) awaitSignIn(ctx context.Context, agent *client.Client, e api.Enrolment, tried string, noBrowser bool) (api.Account, error) {
	// The agent goes on when this program is gone; an interrupt means both.
	ended := false
	defer func() {
		if !ended {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
			defer cancel()
			_ = agent.CancelEnrolment(ctx, e.ID)
		}
	}()
	page, err := pageOf(e)
	if err != nil {
		return api.Account{}, &failure{tried: tried, err: err, code: exitFailed}
	}
	if !noBrowser {
		if err := openBrowser(ctx, page); err != nil {
			a.errs.line("the browser did not open: %s", clean(err.Error()))
			noBrowser = true
		}
	}
	// With --json the one document is the account.
	say := a.out
	if a.json {
		say = a.errs
	}
	if noBrowser {
		say.line("open this address in a browser on this computer, and sign in:")
		say.line("")
		say.line("  %s", page)
		say.line("")
	}
	say.line("waiting for you to sign in to %s in the browser, until %s; Ctrl-C cancels", describe.Org(e.Org, false), e.ExpiresAt.Local().Format("15:04"))
	account, err := agent.AwaitEnrolment(ctx, e.ID)
	if err != nil {
		ended = ctx.Err() == nil
		return account, signInFailed(tried, err)
	}
	ended = true
	return account, nil
}

// somebodyElse says whether a user is another than was asked for. The part of a
// name behind the @ is often left out; the agent compares in the same way, but
// learns the name too late from an org that does not say it with the sign-in.
func somebodyElse(asked, user string) bool {
	local, _, _ := strings.Cut(user, "@")
	return asked != "" && !strings.EqualFold(asked, user) && (strings.Contains(asked, "@") || !strings.EqualFold(asked, local))
}

// pageOf returns the address to open: a page of that organisation and nothing
// else, since what opens addresses on a desktop opens more than pages.
func pageOf(e api.Enrolment) (string, error) {
	u, err := url.Parse(e.URL)
	org, orgErr := url.Parse(e.Org)
	if err := cmp.Or(err, orgErr); err != nil {
		return "", errors.New("the agent named an address that is none")
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Scheme != org.Scheme || u.Host != org.Host {
		return "", fmt.Errorf("the agent named an address that is not at %s", clean(e.Org))
	}
	// Written anew, so that nothing is in it that an address does not have.
	return u.String(), nil
}

// signInFailed adds the exit codes that scripts tell the endings apart by.
func signInFailed(tried string, err error) error {
	result := failed(tried, err)
	var refused *api.Error
	var f *failure
	if errors.As(err, &refused) && errors.As(result, &f) {
		switch refused.Code {
		case "sign_in_denied":
			f.code = exitDenied
		case "sign_in_timed_out":
			f.code = exitTimeout
		}
	}
	return result
}
