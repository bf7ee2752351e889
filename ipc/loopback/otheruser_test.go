//go:build unix

package loopback

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A10, with a real other user.
func TestOtherUserForReal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: cannot become another user; TestOtherUsersBrowser tests the refusal itself")
		return
	}
	agent := &fakeAgent{reply: Accepted}
	_, addr := start(t, agent)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "browser"), program, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "browser"))
	cmd.Dir, cmd.Env = "/", []string{"LOOPBACK_TEST_ADDR=" + addr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 503 ") || !strings.Contains(string(out), "other_user") {
		t.Errorf("%v: %s", err, out)
	}
	if n := len(agent.seen()); n != 0 {
		t.Errorf("the agent saw %d challenges", n)
	}
}

// TestMain lets the test binary be another user's browser.
func TestMain(m *testing.M) {
	addr := os.Getenv("LOOPBACK_TEST_ADDR")
	if addr == "" {
		os.Exit(m.Run())
	}
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	_, _ = io.WriteString(c, request("POST", "/challenge", body, "Host: "+addr, "Origin: "+page, "Content-Type: application/json"))
	_, _ = io.Copy(os.Stdout, c)
	os.Exit(0)
}
