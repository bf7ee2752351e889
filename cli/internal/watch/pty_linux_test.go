package watch

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"countersign.dev/cli/internal/ptytest"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/localapi/localapitest"
)

// agent is one in memory behind a real socket.
type agent struct {
	*localapitest.Agent
	t      *testing.T
	socket string
	stop   func()
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "cs") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{Agent: &localapitest.Agent{Outcomes: map[string]api.PromptOutcome{}}, t: t, socket: filepath.Join(dir, "agent.sock")}
	a.start()
	t.Cleanup(func() { a.stop(); os.RemoveAll(dir) })
	return a
}

func (a *agent) start() {
	a.t.Helper()
	l, err := localapi.Listen(a.socket)
	if err != nil {
		a.t.Fatal(err)
	}
	s := localapi.New(a.Agent, localapi.Options{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	a.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-done
		a.stop = func() {}
	}
}

// ends has a prompt end without an answer from here.
func (a *agent) ends(id, outcome, reason string) {
	a.Lock()
	for i, p := range a.PromptsHeld {
		if p.ID == id {
			a.PromptsHeld = append(a.PromptsHeld[:i:i], a.PromptsHeld[i+1:]...)
		}
	}
	a.Unlock()
	a.Tell(api.Event{Type: "prompt_closed", Outcome: &api.PromptOutcome{ID: id, Outcome: outcome, Reason: reason}})
}

func (a *agent) decided(id string) (api.Decision, bool) {
	a.Lock()
	defer a.Unlock()
	d, ok := a.Decided[id]
	return d, ok
}

func (a *agent) decisions() int {
	a.Lock()
	defer a.Unlock()
	return len(a.Decided)
}

// console is a watch on a pseudo-terminal, with a clock that the test moves on,
// so that no key is too soon unless it is meant to be.
type console struct {
	*ptytest.Screen
	t       *testing.T
	agent   *agent
	person  *os.File
	program *os.File
	before  unix.Termios
	ahead   atomic.Int64
	typed   int64 // bytes
	heard   atomic.Int64
	leave   context.CancelFunc
	done    chan error
}

func (c *console) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// watches begins one, 80 columns and 24 rows.
func watches(t *testing.T, a *agent) *console {
	t.Helper()
	c := &console{t: t, agent: a, done: make(chan error, 1)}
	c.person, c.program = ptytest.Open(t)
	c.Screen = ptytest.Watch(t, c.person, c.program, 80, 24)
	c.before = ptytest.Modes(t, c.program)
	ctx, leave := context.WithCancel(t.Context())
	c.leave = leave
	go func() {
		agent := client.New(a.socket)
		defer agent.Close()
		c.done <- Run(ctx, Options{Agent: agent, In: c.program, Out: c.program, Now: c.now, heard: func(n int) { c.heard.Add(int64(n)) }})
	}()
	t.Cleanup(func() {
		leave()
		<-c.done
		if odd := c.Odd(); len(odd) > 0 {
			t.Errorf("sent to the terminal: %q", odd)
		}
	})
	return c
}

// types types as a person does, some time after what was before.
func (c *console) types(keys string) {
	c.t.Helper()
	c.ahead.Add(int64(2 * settle))
	c.hits(keys)
}

// hits types at once, and waits until all has had its effect, or it has ended.
func (c *console) hits(keys string) {
	c.t.Helper()
	c.pours(keys)
	for deadline := time.Now().Add(20 * time.Second); c.heard.Load() < c.typed && len(c.done) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%q is not heard", keys)
		}
	}
}

// pours types without waiting.
func (c *console) pours(keys string) {
	c.t.Helper()
	n, err := io.WriteString(c.person, keys)
	if c.typed += int64(n); err != nil {
		c.t.Fatal(err)
	}
}

// ended waits for the end, and sees that the terminal is as it was.
func (c *console) ended() {
	c.t.Helper()
	select {
	case err := <-c.done:
		if err != nil {
			c.t.Error(err)
		}
		c.done <- nil
	case <-time.After(20 * time.Second):
		c.t.Fatal("it does not end")
	}
	if now := ptytest.Modes(c.t, c.program); now != c.before {
		c.t.Errorf("the terminal was left as %+v, and was %+v", now, c.before)
	}
	c.Sent(wrapOn + pasteOff)
	if text := c.Text(); strings.Contains(text, "q leaves") || strings.Contains(text, "Sign in to") {
		c.t.Errorf("what was drawn is still there:\n%s", text)
	}
}

// lively is a prompt that has time.
func lively(id string, extras ...string) api.Prompt {
	p := with(payroll(id), extras...)
	p.CreatedAt, p.ExpiresAt = time.Now(), time.Now().Add(24*time.Hour)
	return p
}

// awaits waits for a decision about a prompt.
func (a *agent) awaits(id string) api.Decision {
	a.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if d, ok := a.decided(id); ok {
			return d
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("%s was not decided", id)
		}
	}
}

