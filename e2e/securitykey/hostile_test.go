//go:build linux

package securitykey_test

import (
	"syscall"
	"testing"

	"countersign.dev/authenticators/securitykey/wire"
	"countersign.dev/e2e/softkey"
)

// A key that announces more than it could ever send does not have the computer's
// memory for it.
func TestF1MemoryIsBounded(t *testing.T) {
	k, p := plug(t, softkey.Options{})
	k.Break(softkey.GreedyList, softkey.When{Step: softkey.StepInfo})
	r := begin(t, product, 0, wire.Request{Op: wire.Inspect, Device: p.Path})
	r.end() // the library takes it for an old key then
	if k.Mend() == 0 {
		t.Error("it did not happen")
	}
	if used := r.cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; used > 256<<10 {
		t.Errorf("it took %d MiB", used>>10)
	}
}
