//go:build cgo

package helper

import (
	"path/filepath"

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
