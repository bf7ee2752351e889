package runner

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// appeared waits for so long, and says whether path was made meanwhile: the
// kernel tells, nothing is polled. What is there already is not news: it may be
// what an agent left that was killed.
func appeared(ctx context.Context, path string, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		<-ctx.Done()
		return false
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	if dir := nearest(path); !watch(fd, dir) {
		<-ctx.Done()
		return false
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })()
	buffer := make([]byte, 4096)
	for ctx.Err() == nil {
		n, err := f.Read(buffer)
		if err != nil {
			break
		}
		made := names(buffer[:n])
		dir := nearest(path)
		switch {
		case dir == filepath.Dir(path) && made[filepath.Base(path)]:
			return true
		case made[filepath.Base(dir)] && watch(fd, dir): // a folder on the way
			if _, err := os.Lstat(path); err == nil {
				return true
			}
		}
	}
	<-ctx.Done()
	return false
}

// nearest is the folder of path, or the lowest one on the way that exists.
func nearest(path string) string {
	dir := filepath.Dir(path)
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

func watch(fd int, dir string) bool {
	_, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	return err == nil
}

// names are those that events are about (inotify(7)).
func names(events []byte) map[string]bool {
	list := map[string]bool{}
	for len(events) >= unix.SizeofInotifyEvent {
		length := binary.NativeEndian.Uint32(events[12:])
		events = events[unix.SizeofInotifyEvent:]
		if uint64(length) > uint64(len(events)) {
			break
		}
		name, _, _ := bytes.Cut(events[:length], []byte{0})
		list[string(name)] = true
		events = events[length:]
	}
	return list
}
