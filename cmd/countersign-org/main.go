// Command countersign-org is the reference org server of Countersign.
package main

import (
	"os"

	"countersign.dev/org/command"
	"countersign.dev/program"
)

func main() { os.Exit(program.Main(command.New)) }
