package push

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"
)

// message is one of the kernel's.
func message(kind uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(syscall.SizeofNlMsghdr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...) // flags, sequence, pid
	return append(b, data...)
}

func link(flags uint32) []byte {
	data := make([]byte, syscall.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(data[8:], flags)
	return message(syscall.RTM_NEWLINK, data)
}

func TestBetter(t *testing.T) {
	up := uint32(syscall.IFF_UP | syscall.IFF_RUNNING)
	for name, row := range map[string]struct {
		datagram []byte
		want     bool
	}{
		"address":              {message(syscall.RTM_NEWADDR, make([]byte, 8)), true},
		"route":                {message(syscall.RTM_NEWROUTE, make([]byte, 12)), true},
		"link up":              {link(up), true},
		"link without carrier": {link(syscall.IFF_UP), false},
		"link down":            {link(0), false},
		"address gone":         {message(syscall.RTM_DELADDR, make([]byte, 8)), false},
		"second of two":        {append(message(syscall.RTM_DELROUTE, make([]byte, 12)), link(up)...), true},
		"short link":           {message(syscall.RTM_NEWLINK, make([]byte, 4)), false},
		"cut off":              {link(up)[:20], false},
		"nothing":              {nil, false},
	} {
		if got := better(row.datagram); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWatch(t *testing.T) {
	reads := []func([]byte) (int, error){
		func(b []byte) (int, error) { return copy(b, message(syscall.RTM_DELADDR, make([]byte, 8))), nil },
		func(b []byte) (int, error) { return copy(b, message(syscall.RTM_NEWADDR, make([]byte, 8))), nil },
		func([]byte) (int, error) { return 0, syscall.ENOBUFS }, // something was lost
		func([]byte) (int, error) { return 0, io.ErrClosedPipe },
	}
	changes := 0
	err := watch(func(b []byte) (int, error) {
		read := reads[0]
		reads = reads[1:]
		return read(b)
	}, func() { changes++ })
	if changes != 2 || !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("%d changes, %v", changes, err)
	}
}

// The real thing ends with its context, and asks for no privilege.
func TestNetworkEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Network(ctx, func() {}) }()
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}
