package unlock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ProtectMemory keeps this process's memory to itself: no core dumps, and no
// other process of the same user may attach to it or read /proc/PID/mem.
func ProtectMemory() error {
	var errs []error
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("make process undumpable: %w", err))
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		errs = append(errs, fmt.Errorf("forbid core dumps: %w", err))
	}
	return errors.Join(errs...)
}
