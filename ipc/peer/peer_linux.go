package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ofConn reads SO_PEERCRED: who called connect, recorded by the kernel then.
func ofConn(c net.Conn) (Peer, error) {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return Peer{}, ErrUnsupported
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	var p Peer
	var credErr error
	err = control.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			credErr = err
			return
		}
		p = Peer{Known: true, UID: int(cred.Uid), PID: int(cred.Pid)}
		p.Executable = executable(int(fd), p.PID)
	})
	if err := errors.Join(err, credErr); err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return p, nil
}

// executable names the program of the process that connected. A pid alone may
// by now belong to another process; the socket's pidfd tells whether the one
// that connected was still there after its name was read. Kernels before 6.5
// have no such pidfd; there the name stays empty rather than uncertain.
func executable(fd, pid int) string {
	if pid <= 0 { // a process outside our pid namespace
		return ""
	}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return ""
	}
	defer unix.Close(pidfd)
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil || unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil {
		return ""
	}
	return exe
}
