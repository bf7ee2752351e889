//go:build unix

package journal

import "syscall"

// openFlags refuse a symbolic link as last element and never wait for a pipe.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
