//go:build unix && !linux

package unlock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ProtectMemory forbids core dumps of this process.
func ProtectMemory() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}
