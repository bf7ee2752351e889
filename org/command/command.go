// Package command is the command line of countersign-org: it reads flags,
// listens, serves and says when it is ready. What is served is package org's.
package command

import "github.com/spf13/cobra"

const name = "countersign-org"

// New returns the commands of countersign-org.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   name,
		Short: "The reference org of Countersign",
		Long:  "countersign-org is an org server: it knows users and their devices, signs them in, and issues tokens.",
	}
	root.AddCommand(serveCommand(), linkCommand())
	return root
}
