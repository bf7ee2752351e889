package faults

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// ownNamespaces are the ways to a place where this process may mount file
// systems: as root, and as anybody the system lets be root of a namespace.
func ownNamespaces() []*syscall.SysProcAttr {
	plain := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	user := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if os.Geteuid() == 0 {
		return []*syscall.SysProcAttr{plain, user}
	}
	return []*syscall.SysProcAttr{user}
}

var mounted struct {
	sync.Mutex
	at []string
}

// smallDisk is a folder on a file system of its own that can be filled. fill
// leaves no byte on it; drain gives back what fill took. Where nothing may be
// mounted it is a plain folder, and fill forbids this whole process to write
// any file: then the test must not run beside others.
type smallDisk struct {
	dir     string
	own     bool
	ballast string
}

func newSmallDisk(t *testing.T, size string) *smallDisk {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "disk")
	must(t, err)
	d := &smallDisk{dir: dir, ballast: filepath.Join(dir, "ballast")}
	if os.Getenv("COUNTERSIGN_FAULTS_INSIDE") != "" {
		mounted.Lock()
		defer mounted.Unlock()
		if len(mounted.at) == 0 {
			// What is mounted here is nobody else's business.
			_ = syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0700,size="+size); err == nil {
			d.own = true
			mounted.at = append(mounted.at, dir)
		}
	}
	return d
}

func (d *smallDisk) fill() error {
	if !d.own {
		return limitFiles(0)
	}
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := 1 << 16; block > 0; {
		if _, err := f.Write(make([]byte, block)); err != nil {
			block /= 2
		}
	}
	return nil
}

func (d *smallDisk) drain() error {
	if !d.own {
		return limitFiles(unlimited)
	}
	return os.Remove(d.ballast)
}

const unlimited = ^uint64(0)

// limitFiles forbids to write beyond that many bytes of any file.
func limitFiles(size uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		return err
	}
	l.Cur = min(size, l.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)
}

func unmountAll() {
	mounted.Lock()
	defer mounted.Unlock()
	for _, dir := range mounted.at {
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}
}

// readOnly exchanges the descriptors by which this process writes the files
// below a folder for ones that only read, as when their file system turns
// read-only under a running program; undo puts writing ones in their place.
func readOnly(dir string) (undo func() error, err error) {
	change := func(flag int) error {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return err
		}
		for _, e := range fds {
			path, err := os.Readlink("/proc/self/fd/" + e.Name())
			if err != nil || filepath.Dir(path) != dir {
				continue
			}
			var old int
			for _, c := range e.Name() {
				old = old*10 + int(c-'0')
			}
			fresh, err := syscall.Open(path, flag|syscall.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = syscall.Dup3(fresh, old, syscall.O_CLOEXEC)
			syscall.Close(fresh)
			if err != nil {
				return err
			}
		}
		return nil
	}
	return func() error { return change(syscall.O_RDWR) }, change(syscall.O_RDONLY)
}