// A sign-in is approved with its number and a PIN, which the terminal never
// shows; one line about it stays.
func TestPTYApproves(t *testing.T) {
	a := newAgent(t)
	a.PIN, a.Tries = "314159", 3
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1", "number", "pin", "odd"))
	c.Shows("New place: Lisbon", "Sign in to Payroll?", "alice@example.com", "your PIN; 3 tries left")
	c.types("a")
	c.Shows("[Approve]", "Enter approves")
	c.types("\r")
	c.Shows("Number:")
	c.types("99\x7f\x7f43")
	c.Shows("Number: 43")
	c.types("\r")
	c.Shows("That is not the number.")
	c.types("4")
	c.types("2")
	c.Shows("Number: 42")
	c.types("\r")
	c.Shows("PIN:")
	c.types("271828")
	c.types("\r")
	c.Shows("That PIN is wrong; 2 tries left.")
	c.types("314159")
	c.types("\r")
	c.Shows("approved: sign-in to Payroll as alice@example.com", "No sign-in is waiting.")
	if d := a.awaits("p-1"); d.Action != "approve" || d.Number != "42" || d.PIN.Reveal() != "314159" || d.Account != "" {
		t.Errorf("%+v", d)
	}
	for _, secret := range []string{"314159", "271828", "31415", "•", "***"} {
		if strings.Contains(c.Raw(), secret) {
			t.Errorf("the terminal was sent %q", secret)
		}
	}
	c.types("q")
	c.ended()
	if text := c.Text(); !strings.HasSuffix(text, "approved: sign-in to Payroll as alice@example.com") {
		t.Errorf("what stays: %q", text)
	}
}

// Arrow keys choose among sign-ins and answers; every answer leaves its line.
func TestPTYAnswers(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1"))
	c.Shows("Sign in to Payroll?")
	a.Ask(lively("p-2", "wiki"))
	c.Shows("2 sign-ins waiting", "Sign in to Payroll?")
	c.types("\x1b[A")
	c.Shows("Sign in to Wiki?")
	c.types("\x1b[C")
	c.Shows("[Approve]")
	c.types("\x1b[C")
	c.Shows("[Deny]", "Enter denies")
	c.types("\r")
	c.Shows("denied: sign-in to Wiki as alice@example.com", "Sign in to Payroll?")
	c.Hides("2 sign-ins waiting")
	c.types("l")
	c.Shows("1 sign-in put off: nothing is answered yet.")
	c.types("\r")
	c.Shows("Sign in to Payroll?")
	c.types("r")
	c.Shows("[This wasn't me]", "tells the organisation")
	c.types("\r")
	c.Shows("denied: sign-in to Payroll", "countersign prompt resume acc-1", "No sign-in is waiting")
	if d := a.awaits("p-2"); d.Action != "deny" || d.Report {
		t.Errorf("%+v", d)
	}
	if d := a.awaits("p-1"); d.Action != "deny" || !d.Report {
		t.Errorf("%+v", d)
	}
	a.Ask(lively("p-3", "choices"))
	c.Shows("Sign in to Payroll?")
	c.types("a")
	c.types("\r")
	c.Shows("Which account?", "  1  alice@example.com (acc-1)")
	c.types("\t")
	c.Shows("> 1  alice@example.com (acc-1)")
	c.types("\r")
	if d := a.awaits("p-3"); d.Action != "approve" || d.Account != "acc-1" {
		t.Errorf("%+v", d)
	}
	c.Shows("approved: sign-in to Payroll")
	c.types("\x04")
	c.ended()
}

// It expires while the number is typed: a sentence, and nothing is approved.
func TestPTYExpiresWhileTyping(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1", "number"))
	c.Shows("Sign in to Payroll?")
	c.types("a")
	c.types("\r")
	c.Shows("Number:")
	c.types("4")
	c.Shows("Number: 4")
	a.ends("p-1", "expired", "prompt expired")
	c.Shows("expired: sign-in to Payroll as alice@example.com", "No sign-in is waiting.")
	c.hits("2\r")
	c.types("\x03")
	c.ended()
	if n := a.decisions(); n != 0 {
		t.Errorf("%d decisions", n)
	}
}

// B5: the sign-in that is looked at is replaced by another: what is pressed just
// then approves neither.
func TestB5PTYReplaced(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1"))
	c.Shows("Sign in to Payroll?")
	c.types("a")
	c.Shows("[Approve]")
	a.Ask(lively("p-2", "wiki"))
	a.ends("p-1", "expired", "replaced by a newer request")
	c.Shows("Sign in to Wiki?", "(replaced by a newer")
	c.hits("\r") // meant for the one before
	c.hits("a")
	c.Shows("[Approve]")
	c.hits("\r")
	c.Shows("That came too soon to be meant")
	if n := a.decisions(); n != 0 {
		t.Fatalf("%d decisions", n)
	}
	// The agent forgets it, and the news of that is late: the key does nothing.
	a.Lock()
	a.TooLate = map[string]error{"p-2": &api.Error{Status: 410, Code: "prompt_superseded", Message: "a newer request has taken its place"}}
	a.Unlock()
	c.types("\r")
	c.Shows("too late: sign-in to Wiki as alice@example.com (a newer request has", "No sign-in is waiting.")
	if n := a.decisions(); n != 0 {
		t.Fatalf("%d decisions", n)
	}
	c.types("q")
	c.ended()
}

