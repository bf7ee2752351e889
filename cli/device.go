package cli

import (
	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
)

func (a *app) deviceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "device", Short: "What organisations can be told of this computer", Args: takes(0, 0),
		Long: `What organisations can be told of this computer. With a sign-in, an organisation
gets those of these facts that it asks for, and nothing else; what is not known
is not told.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			device, err := agent.Device(cmd.Context())
			if err != nil {
				return failed("look at this computer", err)
			}
			return show(a, device, (*app).printDevice)
		},
	}
}

func (a *app) printDevice(d api.Device) {
	var pairs []string
	for _, s := range d.Signals {
		value := "not known"
		if s.Known {
			value = clean(s.Value)
		}
		pairs = append(pairs, clean(s.Name), value)
	}
	a.out.fields("", pairs...)
}
