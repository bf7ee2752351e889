//go:build cgo

package helper

import "golang.org/x/sys/unix"

const (
	thisProcessor = unix.AUDIT_ARCH_X86_64
	otherCalls    = 0x40000000 // of x32 from here on
)

// oldCalls are those that younger processors do without.
var oldCalls = []uint32{
	unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_OPEN, unix.SYS_READLINK, unix.SYS_POLL, unix.SYS_SELECT,
	unix.SYS_EPOLL_WAIT, unix.SYS_TIME, unix.SYS_ARCH_PRCTL,
}
