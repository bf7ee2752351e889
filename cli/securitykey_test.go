package cli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/localapi/localapitest"
)

// serve has an agent listen, and gives its socket.
func serve(t *testing.T, agent *localapitest.Agent) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cs") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent.sock")
	l, err := localapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := localapi.New(agent, localapi.Options{})
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		soon(t, served, "the agent")
	})
	return socket
}

// Without a terminal a PIN is asked for by the flag that the command has.
func TestNoTerminalForThePIN(t *testing.T) {
	for flag, args := range map[string][]string{"--pin-stdin": {"securitykey", "pin", "set"}, "--stdin": {"pin", "set"}} {
		var errs bytes.Buffer
		if got := run(t.Context(), args, strings.NewReader(""), io.Discard, &errs); got != exitUsage || !strings.Contains(errs.String(), "give it with "+flag+"\n") {
			t.Errorf("%q: exit %d: %s", args, got, errs.String())
		}
	}
}

// While a key waits for its owner, the person is told so, at once.
func TestTouchIsAskedFor(t *testing.T) {
	agent := &localapitest.Agent{Touches: make(chan struct{}), Plugged: []*localapitest.PluggedKey{{
		SecurityKey: api.SecurityKey{ID: "k1", Product: "YubiKey\x1b[2J 5"}}}}
	socket := serve(t, agent)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	said, errs := io.Pipe()
	var out bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--socket", socket, "securitykey", "reset", "--confirm", agent.Plugged[0].Product}, strings.NewReader(""), &out, errs)
		errs.Close()
	}()
	lines := bufio.NewScanner(said)
	told := false
	for lines.Scan() {
		if line := lines.Text(); strings.HasPrefix(line, "touch your security key now: YubiKey") {
			if strings.Contains(line, "\x1b") {
				t.Errorf("not cleaned: %q", line)
			}
			told = true
			agent.Touches <- struct{}{} // not before
		}
	}
	if got := soon(t, code, "the command"); got != exitDone || !told {
		t.Fatalf("exit %d, told %v: %s", got, told, out.String())
	}
}

// What only Windows does to a key is refused before anything is asked for.
func TestKeyOfWindows(t *testing.T) {
	agent := &localapitest.Agent{Plugged: []*localapitest.PluggedKey{{
		SecurityKey: api.SecurityKey{ID: "k1", Product: "key that Windows asks for", Path: "windows:webauthn", BySystem: true}}}}
	socket := serve(t, agent)
	for _, row := range []struct {
		args, stdin, out, errs string
		code                   int
	}{
		{"list", "", "key that Windows asks for", "", exitDone},
		{"info", "", "Windows asks for it", "", exitDone},
		{"pin set --pin-stdin", "1234\n", "", "only Windows itself", exitFailed},
		{"pin change --pin-stdin", "1234\n5678\n", "", "Sign-in options", exitFailed},
		{"reset", "", "", "only Windows itself", exitFailed},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"--socket", socket, "securitykey"}, strings.Fields(row.args)...)
		code := run(t.Context(), args, strings.NewReader(row.stdin), &out, &errs)
		if code != row.code || !strings.Contains(out.String(), row.out) || !strings.Contains(errs.String(), row.errs) || strings.Contains(errs.String(), "wipes") {
			t.Errorf("%s: exit %d: %s%s", row.args, code, out.String(), errs.String())
		}
	}
}
