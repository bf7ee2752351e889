package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

func (a *app) auditCommand() *cobra.Command {
	var o client.AuditOptions
	c := &cobra.Command{
		Use: "audit", Short: "The record of decisions", Args: takes(0, 0),
		Long: "The record of decisions on this computer, oldest first. Each entry carries a hash over the one\nbefore it, so that a changed or missing entry is found by --verify.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			const tried = "read the record of decisions"
			if o.Verify && o.Follow {
				return usageError(errors.New("--verify and --follow do not go together"))
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
					a.printRecord(r)
				}
			}
			if !o.Verify {
				if none && !a.json {
					a.out.line("no decisions on record yet")
				}
				return nil
			}
			return show(a, checked, func(a *app, v verified) {
				a.out.line("%s %s on record, none changed or missing", a.out.paint(green, "ok:"), plural(v.Records, "decision"))
			})
		},
	}
	c.Flags().BoolVar(&o.Follow, "follow", false, "go on with new entries until interrupted")
	c.Flags().BoolVar(&o.Verify, "verify", false, "check that no entry was changed or removed")
	return c
}

// verified is the answer of `audit --verify`; a record that is broken is an
// error instead.
type verified struct {
	Verified bool `json:"verified"`
	Records  int  `json:"records"`
}

func (a *app) printRecord(r api.AuditRecord) {
	words := func(s string) string { return strings.ReplaceAll(clean(s), "_", " ") }
	facts := []string{}
	for _, fact := range []string{clean(r.App), clean(r.Origin), words(r.Reason)} {
		if fact != "" {
			facts = append(facts, fact)
		}
	}
	line := pad(words(r.Event), 18) + "  " + pad(words(r.Outcome), 9) + "  " + strings.Join(facts, ", ")
	a.out.line("%s  %s", a.out.paint(dim, r.Time.Local().Format("2006-01-02 15:04:05")), strings.TrimRight(line, " "))
}
