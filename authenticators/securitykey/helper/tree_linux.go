//go:build cgo && linux && !umockdev

package helper

// tree is where the system's device tree is seen to begin. It is "" but in builds
// for tests.
func tree() string { return "" }

// testCalls are system calls that only tests need.
var testCalls []string
