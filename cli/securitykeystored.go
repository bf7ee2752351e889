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

// withKeyPIN is onKey with the PIN of the key, from standard input or as byKey
// has it.
func (a *app) withKeyPIN(cmd *cobra.Command, tried, id string, stdin bool, do func(ctx context.Context, agent *client.Client, k api.SecurityKey, pin api.PIN) error) error {
	var typed api.PIN
	if stdin {
		line, err := readLine(a.in, maxPIN)
		if err != nil {
			return failed("read the PIN", err)
		}
		typed = api.PIN(line)
		defer clear(typed)
	}
	return a.onKey(cmd, tried, id, func(ctx context.Context, agent *client.Client, k api.SecurityKey) error {
		if stdin {
			return a.touching(ctx, agent, func() error { return do(ctx, agent, k, typed) })
		}
		return a.byKey(ctx, agent, func(pin api.PIN) error { return do(ctx, agent, k, pin) })
	})
}

// confirmed is what the person has typed, or what a script says, to confirm what
// cannot be undone. The agent compares it with what the key says.
func (a *app) confirmed(ctx context.Context, given, want string) (string, error) {
	if given != "" {
		return given, nil
	}
	if _, person := a.terminal(); !person {
		return "", &api.Error{Code: "not_confirmed", Message: "there is no terminal to confirm it at", Hint: fmt.Sprintf("say --confirm %q", want)}
	}
	word, err := a.ask(ctx, fmt.Sprintf("type %q to go on:", want))
	if err == nil && word != want {
		err = errors.New("not confirmed; nothing was changed")
	}
	return word, err
}

func (a *app) securityKeyCredential() *cobra.Command {
	c := group("credential", "The credentials that are kept on a key", `The credentials (passkeys) that are kept on a key, so that a site finds them
without a name being typed. Others, which sites keep themselves, are not listed
by a key and take no room on it.`)
	c.AddCommand(a.credentialList(), a.credentialDelete())
	return c
}

func (a *app) credentialList() *cobra.Command {
	var stdin bool
	c := &cobra.Command{
		Use: "list [KEY]", Short: "What is kept on a key", Args: takes(0, 1),
		Long: "What is kept on a key. It takes the key's PIN.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKeyPIN(cmd, "list the credentials", strings.Join(args, ""), stdin, func(ctx context.Context, agent *client.Client, k api.SecurityKey, pin api.PIN) error {
				list, err := agent.KeyCredentials(ctx, k.ID, pin)
				if err != nil {
					return err
				}
				return show(a, list, (*app).printCredentials)
			})
		},
	}
	c.Flags().BoolVar(&stdin, "pin-stdin", false, "read the key's PIN from standard input")
	return c
}

// shortID is how much of a credential's id people are shown: its beginning names
// it, if there is only one.
const shortID = 12

func (a *app) printCredentials(list api.KeyCredentialList) {
	if len(list.Credentials) == 0 {
		a.out.line("nothing is kept on this key")
	} else {
		rows := make([][]string, len(list.Credentials))
		for i, c := range list.Credentials {
			id := clean(c.ID)
			rows[i] = []string{id[:min(len(id), shortID)], clean(c.RPID), orDash(c.User), orDash(c.Display)}
		}
		a.out.table([]string{"ID", "SITE", "USER", "NAME"}, rows)
	}
	if list.Left > 0 {
		a.out.line("room for %d more", list.Left)
	}
}

