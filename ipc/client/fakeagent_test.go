//go:build unix

package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign.dev/ipc/api"
)

// TestMain lets the test binary be another user's fake agent.
func TestMain(m *testing.M) {
	path := os.Getenv("CLIENT_TEST_LISTEN")
	if path == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening")
	c, err := l.Accept()
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		got, _ := io.ReadAll(c)
		fmt.Printf("got %q\n", got)
	}
	os.Exit(0)
}

// D2: a fake agent of another user gets nothing, whether it owns the socket's
// file or only the socket.
func TestFakeAgent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: cannot become another user")
		return
	}
	for _, chown := range []bool{false, true} {
		dir := tempDir(t)
		socket := filepath.Join(dir, "open", "s")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		program, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Dir(socket), 0o777), os.Chmod(filepath.Dir(socket), 0o777),
			os.WriteFile(filepath.Join(dir, "fake"), program, 0o755))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(dir, "fake"))
		cmd.Dir, cmd.Env = "/", []string{"CLIENT_TEST_LISTEN=" + socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 100)
		if n, err := out.Read(line); err != nil || string(line[:n]) != "listening\n" {
			t.Fatalf("the fake: %q, %v", line[:n], err)
		}
		if chown {
			if err := os.Chown(socket, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		_, err = New(socket).DecidePrompt(t.Context(), "p-1", api.Decision{Action: "approve", PIN: api.PIN("123456")})
		var foreign *ForeignError
		if !errors.As(err, &foreign) || foreign.Socket != socket || errors.Is(err, ErrNotRunning) {
			t.Errorf("chown %v: %v, want ForeignError", chown, err)
		}
		if c, err := net.Dial("unix", socket); err == nil { // so that the fake ends if it was not even dialled
			c.Close()
		}
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		if got := string(rest); strings.Contains(got, "123456") || !strings.Contains(got, `got ""`) {
			t.Errorf("chown %v: the fake %s", chown, got)
		}
	}
}
