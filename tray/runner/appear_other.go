//go:build !linux

package runner

import (
	"context"
	"time"
)

// appeared waits. Nobody here tells when path is made.
func appeared(ctx context.Context, _ string, wait time.Duration) bool {
	pause(ctx, wait)
	return false
}
