package softkey

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a pair of terminals without any of a terminal's ways. Its slave passes
// for a hidraw device with libfido2, which opens a path, wants a character device,
// writes 65 bytes a report (its number, 0, comes first) and reads 64.
type pty struct {
	path          string
	master, slave *os.File
	guard         *exec.Cmd
	alive         io.Closer // the guard's input
}

func openPTY() (_ *pty, err error) {
	p := &pty{}
	defer func() {
		if err != nil {
			p.close()
			err = fmt.Errorf("opening a pty: %w", err)
		}
	}()
	if p.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, err
	}
	var number int
	if err = control(p.master, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	}); err != nil {
		return nil, err
	}
	p.path = fmt.Sprintf("/dev/pts/%d", number)
	// Held open here, or the master fails whenever no host has it open.
	if p.slave, err = os.OpenFile(p.path, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, err
	}
	if err = control(p.slave, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		t.Iflag, t.Oflag, t.Lflag, t.Cflag = 0, 0, 0, unix.CS8|unix.CREAD|unix.CLOCAL
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = reportSize, 0 // never part of a report
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}); err != nil {
		return nil, err
	}
	return p, p.occupy()
}

// occupy makes the slave the terminal of a session of its own. Otherwise a session
// leader without a terminal that opened it, as a daemon may be, would make it its
// own, be asked for a PIN there, and be hung up when the key is pulled out.
func (p *pty) occupy() (err error) {
	c := exec.Command("cat") // until its input ends
	if p.alive, err = c.StdinPipe(); err != nil {
		return err
	}
	c.Env = []string{}
	c.ExtraFiles = []*os.File{p.slave}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	if err = c.Start(); err == nil {
		p.guard = c
	}
	return err
}

// control leaves the file with the poller, unlike Fd, so that Close ends a Read.
func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := c.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return err
}

// write gives the host one report. A host that does not read loses what is there,
// as it would from hidraw's ring.
func (p *pty) write(report []byte) {
	_ = p.master.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := p.master.Write(report); errors.Is(err, os.ErrDeadlineExceeded) {
		p.flush()
	}
}

// flush forgets what no host has read: whoever opens a hidraw device finds it
// empty.
func (p *pty) flush() {
	_ = control(p.slave, func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
}

// drained waits until the host has read everything, within reason: what it has not
// read is lost with the pty.
func (p *pty) drained() {
	const settle, patience = 20 * time.Millisecond, time.Second
	for start := time.Now(); time.Since(start) < patience; time.Sleep(time.Millisecond) {
		left := 0
		err := control(p.slave, func(fd int) (err error) {
			left, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
			return err
		})
		if err != nil || left == 0 && time.Since(start) > settle {
			return
		}
	}
}

func (p *pty) close() {
	for _, f := range []*os.File{p.master, p.slave} {
		if f != nil {
			f.Close()
		}
	}
	if p.guard != nil {
		p.alive.Close()
		_ = p.guard.Wait() // by this, or by the hang-up
	}
}

// Occupy makes the key look in use by another program, until release is called.
func (p *Port) Occupy() (release func(), err error) {
	f, err := os.OpenFile(p.Path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", p.Path, err)
	}
	return func() { f.Close() }, nil
}
