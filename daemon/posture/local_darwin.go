package posture

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Local is the machine at hand.
func Local() System {
	host, _ := os.Hostname()
	return System{OS: "darwin", Host: host, Env: os.Getenv, Run: run, Sysctl: sysctl}
}

// sysctl reads a variable; one that this kernel does not have is empty. The
// optional features are numbers, everything else we read is text.
func sysctl(name string) (text string, err error) {
	if strings.HasPrefix(name, "hw.optional.") {
		var n uint32
		n, err = unix.SysctlUint32(name)
		text = strconv.FormatUint(uint64(n), 10)
	} else {
		text, err = unix.Sysctl(name)
	}
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	return text, err
}
