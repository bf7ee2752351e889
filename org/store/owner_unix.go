//go:build unix

package store

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses what another user owns, or whose mode has a bit of
// forbidden set.
func checkOwner(info fs.FileInfo, forbidden fs.FileMode) error {
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: it belongs to another user", ErrUnsafe)
	}
	if p := info.Mode().Perm(); p&forbidden != 0 {
		return fmt.Errorf("%w: its mode is %04o", ErrUnsafe, p)
	}
	return nil
}
