package tpm

import (
	"os"
	"strings"
	"testing"
)

// The page that explains the states has each, with what is said here.
func TestHardwarePage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/hardware.md")
	if err != nil {
		t.Fatal(err)
	}
	for state := range hints {
		if !strings.Contains(string(page), "| `"+state+"` |") {
			t.Errorf("docs/hardware.md has no row for %s", state)
		}
	}
}

// The rule opens the TPM behind the kernel's resource manager, to the seat's
// user, and nothing else to nobody else.
func TestUdevRule(t *testing.T) {
	text, err := os.ReadFile("../../../packaging/udev/70-countersign-tpm.rules")
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			rules = append(rules, line)
		}
	}
	if len(rules) != 1 || rules[0] != `SUBSYSTEM=="tpmrm", KERNEL=="tpmrm[0-9]*", TAG+="uaccess"` {
		t.Errorf("rules %q", rules)
	}
}
