package cli

import (
	"github.com/spf13/cobra"

	"countersign.dev/version"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Which build this is", Args: takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return show(a, version.Of("countersign"), func(a *app, v version.Info) {
				a.out.line("%s", v)
			})
		},
	}
}
