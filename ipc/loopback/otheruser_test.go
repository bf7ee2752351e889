//go:build unix

package loopback

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"countersign.dev/ipc/peer/peertest"
)

// A10, with a real other user.
func TestOtherUserForReal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: cannot become another user; TestOtherUsersBrowser tests the refusal itself")
		return
	}
	agent := &fakeAgent{reply: Accepted}
	_, addr := start(t, agent)
	out := peertest.RunAsOther(t, "LOOPBACK_TEST_ADDR="+addr)
	if !strings.HasPrefix(out, "HTTP/1.1 503 ") || !strings.Contains(out, "other_user") {
		t.Error(out)
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
