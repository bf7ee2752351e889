package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Wipe overwrites the file called name with zeros and removes it, and with it
// what a Replace that was interrupted may have left of it. A missing file is no
// error.
//
// The zeros are for file systems that write in place. Flash storage, snapshots
// and file systems that copy on write may keep the old blocks: who must be sure
// encrypts the disk.
func (d *Dir) Wipe(name string) error {
	for _, n := range []string{"." + name + ".tmp", name} {
		if err := d.wipe(n); err != nil {
			return fmt.Errorf("wipe %s: %w", name, err)
		}
	}
	if err := d.before("sync folder"); err != nil {
		return err
	}
	return syncDir(d.root)
}

func (d *Dir) wipe(name string) error {
	named, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !named.Mode().IsRegular() {
		return &FolderError{Path: filepath.Join(d.path, name), Err: ErrNotFile, Hint: "remove it by hand"}
	}
	if err := d.overwrite(name, named); err != nil {
		return err
	}
	if err := d.before("remove wiped"); err != nil {
		return err
	}
	return absentIsFine(d.root.Remove(name))
}

// overwrite writes zeros over the file that was looked at, and no other.
func (d *Dir) overwrite(name string, named fs.FileInfo) error {
	if err := d.before("overwrite"); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|openFlags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, info) {
		return &FolderError{Path: filepath.Join(d.path, name), Err: ErrNotFile, Hint: "it changed while being opened"}
	}
	zeros := make([]byte, 4<<10)
	for left := info.Size(); left > 0; {
		n, err := f.Write(zeros[:min(left, int64(len(zeros)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return f.Sync()
}

func (d *Dir) before(call string) error {
	if d.step == nil {
		return nil
	}
	return d.step(call)
}
