//go:build cgo && linux && amd64

package helper

import (
	"encoding/binary"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter, made of numbers, decides as one that somebody else's library makes of
// the names.
func TestFilterIsWhatItsNamesSay(t *testing.T) {
	when := func(name string, argument uint32, is seccomp.Operation, value uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: []seccomp.Condition{{Argument: argument, Operation: is, Value: value}}}
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: []string{
				"read", "write", "readv", "writev", "pread64", "close", "fstat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
				"faccessat2", "open", "openat", "readlink", "readlinkat", "getdents64", "lseek", "flock", "dup", "dup3",
				"statfs", "fstatfs", "getcwd", "poll", "ppoll", "select", "pselect6",
				"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2",
				"brk", "munmap", "mremap", "madvise", "mincore", "membarrier",
				"futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "gettid", "getpid", "sched_yield", "sched_getaffinity",
				"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "restart_syscall",
				"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "exit", "exit_group",
				"timer_create", "timer_settime", "timer_delete", "setitimer",
				"getrandom", "uname", "sysinfo", "getuid", "geteuid", "getgid", "getegid", "getppid", "getrlimit", "arch_prctl",
			}},
			{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
				when("clone", 0, seccomp.BitsSet, unix.CLONE_THREAD),
				when("mmap", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
				when("mprotect", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
				when("tgkill", 0, seccomp.Equal, uint64(unix.Getpid())),
				when("ioctl", 1, seccomp.Equal, unix.HIDIOCGRDESCSIZE),
				when("ioctl", 1, seccomp.Equal, unix.HIDIOCGRDESC),
				when("fcntl", 1, seccomp.LessOrEqual, unix.F_SETFL),
				when("fcntl", 1, seccomp.Equal, unix.F_DUPFD_CLOEXEC),
			}},
			{Names: []string{"clone3"}, Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
		},
	}
	theirs, err := policy.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	var ours []bpf.Instruction
	for _, i := range filter() {
		ours = append(ours, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}.Disassemble())
	}
	judge := func(program []bpf.Instruction) func(processor, call uint32, arguments [6]uint64) uint32 {
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatal(err)
		}
		return func(processor, call uint32, arguments [6]uint64) uint32 {
			// As the kernel lays it out, but with each word in the order that the machine
			// here reads.
			data := binary.BigEndian.AppendUint32(nil, call)
			data = binary.BigEndian.AppendUint32(data, processor)
			data = append(data, make([]byte, 8)...)
			for _, a := range arguments {
				data = binary.BigEndian.AppendUint32(data, uint32(a))
				data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
			}
			n, err := vm.Run(data)
			if err != nil {
				t.Fatal(err)
			}
			return uint32(n)
		}
	}
	us, them := judge(ours), judge(theirs)
	values := []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 1 << 16, unix.CLONE_THREAD, unix.CLONE_THREAD | 1, uint64(unix.Getpid()), uint64(unix.Getpid()) + 1,
		unix.HIDIOCGRDESCSIZE, unix.HIDIOCGRDESC, unix.HIDIOCGRDESC + 1, unix.F_DUPFD_CLOEXEC, unix.F_SETOWN, unix.TIOCSTI, 1<<32 - 1}
	allowed := 0
	for _, processor := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, 0} {
		for call := range uint32(1024) {
			for _, call := range []uint32{call, call | 0x40000000} {
				for at := range 6 {
					for _, v := range values {
						var arguments [6]uint64
						arguments[at] = v
						got, want := us(processor, call, arguments), them(processor, call, arguments)
						// What is refused they refuse by killing, where the processor is another.
						if (got == unix.SECCOMP_RET_ALLOW) != (want == unix.SECCOMP_RET_ALLOW) || processor == unix.AUDIT_ARCH_X86_64 && call < 1024 && got != want {
							t.Fatalf("processor %#x, call %d, argument %d = %#x: %#x, want %#x", processor, call, at, v, got, want)
						}
						if got == unix.SECCOMP_RET_ALLOW {
							allowed++
						}
					}
				}
			}
		}
	}
	if allowed == 0 {
		t.Error("nothing is allowed")
	}
}
