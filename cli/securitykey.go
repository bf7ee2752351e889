package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

func (a *app) securityKeyCommand() *cobra.Command {
	c := group("securitykey", "FIDO2 and U2F security keys", `FIDO2 and U2F security keys that are plugged in: what they are, their PINs, and
what is kept on them. Where KEY may be named and only one is plugged in, that one
is meant. An ID is good until the key is pulled out.

The PIN of a key is the key's own: it counts wrong ones, and is blocked for good
after eight in a row.`)
	c.AddCommand(a.securityKeyList(), a.securityKeyInfo(), a.securityKeyPIN(), a.securityKeyCredential(), a.securityKeyFingerprint(), a.securityKeyReset(), a.securityKeySignIn())
	return c
}

// onKey finds the agent and the key that is meant for what do does.
func (a *app) onKey(cmd *cobra.Command, tried, id string, do func(ctx context.Context, agent *client.Client, k api.SecurityKey) error) error {
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	ctx := cmd.Context()
	k, err := theKey(ctx, agent, id)
	if err == nil {
		err = do(ctx, agent, k)
	}
	return failed(tried, err)
}

// theKey is the key of that id, or the only one.
func theKey(ctx context.Context, agent *client.Client, id string) (api.SecurityKey, error) {
	if id != "" {
		return agent.SecurityKey(ctx, id)
	}
	list, err := agent.SecurityKeys(ctx)
	if err != nil {
		return api.SecurityKey{}, err
	}
	switch len(list.Keys) {
	case 0:
		return api.SecurityKey{}, &api.Error{Code: "no_key", Message: "no security key is plugged in", Hint: "plug it in, and try again; if it is: countersign doctor"}
	case 1:
		if p := list.Keys[0].Problem; p != nil {
			return api.SecurityKey{}, p
		}
		return list.Keys[0], nil
	}
	var names []string
	for _, k := range list.Keys {
		names = append(names, fmt.Sprintf("%s (%s)", k.ID, k.Product))
	}
	return api.SecurityKey{}, &failure{tried: "find the security key", err: fmt.Errorf("%d are plugged in", len(list.Keys)), hint: "name one: " + strings.Join(names, ", "), code: exitFailed}
}

func (a *app) securityKeyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Which keys are plugged in", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := agent.SecurityKeys(cmd.Context())
			if err != nil {
				return failed("list the security keys", err)
			}
			return show(a, list, (*app).printSecurityKeys)
		},
	}
}

func (a *app) printSecurityKeys(list api.SecurityKeyList) {
	if len(list.Keys) == 0 {
		a.out.line("no security key is plugged in")
		a.out.line("hint: if one is: countersign doctor")
		return
	}
	rows := make([][]string, len(list.Keys))
	for i, k := range list.Keys {
		speaks := strings.Join(k.Protocols, ", ")
		if k.Problem != nil {
			speaks = k.Problem.Message
		}
		rows[i] = []string{clean(k.ID), clean(keyName(k)), orDash(k.Firmware), orDash(speaks), orDash(k.Path)}
	}
	a.out.table([]string{"ID", "KEY", "FIRMWARE", "PROTOCOLS", "DEVICE"}, rows)
	var hints []string
	for _, k := range list.Keys {
		if k.Problem != nil && k.Problem.Hint != "" && !slices.Contains(hints, k.Problem.Hint) {
			hints = append(hints, k.Problem.Hint)
			a.out.hang("hint: ", 6, clean(k.Problem.Hint))
		}
		for _, odd := range k.Advisories {
			a.out.paragraph(yellow, clean(k.Product)+": "+clean(odd))
		}
	}
}

// keyName is maker and product, without saying the maker twice.
func keyName(k api.SecurityKey) string {
	if k.Manufacturer == "" || strings.HasPrefix(strings.ToLower(k.Product), strings.ToLower(k.Manufacturer)) {
		return k.Product
	}
	return k.Manufacturer + " " + k.Product
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return clean(s)
}

func (a *app) securityKeyInfo() *cobra.Command {
	return &cobra.Command{
		Use: "info [KEY]", Short: "What a key says of itself", Args: takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onKey(cmd, "ask the security key", strings.Join(args, ""), func(ctx context.Context, agent *client.Client, k api.SecurityKey) error {
				if len(args) == 0 { // the list says less
					var err error
					if k, err = agent.SecurityKey(ctx, k.ID); err != nil {
						return err
					}
				}
				return show(a, k, (*app).printSecurityKey)
			})
		},
	}
}

