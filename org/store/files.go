package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrUnsafe marks a folder or file that another user could read or change.
var ErrUnsafe = errors.New("not safe from other users")

// MakeStateDir creates the folder of the org's state with mode 0700, or checks
// one that is there: ours, a real folder, and writable by nobody else.
func MakeStateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("making the state folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the state folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("checking the state folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("checking the state folder %s: %w: it is not a folder", dir, ErrUnsafe)
	}
	if err := checkOwner(info, 0o022); err != nil {
		return fmt.Errorf("checking the state folder %s: %w", dir, err)
	}
	return nil
}

// makeFile creates path empty with mode 0600 or checks what is there. SQLite
// gives the files it puts beside a database the mode of the database.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the database: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("checking the database: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("checking the database %s: %w: it is not a regular file", path, ErrUnsafe)
	}
	if err := checkOwner(info, 0o077); err != nil {
		return fmt.Errorf("checking the database %s: %w", path, err)
	}
	return nil
}

// WriteSecret creates dir/name with mode 0600 and the given content. It fails
// with fs.ErrExist when something has that name already, link or file.
func WriteSecret(dir, name string, content []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadSecret reads dir/name, at most limit bytes, refusing a file that others
// may read or that is not ours.
func ReadSecret(dir, name string, limit int64) ([]byte, error) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("reading %s: %w: it is not a small regular file", path, ErrUnsafe)
	}
	if err := checkOwner(info, 0o077); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return os.ReadFile(path)
}
