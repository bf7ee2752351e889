//go:build cgo && (amd64 || arm64 || riscv64)

package helper

import (
	"errors"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are the system calls that remain: those of the runtimes of Go and C, and
// of a library that opens, asks, polls, reads and writes a device. There is no call
// among them by which a process is made or changed, another one is touched, or
// anything is reached but by the files that are open or allowed. Those that not
// every processor knows are in oldCalls.
var calls = []uint32{
	// files
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_FSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX,
	unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_OPENAT, unix.SYS_READLINKAT, unix.SYS_GETDENTS64, unix.SYS_LSEEK, unix.SYS_FLOCK,
	unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_GETCWD, unix.SYS_PPOLL, unix.SYS_PSELECT6,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
	// memory
	unix.SYS_BRK, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MEMBARRIER,
	// threads, time, signals
	unix.SYS_FUTEX, unix.SYS_FUTEX_WAITV, unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_GETTID, unix.SYS_GETPID,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME,
	unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_RESTART_SYSCALL, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK,
	unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_SIGALTSTACK, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
	// oneself
	unix.SYS_GETRANDOM, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETPPID, unix.SYS_GETRLIMIT,
}

// condition is a system call that remains with certain arguments. What is looked at
// is the lower half of the argument: the kernel's own is no longer, or the bit that
// counts is there.
type condition struct {
	call     uint32
	argument uint32
	test     uint16 // of BPF: BPF_JEQ, BPF_JSET, BPF_JGT
	value    uint32
	not      bool
}

func conditions() []condition {
	return []condition{
		// Threads, and no processes; no new code; no signals to others.
		{call: unix.SYS_CLONE, argument: 0, test: unix.BPF_JSET, value: unix.CLONE_THREAD},
		{call: unix.SYS_MMAP, argument: 2, test: unix.BPF_JSET, value: unix.PROT_EXEC, not: true},
		{call: unix.SYS_MPROTECT, argument: 2, test: unix.BPF_JSET, value: unix.PROT_EXEC, not: true},
		{call: unix.SYS_TGKILL, argument: 0, test: unix.BPF_JEQ, value: uint32(unix.Getpid())},
		// What a key's device says of itself, and no other device. Nobody is told of a
		// file by a signal: who is told may be any process (F_SETOWN).
		{call: unix.SYS_IOCTL, argument: 1, test: unix.BPF_JEQ, value: unix.HIDIOCGRDESCSIZE},
		{call: unix.SYS_IOCTL, argument: 1, test: unix.BPF_JEQ, value: unix.HIDIOCGRDESC},
		{call: unix.SYS_FCNTL, argument: 1, test: unix.BPF_JGT, value: unix.F_SETFL, not: true}, // F_DUPFD, F_GETFD, F_SETFD, F_GETFL
		{call: unix.SYS_FCNTL, argument: 1, test: unix.BPF_JEQ, value: unix.F_DUPFD_CLOEXEC},
	}
}

// Where the kernel has what a filter looks at: the words of struct seccomp_data.
const (
	callNumber = 0
	callArch   = 4
	callArgs   = 16 // of eight bytes, the lower half first
)

// filter is the program by which the kernel decides. What is not allowed fails as if
// it were not permitted. It is made of numbers alone: tables of names take longer to
// be made than all else here.
func filter() []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	// A test goes on with the next instruction, or leaves some out.
	ifElse := func(test uint16, value uint32, leave uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: value, Jf: leave}
	}
	deny, allow := end(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)), end(unix.SECCOMP_RET_ALLOW)
	p := []unix.SockFilter{
		load(callArch), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: thisProcessor, Jt: 1}, deny, // of another one they have other numbers
		load(callNumber), ifElse(unix.BPF_JGE, otherCalls, 1), deny,
		// Its arguments lie in memory. The C library takes clone instead, if it is told
		// that there is no such call.
		ifElse(unix.BPF_JEQ, unix.SYS_CLONE3, 1), end(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)),
	}
	for _, c := range conditions() {
		test := ifElse(c.test, c.value, 1)
		if c.not {
			test.Jt, test.Jf = 1, 0
		}
		p = append(p, ifElse(unix.BPF_JEQ, c.call, 4), load(callArgs+8*c.argument), test, allow, load(callNumber))
	}
	for _, call := range slices.Concat(calls, oldCalls, testCalls) {
		p = append(p, ifElse(unix.BPF_JEQ, call, 1), allow)
	}
	return append(p, deny)
}

// confineCalls allows these and no other system call, for all threads.
func confineCalls() error {
	runtime.LockOSThread() // of which no_new_privs is
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	p := filter()
	program := unix.SockFprog{Len: uint16(len(p)), Filter: unsafe.SliceData(p)}
	other, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	switch {
	case e != 0:
		return e
	case other != 0:
		return errors.New("a thread has calls of its own")
	}
	return nil
}
