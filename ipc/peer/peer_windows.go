package peer

import (
	"net"
	"net/netip"

	"golang.org/x/sys/windows"
)

// ofConn trusts the pipe's access list, which admits only the agent's own user,
// and adds the process that opened it.
func ofConn(c net.Conn) (Peer, error) {
	pipe, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return Peer{}, ErrUnsupported
	}
	p := Peer{Known: true}
	var pid uint32
	if windows.GetNamedPipeClientProcessId(windows.Handle(pipe.Fd()), &pid) == nil {
		p.PID = int(pid)
	}
	return p, nil
}

func ofTCP(local, remote netip.AddrPort) (Peer, error) { return Peer{}, ErrUnsupported }
