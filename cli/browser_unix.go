//go:build unix

package cli

import "syscall"

// apart starts a program in a session of its own.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
