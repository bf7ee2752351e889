package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

const (
	signInTried = "sign in with a security key"
	// maxAsked bounds how often a person is asked for one sign-in; the key counts
	// wrong PINs by itself, and the organisation wrong passwords.
	maxAsked = 16
)

func (a *app) securityKeySignIn() *cobra.Command {
	var in api.KeySignIn
	var noEnrol, pinStdin, passwordStdin bool
	c := &cobra.Command{
		Use: "signin ORG_URL --username USER", Short: "Sign in at an organisation with a security key, without a browser", Args: takes(1, 1),
		Long: `Sign in at an organisation with a security key, without a browser: to see that
the key works there, or to enrol it where the organisation asks for one. Nothing
is kept of the sign-in.

What the organisation and the key ask for is asked for on the terminal: the
password, the PIN of the key, whether the key is to be enrolled, which one of
several is meant. Scripts give the password as the first line of standard input
(--password-stdin) and the PIN as the next (--pin-stdin); without a terminal a
key is enrolled when the organisation asks for one, unless --no-enrol is said.
A wrong password or PIN is never tried again by itself.`,
		Example: "  countersign securitykey signin https://id.example.com --username bob@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Username == "" {
				return usageError(cmd, errors.New("say who signs in, with --username"))
			}
			in.Org = args[0]
			if err := a.readKeySecrets(&in, passwordStdin, pinStdin); err != nil {
				return failed(signInTried, err)
			}
			defer func() { clear(in.Password); clear(in.PIN) }()
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			done, err := a.signInWithKey(cmd.Context(), agent, in, noEnrol)
			if err != nil {
				return keySignInFailed(err)
			}
			return show(a, done, (*app).printKeySignedIn)
		},
	}
	c.Flags().StringVar(&in.Username, "username", "", "who signs in")
	c.Flags().StringVar(&in.Client, "client", "", "the app to sign in to, by its client id (default the agent itself)")
	c.Flags().StringVar(&in.RedirectURI, "redirect-uri", "", "a redirect URI that the organisation has for that app; nothing is sent there")
	c.Flags().StringVar(&in.Key, "key", "", "the id of the key, as countersign securitykey list shows it")
	c.Flags().BoolVar(&noEnrol, "no-enrol", false, "do not enrol a key")
	c.Flags().BoolVar(&passwordStdin, "password-stdin", false, "read the password from standard input")
	c.Flags().BoolVar(&pinStdin, "pin-stdin", false, "read the PIN of the key from standard input, after the password if that is read, too")
	return c
}

// readKeySecrets reads what scripts give: the password, and then the PIN.
func (a *app) readKeySecrets(in *api.KeySignIn, password, pin bool) error {
	var wanted []*api.PIN
	if password {
		wanted = append(wanted, &in.Password)
	}
	if pin {
		wanted = append(wanted, &in.PIN)
	}
	if len(wanted) == 0 {
		return nil
	}
	lines, err := readLines(a.in, len(wanted), 2*maxPIN)
	if err != nil {
		return err
	}
	for i, line := range lines {
		*wanted[i] = api.PIN(line)
	}
	return nil
}

// signInWithKey signs in, and asks the person for what is missing, as long as
// they go on.
func (a *app) signInWithKey(ctx context.Context, agent *client.Client, in api.KeySignIn, noEnrol bool) (api.KeySignedIn, error) {
	quiet := a.watchKeys(ctx, agent)
	defer quiet()
	defer func() { clear(in.Password); clear(in.PIN) }() // what was typed
	_, person := a.terminal()
	in.Enrol = !noEnrol && !person
	for range maxAsked {
		done, err := agent.SignInWithKey(ctx, in)
		var refused *api.Error
		if err == nil || !person || !errors.As(err, &refused) {
			return done, err
		}
		again, asked := a.completeSignIn(ctx, agent, &in, refused, noEnrol)
		if asked != nil {
			return done, asked
		}
		if !again {
			return done, err
		}
	}
	return api.KeySignedIn{}, errors.New("too many tries")
}

// completeSignIn asks for what was missing or wrong. again is false when asking
// does not help, or the person does not want to.
func (a *app) completeSignIn(ctx context.Context, agent *client.Client, in *api.KeySignIn, refused *api.Error, noEnrol bool) (again bool, err error) {
	secret := func(into *api.PIN, question string) (bool, error) {
		typed, err := a.askSecret(ctx, question)
		if err != nil || len(typed) == 0 {
			return false, err
		}
		clear(*into)
		*into = typed
		return true, nil
	}
	product := clean(refused.Product)
	if product == "" {
		product = "security key"
	}
	switch refused.Code {
	case "wrong_password":
		a.errs.line("%s", clean(refused.Message))
		fallthrough
	case "password_needed":
		return secret(&in.Password, fmt.Sprintf("password of %s at %s:", clean(in.Username), describe.Org(in.Org, false)))
	case "wrong_key_pin":
		a.errs.line("%s", clean(refused.Message))
		in.Key = refused.Key
		return secret(&in.PIN, fmt.Sprintf("PIN of the %s:", product))
	case "key_pin_needed":
		if len(in.PIN) > 0 && in.Key == refused.Key {
			return false, nil
		}
		in.Key = refused.Key
		question := fmt.Sprintf("PIN of the %s:", product)
		if refused.TriesLeft > 0 {
			question = fmt.Sprintf("PIN of the %s, %s:", product, describe.Tries(refused.TriesLeft))
		}
		return secret(&in.PIN, question)
	case "enrolment_needed":
		if noEnrol || in.Enrol {
			return false, nil
		}
		a.errs.line("%s", clean(refused.Message))
		answer, err := a.ask(ctx, "enrol your security key there now? [y/N]")
		in.Enrol = strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
		return in.Enrol, err
	case "key_needed":
		return a.askWhichKey(ctx, agent, in)
	}
	return false, nil
}

// askWhichKey lets the person say which key is meant.
func (a *app) askWhichKey(ctx context.Context, agent *client.Client, in *api.KeySignIn) (bool, error) {
	list, err := agent.SecurityKeys(ctx)
	if err != nil || in.Key != "" || len(list.Keys) == 0 {
		return false, err
	}
	for i, k := range list.Keys {
		a.errs.line("%d  %s  %s", i+1, clean(k.Product), clean(k.Path))
	}
	answer, err := a.ask(ctx, "which key? its number:")
	if err != nil {
		return false, err
	}
	for i, k := range list.Keys {
		if answer == fmt.Sprint(i+1) {
			in.Key = k.ID
			return true, nil
		}
	}
	return false, nil
}

func (a *app) printKeySignedIn(done api.KeySignedIn) {
	a.out.line("%s %s at %s, with the %s", a.out.paint(green, "signed in:"), clean(done.User), describe.Org(done.Org, false), clean(done.Key))
	if done.Enrolled {
		a.out.line("the key was enrolled there on the way")
	}
	var how []string
	for _, m := range done.AMR {
		how = append(how, clean(m))
	}
	if len(how) > 0 {
		a.out.line("the organisation saw: %s", strings.Join(how, ", "))
	}
}

// keySignInFailed adds the exit codes that scripts tell the endings apart by.
func keySignInFailed(err error) error {
	result := failed(signInTried, err)
	var refused *api.Error
	var f *failure
	if errors.As(err, &refused) && errors.As(result, &f) {
		switch refused.Code {
		case "sign_in_timed_out", "key_timed_out":
			f.code = exitTimeout
		}
	}
	return result
}
