package watch

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"countersign.dev/cli/internal/ptytest"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

// Variables of the environment that make this test program a watch of its own,
// on its standard input and output.
const (
	envSocket = "COUNTERSIGN_WATCH_TEST_SOCKET"
	envPanics = "COUNTERSIGN_WATCH_TEST_PANICS" // where: "loop", "beside"
	envClock  = "COUNTERSIGN_WATCH_TEST_CLOCK"  // "real"; else a person's seconds are milliseconds
	envColour = "COUNTERSIGN_WATCH_TEST_COLOUR"
)

func TestMain(m *testing.M) {
	socket := os.Getenv(envSocket)
	if socket == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // as the program has it
	defer stop()
	began := time.Now()
	o := Options{Agent: client.New(socket), In: os.Stdin, Out: os.Stdout, Colour: os.Getenv(envColour) != "", Now: time.Now}
	if os.Getenv(envClock) != "real" {
		o.Now = func() time.Time { return began.Add(1000 * time.Since(began)) }
	}
	switch os.Getenv(envPanics) {
	case "loop":
		o.Now = func() time.Time {
			if calls++; calls > 20 {
				panic("meant by the test")
			}
			return time.Now()
		}
	case "beside":
		o.Agent = faulty{o.Agent}
	}
	if err := Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var calls int

// faulty is an agent's client with a fault that shows at a record of decisions.
type faulty struct{ Agent }

func (f faulty) Subscribe(ctx context.Context, frontEnd string) (iter.Seq2[api.Event, error], error) {
	events, err := f.Agent.Subscribe(ctx, frontEnd)
	return func(yield func(api.Event, error) bool) {
		events(func(e api.Event, err error) bool {
			if e.Type == "audit" {
				panic("meant by the test")
			}
			return yield(e, err)
		})
	}, err
}

// child is a watch in a process and a session of its own.
type child struct {
	*ptytest.Screen
	t       *testing.T
	cmd     *exec.Cmd
	person  *os.File
	program *os.File
	before  unix.Termios
	stderr  *os.File
	done    chan error
}

func spawn(t *testing.T, a *agent, env ...string) *child {
	t.Helper()
	c := &child{t: t, done: make(chan error, 1)}
	c.person, c.program = ptytest.Open(t)
	c.Screen = ptytest.Watch(t, c.person, c.program, 80, 24)
	c.before = ptytest.Modes(t, c.program)
	var err error
	if c.stderr, err = os.CreateTemp(t.TempDir(), "stderr"); err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append([]string{envSocket + "=" + a.socket, "TERM=xterm", "HOME=" + t.TempDir(), "GORACE=atexit_sleep_ms=0"}, env...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.program, c.program, c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.done <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		c.stderr.Close()
	})
	c.Shows("No sign-in is waiting.")
	if ptytest.Echoes(t, c.program) {
		t.Fatal("the terminal shows what is typed")
	}
	return c
}

func (c *child) types(keys string) {
	c.t.Helper()
	if _, err := io.WriteString(c.person, keys); err != nil {
		c.t.Fatal(err)
	}
}

// ends waits for the end and returns how it was; the terminal must be as before.
func (c *child) ends() error {
	c.t.Helper()
	var err error
	select {
	case err = <-c.done:
		c.done <- err
	case <-time.After(20 * time.Second):
		c.t.Fatal("it does not end")
	}
	if now := ptytest.Modes(c.t, c.program); now != c.before {
		c.t.Errorf("the terminal was left as %+v, and was %+v", now, c.before)
	}
	return err
}

// becomes waits until the process is in that state: "S" sleeps, "T" is stopped.
func (c *child) becomes(states string) {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err != nil {
			c.t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		if strings.ContainsAny(after[:1], states) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("its state is %s, want %s", after[:1], states)
		}
	}
}

// raw waits until the terminal is the watch's again.
func (c *child) raw() {
	c.t.Helper()
	ptytest.Silent(c.t, c.program)
}

