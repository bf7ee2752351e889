//go:build !linux

package push

import (
	"context"
	"errors"
)

// Network would tell when the network comes back. On this system nothing does
// yet, so listeners come back by themselves, after a minute at most.
func Network(context.Context, func()) error { return errors.ErrUnsupported }
