package tpm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// at finds the TPM of an address.
func at(address string) door {
	if address == "" {
		return system{device("/dev/tpmrm0"), "/sys/class/tpm/tpm0/tpm_version_major"}
	}
	return named(address)
}

// named is a path: a socket or a device, whichever is there when it is needed.
type named string

func (n named) door() door          { return socketOr(string(n), device(n)) }
func (n named) probe() error        { return n.door().probe() }
func (n named) open() (port, error) { return n.door().open() }

// system is the computer's own TPM behind the kernel's resource manager, which
// exists for a TPM 2.0 only.
type system struct {
	device
	version string // file that says which version the TPM speaks
}

func (s system) probe() error { return s.explain(s.device.probe()) }

func (s system) open() (port, error) {
	p, err := s.device.open()
	return p, s.explain(err)
}

// explain tells a TPM that is too old from none.
func (s system) explain(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if major, read := os.ReadFile(s.version); read == nil && strings.TrimSpace(string(major)) == "1" {
		return errTooOld
	}
	return errors.Join(errAbsent, err)
}

// device is a TPM's character device.
type device string

func (d device) probe() error {
	p, err := d.open()
	if err != nil {
		return err
	}
	return p.Close()
}

// open uses the device in blocking mode: the kernel then returns from writing a
// command when its answer is there, on every version.
func (d device) open() (port, error) {
	info, err := os.Stat(string(d))
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return nil, &os.PathError{Op: "open", Path: string(d), Err: errors.New("neither a device nor a socket")}
	}
	fd, err := unix.Open(string(d), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: string(d), Err: err}
	}
	return devicePort{os.NewFile(uintptr(fd), string(d)), strings.Contains(string(d), "tpmrm")}, nil
}

type devicePort struct {
	*os.File
	shared bool
}

func (p devicePort) managed() bool { return p.shared }

// send cannot be cut short: the kernel has time limits of its own for each
// command, which are long.
func (p devicePort) send(_ context.Context, command []byte) ([]byte, error) {
	if _, err := p.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, maxAnswer)
	n, err := p.Read(answer)
	if err != nil {
		return nil, err
	}
	return answer[:n], nil
}
