package statefile

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ErrInUse says that another process holds the folder's lock.
var ErrInUse = errors.New("state folder is in use by another agent")

// InUseError is ErrInUse with what is known about the holder.
type InUseError struct {
	Path string
	PID  int // 0 when unknown
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s: %v", e.Path, ErrInUse)
	}
	return fmt.Sprintf("%s: %v (pid %d)", e.Path, ErrInUse, e.PID)
}

// Is makes errors.Is(err, ErrInUse) true.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

const lockName = "lock"

// Lock takes the folder for this process. The lock goes with the process,
// however it ends; the file stays and only tells who had it last.
func (d *Dir) Lock() error {
	f, err := d.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|openFlags, 0o600)
	if err != nil {
		return fmt.Errorf("lock state folder: %w", err)
	}
	held, err := tryLock(f)
	if err != nil || held {
		defer f.Close()
		if err != nil {
			return fmt.Errorf("lock state folder: %w", err)
		}
		return &InUseError{Path: d.path, PID: readPID(f)}
	}
	// The number is for people only: failing to write it is no reason to stop.
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	d.lock = f
	return nil
}

// Unlock gives the folder back.
func (d *Dir) Unlock() error {
	if d.lock == nil {
		return nil
	}
	f := d.lock
	d.lock = nil
	return f.Close()
}

func readPID(f *os.File) int {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
