//go:build !linux && !darwin && !windows

package peer

import (
	"net"
	"net/netip"
)

func ofConn(c net.Conn) (Peer, error) { return Peer{}, ErrUnsupported }

func ofTCP(local, remote netip.AddrPort) (Peer, error) { return Peer{}, ErrUnsupported }
