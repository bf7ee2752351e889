//go:build !cgo && !windows

package helper

import (
	"io"
	"os"

	"countersign.dev/authenticators/securitykey/wire"
)

// serve has nothing to serve with.
func serve(io.Reader, io.Writer, <-chan os.Signal, *wire.Request) (*wire.Result, error) {
	return nil, fail(wire.NotBuilt, "built without security-key support")
}
