//go:build !unix

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrInUse says that another process has the state open.
var ErrInUse = errors.New("in use by another process")

// Lock opens the lock file. These systems keep a second process out by the
// port alone.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state: %w", err)
	}
	return f, nil
}
