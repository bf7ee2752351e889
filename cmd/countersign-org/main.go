// Command countersign-org is the reference org server of Countersign.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"countersign.dev/org/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
