// Command countersign-tray is the icon in the panel: what waits for your answer,
// your accounts and codes. It only asks the agent, which works as well without it.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"countersign.dev/program"
	"countersign.dev/tray/app"
)

func main() { os.Exit(program.Main(commands)) }

func commands() *cobra.Command {
	cobra.MousetrapHelpText = "" // Windows starts it with the session, not from a console
	o := app.Options{}
	root := &cobra.Command{
		Use:   "countersign-tray",
		Short: "Countersign in the panel",
		Long: `countersign-tray shows an icon in the panel, with a menu of what waits for your
answer, your accounts and your one-time codes, until it is told to stop. It asks
the agent, countersignd, and shows when that does not run.

The agent works as well without it: countersign offers all of this in a terminal.`,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Stderr = c.ErrOrStderr()
			return app.Run(c.Context(), o)
		},
	}
	root.Flags().StringVar(&o.Socket, "socket", "", "the agent's socket (default $COUNTERSIGN_SOCKET or the usual place)")
	root.Flags().StringVar(&o.Theme, "theme", "auto", "the kind of panel that the icon is for: auto, light or dark")
	return root
}
