package account

import (
	"bufio"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// osFacts reads what every user of the machine may read.
func osFacts() (version, manufacturer, model string) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		version = plain(unix.ByteSliceToString(u.Release[:]), 64)
	}
	if id := osRelease("VERSION_ID"); id != "" {
		version = id
	}
	return version, dmi("sys_vendor"), dmi("product_name")
}

func osRelease(key string) string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), key+"="); ok {
			return plain(strings.Trim(value, `"'`), 64)
		}
	}
	return ""
}

func dmi(name string) string {
	b, err := os.ReadFile("/sys/class/dmi/id/" + name)
	if err != nil {
		return ""
	}
	return plain(string(b), 127)
}
