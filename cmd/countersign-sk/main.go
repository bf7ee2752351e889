// Command countersign-sk talks to one security key for the agent: one operation
// from its standard input, and it ends. It is of no use by hand.
package main

import (
	"fmt"
	"os"

	"countersign.dev/authenticators/securitykey/helper"
	"countersign.dev/version"
)

func main() {
	if len(os.Args) > 1 {
		if os.Args[1] == "--version" {
			fmt.Println(version.Of("countersign-sk"))
			return
		}
		fmt.Fprintln(os.Stderr, "countersign-sk: the agent runs this program, one for each operation on a security key")
		os.Exit(2)
	}
	os.Exit(helper.Run(os.Stdin, os.Stdout))
}
