//go:build unix

package desktop

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"countersign.dev/ipc/paths"
)

// Alone makes sure that this is the only tray of the session, for as long as the
// program runs or until release. ErrTaken says that it is not.
func Alone() (release func(), err error) {
	dir := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "countersign")
	if !filepath.IsAbs(dir) {
		if dir, err = paths.StateDir(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Somebody may have several sessions, each with a bus and a panel.
	session := sha256.Sum256([]byte(os.Getenv("DBUS_SESSION_BUS_ADDRESS") + "\x00" + os.Getenv("DISPLAY") + "\x00" + os.Getenv("WAYLAND_DISPLAY")))
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("tray-%x.lock", session[:4])), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrTaken
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}
