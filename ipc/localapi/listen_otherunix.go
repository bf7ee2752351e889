//go:build !linux && !windows

package localapi

import "syscall"

// bornPrivate cannot be done here: a socket has no mode before bind. The
// folder's mode and the peer check hold the door until the mode is set.
func bornPrivate(syscall.RawConn) error { return nil }
