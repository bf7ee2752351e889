package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "events", Short: "Everything that happens, one JSON object a line", Args: takes(0, 0),
		Long: "Everything that happens in the agent from now on, one JSON object a line, until interrupted.\nThe first line is the event \"hello\": what happens after it is not missed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			const tried = "follow events"
			a.stream = true
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			events, err := agent.Subscribe(cmd.Context(), "")
			if err != nil {
				return failed(tried, err)
			}
			for e, err := range events {
				if err != nil {
					return failed(tried, err)
				}
				if err := writeJSON(a.out.w, e); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