// options in words, of those that say something to a person.
var options = map[string]string{
	"rk": "keeps credentials", "uv": "reads fingers", "credMgmt": "credentials can be listed", "credentialMgmtPreview": "credentials can be listed",
	"bioEnroll": "fingerprints are enrolled", "alwaysUv": "always verifies you", "ep": "enterprise attestation", "setMinPINLength": "least length of the PIN can be set",
}

func (a *app) printSecurityKey(k api.SecurityKey) {
	a.out.line("%s", a.out.paint(bold, clean(keyName(k))))
	pin := "not set"
	switch {
	case k.PINSet && k.TriesLeft > 0:
		pin = "set, " + describe.Tries(k.TriesLeft)
	case k.PINSet:
		pin = "set"
	case k.BySystem:
		pin = "Windows asks for it"
	case k.AAGUID == "":
		pin = "this key has none: U2F only"
	}
	model := clean(k.AAGUID)
	if k.Model != "" {
		model = clean(k.Model) + " (" + model + ")"
	}
	var can []string
	for _, name := range slices.Sorted(maps.Keys(k.Options)) {
		if words := options[name]; words != "" && k.Options[name] && !slices.Contains(can, words) {
			can = append(can, words)
		}
	}
	verifies := ""
	if k.Verifies {
		verifies = "you, to this agent"
	}
	a.out.fields("  ",
		"id", clean(k.ID), "device", clean(k.Path), "model", model, "firmware", clean(k.Firmware), "protocols", clean(strings.Join(k.Protocols, ", ")),
		"extensions", clean(strings.Join(k.Extensions, ", ")), "PIN", pin, "can", strings.Join(can, ", "), "verifies", verifies,
	)
	for _, odd := range k.Advisories {
		a.out.paragraph(yellow, clean(odd))
	}
}

func (a *app) securityKeyPIN() *cobra.Command {
	c := group("pin", "The PIN of a key", "")
	c.AddCommand(a.securityKeyPINSet(false), a.securityKeyPINSet(true))
	return c
}

// keyBySystem refuses what only Windows does, before anything is asked for.
func keyBySystem() error {
	return &api.Error{Code: "key_unsupported", Message: describe.KeyBySystem, Hint: describe.KeyBySystemHint}
}

// securityKeyPINSet sets the first PIN of a key, or changes it.
func (a *app) securityKeyPINSet(change bool) *cobra.Command {
	name, short, lines, tried := "set", "Set the first PIN of a key", 1, "set the PIN of the security key"
	long := `Set the first PIN of a key, of at least four characters. It is asked for twice,
and not shown; with --pin-stdin it is the first line of standard input.`
	if change {
		name, short, lines, tried = "change", "Change the PIN of a key", 2, "change the PIN of the security key"
		long = `Change the PIN of a key. The old one and the new one are asked for, and not
shown; with --pin-stdin they are the first two lines of standard input, the old
one first. The key counts wrong ones.`
	}
	var stdin bool
	c := &cobra.Command{
		Use: name + " [KEY]", Short: short, Long: long, Args: takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pins, err := a.pins(cmd, stdin, lines)
			if err != nil {
				return err
			}
			return a.onKey(cmd, tried, strings.Join(args, ""), func(ctx context.Context, agent *client.Client, k api.SecurityKey) error {
				switch {
				case k.BySystem:
					return keyBySystem()
				case change && !k.PINSet && len(k.Options) > 0:
					return &api.Error{Code: "key_pin_not_set", Message: "it has none yet", Hint: "countersign securitykey pin set"}
				case !change && k.PINSet:
					return &api.Error{Code: "key_pin_set", Message: "it has one already", Hint: "countersign securitykey pin change"}
				}
				a.errs.line("%s", clean(keyName(k)))
				var old api.PIN
				if change {
					if old, err = pins.next(func() (api.PIN, error) { return a.askSecret(ctx, "present PIN of the security key:") }); err != nil {
						return err
					}
					defer clear(old)
					if len(old) == 0 {
						return errors.New("no PIN was typed")
					}
				}
				pin, err := pins.next(func() (api.PIN, error) { return a.askTwice(ctx, "new PIN of the security key:") })
				if err != nil {
					return err
				}
				defer clear(pin)
				k, err = agent.SetKeyPIN(ctx, k.ID, pin, old)
				if err != nil {
					return err
				}
				return show(a, k, func(a *app, k api.SecurityKey) {
					word := "set:"
					if change {
						word = "changed:"
					}
					a.out.line("%s the PIN of the %s", a.out.paint(green, word), clean(k.Product))
				})
			})
		},
	}
	c.Flags().BoolVar(&stdin, "pin-stdin", false, "read the PIN from standard input")
	return c
}
