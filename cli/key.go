package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

func (a *app) keyCommand() *cobra.Command {
	c := group("key", "The keys that accounts sign in by", `The keys that accounts sign in by. They stay where they were made: in this
computer's TPM, or in the agent's sealed state. To change them you sign in to
the organisation once more, and the old key agrees; your other devices are told.`)
	c.AddCommand(a.keyList(),
		a.keyChange("verify ACCOUNT", "Let an account verify you, or make the keys for that anew",
			`Make keys for an account that your verification unlocks: your PIN, or what you
have enabled besides. Sign-ins that demand that you show that it is you need
such a key. An account that has them gets new ones.`),
		a.keyChange("rotate ACCOUNT", "Give an account new keys",
			`Give an account new keys, all of them, where the old ones are. The key of this
device stays as it is while other accounts at the organisation use it.`),
		a.keyChange("migrate ACCOUNT", "Give an account new keys in another place",
			`Give an account new keys, all of them, in the TPM or in the agent's sealed state:
a key cannot be moved. The key of this device stays where it is while other
accounts at the organisation use it.`),
	)
	return c
}

func (a *app) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "All keys, what they are for and what protects them", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := agent.Keys(cmd.Context())
			if err != nil {
				return failed("list the keys", err)
			}
			return show(a, list, (*app).printKeys)
		},
	}
}

func (a *app) printKeys(list api.KeyList) {
	if len(list.Keys) == 0 {
		a.out.line("no keys yet")
		a.out.line("hint: they come with an account: countersign account add ORG_URL")
		return
	}
	rows := make([][]string, len(list.Keys))
	var hints []string
	for i, k := range list.Keys {
		account := clean(k.Name)
		if account != clean(k.Account) {
			account += " (" + clean(k.Account) + ")"
		}
		rows[i] = []string{account, cmp.Or(clean(k.Method), "-"), roleName(k.Role), protectionOf(k), strings.ReplaceAll(clean(k.State), "_", " ")}
		if k.Hint != "" && !slices.Contains(hints, k.Hint) {
			hints = append(hints, k.Hint)
		}
	}
	a.out.table([]string{"ACCOUNT", "METHOD", "ROLE", "PROTECTION", "STATE"}, rows)
	for _, hint := range hints {
		a.out.hang("hint: ", 6, clean(hint))
	}
}

// roleName says what a key is for.
func roleName(role string) string {
	name := map[string]string{
		"proofOfPossession":        "proof of possession",
		"userVerification":         "verifies you: fingerprint",
		"userVerificationBioOrPin": "verifies you: PIN or fingerprint",
		"clientInstance":           "this device",
	}[role]
	return cmp.Or(name, clean(role))
}

// protectionOf says honestly where a key is.
func protectionOf(k api.Key) string {
	switch k.Kind {
	case "tpm":
		return "TPM"
	case "software":
		how := "sealed by "
		if k.SealedBy == "file" {
			how = "protected by "
		}
		return "software, " + how + vaultKeyName(api.Component{Kind: k.SealedBy})
	}
	return clean(k.Kind) + ", " + clean(k.Protection)
}

// keyChange is one of the commands that change keys; its word is the action.
func (a *app) keyChange(use, short, long string) *cobra.Command {
	action, _, _ := strings.Cut(use, " ")
	in := api.ChangeKeys{Action: action}
	var noBrowser bool
	var by proof
	c := &cobra.Command{
		Use: use, Short: short, Args: takes(1, 1), Long: long + `

Keys that your verification unlocks take it, for the old ones and for the new:
the PIN is asked for first. Then your browser opens at the organisation.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.To != "" && in.To != "tpm" && in.To != "software" {
				return usageError(cmd, errors.New("--to is tpm or software"))
			}
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			return a.changeKeys(cmd.Context(), agent, args[0], in, by, noBrowser)
		},
	}
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address instead of opening it")
	if action == "migrate" {
		c.Flags().StringVar(&in.To, "to", "", "tpm or software (default: where they are not)")
	}
	by.flags(c)
	return c
}

var keyTried = map[string]string{
	"verify": "make keys that verify you", "rotate": "make new keys", "migrate": "make new keys elsewhere",
}

func (a *app) changeKeys(ctx context.Context, agent *client.Client, id string, in api.ChangeKeys, by proof, noBrowser bool) error {
	tried := keyTried[in.Action]
	account, err := agent.Account(ctx, id)
	if err != nil {
		return failed(tried, err)
	}
	var e api.Enrolment
	change := func(pin api.PIN, method string) (err error) {
		in.PIN, in.Verification = pin, method
		e, err = agent.ChangeKeys(ctx, id, in)
		return err
	}
	takes := may // keys are added that it unlocks
	if in.Action == "verify" || len(account.Verification) > 0 {
		takes = must
	}
	if err := a.proving(ctx, agent, by, takes, change); err != nil {
		return failed(tried, err)
	}
	account, err = a.awaitSignIn(ctx, agent, e, tried, noBrowser)
	if err != nil {
		return err
	}
	return show(a, account, func(a *app, acc api.Account) {
		words := "has new keys, " + protection(acc)
		if in.Action == "verify" {
			words = "verifies you when a sign-in demands it"
		}
		a.out.line("%s %s at %s %s", a.out.paint(green, "changed:"), clean(acc.User), orgName(acc), words)
		a.notes(acc)
	})
}
