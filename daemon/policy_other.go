//go:build !linux

package daemon

// blockingPolicy knows where browsers keep policies on Linux only, so far.
func blockingPolicy() string { return "" }
