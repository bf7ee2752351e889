package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ofTCP asks the kernel for the owner of the client's socket: the one whose
// local end is our remote end. Socket diagnostics answer that for exactly one
// connection; where a sandbox keeps them from us, the table in /proc serves.
func ofTCP(local, remote netip.AddrPort) (Peer, error) {
	local, remote = unmap(local), unmap(remote)
	if !local.Addr().Is4() || !remote.Addr().Is4() {
		return Peer{}, fmt.Errorf("find the owner of %s: %w", remote, ErrUnsupported)
	}
	uid, err := diagnose(remote, local)
	if err != nil && !errors.Is(err, ErrUnknown) {
		uid, err = readTable(remote, local)
	}
	if err != nil {
		return Peer{}, fmt.Errorf("find the owner of %s: %w", remote, err)
	}
	return Peer{Known: true, UID: uid}, nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Sizes and values of linux/inet_diag.h and net/tcp_states.h.
const (
	headerSize     = unix.SizeofNlMsghdr // 16
	requestSize    = 56                  // struct inet_diag_req_v2
	replySize      = 72                  // struct inet_diag_msg
	tcpEstablished = 1
)

// diagnose looks one connection up by its four-tuple. A socket that its owner
// has closed has no owner any more and reads as uid 0, so only an established
// one with an inode counts; a listener on the same port must not answer for it
// either.
func diagnose(src, dst netip.AddrPort) (uid int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(time.Second.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, err
	}

	var msg [headerSize + requestSize]byte
	native := binary.NativeEndian
	native.PutUint32(msg[0:], uint32(len(msg)))
	native.PutUint16(msg[4:], unix.SOCK_DIAG_BY_FAMILY)
	native.PutUint16(msg[6:], unix.NLM_F_REQUEST)
	native.PutUint32(msg[8:], 1) // sequence
	req := msg[headerSize:]
	req[0] = unix.AF_INET
	req[1] = unix.IPPROTO_TCP
	native.PutUint32(req[4:], 1<<tcpEstablished)
	id := req[8:]
	binary.BigEndian.PutUint16(id[0:], src.Port())
	binary.BigEndian.PutUint16(id[2:], dst.Port())
	copy(id[4:], src.Addr().AsSlice())
	copy(id[20:], dst.Addr().AsSlice())
	native.PutUint32(id[40:], ^uint32(0)) // no cookie
	native.PutUint32(id[44:], ^uint32(0))
	if err := unix.Sendto(fd, msg[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}

	var buf [1024]byte
	n, from, err := unix.Recvfrom(fd, buf[:], 0)
	if err != nil {
		return 0, err
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return 0, errors.New("an answer that is not the kernel's")
	}
	return parseReply(buf[:n], src, dst)
}

// parseReply reads one inet_diag_msg and believes it only about the connection
// that was asked for.
func parseReply(b []byte, src, dst netip.AddrPort) (uid int, err error) {
	native := binary.NativeEndian
	if len(b) < headerSize {
		return 0, errors.New("a short answer from the kernel")
	}
	switch native.Uint16(b[4:]) {
	case unix.SOCK_DIAG_BY_FAMILY:
	case unix.NLMSG_ERROR:
		if len(b) >= headerSize+4 {
			if errno := unix.Errno(-int32(native.Uint32(b[headerSize:]))); errno != unix.ENOENT {
				return 0, errno
			}
		}
		return 0, ErrUnknown
	default:
		return 0, errors.New("an unexpected answer from the kernel")
	}
	if len(b) < headerSize+replySize {
		return 0, errors.New("a short answer from the kernel")
	}
	m := b[headerSize:]
	state, id := m[1], m[4:]
	inode := native.Uint32(m[68:])
	same := binary.BigEndian.Uint16(id[0:]) == src.Port() &&
		binary.BigEndian.Uint16(id[2:]) == dst.Port() &&
		sameAddr(m[0], id[4:20], src.Addr()) && sameAddr(m[0], id[20:36], dst.Addr())
	if !same || state != tcpEstablished || inode == 0 {
		return 0, ErrUnknown
	}
	return int(native.Uint32(m[64:])), nil
}

// sameAddr compares with the answer's address; an IPv6 socket that speaks IPv4
// has it in the mapped form.
func sameAddr(family byte, b []byte, want netip.Addr) bool {
	switch family {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b)) == want
	case unix.AF_INET6:
		return netip.AddrFrom16([16]byte(b)).Unmap() == want
	default:
		return false
	}
}

// readTable finds the connection in /proc/net/tcp, or among the IPv6 sockets
// that speak IPv4.
func readTable(src, dst netip.AddrPort) (uid int, err error) {
	for file, mapped := range map[string]string{
		"/proc/net/tcp":  "",
		"/proc/net/tcp6": "0000000000000000FFFF0000",
	} {
		table, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if uid, ok := findRow(string(table), mapped+hexAddr(src), mapped+hexAddr(dst)); ok {
			return uid, nil
		}
	}
	return 0, ErrUnknown
}

// findRow looks for an established connection with an inode. Columns:
// sl local remote state queues timer retransmits uid timeout inode …
func findRow(table, src, dst string) (uid int, ok bool) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[1] != src || f[2] != dst || f[3] != "01" || f[9] == "0" {
			continue
		}
		uid, err := strconv.Atoi(f[7])
		return uid, err == nil
	}
	return 0, false
}

// hexAddr writes an address the way the tables do: the word in native order.
func hexAddr(a netip.AddrPort) string {
	ip := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}
