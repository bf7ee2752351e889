//go:build cgo

package helper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"countersign.dev/authenticators/securitykey/wire"
)

// held is the device file of the key, open for the whole operation without ever
// being read: as long as it is, no other key gets this path, so what was checked
// stays true while the library opens the path again and again.
type held struct {
	fd   int
	path string
}

// lockPatience is how long others may keep the key to themselves. The agent itself
// looks at keys for a moment now and then.
const lockPatience = 1500 * time.Millisecond

// hold opens a key's device file.
func hold(path string) (*held, error) {
	if !strings.HasPrefix(path, "/dev/") || filepath.Clean(path) != path {
		return nil, fail(wire.BadRequest, "not the path of a device: %q", path)
	}
	// Not to make a test's pty our terminal, and not to wait for anything.
	fd, err := unix.Open(tree()+path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fail(wire.NoPermission, "open %s: %v", path, err)
	case errors.Is(err, unix.EBUSY):
		return nil, fail(wire.InUse, "open %s: %v", path, err)
	case err != nil:
		return nil, fail(wire.Removed, "open %s: %v", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		unix.Close(fd)
		return nil, fail(wire.BadRequest, "%s is not a device", path)
	}
	return &held{fd, path}, nil
}

func (h *held) release() { unix.Close(h.fd) }

// free waits until no other program has the key to itself. libfido2 would wait for
// 20 seconds.
func (h *held) free(patience time.Duration) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(h.fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return unix.Flock(h.fd, unix.LOCK_UN)
		}
		if time.Since(began) > patience {
			return fail(wire.InUse, "another program uses %s", h.path)
		}
	}
}

// gone says whether the key has been pulled out, or is within patience.
func (h *held) gone(patience time.Duration) bool {
	p := []unix.PollFd{{Fd: int32(h.fd)}} // of what is always told: it is not there any more
	if n, err := unix.Poll(p, int(patience.Milliseconds())); err == nil && n > 0 {
		return true
	}
	_, err := os.Stat(tree() + h.path)
	return err != nil
}

// identity is what the system says of the key, without asking it.
func (h *held) identity() wire.Identity {
	id := wire.Identity{Path: h.path}
	var st unix.Stat_t
	if unix.Fstat(h.fd, &st) != nil {
		return id
	}
	device, err := filepath.EvalSymlinks(tree() + "/sys/class/hidraw/" + filepath.Base(h.path) + "/device")
	if err != nil {
		id.Arrival = fmt.Sprintf("node %d %d", st.Ino, st.Ctim.Nano())
		return id
	}
	for line := range strings.Lines(attribute(device, "uevent")) {
		// HID_ID=0003:00001050:00000407
		if ids, ok := strings.CutPrefix(strings.TrimSpace(line), "HID_ID="); ok {
			if parts := strings.Split(ids, ":"); len(parts) == 3 {
				vendor, _ := strconv.ParseUint(parts[1], 16, 32)
				product, _ := strconv.ParseUint(parts[2], 16, 32)
				id.VendorID, id.ProductID = uint16(vendor), uint16(product)
			}
		}
	}
	// The bus counts what is plugged in. A node's times may change while it is there.
	for dir := device; strings.HasPrefix(dir, tree()+"/sys/devices/"); dir = filepath.Dir(dir) {
		if number := attribute(dir, "devnum"); number != "" {
			id.Arrival = fmt.Sprintf("usb %s.%s %d", attribute(dir, "busnum"), number, st.Ino)
			return id
		}
	}
	id.Arrival = fmt.Sprintf("node %d %d", st.Ino, st.Ctim.Nano())
	return id
}

func attribute(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
