package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

func (a *app) auditCommand() *cobra.Command {
	var o client.AuditOptions
	c := &cobra.Command{
		Use: "audit", Short: "The record of decisions", Args: takes(0, 0),
		Long: "The record of decisions on this computer, oldest first. Each entry carries a hash over the one\nbefore it, so that a changed or missing entry is found by --verify.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			const tried = "read the record of decisions"
			if o.Verify && o.Follow {
				return usageError(cmd, errors.New("--verify and --follow do not go together"))
			}
			a.stream = o.Follow
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			records, err := agent.Audit(cmd.Context(), o)
			if err != nil {
				return failed(tried, err)
			}
			checked, none := verified{Verified: true}, true
			who := map[string]string{}
			if !o.Verify && !a.json {
				who = users(cmd.Context(), agent)
			}
			for r, err := range records {
				none = false
				switch {
				case err != nil:
					return failed(tried, err)
				case o.Verify:
					checked.Records++
				case a.json:
					if err := writeJSON(a.out.w, r); err != nil {
						return err
					}
				default:
					name := clean(r.Account)
					if user := who[r.Account]; user != "" {
						name = user
					}
					a.printRecord(r, name)
				}
			}
			if !o.Verify {
				if none && !a.json {
					a.out.line("no decisions on record yet")
				}
				return nil
			}
			return show(a, checked, func(a *app, v verified) {
				a.out.line("%s %s on record, none changed or missing", a.out.paint(green, "ok:"), describe.Plural(v.Records, "decision"))
			})
		},
	}
	c.Flags().BoolVar(&o.Follow, "follow", false, "go on with new entries until interrupted")
	c.Flags().BoolVar(&o.Verify, "verify", false, "check that no entry was changed or removed")
	return c
}

// users maps account ids to who they are; those that are gone keep their ids.
func users(ctx context.Context, agent *client.Client) map[string]string {
	byID := map[string]string{}
	list, err := agent.Accounts(ctx)
	if err != nil {
		return byID // the record is worth reading without names
	}
	for _, acc := range list.Accounts {
		byID[acc.ID] = clean(acc.User)
	}
	return byID
}

// verified is the answer of `audit --verify`; a record that is broken is an
// error instead.
type verified struct {
	Verified bool `json:"verified"`
	Records  int  `json:"records"`
}

// printRecord shows one entry; who is whose account it is about, if known.
func (a *app) printRecord(r api.AuditRecord, who string) {
	words := func(s string) string { return strings.ReplaceAll(clean(s), "_", " ") }
	facts := []string{}
	for _, fact := range []string{who, clean(r.App), clean(r.Origin), words(r.Reason)} {
		if fact != "" {
			facts = append(facts, fact)
		}
	}
	const eventWidth, outcomeWidth = 12, 12
	lead := layout.Pad(words(r.Event), eventWidth) + "  " + layout.Pad(words(r.Outcome), outcomeWidth) + "  "
	when := r.Time.Local().Format("2006-01-02 15:04:05")
	a.out.hang(a.out.paint(dim, when)+"  "+lead, len(when)+2+len(lead), strings.Join(facts, ", "))
}