func (a *app) credentialDelete() *cobra.Command {
	var stdin bool
	var confirm string
	c := &cobra.Command{
		Use: "delete CREDENTIAL [KEY]", Short: "Delete a credential from a key", Args: takes(1, 2),
		Long: `Delete a credential from a key: the one whose ID begins so. You can not sign in by
it any more, and it does not come back. To confirm, its site is typed; scripts
say --confirm SITE. It takes the key's PIN.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKeyPIN(cmd, "delete the credential", strings.Join(args[1:], ""), stdin, func(ctx context.Context, agent *client.Client, k api.SecurityKey, pin api.PIN) error {
				list, err := agent.KeyCredentials(ctx, k.ID, pin)
				if err != nil {
					return err
				}
				gone, err := credentialNamed(list, args[0])
				if err != nil {
					return err
				}
				a.errs.line("this deletes %s at %s from the %s", clean(gone.User), clean(gone.RPID), clean(keyName(k)))
				word, err := a.confirmed(ctx, confirm, gone.RPID)
				if err != nil {
					return err
				}
				left, err := agent.DeleteKeyCredential(ctx, k.ID, api.DeleteKeyCredential{PIN: pin, ID: gone.ID, Confirm: word})
				if err != nil {
					return err
				}
				return show(a, left, func(a *app, _ api.KeyCredentialList) {
					a.out.line("%s %s at %s", a.out.paint(green, "deleted:"), clean(gone.User), clean(gone.RPID))
				})
			})
		},
	}
	c.Flags().BoolVar(&stdin, "pin-stdin", false, "read the key's PIN from standard input")
	c.Flags().StringVar(&confirm, "confirm", "", "the credential's site, instead of typing it")
	return c
}

// credentialNamed finds the one credential whose id begins so.
func credentialNamed(list api.KeyCredentialList, id string) (api.KeyCredential, error) {
	var found []api.KeyCredential
	for _, c := range list.Credentials {
		if c.ID == id {
			return c, nil
		}
		if strings.HasPrefix(c.ID, id) {
			found = append(found, c)
		}
	}
	const hint = "countersign securitykey credential list"
	switch len(found) {
	case 0:
		return api.KeyCredential{}, &api.Error{Code: "credential_unknown", Message: "there is no such credential on the key", Hint: hint}
	case 1:
		return found[0], nil
	}
	return api.KeyCredential{}, &api.Error{Code: "credential_ambiguous", Message: fmt.Sprintf("%d begin so", len(found)), Hint: "give more of its ID: " + hint + " --json"}
}

func (a *app) securityKeyFingerprint() *cobra.Command {
	c := group("fingerprint", "The fingers that a key knows", "The fingers that a key with a reader knows. They never leave it.")
	c.AddCommand(a.fingerprintCommand("list [KEY]", "Which fingers a key knows", 0), a.fingerprintCommand("add NAME [KEY]", "Teach a key a finger", 1), a.fingerprintCommand("remove NAME [KEY]", "Have a key forget a finger", 1))
	return c
}

// fingerprintCommand is one of the three.
func (a *app) fingerprintCommand(use, short string, names int) *cobra.Command {
	action, _, _ := strings.Cut(use, " ")
	tried := map[string]string{"list": "list the fingerprints", "add": "add the fingerprint", "remove": "remove the fingerprint"}[action]
	var stdin bool
	c := &cobra.Command{
		Use: use, Short: short, Args: takes(names, names+1), Long: short + ". It takes the key's PIN.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKeyPIN(cmd, tried, strings.Join(args[names:], ""), stdin, func(ctx context.Context, agent *client.Client, k api.SecurityKey, pin api.PIN) error {
				list, err := agent.KeyFingerprints(ctx, k.ID, pin)
				if err != nil {
					return err
				}
				change := api.ChangeFingerprint{PIN: pin}
				done := ""
				switch action {
				case "list":
					return show(a, list, (*app).printFingerprints)
				case "add":
					change.Name, done = args[0], "added:"
				case "remove":
					if change.Drop, err = fingerprintNamed(list, args[0]); err != nil {
						return err
					}
					done = "removed:"
				}
				if list, err = agent.ChangeFingerprint(ctx, k.ID, change); err != nil {
					return err
				}
				return show(a, list, func(a *app, list api.FingerprintList) {
					a.out.line("%s %s; the key knows %s", a.out.paint(green, done), clean(args[0]), describe.Plural(len(list.Fingerprints), "finger"))
				})
			})
		},
	}
	c.Flags().BoolVar(&stdin, "pin-stdin", false, "read the key's PIN from standard input")
	return c
}

func (a *app) printFingerprints(list api.FingerprintList) {
	if len(list.Fingerprints) == 0 {
		a.out.line("the key knows no finger yet")
		a.out.line("hint: countersign securitykey fingerprint add NAME")
		return
	}
	rows := make([][]string, len(list.Fingerprints))
	for i, f := range list.Fingerprints {
		rows[i] = []string{orDash(f.Name), clean(f.ID)}
	}
	a.out.table([]string{"NAME", "ID"}, rows)
}

// fingerprintNamed finds the one finger of that id or name.
func fingerprintNamed(list api.FingerprintList, name string) (id string, err error) {
	n := 0
	for _, f := range list.Fingerprints {
		if f.ID == name {
			return f.ID, nil
		}
		if f.Name == name {
			id = f.ID
			n++
		}
	}
	switch n {
	case 0:
		return "", &api.Error{Code: "fingerprint_unknown", Message: "the key knows no such finger", Hint: "countersign securitykey fingerprint list"}
	case 1:
		return id, nil
	}
	return "", &api.Error{Code: "fingerprint_ambiguous", Message: fmt.Sprintf("%d are called that", n), Hint: "give the ID: countersign securitykey fingerprint list"}
}

func (a *app) securityKeyReset() *cobra.Command {
	var confirm string
	c := &cobra.Command{
		Use: "reset [KEY]", Short: "Wipe a key", Args: takes(0, 1),
		Long: `Wipe a key: its PIN and everything that is enrolled with it, at any site. None of
it comes back. To confirm, the name of the key is typed; scripts say --confirm
NAME. Most keys allow it only within ten seconds of being plugged in, and want a
touch.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onKey(cmd, "reset the security key", strings.Join(args, ""), func(ctx context.Context, agent *client.Client, k api.SecurityKey) error {
				if k.BySystem {
					return keyBySystem()
				}
				if len(args) == 0 { // the list does not say whether it verifies
					var err error
					if k, err = agent.SecurityKey(ctx, k.ID); err != nil {
						return err
					}
				}
				a.errs.line("this wipes the %s (%s): whatever is enrolled with it, anywhere, is gone", clean(keyName(k)), clean(k.Path))
				if k.Verifies {
					a.errs.line("it verifies you to this agent, which ends with that")
				}
				word, err := a.confirmed(ctx, confirm, k.Product)
				if err != nil {
					return err
				}
				if err := a.touching(ctx, agent, func() error { return agent.ResetKey(ctx, k.ID, word) }); err != nil {
					return err
				}
				return show(a, reset{ID: k.ID, Product: k.Product, Reset: true}, func(a *app, r reset) {
					a.out.line("%s the %s is as new: it has no PIN, and nothing is on it", a.out.paint(green, "reset:"), clean(r.Product))
				})
			})
		},
	}
	c.Flags().StringVar(&confirm, "confirm", "", "the name of the key, instead of typing it")
	return c
}

// reset says that a key was wiped.
type reset struct {
	ID      string `json:"id"`
	Product string `json:"product"`
	Reset   bool   `json:"reset"`
}
