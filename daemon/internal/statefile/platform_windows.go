package statefile

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

const openFlags = 0

// checkPrivate trusts the access list that %LOCALAPPDATA% hands down: on
// Windows mode bits say nothing about other users.
func checkPrivate(string, fs.FileInfo, string) error { return nil }

// tryLock says whether somebody else holds the lock. The locked byte lies
// beyond the text, which others may go on reading.
func tryLock(f *os.File) (held bool, err error) {
	at := &windows.Overlapped{Offset: 1 << 20}
	err = windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		return true, nil
	}
	return false, err
}

// syncDir has nothing to do: NTFS journals renames itself.
func syncDir(*os.Root) error { return nil }
