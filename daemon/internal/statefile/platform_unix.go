//go:build unix

package statefile

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags refuse a symbolic link as last element and never wait for a pipe.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func checkPrivate(path string, info fs.FileInfo, hint string) error {
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return &FolderError{Path: path, Err: ErrForeign, Hint: "run the agent as its owner or name another folder"}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return &FolderError{Path: path, Err: ErrExposed, Hint: hint}
	}
	return nil
}

// tryLock says whether somebody else holds the lock.
func tryLock(f *os.File) (held bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return true, nil
	}
	return false, err
}

func syncDir(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
