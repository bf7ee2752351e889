package peer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ofListener reads the tables in /proc: this is for people who look for a
// program that took a port, not for decisions.
func ofListener(addr netip.AddrPort) (Peer, error) {
	// Besides the address itself: a listener on all addresses, of either family.
	port := fmt.Sprintf(":%04X", addr.Port())
	all4, all6 := strings.Repeat("0", 8)+port, strings.Repeat("0", 32)+port
	tables := map[string][]string{"/proc/net/tcp6": {hexAddr6(addr), all6}}
	if addr.Addr().Is4() {
		tables["/proc/net/tcp"] = []string{hexAddr(addr), all4}
	}
	for file, locals := range tables {
		table, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) < 10 || !slices.Contains(locals, f[1]) || f[3] != "0A" {
				continue
			}
			uid, err := strconv.Atoi(f[7])
			if err != nil {
				continue
			}
			p := Peer{Known: true, UID: uid}
			p.PID, p.Executable = holder("socket:[" + f[9] + "]")
			return p, nil
		}
	}
	return Peer{}, fmt.Errorf("find who listens at %s: %w", addr, ErrUnknown)
}

func hexAddr6(a netip.AddrPort) string {
	ip := a.Addr().As16()
	var b strings.Builder
	for i := 0; i < len(ip); i += 4 {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(ip[i:]))
	}
	fmt.Fprintf(&b, ":%04X", a.Port())
	return b.String()
}

// holder finds the process that has a socket open, among those whose open
// files this user may see.
func holder(socket string) (pid int, exe string) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != socket {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(link, "/proc/"), "/")
		pid, _ = strconv.Atoi(number)
		exe, _ = os.Readlink("/proc/" + number + "/exe")
		return pid, exe
	}
	return 0, ""
}
