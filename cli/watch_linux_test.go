package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"countersign.dev/cli/internal/ptytest"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/localapi/localapitest"
)

// On a terminal a watch is interactive; with --json, or on a dumb terminal, it is
// what it is for scripts.
func TestWatchOnTerminal(t *testing.T) {
	dir, err := os.MkdirTemp("", "cs") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := dir + "/agent.sock"
	l, err := localapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	agent := &localapitest.Agent{}
	s := localapi.New(agent, localapi.Options{})
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		soon(t, served, "the agent")
	}()
	waiting := prompt("p-1", "Payroll")
	agent.Ask(waiting)

	for _, row := range []struct {
		name        string
		term, color string
		args        []string
		interactive bool
		shows       string
	}{
		{"terminal", "xterm", "", nil, true, " Approve  Deny "},
		{"no colours", "xterm", "1", nil, true, " Approve  Deny "},
		{"dumb terminal", "dumb", "", nil, false, "countersign prompt approve p-1"},
		{"for scripts", "xterm", "", []string{"--json"}, false, `"type":"prompt"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("TERM", row.term)
			t.Setenv("NO_COLOR", row.color)
			person, program := ptytest.Open(t)
			screen := ptytest.Watch(t, person, program, 100, 24)
			before := ptytest.Modes(t, program)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			var errs bytes.Buffer
			ended := make(chan int, 1)
			go func() {
				ended <- run(ctx, append([]string{"--socket", socket, "prompt", "watch"}, row.args...), program, program, &errs)
			}()
			screen.Shows(row.shows)
			if ptytest.Echoes(t, program) == row.interactive {
				t.Errorf("it shows what is typed: %v", row.interactive)
			}
			if painted := strings.Contains(screen.Raw(), bold); painted != (row.term == "xterm" && row.color == "" && row.args == nil) {
				t.Errorf("it has colours: %v", painted)
			}
			if row.interactive {
				if _, err := io.WriteString(person, "q"); err != nil {
					t.Fatal(err)
				}
			} else {
				interrupt()
			}
			if code := soon(t, ended, "the watch"); code != exitDone || errs.Len() > 0 {
				t.Errorf("exit %d, %q", code, errs.String())
			}
			if ptytest.Modes(t, program) != before {
				t.Error("the terminal is not as it was")
			}
		})
	}
	// A pipe at either end is for scripts, too.
	person, program := ptytest.Open(t)
	defer person.Close()
	for _, row := range []struct {
		in  io.Reader
		out io.Writer
	}{{strings.NewReader(""), program}, {program, &bytes.Buffer{}}} {
		before := ptytest.Modes(t, program)
		ctx, interrupt := context.WithCancel(t.Context())
		asked := func() int { agent.Lock(); defer agent.Unlock(); return len(agent.Asked) }
		n, ended := asked(), make(chan int, 1)
		go func() {
			ended <- run(ctx, []string{"--socket", socket, "prompt", "watch"}, row.in, row.out, io.Discard)
		}()
		for deadline := time.Now().Add(20 * time.Second); asked() == n && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
		if ptytest.Modes(t, program) != before {
			t.Error("the terminal was touched")
		}
		interrupt()
		if code := soon(t, ended, "the watch of a pipe"); code != exitDone || asked() == n {
			t.Errorf("exit %d", code)
		}
	}
}