// However a watch ends, the terminal is as it was.
func TestTerminalIsAsBefore(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(c *child, a *agent)
		code int // -1: whatever a panic's is
		says string
	}{
		{"q", func(c *child, _ *agent) { c.types("q") }, 0, ""},
		{"Ctrl-C", func(c *child, _ *agent) { c.types("\x03") }, 0, ""},
		{"Ctrl-D", func(c *child, _ *agent) { c.types("\x04") }, 0, ""},
		{"SIGINT", func(c *child, _ *agent) { c.signal(syscall.SIGINT) }, 0, ""},
		{"SIGTERM", func(c *child, _ *agent) { c.signal(syscall.SIGTERM) }, 0, ""},
		{"SIGHUP", func(c *child, _ *agent) { c.signal(syscall.SIGHUP) }, 0, ""},
		{"SIGQUIT", func(c *child, _ *agent) { c.signal(syscall.SIGQUIT) }, 0, ""},
		{"Ctrl-C in a PIN", func(c *child, a *agent) {
			a.Ask(lively("p-1", "pin"))
			c.Shows("Sign in to Payroll?")
			c.types("a")
			c.Shows("[Approve]")
			for deadline := time.Now().Add(20 * time.Second); !strings.Contains(c.Text(), "PIN:") && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				c.types("\r")
			}
			c.types("31")
			c.types("\x03")
		}, 0, ""},
		{"SIGTERM without the agent", func(c *child, a *agent) {
			a.stop()
			c.Shows("Looking for it again and again.")
			c.signal(syscall.SIGTERM)
		}, 0, ""},
		{"panic", func(c *child, a *agent) {
			for i := range 15 {
				a.Ask(lively(fmt.Sprint("p-", i)))
			}
		}, -1, "meant by the test"},
		{"panic beside", func(_ *child, a *agent) { a.Record(api.AuditRecord{Seq: 1}) }, -1, "meant by the test"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAgent(t)
			env := map[string]string{"panic": "loop", "panic beside": "beside"}[row.name]
			c := spawn(t, a, envPanics+"="+env)
			row.end(c, a)
			err := c.ends()
			if code := c.cmd.ProcessState.ExitCode(); row.code >= 0 && code != row.code || row.code < 0 && err == nil {
				t.Errorf("exit %d, %v", code, err)
			}
			said, err := os.ReadFile(c.stderr.Name())
			if err != nil || !strings.Contains(string(said), row.says) || row.says == "" && len(said) > 0 {
				t.Errorf("said %q, %v", said, err)
			}
			c.Sent(wrapOn + pasteOff)
			c.Hides("q leaves", "Sign in to")
		})
	}
}

func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// Ctrl-Z gives the terminal back and stops; when it goes on, all is drawn anew.
func TestSuspended(t *testing.T) {
	a := newAgent(t)
	c := spawn(t, a)
	for _, stop := range []func(){
		func() { c.types("\x1a") },
		func() { c.signal(syscall.SIGTSTP) },
	} {
		stop()
		c.becomes("T")
		if now := ptytest.Modes(t, c.program); now != c.before {
			t.Errorf("while it is stopped, the terminal is %+v, and was %+v", now, c.before)
		}
		c.Sent(wrapOn + pasteOff)
		c.Hides("No sign-in is waiting.")
		c.signal(syscall.SIGCONT)
		c.raw()
		c.Shows("No sign-in is waiting.")
	}
	// Stopped by somebody who does not ask, and the shell has its own modes then.
	c.signal(syscall.SIGSTOP)
	c.becomes("T")
	shells := c.before
	if err := unix.IoctlSetTermios(int(c.program.Fd()), unix.TCSETS, &shells); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGCONT)
	c.raw()
	// It works as before.
	a.Ask(lively("p-1"))
	c.Shows("Sign in to Payroll?")
	c.types("\x03")
	if err := c.ends(); err != nil {
		t.Error(err)
	}
}

// Another size is taken up at once.
func TestResizedWindow(t *testing.T) {
	a := newAgent(t)
	c := spawn(t, a)
	a.Ask(lively("p-1", "number", "odd"))
	c.Shows("Sign in to Payroll?")
	c.Size(40, 10)
	ptytest.Resize(t, c.program, 40, 10)
	c.Shows("lines 1 to")
	for _, line := range strings.Split(c.Visible(), "\n") {
		if len([]rune(line)) >= 40 {
			t.Errorf("wider than 40: %q", line)
		}
	}
	c.Size(100, 30)
	ptytest.Resize(t, c.program, 100, 30)
	c.Shows("arrows choose, Enter answers")
	c.types("\x04")
	if err := c.ends(); err != nil {
		t.Error(err)
	}
}

// The person closes the window.
func TestWindowClosed(t *testing.T) {
	a := newAgent(t)
	c := spawn(t, a)
	c.program.Close()
	c.person.Close()
	select {
	case err := <-c.done:
		c.done <- err
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}