// A paste of ten thousand characters, garbage and half sequences answer nothing,
// and the keyboard works afterwards.
func TestPTYStrayKeys(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1"))
	c.Shows("Sign in to Payroll?")
	c.ahead.Add(int64(2 * settle))
	for _, keys := range []string{
		"\x1b[200~" + strings.Repeat("a\rd\r", 2500) + "\x1b[201~",
		"x" + strings.Repeat("a\rd\r", 2500),
		"\r\r\r",
		"\x1b[[D\x1b[Mddd\x1b]0;d\r\x07\x1bPd\r\x1b\\\x1bd\x1b[1;5D\xff\xfe\x00",
		"x\x1b[999999999999999999999999999999999999999999999d",
	} {
		c.pours(keys)
	}
	c.types("x")
	c.types("a")
	c.Shows("[Approve]")
	if n := a.decisions(); n != 0 {
		t.Fatalf("%d decisions", n)
	}
	c.types("\r")
	if d := a.awaits("p-1"); d.Action != "approve" {
		t.Errorf("%+v", d)
	}
	c.Shows("approved: sign-in to Payroll")
	c.types("q")
	c.ended()
}

// B9: text from outside reaches the terminal as text (what else comes is odd, and
// every test here looks for that).
func TestB9PTYHostileText(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	p := lively("p-1", "odd")
	p.App, p.Location, p.Unusual = "Pay\x1b]0;owned\x07roll\u202e東京", "a\r\nb\x1b[2J\u009b3J", []string{"\x1bc\x1b[31mApprove it"}
	a.Ask(p)
	c.Shows("Sign in to Pay\ufffd]0;owned\ufffdroll\ufffd東京?", "a\ufffd\ufffdb\ufffd[2J\ufffd3J", "\ufffdc\ufffd[31mApprove it")
	a.Outcomes["p-1"] = api.PromptOutcome{ID: "p-1", Outcome: "app\x1b[2Jroved", Reason: "\x1b]0;x\x07"}
	c.types("d")
	c.Shows("app\ufffd[2Jroved: sign-in to Pay")
	c.types("q")
	c.ended()
}

// While the screen is locked nothing is shown and nothing answered.
func TestPTYHold(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1"))
	c.Shows("Sign in to Payroll?")
	a.SetHold(&api.Hold{Reason: api.HoldScreenLocked, Since: time.Now()})
	c.Shows("The screen is locked: nothing is shown or signed until it is unlocked.")
	c.Hides("Payroll")
	c.types("a")
	c.types("\r")
	c.types("d")
	a.SetHold(nil)
	c.Shows("back: what waits is shown again", "Sign in to Payroll?")
	if n := a.decisions(); n != 0 {
		t.Fatalf("%d decisions", n)
	}
	c.types("d")
	c.Shows("denied: sign-in to Payroll")
	c.types("q")
	c.ended()
}

// The agent goes and comes back; the watch says so, and counts as a front end
// again.
func TestPTYAgentRestarts(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1"))
	c.Shows("Sign in to Payroll?")
	a.stop()
	c.Shows("gone: ", "Looking for it again and again.")
	c.Hides("Sign in to Payroll?")
	a.start()
	c.Shows("back: the agent answers again", "Sign in to Payroll?")
	c.types("d")
	c.Shows("denied: sign-in to Payroll")
	if d := a.awaits("p-1"); d.Action != "deny" {
		t.Errorf("%+v", d)
	}
	// Gone for good: it still ends when it is told to.
	a.stop()
	c.Shows("Looking for it again and again.")
	c.types("\x03")
	c.ended()
}

// Without an agent at the beginning nothing is begun, and the terminal is left
// alone.
func TestPTYNoAgent(t *testing.T) {
	a := newAgent(t)
	a.stop()
	person, program := ptytest.Open(t)
	before := ptytest.Modes(t, program)
	s := ptytest.Watch(t, person, program, 80, 24)
	agent := client.New(a.socket)
	defer agent.Close()
	if err := Run(t.Context(), Options{Agent: agent, In: program, Out: program, Now: time.Now}); err == nil {
		t.Error("no error")
	}
	if ptytest.Modes(t, program) != before || s.Raw() != "" {
		t.Errorf("the terminal was touched: %q", s.Raw())
	}
}

// Another size: what is shown fits, and what is printed stays.
func TestPTYSmall(t *testing.T) {
	a := newAgent(t)
	c := watches(t, a)
	c.Shows("No sign-in is waiting.")
	a.Ask(lively("p-1", "number", "odd"))
	c.Shows("Sign in to Payroll?")
	ptytest.Resize(t, c.program, 40, 10)
	c.Size(40, 10)
	c.types("x") // no signal comes here: this is not the test's own terminal
	c.Shows("lines 1 to")
	c.types(" ")
	c.Shows("b goes back")
	for _, line := range strings.Split(c.Visible(), "\n") {
		if len([]rune(line)) >= 40 {
			t.Errorf("wider than 40: %q", line)
		}
	}
	c.types("d")
	c.Shows("denied: sign-in to Payroll as")
	c.types("q")
	c.ended()
}
