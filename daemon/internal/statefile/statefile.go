// Package statefile keeps small files in a private folder so that nobody else
// reads them and no crash leaves half of one behind.
//
// A folder is accepted only when it is a real folder (no symbolic link) that
// belongs to this user and gives nobody else any access; a missing one is made
// with mode 0700, and an empty one of this user's is closed to others, since
// nothing in it can have been read or planted. Files are 0600 from their first moment, never chmod-ed into
// it. Everything goes through one os.Root, so a folder that is swapped under us
// stays the one that was checked.
//
// Replace swaps a whole file: write a temporary, fsync, keep the previous
// generation as a second name, rename, fsync the folder. Whenever the machine
// stops, the file is the old one or the new one.
package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Errors of a folder, for callers to branch on.
var (
	ErrForeign  = errors.New("belongs to another user")
	ErrSymlink  = errors.New("is a symbolic link")
	ErrExposed  = errors.New("gives other users access")
	ErrTooLarge = errors.New("is larger than any file the agent writes")
	ErrNotFile  = errors.New("is not a regular file")
)

// FolderError says why a folder or file is not trusted and how to mend it.
type FolderError struct {
	Path string
	Err  error
	Hint string
}

func (e *FolderError) Error() string {
	if e.Hint == "" {
		return e.Path + " " + e.Err.Error()
	}
	return e.Path + " " + e.Err.Error() + " (" + e.Hint + ")"
}

func (e *FolderError) Unwrap() error { return e.Err }

// Dir is a private folder. Its methods may be called at once for different
// names; calls for one name are for the caller to order.
type Dir struct {
	root *os.Root
	path string
	lock *os.File

	// step is called before each system call that changes the folder; tests
	// make it fail to stop the world there. Nil outside tests.
	step func(call string) error
}

// Open opens the folder at path, made if missing, and checks it.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		if info, lerr := os.Lstat(path); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, &FolderError{Path: path, Err: ErrSymlink, Hint: "name the real folder"}
		}
		return nil, fmt.Errorf("create state folder: %w", err)
	}
	named, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if named.Mode()&fs.ModeSymlink != 0 {
		return nil, &FolderError{Path: path, Err: ErrSymlink, Hint: "name the real folder"}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open state folder: %w", err)
	}
	opened, err := root.Stat(".")
	if err == nil && !os.SameFile(named, opened) {
		err = &FolderError{Path: path, Err: ErrSymlink, Hint: "it changed while being opened"}
	}
	if err == nil {
		err = checkPrivate(path, opened, "chmod 700 "+path)
	}
	if errors.Is(err, ErrExposed) {
		err = closeEmpty(root, err)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Dir{root: root, path: path}, nil
}

// closeEmpty takes away what others may do in a folder that has nothing in it,
// as a plain `mkdir` leaves it. One with contents is left as it is, exposed.
func closeEmpty(root *os.Root, exposed error) error {
	if !empty(root) || root.Chmod(".", 0o700) != nil || !empty(root) { // somebody may have been faster
		return exposed
	}
	return nil
}

func empty(root *os.Root) bool {
	dir, err := root.Open(".")
	if err != nil {
		return false
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	return err == io.EOF
}

// Path is the absolute path of the folder.
func (d *Dir) Path() string { return d.path }

// Close releases the folder and its lock.
func (d *Dir) Close() error {
	err := d.Unlock()
	return errors.Join(err, d.root.Close())
}

// Exists says whether there is something called name, whatever it is.
func (d *Dir) Exists(name string) (bool, error) {
	_, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Names lists the folder.
func (d *Dir) Names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Read returns the file called name, refused when it is not a regular file,
// belongs to someone else, is open to others or exceeds limit. A missing file
// is fs.ErrNotExist.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	named, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, name)
	if !named.Mode().IsRegular() {
		return nil, &FolderError{Path: path, Err: ErrNotFile}
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(named, info) {
		return nil, &FolderError{Path: path, Err: ErrNotFile, Hint: "it changed while being opened"}
	}
	if err := checkPrivate(path, info, "chmod 600 "+path); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &FolderError{Path: path, Err: ErrTooLarge}
	}
	return data, nil
}

// Replace makes data the content of the file called name, durably. When backup
// is not empty the previous content stays under that name.
func (d *Dir) Replace(name string, data []byte, backup string) error {
	return replace(d.root, d.step, name, backup, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// ReplaceIn is Replace for a file in a folder that somebody else has checked:
// write fills the temporary.
func ReplaceIn(root *os.Root, name string, write func(*os.File) error) error {
	return replace(root, nil, name, "", write)
}

func replace(root *os.Root, step func(string) error, name, backup string, write func(*os.File) error) (err error) {
	if step == nil {
		step = func(string) error { return nil }
	}
	do := func(call string, f func() error) {
		if err != nil {
			return
		}
		if err = step(call); err == nil {
			if err = f(); err != nil {
				err = fmt.Errorf("%s: %w", call, err)
			}
		}
	}
	temporary := "." + name + ".tmp"
	var f *os.File
	do("remove old temporary", func() error { return absentIsFine(root.Remove(temporary)) })
	do("create temporary", func() error {
		f, err = root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
		return err
	})
	do("write temporary", func() error { return write(f) })
	do("sync temporary", func() error { return f.Sync() })
	if f != nil {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if backup != "" {
		keepPrevious(do, root, name, backup)
	}
	do("rename into place", func() error { return root.Rename(temporary, name) })
	do("sync folder", func() error { return syncDir(root) })
	if err != nil && f != nil && step("remove temporary") == nil {
		root.Remove(temporary) // best effort: the next Replace removes it too
	}
	return err
}

// keepPrevious gives the file called name the second name backup, replacing
// what was there at once. A hard link costs no copy and never takes the name
// away from the original.
func keepPrevious(do func(string, func() error), root *os.Root, name, backup string) {
	temporary := "." + backup + ".tmp"
	previous := true
	do("remove old backup temporary", func() error { return absentIsFine(root.Remove(temporary)) })
	do("link backup", func() error {
		err := root.Link(name, temporary)
		if errors.Is(err, fs.ErrNotExist) {
			previous = false
			return nil
		}
		if err != nil { // a file system without hard links
			return copyFile(root, name, temporary)
		}
		return nil
	})
	if !previous {
		return
	}
	do("rename backup", func() error { return root.Rename(temporary, backup) })
	// Renaming one link of a file over another link of it does nothing: after
	// a crash between the two renames the temporary is still there.
	do("remove backup temporary", func() error { return absentIsFine(root.Remove(temporary)) })
}

func copyFile(root *os.Root, from, to string) error {
	src, err := root.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

func absentIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// CheckPrivate refuses a file that belongs to someone else or is open to
// others.
func CheckPrivate(path string, info fs.FileInfo) error {
	return checkPrivate(path, info, "chmod 600 "+path)
}
