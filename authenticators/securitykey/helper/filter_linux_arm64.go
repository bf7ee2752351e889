//go:build cgo

package helper

import "golang.org/x/sys/unix"

const (
	thisProcessor = unix.AUDIT_ARCH_AARCH64
	otherCalls    = 1 << 31 // there are none
)

// oldCalls are those that younger processors do without.
var oldCalls []uint32
