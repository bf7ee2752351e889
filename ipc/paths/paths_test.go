package paths

import (
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestDefaults(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("the table is about Linux")
		return
	}
	for _, c := range []struct {
		env           map[string]string
		state, socket string
	}{
		{map[string]string{}, "/home/a/.local/state/countersign", "/home/a/.local/state/countersign/agent.sock"},
		{map[string]string{"XDG_STATE_HOME": "/s"}, "/s/countersign", "/s/countersign/agent.sock"},
		{map[string]string{"XDG_STATE_HOME": "relative"}, "/home/a/.local/state/countersign", "/home/a/.local/state/countersign/agent.sock"},
		{map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}, "/home/a/.local/state/countersign", "/run/user/7/countersign/agent.sock"},
		{map[string]string{EnvStateDir: "/mine"}, "/mine", "/mine/agent.sock"},
		{map[string]string{EnvStateDir: "/mine", EnvSocket: "/tmp/x.sock"}, "/mine", "/tmp/x.sock"},
	} {
		for _, name := range []string{"XDG_STATE_HOME", "XDG_RUNTIME_DIR", EnvStateDir, EnvSocket} {
			t.Setenv(name, c.env[name])
		}
		t.Setenv("HOME", "/home/a")
		state, err := StateDir()
		if err != nil || state != c.state {
			t.Errorf("%v: state %q, %v; want %q", c.env, state, err, c.state)
		}
		socket, err := Socket("")
		if err != nil || socket != c.socket {
			t.Errorf("%v: socket %q, %v; want %q", c.env, socket, err, c.socket)
		}
	}
	// A service may have a state folder and no home.
	t.Setenv("HOME", "")
	t.Setenv(EnvStateDir, "")
	t.Setenv("XDG_STATE_HOME", "/s")
	if state, err := StateDir(); err != nil || state != "/s/countersign" {
		t.Errorf("without a home folder: %q, %v", state, err)
	}
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv(EnvSocket, "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	if socket, err := Socket(""); err != nil || socket != "/run/user/7/countersign/agent.sock" {
		t.Errorf("without a home folder: %q, %v", socket, err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if socket, err := Socket(""); err == nil {
		t.Errorf("with neither: %q", socket)
	}
	if socket, err := Socket("/given"); err != nil || socket != filepath.Join("/given", "agent.sock") {
		t.Errorf("with a state folder: %q, %v", socket, err)
	}
}

func TestCheckSocket(t *testing.T) {
	limit := map[string]int{"linux": 107, "darwin": 103}[runtime.GOOS]
	if limit == 0 {
		return
	}
	if err := CheckSocket("/" + strings.Repeat("x", limit-1)); err != nil {
		t.Error(err)
	}
	long := "/" + strings.Repeat("x", limit)
	err := CheckSocket(long)
	var tooLong *TooLongError
	if !errors.As(err, &tooLong) || tooLong.Limit != limit || !strings.Contains(err.Error(), long) {
		t.Errorf("got %v", err)
	}
}
