//go:build cgo

package helper

import (
	"path/filepath"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"countersign.dev/authenticators/securitykey/wire"
)

// confine shuts the process in, for good, before it opens the key. What a hostile
// key may make of the library can then reach the key itself, what it needs to be
// found, and the agent at the other end of the pipes: no other file, no network, no
// other process.
//
// A kernel without landlock leaves the files; that is said in the log. Without
// seccomp nothing is opened.
func (s *session) confine() error {
	// A list of CBOR takes its memory when it is announced: a key sends ten bytes, and
	// the library takes gigabytes.
	most := maxMemory()
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		return fail(wire.Failed, "bound the memory: %v", err)
	}
	// No core file with a PIN in it, and nobody who looks into our memory.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fail(wire.Failed, "no core dumps: %v", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fail(wire.Failed, "not dumpable: %v", err)
	}
	if err := s.confineFiles(); err != nil {
		return fail(wire.Failed, "landlock: %v", err)
	}
	if err := confineCalls(); err != nil {
		return fail(wire.Failed, "seccomp: %v", err)
	}
	return nil
}

// maxMemory is what the process may have to write to, used or not: half a gigabyte,
// half of it for the stacks of threads, and more where the user has larger ones.
func maxMemory() uint64 {
	const others, threads, usual = 256 << 20, 32, 8 << 20
	stack := uint64(usual)
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_STACK, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
		stack = max(usual, min(limit.Cur, 1<<30))
	}
	return others + threads*stack
}

// confineFiles leaves the hidraw devices or the one key, and what tells of devices.
// Landlock takes network and signals to others away besides, where it can.
func (s *session) confineFiles() error {
	if abi, err := ll.LandlockGetABIVersion(); err != nil || abi < 1 {
		s.log = append(s.log, "no landlock: this kernel does not keep it from files")
		return nil
	}
	keys := []string{tree() + s.req.Device}
	if s.req.Op == wire.List {
		keys, _ = filepath.Glob(tree() + "/dev/hidraw*")
	}
	rules := []landlock.Rule{
		landlock.RODirs("/sys", "/run/udev").IgnoreIfMissing(),
		landlock.RWFiles(keys...).IgnoreIfMissing().WithIoctlDev(),
	}
	if t := tree(); t != "" {
		rules = append(rules, landlock.RWDirs(t).WithIoctlDev())
		if s.req.Op == wire.List { // the devices there are links
			var ptys []string
			for _, k := range keys {
				if to, err := filepath.EvalSymlinks(k); err == nil {
					ptys = append(ptys, to)
				}
			}
			rules = append(rules, landlock.RWFiles(ptys...).IgnoreIfMissing().WithIoctlDev())
		}
	}
	return landlock.V7.BestEffort().Restrict(rules...)
}

// calls are the system calls that remain: those of the runtimes of Go and C, and
// of a library that opens, asks, polls, reads and writes a device. There is no call
// among them by which a process is made or changed, another one is touched, or
// anything is reached but by the files that are open or allowed. Some are not known
// on every machine.
var calls = []string{
	// files
	"read", "write", "readv", "writev", "pread64", "close", "fstat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
	"faccessat2", "open", "openat", "readlink", "readlinkat", "getdents64", "lseek", "flock", "dup", "dup3",
	"statfs", "fstatfs", "getcwd", "poll", "ppoll", "select", "pselect6",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2",
	// memory
	"brk", "munmap", "mremap", "madvise", "mincore", "membarrier",
	// threads, time, signals
	"futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "gettid", "getpid", "sched_yield", "sched_getaffinity",
	"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "restart_syscall",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "exit", "exit_group",
	"timer_create", "timer_settime", "timer_delete", "setitimer",
	// oneself
	"getrandom", "uname", "sysinfo", "getuid", "geteuid", "getgid", "getegid", "getppid", "getrlimit", "arch_prctl",
}

// confineCalls allows these and no other system call. The others fail as if they
// were not permitted.
func confineCalls() error {
	info, err := arch.GetInfo("")
	if err != nil {
		return err
	}
	var known []string
	for _, name := range append(calls, testCalls...) {
		if _, ok := info.SyscallNames[name]; ok {
			known = append(known, name)
		}
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Names: known, Action: seccomp.ActionAllow},
			// Threads, and no processes; no new code; no signals to others.
			{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
				when("clone", 0, seccomp.BitsSet, unix.CLONE_THREAD),
				when("mmap", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
				when("mprotect", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
				when("tgkill", 0, seccomp.Equal, uint64(unix.Getpid())),
				// What a key's device says of itself, and no other device. Nobody is told of
				// a file by a signal: who is told may be any process (F_SETOWN).
				when("ioctl", 1, seccomp.Equal, unix.HIDIOCGRDESCSIZE),
				when("ioctl", 1, seccomp.Equal, unix.HIDIOCGRDESC),
				when("fcntl", 1, seccomp.LessOrEqual, unix.F_SETFL), // F_DUPFD, F_GETFD, F_SETFD, F_GETFL
				when("fcntl", 1, seccomp.Equal, unix.F_DUPFD_CLOEXEC),
			}},
			// Its arguments lie in memory. The C library takes clone instead, if it is told
			// that there is no such call.
			{Names: []string{"clone3"}, Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
		},
	}
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy})
}

// when is a system call that is allowed with certain arguments.
func when(name string, argument uint32, is seccomp.Operation, value uint64) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{Name: name, Conditions: []seccomp.Condition{{Argument: argument, Operation: is, Value: value}}}
}
