//go:build !windows

package loopback

import "syscall"

// exclusive has nothing to do: two listeners cannot share an address here.
func exclusive(_, _ string, _ syscall.RawConn) error { return nil }
