package vault

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func init() {
	roles["protected"] = func() {
		if err := ProtectMemory(); err != nil {
			panic(err)
		}
		limits, err := os.ReadFile("/proc/self/limits")
		if err != nil {
			panic(err)
		}
		os.Stdout.Write(limits)
	}
}

// C12: no core dump.
func TestNoCoreDumps(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "VAULT_TEST_ROLE=protected")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			if f := strings.Fields(rest); f[0] == "0" && f[1] == "0" {
				return
			}
		}
	}
	t.Errorf("core dumps are allowed:\n%s", out)
}
