package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
)

func (a *app) codeCommand() *cobra.Command {
	c := group("code", "One-time codes", "")
	c.AddCommand(a.codeList(), a.codeGet())
	return c
}

func (a *app) codeList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "What there are one-time codes for", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			list, err := agent.Codes(cmd.Context())
			if err != nil {
				return failed("list the one-time codes", err)
			}
			return show(a, list, (*app).printCodes)
		},
	}
}

func (a *app) printCodes(list api.CodeList) {
	if len(list.Codes) == 0 {
		a.out.line("no one-time codes")
		a.out.line("hint: an organisation that offers them gives them with the account: countersign account add ORG_URL")
		return
	}
	rows := make([][]string, len(list.Codes))
	for i, code := range list.Codes {
		rows[i] = []string{clean(code.Name), clean(code.Issuer), clean(code.ID), clean(code.State)}
	}
	a.out.table([]string{"NAME", "ISSUER", "ID", "STATE"}, rows)
}

func (a *app) codeGet() *cobra.Command {
	var minLeft time.Duration
	c := &cobra.Command{
		Use: "get NAME", Short: "Print the one-time code of this moment", Args: takes(1, 1),
		Long: `Print the one-time code of this moment: the digits and nothing else.
NAME is the login, the name of the account, or its id.`,
		Example: "  countersign code get alice@example.com\n  countersign code get alice@example.com --min-left 5s",
		RunE: func(cmd *cobra.Command, args []string) error {
			const tried = "get a one-time code"
			if minLeft < 0 || minLeft > longestStep {
				return usageError(cmd, errors.New("--min-left is between 0 and "+longestStep.String()))
			}
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			code, err := lasting(cmd.Context(), minLeft, func(ctx context.Context) (api.Code, error) { return agent.Code(ctx, args[0]) })
			if err != nil {
				return failed(tried, err)
			}
			return show(a, code, func(a *app, c api.Code) { a.out.line("%s", clean(c.Code)) })
		},
	}
	c.Flags().DurationVar(&minLeft, "min-left", 0, "when the code has less time left than this, wait for the next one")
	return c
}

// longestStep is more than any service lets one code last that a person would
// wait for.
const longestStep = time.Minute

// lasting gets a code that is good for minLeft more. It waits once at most: a
// service whose codes never last that long gives the best it has.
func lasting(ctx context.Context, minLeft time.Duration, get func(context.Context) (api.Code, error)) (api.Code, error) {
	code, err := get(ctx)
	left := time.Duration(code.ExpiresInSeconds) * time.Second
	if err != nil || left >= minLeft {
		return code, err
	}
	next := time.NewTimer(left + time.Second) // the seconds are rounded down
	defer next.Stop()
	select {
	case <-next.C:
		return get(ctx)
	case <-ctx.Done():
		return api.Code{}, ctx.Err()
	}
}
