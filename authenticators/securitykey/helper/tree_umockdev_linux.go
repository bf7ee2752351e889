//go:build cgo && linux && umockdev

package helper

import "os"

// tree is a fake device tree, which the library sees at its usual place: umockdev
// is between it and the C library, and not between us and the kernel. Builds with
// this tag are for tests and no other; nothing of it is in the product.
func tree() string { return os.Getenv("UMOCKDEV_DIR") }

// testCalls let umockdev talk to its other half, which answers for the devices.
var testCalls = []string{"socket", "connect", "sendto", "sendmsg", "recvfrom", "recvmsg", "getsockopt", "setsockopt", "getpeername"}
