//go:build linux

package faults

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync"
)

// nameserver is the resolver of this process: every name below domain is this
// machine, unless it is told otherwise.
type nameserver struct {
	conn   net.PacketConn
	faults sync.Map // name -> nameFault
}

// nameFault is what becomes of the question for one name.
type nameFault int

const (
	noSuchName   nameFault = iota + 1
	serverFails            // SERVFAIL
	serverSilent           // no answer
)

func (n *nameserver) start() (err error) {
	if n.conn, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return err
	}
	go n.serve() // for as long as the process
	return nil
}

// dial is how questions reach the resolver, whatever the machine's own is.
func (n *nameserver) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "udp", n.conn.LocalAddr().String())
}

func (n *nameserver) serve() {
	packet := make([]byte, 512)
	for {
		size, from, err := n.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := n.answer(packet[:size]); answer != nil {
			n.conn.WriteTo(answer, from)
		}
	}
}

// answer says 127.0.0.1 to a question for an address (RFC 1035, 4.1).
func (n *nameserver) answer(q []byte) []byte {
	const header, nxdomain, servfail, typeA = 12, 3, 2, 1
	if len(q) < header+5 {
		return nil
	}
	var labels []string
	at := header
	for at < len(q) && q[at] != 0 {
		end := at + 1 + int(q[at])
		if end >= len(q) {
			return nil
		}
		labels, at = append(labels, string(q[at+1:end])), end
	}
	end := at + 5 // the closing zero, type and class
	if end > len(q) {
		return nil
	}
	name, kind := strings.ToLower(strings.Join(labels, ".")), binary.BigEndian.Uint16(q[at+1:])
	a := append([]byte(nil), q[:end]...)
	a[2], a[3] = 0x84|q[2]&1, 0 // an authoritative answer
	copy(a[6:header], make([]byte, 6))
	fault, _ := n.faults.Load(name)
	switch {
	case fault == serverSilent:
		return nil
	case fault == serverFails:
		a[3] = servfail
	case fault == noSuchName, !strings.HasSuffix(name, "."+domain):
		a[3] = nxdomain
	case kind == typeA:
		a[7] = 1
		a = append(a, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return a
}
