package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

func (a *app) accountCommand() *cobra.Command {
	c := group("account", "Accounts that sign in from this computer", "")
	c.AddCommand(a.accountAdd(), a.accountList(), a.accountShow(), a.accountRename(), a.accountAcknowledge(), a.accountRemove())
	return c
}

func (a *app) accountList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "All accounts", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := agent.Accounts(cmd.Context())
			if err != nil {
				return failed("list the accounts", err)
			}
			return show(a, list, (*app).printAccounts)
		},
	}
}

func (a *app) printAccounts(list api.AccountList) {
	if len(list.Accounts) == 0 {
		a.out.line("no accounts yet")
		a.out.line("hint: add one with: countersign account add ORG_URL")
		return
	}
	rows := make([][]string, len(list.Accounts))
	for i, acc := range list.Accounts {
		rows[i] = []string{clean(acc.ID), clean(acc.Name), clean(acc.User), orgName(acc), protection(acc), accountState(acc)}
	}
	a.out.table([]string{"ID", "NAME", "ACCOUNT", "ORGANISATION", "KEYS", "STATE"}, rows)
	for _, acc := range list.Accounts {
		if acc.State == keysLost {
			a.out.line("the keys of %s are lost: it cannot sign in from here any more", clean(acc.Name))
			a.out.line("hint: countersign account add %s, which takes its place", clean(acc.Org))
		}
		a.printNotices(acc)
	}
}

func (a *app) accountShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "One account", Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			account, err := agent.Account(cmd.Context(), args[0])
			if err != nil {
				return failed("show the account", err)
			}
			return show(a, account, func(a *app, acc api.Account) {
				a.out.line("%s at %s, %s", clean(acc.User), orgName(acc), accountState(acc))
				a.printAccount(acc)
				a.printNotices(acc)
				if len(acc.Verification) == 0 && acc.State == "active" {
					a.out.line("hint: to let it verify you: countersign key verify %s", clean(acc.ID))
				}
			})
		},
	}
}

func (a *app) printAccount(acc api.Account) {
	attested := "not verified by the organisation"
	if acc.Attested {
		attested = "verified by the organisation"
	}
	pushes := ""
	if acc.PushesHeld {
		pushes = "held back since a sign-in was reported; let through with: countersign prompt resume " + clean(acc.ID)
	}
	a.out.line("")
	a.out.fields("",
		"id", clean(acc.ID),
		"name", clean(acc.Name),
		"organisation", clean(acc.Org),
		"account", clean(acc.User),
		"user id", clean(acc.UserID),
		"methods", clean(strings.Join(acc.Methods, ", ")),
		"keys", protection(acc)+", "+attested,
		"verifies you", verifies(acc),
		"state", accountState(acc),
		"pushes", pushes,
		"added", describe.Ago(acc.CreatedAt, a.now()),
		"pages", clean(strings.Join(acc.LoopbackOrigins, ", ")),
	)
}

// keysLost is the state of an account that cannot sign here any more.
const keysLost = "keys_lost"

func accountState(acc api.Account) string { return strings.ReplaceAll(clean(acc.State), "_", " ") }

// verifies says whether the account has keys that take the person's verification.
func verifies(acc api.Account) string {
	if acc.KeyChange != "" {
		return "not known yet: a change of its keys is not settled"
	}
	if len(acc.Verification) == 0 {
		return "no"
	}
	return "when a sign-in demands it"
}

// printNotices prints what happened to the person's other devices.
func (a *app) printNotices(acc api.Account) {
	for _, n := range acc.Notices {
		a.out.hang(a.out.paint(yellow, "notice: "), 8, clean(n.Message)+", "+describe.Ago(n.At, a.now()))
	}
	if len(acc.Notices) > 0 {
		a.out.hang("hint: ", 6, "if that was you: countersign account acknowledge "+clean(acc.ID)+
			"; if not, change your password, remove that device at "+orgName(acc)+", and tell its administrator")
	}
}

func (a *app) accountAcknowledge() *cobra.Command {
	return &cobra.Command{
		Use: "acknowledge ID", Short: "Say that you have seen what happened to your other devices", Args: takes(1, 1),
		Long: `Say that you have seen what happened to your other devices: that one was added,
or got other keys. If it was not you, change your password, remove the device at
the organisation, and tell its administrator first.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			account, err := agent.Acknowledge(cmd.Context(), args[0])
			if err != nil {
				return failed("acknowledge the notices", err)
			}
			return show(a, account, func(a *app, acc api.Account) {
				a.out.line("%s what happened to the other devices of %s", a.out.paint(green, "seen:"), clean(acc.User))
			})
		},
	}
}

func (a *app) accountRename() *cobra.Command {
	return &cobra.Command{
		Use: "rename ID NAME", Short: "Change the name shown for an account", Args: takes(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			account, err := agent.RenameAccount(cmd.Context(), args[0], args[1])
			if err != nil {
				return failed("rename the account", err)
			}
			return show(a, account, func(a *app, acc api.Account) {
				a.out.line("%s %s is now %q", a.out.paint(green, "renamed:"), clean(acc.User), clean(acc.Name))
			})
		},
	}
}

func (a *app) accountRemove() *cobra.Command {
	var localOnly bool
	c := &cobra.Command{
		Use: "remove ID", Short: "End an enrolment, at the organisation and here", Args: takes(1, 1),
		Long: "End an enrolment, at the organisation and here. The keys on this computer are deleted.",
		RunE: func(cmd *cobra.Command, args []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			if err := agent.RemoveAccount(cmd.Context(), args[0], localOnly); err != nil {
				return failed("remove the account", err)
			}
			return show(a, removed{ID: args[0], Removed: true}, func(a *app, r removed) {
				a.out.line("%s account %s and its keys on this computer", a.out.paint(green, "removed:"), clean(r.ID))
				if localOnly {
					a.out.line("hint: the organisation still lists this computer; remove it there")
				}
			})
		},
	}
	c.Flags().BoolVar(&localOnly, "local-only", false, "do not tell the organisation")
	return c
}

// removed is the answer of `account remove`.
type removed struct {
	ID      string `json:"id"`
	Removed bool   `json:"removed"`
}

// orgName is the organisation as people know it: its host.
func orgName(acc api.Account) string { return describe.Org(acc.Org, acc.Development) }

func protection(acc api.Account) string {
	switch acc.Protection {
	case "hardware":
		return "in hardware"
	case "software":
		return "in software"
	default:
		return clean(acc.Protection)
	}
}
