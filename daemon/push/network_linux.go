package push

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Network calls changed when an address or a route has been added or a link has
// come up: a network that was gone may be back. It does so until ctx ends. The
// kernel speaks up by itself, so nothing is asked and no timer runs.
func Network(ctx context.Context, changed func()) error {
	const groups = 1<<(syscall.RTNLGRP_LINK-1) |
		1<<(syscall.RTNLGRP_IPV4_IFADDR-1) | 1<<(syscall.RTNLGRP_IPV6_IFADDR-1) |
		1<<(syscall.RTNLGRP_IPV4_ROUTE-1) | 1<<(syscall.RTNLGRP_IPV6_ROUTE-1)
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a socket for changes of the network: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "netlink")
	defer socket.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("ask for changes of the network: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = socket.Close() })()
	return watch(socket.Read, changed)
}

// watch passes changes on until reading fails.
func watch(read func([]byte) (int, error), changed func()) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := read(buffer)
		// An overflow has lost messages, of which one may have mattered.
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return fmt.Errorf("read changes of the network: %w", err)
		}
		if err != nil || better(buffer[:n]) {
			changed()
		}
	}
}

// better says whether a datagram of the kernel holds a change that may have
// brought the network back.
func better(datagram []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return false
	}
	for _, m := range messages {
		switch m.Header.Type {
		case syscall.RTM_NEWADDR, syscall.RTM_NEWROUTE:
			return true
		case syscall.RTM_NEWLINK:
			// struct ifinfomsg: family, pad, type (2), index (4), flags (4), change (4)
			if len(m.Data) >= syscall.SizeofIfInfomsg {
				const up = syscall.IFF_UP | syscall.IFF_RUNNING
				if binary.NativeEndian.Uint32(m.Data[8:])&up == up {
					return true
				}
			}
		}
	}
	return false
}
