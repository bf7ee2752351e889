//go:build unix && !linux

package harness

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a program into a process group of its own, so that Ctrl-C in
// a terminal reaches the driver only, and the driver ends everything in order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
