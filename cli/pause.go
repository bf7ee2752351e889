package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

var errPauseLength = errors.New("--for is between 1s and 24h")

func (a *app) pauseCommand() *cobra.Command {
	var length time.Duration
	c := &cobra.Command{
		Use: "pause", Short: "Show and sign nothing for a while", Args: takes(0, 0),
		Long: "Show and sign nothing for a while, as behind a locked screen: sign-ins that come meanwhile wait\nfor its end, or expire. Saying no stays possible. A pause ends with the agent, too.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if length < time.Second || length > api.MaxPause {
				return usageError(cmd, errPauseLength)
			}
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			hold, err := agent.Pause(cmd.Context(), api.Pause{Seconds: int((length + time.Second - 1) / time.Second)})
			if err != nil {
				return failed("pause", err)
			}
			return show(a, hold, func(a *app, h api.Hold) { a.printHold(&h) })
		},
	}
	c.Flags().DurationVar(&length, "for", time.Hour, "how long, e.g. 30m")
	return c
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "End a pause", Args: takes(0, 0),
		Long: "End a pause. With --json the answer is what holds the agent still, or null.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			const tried = "end the pause"
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			if err := agent.Unpause(cmd.Context()); err != nil {
				return failed(tried, err)
			}
			status, err := agent.Status(cmd.Context())
			if err != nil {
				return failed(tried, err)
			}
			return show(a, status.Hold, func(a *app, h *api.Hold) {
				if h == nil {
					a.out.line("%s", a.out.paint(green, describe.HoldEnded))
					return
				}
				a.printHold(h)
			})
		},
	}
}

// printHold says what holds the agent, and how that is ended.
func (a *app) printHold(h *api.Hold) {
	a.out.paragraph(yellow, describe.Hold(h, a.now()))
	if hint := describe.HoldHint(h); hint != "" {
		a.out.hang("hint: ", 6, hint)
	}
}

// onHold is the failure to find something while nothing is shown; nil when
// nothing holds the agent.
func (a *app) onHold(tried string, h *api.Hold) *failure {
	if h == nil {
		return nil
	}
	return &failure{tried: tried, err: errors.New(describe.Hold(h, a.now())), hint: describe.HoldHint(h), code: exitFailed}
}
