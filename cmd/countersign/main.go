// Command countersign is the command line of the agent: see what waits,
// approve or deny it, manage accounts.
package main

import (
	"os"

	"countersign.dev/cli"
)

func main() { os.Exit(cli.Main()) }
