package softkey

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Hub is a USB hub with a fixed number of sockets, in a device tree of its own
// (umockdev): a program that is started with Env finds the keys that are plugged in
// there, by udev, as /dev/hidraw0 and so on. The program must be one that is linked
// with the C library.
//
// Two limits: keys come and go without udev's telling anybody, and what asks a
// device for its report descriptor talks to a Unix socket of umockdev's beneath Dir,
// at the time the device is opened. A sandbox that forbids this breaks enumeration;
// to open a key by its path is not affected.
type Hub struct {
	// Dir is what programs see as /sys and /dev.
	Dir string

	own     string // removed in the end
	program *exec.Cmd
	stdin   io.Closer
	mu      sync.Mutex
	ports   []*Port
}

// descriptor of a FIDO key: usage page F1D0, reports of 64 bytes either way.
var reportDescriptor = []byte{
	0x06, 0xd0, 0xf1, 0x09, 0x01, 0xa1, 0x01, 0x09, 0x20, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 0x40, 0x81, 0x02,
	0x09, 0x21, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 0x40, 0x91, 0x02, 0xc0,
}

// usbPath and hidPath are where socket i is in the device tree.
func usbPath(i int) string { return fmt.Sprintf("/devices/pci0000:00/usb1/1-%d", i+1) }
func hidPath(i int) string {
	return fmt.Sprintf("%s/1-%d:1.0/0003:1209:F1D0.%04d", usbPath(i), i+1, i+1)
}

// DeviceTree describes a socket for umockdev-run -d.
func DeviceTree(i int) string {
	return fmt.Sprintf(`P: %[1]s/hidraw/hidraw%[2]d
N: hidraw%[2]d
E: DEVNAME=/dev/hidraw%[2]d
E: MAJOR=240
E: MINOR=%[2]d
E: SUBSYSTEM=hidraw

P: %[1]s
E: HID_ID=0003:00001209:0000F1D0
E: HID_NAME=empty
E: SUBSYSTEM=hid

P: %[3]s
E: DEVTYPE=usb_device
E: SUBSYSTEM=usb
A: manufacturer=none
A: product=empty
A: idVendor=1209
A: idProduct=f1d0
`, hidPath(i), i, usbPath(i))
}

// Ioctls are the answers of a socket to the two questions for the report
// descriptor, for umockdev-run -i.
func Ioctls(i int) string {
	size := binary.LittleEndian.AppendUint32(nil, uint32(len(reportDescriptor)))
	whole := make([]byte, 4+4096)
	copy(whole[copy(whole, size):], reportDescriptor)
	return fmt.Sprintf("@DEV /dev/hidraw%d\nHIDIOCGRDESCSIZE 0 %s\nHIDIOCGRDESC 0 %s\n", i, hex.EncodeToString(size), hex.EncodeToString(whole))
}

// NewHub makes a hub with n empty sockets. Close it in the end.
func NewHub(ctx context.Context, n int) (_ *Hub, err error) {
	h := &Hub{ports: make([]*Port, n)}
	// umockdev makes Unix sockets there: the path must be short.
	if h.own, err = os.MkdirTemp("", "hub"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	var args []string
	for i := range n {
		tree, ioctl := filepath.Join(h.own, fmt.Sprint(i, ".umockdev")), filepath.Join(h.own, fmt.Sprint(i, ".ioctl"))
		if err := errors.Join(os.WriteFile(tree, []byte(DeviceTree(i)), 0o600), os.WriteFile(ioctl, []byte(Ioctls(i)), 0o600)); err != nil {
			return nil, err
		}
		args = append(args, "-d", tree, "-i", fmt.Sprintf("/dev/hidraw%d=%s", i, ioctl))
	}
	// It serves as long as what it runs, which is until its input ends.
	args = append(args, "--", "sh", "-c", `echo "$UMOCKDEV_DIR"; exec cat`)
	h.program = exec.Command("umockdev-run", args...)
	h.program.Env = append(os.Environ(), "TMPDIR="+h.own)
	h.program.Stderr = os.Stderr
	h.program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := h.program.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if h.stdin, err = h.program.StdinPipe(); err != nil {
		return nil, err
	}
	if err := h.program.Start(); err != nil {
		h.program = nil
		return nil, err
	}
	stop := context.AfterFunc(ctx, h.kill)
	defer stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("umockdev-run did not start: %w", err)
	}
	h.Dir = strings.TrimSpace(line)
	for i := range n {
		if err := h.Unplug(i); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Env is what a program needs in its environment to see the hub.
func (h *Hub) Env() []string {
	return []string{"LD_PRELOAD=libumockdev-preload.so.0", "UMOCKDEV_DIR=" + h.Dir}
}

// Device is the path of a socket's key as programs with Env see it.
func (h *Hub) Device(i int) string { return fmt.Sprintf("/dev/hidraw%d", i) }

// Port is what is plugged into a socket, nil if nothing is.
func (h *Hub) Port(i int) *Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ports[i]
}

// Plug plugs a key into a socket, in place of what is there.
func (h *Hub) Plug(i int, k *Key) (*Port, error) {
	if err := h.Unplug(i); err != nil {
		return nil, err
	}
	p, err := k.Plug()
	if err != nil {
		return nil, err
	}
	o := k.o
	uevent := fmt.Sprintf("HID_ID=0003:%08X:%08X\nHID_NAME=%s %s\n", o.Vendor, o.Product, o.Manufacturer, o.Name)
	for path, text := range map[string]string{
		hidPath(i) + "/uevent": uevent, usbPath(i) + "/manufacturer": o.Manufacturer + "\n", usbPath(i) + "/product": o.Name + "\n",
		usbPath(i) + "/idVendor": fmt.Sprintf("%04x\n", o.Vendor), usbPath(i) + "/idProduct": fmt.Sprintf("%04x\n", o.Product),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(h.Dir, "sys", path), []byte(text), 0o644))
	}
	name := fmt.Sprintf("hidraw%d", i)
	err = errors.Join(err, os.Symlink(p.Path, filepath.Join(h.Dir, "dev", name)),
		os.Symlink("../.."+hidPath(i)+"/hidraw/"+name, filepath.Join(h.Dir, "sys/class/hidraw", name)))
	if err != nil {
		p.Unplug()
		return nil, err
	}
	h.mu.Lock()
	h.ports[i] = p
	h.mu.Unlock()
	return p, nil
}

// Unplug empties a socket: the key's path is gone, and enumeration does not find
// it.
func (h *Hub) Unplug(i int) error {
	h.mu.Lock()
	p := h.ports[i]
	h.ports[i] = nil
	h.mu.Unlock()
	if p != nil {
		p.Unplug()
	}
	name := fmt.Sprintf("hidraw%d", i)
	for _, path := range []string{filepath.Join("dev", name), filepath.Join("sys/class/hidraw", name)} {
		if err := os.Remove(filepath.Join(h.Dir, path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// kill ends umockdev-run and what it runs.
func (h *Hub) kill() { _ = syscall.Kill(-h.program.Process.Pid, syscall.SIGKILL) }

// Close unplugs everything and takes the hub down.
func (h *Hub) Close() error {
	var err error
	for i := range h.ports {
		if h.Dir != "" {
			err = errors.Join(err, h.Unplug(i))
		}
	}
	if h.program != nil {
		h.stdin.Close()
		if e := h.program.Wait(); h.Dir != "" {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, os.RemoveAll(h.own))
}
