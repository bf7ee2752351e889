//go:build !windows

package localapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"countersign.dev/ipc/paths"
)

func listen(path string) (net.Listener, error) {
	// Absolute also means: never an abstract socket, which has no owner (D1).
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := paths.CheckSocket(path); err != nil {
		return nil, err
	}
	if err := prepareFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// C6: the socket is born with its mode, not given it later.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return bornPrivate(c) }}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// prepareFolder makes the socket's folder for its owner alone. One that is
// there already is taken as it is, unless somebody else could swap the socket
// in it.
func prepareFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if uid := ownerOf(info); uid != os.Getuid() && uid != 0 {
		return fmt.Errorf("the folder %s belongs to user %d", dir, uid)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("others may write to the folder %s", dir)
	}
	return nil
}

// removeStale removes the socket of an agent that is gone. Nothing else that
// might be at the path is touched.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("there is something at %s that is not a socket", path)
	case ownerOf(info) != os.Getuid():
		return fmt.Errorf("the socket %s belongs to user %d", path, ownerOf(info))
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return ErrInUse
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("see who uses the socket: %w", err)
	}
	return os.Remove(path)
}

func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
