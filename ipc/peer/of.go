package peer

import (
	"net"
	"net/netip"
)

// OfConn names the process that opened a connection to the local API: a unix
// socket, or a named pipe on Windows.
func OfConn(c net.Conn) (Peer, error) { return ofConn(c) }

// OfTCP names the owner of the other end of a loopback TCP connection, seen
// from the server: local is the server's address, remote the client's. It
// must be asked while the connection is open.
func OfTCP(local, remote netip.AddrPort) (Peer, error) { return ofTCP(local, remote) }

// OfListener names who listens at a TCP address of this machine, as far as
// this user may know: a process of another user has a UID and no PID.
func OfListener(addr netip.AddrPort) (Peer, error) { return ofListener(addr) }
