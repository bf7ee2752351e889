//go:build unix

// Package peertest lets a test meet a real other user of the machine: it runs
// the test's own program, as a user who owns nothing. The program's TestMain
// tells by its environment that it is to be that user.
package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Other is the user, and the group, that RunAsOther runs as: "nobody" where
// there is one.
const Other = 65534

// RunAsOther runs a copy of the test binary as [Other], with env as its whole
// environment, and returns what it printed. Only root can do that.
func RunAsOther(t testing.TB, env ...string) string {
	t.Helper()
	program, err := testBinary()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(filepath.Dir(program))
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir, cmd.Env = "/", env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: Other, Gid: Other}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("running as another user: %v: %s", err, out)
	}
	return string(out)
}

// testBinary copies the running program to where every user may run it.
func testBinary() (path string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "other")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "program")
	if err = os.Chmod(dir, 0o755); err == nil {
		err = os.WriteFile(path, program, 0o755)
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("copying the test's program: %w", err)
	}
	return path, nil
}
