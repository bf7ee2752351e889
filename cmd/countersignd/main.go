// Command countersignd is the agent: one per user session. It keeps the keys,
// answers challenges that browsers bring, and asks the person when it must.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"countersign.dev/program"
)

func main() { os.Exit(program.Main(commands)) }

func commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "countersignd",
		Short: "The Countersign agent",
		Long:  "countersignd is the agent of Countersign: it keeps your keys and answers sign-ins with them.",
	}
	root.AddCommand(runCommand())
	return root
}
