//go:build sandboxtest && linux && cgo

package helper

/*
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int try_open(const char *path) { int fd = open(path, O_RDONLY); if (fd < 0) return -1; close(fd); return 0; }
static int try_create(const char *path) { int fd = open(path, O_WRONLY | O_CREAT, 0600); if (fd < 0) return -1; close(fd); return unlink(path); }
static int try_list(const char *path) { DIR *d = opendir(path); if (!d) return -1; closedir(d); return 0; }
static int try_fork(void) { pid_t p = fork(); if (p < 0) return -1; if (p == 0) _exit(0); return waitpid(p, NULL, 0) == p ? 0 : -1; }
static int try_spawn(void) {
	pid_t p; char *const argv[] = {"/bin/true", NULL}, *const env[] = {NULL};
	if (posix_spawn(&p, argv[0], NULL, NULL, argv, env) != 0) return -1;
	int status; return waitpid(p, &status, 0) == p && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}
*/
import "C"

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is in no product. Built with the tag sandboxtest, the helper tries what
// a hostile key might make of it, before it is shut in and after, and reports on
// its standard error what it could do: "before NAME" and "after NAME". The request
// carries the targets: RPID is a file of the agent's, RPName the home folder,
// Template a TCP address as port number on this machine.
func init() {
	beforeConfine = func(s *session) { attempt(s, "before") }
	afterConfine = func(s *session) { attempt(s, "after") }
}

func attempt(s *session, when string) {
	vault, home := C.CString(s.req.RPID), C.CString(s.req.RPName)
	defer C.free(unsafe.Pointer(vault))
	defer C.free(unsafe.Pointer(home))
	created := C.CString(s.req.RPName + "/created")
	defer C.free(unsafe.Pointer(created))
	var port int
	fmt.Sscan(s.req.Template, &port)
	parent := os.Getppid()
	tries := []struct {
		what string
		do   func() bool
	}{
		{"open the vault", func() bool { return C.try_open(vault) == 0 }},
		{"open the vault by a system call", func() bool {
			fd, err := unix.Open(s.req.RPID, unix.O_RDONLY, 0)
			unix.Close(fd)
			return err == nil
		}},
		{"list the home folder", func() bool { return C.try_list(home) == 0 }},
		{"create a file", func() bool { return C.try_create(created) == 0 }},
		{"read the password file", func() bool { _, err := os.ReadFile("/etc/passwd"); return err == nil }},
		{"read another process", func() bool { _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", parent)); return err == nil }},
		{"connect", func() bool {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return false
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}) == nil
		}},
		{"open a unix socket", func() bool { return C.socket(C.AF_UNIX, C.SOCK_STREAM, 0) >= 0 }},
		{"fork", func() bool { return C.try_fork() == 0 }},
		{"spawn", func() bool { return C.try_spawn() == 0 }},
		{"execute", func() bool { return exec.Command("/bin/true").Run() == nil }},
		{"signal another process", func() bool { return unix.Kill(parent, 0) == nil }},
		{"have another process signalled", func() bool {
			var pipe [2]int
			if unix.Pipe2(pipe[:], unix.O_CLOEXEC) != nil {
				return false
			}
			defer unix.Close(pipe[0])
			defer unix.Close(pipe[1])
			_, err := unix.FcntlInt(uintptr(pipe[0]), unix.F_SETOWN, parent)
			return err == nil
		}},
		{"control a device", func() bool { _, err := unix.IoctlGetInt(0, unix.TIOCINQ); return err == nil }},
		{"set up io_uring", func() bool {
			var params [120]byte
			fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
			if e == 0 {
				unix.Close(int(fd))
			}
			return e == 0 || e == unix.ENOSYS && when == "before"
		}},
		{"make code", func() bool {
			m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err == nil {
				unix.Munmap(m)
			}
			return err == nil
		}},
		{"trace oneself", func() bool {
			_, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0, 0, 0)
			return e == 0
		}},
		{"become traceable", func() bool { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) == nil }},
	}
	var could []string
	for _, t := range tries {
		if when == "before" && t.what == "trace oneself" {
			continue // it would stop at the next signal
		}
		if t.do() {
			could = append(could, t.what)
		}
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", when, strings.Join(could, ", "))
}
