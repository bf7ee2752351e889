package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// ofConn reads LOCAL_PEERCRED: who called connect.
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
		cred, err := unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err != nil {
			credErr = err
			return
		}
		p = Peer{Known: true, UID: int(cred.Uid)}
		if pid, err := unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID); err == nil {
			p.PID = pid
		}
	})
	if err := errors.Join(err, credErr); err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return p, nil
}

func ofTCP(local, remote netip.AddrPort) (Peer, error) { return Peer{}, ErrUnsupported }
