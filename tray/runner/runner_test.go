package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/localapi/localapitest"
	"countersign.dev/tray"
)

const patience = 10 * time.Second

// desk is a runner at an agent in memory.
type desk struct {
	*Runner
	t      testing.TB
	agent  *localapitest.Agent
	socket string
	stop   func() // of the agent
	end    func() // of the runner

	mu     sync.Mutex
	view   tray.View
	shown  int
	news   chan struct{}
	copied []string
	quits  int
}

func newDesk(t testing.TB, agent *localapitest.Agent, o ...func(*Options)) *desk {
	t.Helper()
	before := runtime.NumGoroutine()
	dir, err := os.MkdirTemp("", "ct") // a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, agent: agent, socket: filepath.Join(dir, "run", "s"), stop: func() {}, news: make(chan struct{}, 1)}
	c := client.New(d.socket)
	options := Options{Agent: c, Show: d.show, Quit: func() { d.quits++ },
		Copy: func(_ context.Context, code string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.copied = append(d.copied, code)
			return nil
		}}
	for _, change := range o {
		change(&options)
	}
	d.Runner = New(options)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	d.end = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(func() {
		d.end()
		d.stop()
		c.Close()
		os.RemoveAll(dir)
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
	return d
}

// serve starts the agent.
func (d *desk) serve() {
	d.t.Helper()
	l, err := localapi.Listen(d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	s := localapi.New(d.agent, localapi.Options{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	d.stop = sync.OnceFunc(func() { _ = s.Shutdown(context.Background()); <-done })
}

func (d *desk) show(v tray.View) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view = v
	d.shown++
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// await waits for a view in which ok is true.
func (d *desk) await(what string, ok func(tray.View) bool) tray.View {
	d.t.Helper()
	late := time.After(patience)
	for {
		d.mu.Lock()
		v := d.view
		d.mu.Unlock()
		if ok(v) {
			return v
		}
		select {
		case <-d.news:
		case <-late:
			d.t.Fatalf("%s: not seen; icon %d, %q\n%s", what, v.Icon, v.Tooltip, strings.Join(labels(v.Menu), "\n"))
		}
	}
}

func (d *desk) icon(i tray.Icon) tray.View {
	d.t.Helper()
	return d.await(fmt.Sprintf("icon %d", i), func(v tray.View) bool { return v.Icon == i })
}

// says waits for a line.
func (d *desk) says(line string) tray.View {
	d.t.Helper()
	return d.await(line, func(v tray.View) bool {
		return strings.Contains(strings.Join(labels(v.Menu), " "), line)
	})
}

func labels(menu []tray.Entry) (list []string) {
	for _, e := range menu {
		list = append(append(list, e.Label), labels(e.Children)...)
	}
	return list
}

// find returns what the first entry of that label does; below a prompt's, if
// one is named.
func find(menu []tray.Entry, label string) (tray.Action, bool) {
	for _, e := range menu {
		if e.Label == label && e.Action.Kind != tray.Nothing {
			return e.Action, true
		}
		if a, ok := find(e.Children, label); ok {
			return a, true
		}
	}
	return tray.Action{}, false
}

// action waits for an entry that can be clicked.
func (d *desk) action(label string) (a tray.Action) {
	d.t.Helper()
	d.await("["+label+"]", func(v tray.View) (ok bool) {
		a, ok = find(v.Menu, label)
		return ok
	})
	return a
}

func (d *desk) click(label string) { d.t.Helper(); d.Click(d.action(label)) }

func ask(id string, change ...func(*api.Prompt)) api.Prompt {
	p := api.Prompt{ID: id, Account: "acc-1", Kind: "push", App: "Payroll", Org: "https://id.example.com", User: "alice@example.com",
		CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute), UserVerification: "none"}
	for _, c := range change {
		c(&p)
	}
	return p
}

func (d *desk) decided(id string) api.Decision {
	d.t.Helper()
	for late := time.Now().Add(patience); ; runtime.Gosched() {
		d.agent.Lock()
		got, ok := d.agent.Decided[id]
		d.agent.Unlock()
		if ok {
			return got
		}
		if time.Now().After(late) {
			d.t.Fatalf("%s is not decided", id)
		}
	}
}

func TestAgentComesAndGoes(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{})
	d.icon(tray.Missing)
	began := time.Now()
	d.serve() // the folder of the socket is new, too
	d.icon(tray.Idle)
	if took := time.Since(began); took > firstWait && runtime.GOOS == "linux" {
		t.Errorf("found after %s: the socket's appearance was not noticed", took)
	}
	d.agent.Ask(ask("a"))
	d.icon(tray.Waiting)
	d.stop()
	v := d.icon(tray.Missing)
	if _, ok := find(v.Menu, "Approve"); ok {
		t.Error("what an agent asked that is gone can be approved")
	}
	d.serve()
	d.icon(tray.Waiting) // it waits still
	d.agent.DropSubscribers()
	d.agent.Ask(ask("b")) // while nobody listens
	d.await("two", func(v tray.View) bool { return strings.Contains(v.Tooltip, "2 sign-ins") })
}

// D2: what is not the user's own agent is told nothing, and called so.
func TestD2ForeignAgent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: nothing can be made another user's")
		return
	}
	d := newDesk(t, &localapitest.Agent{})
	d.icon(tray.Missing)
	elsewhere := filepath.Join(filepath.Dir(filepath.Dir(d.socket)), "s")
	l, err := net.Listen("unix", elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Chown(elsewhere, 65534, 65534), os.Mkdir(filepath.Dir(d.socket), 0o700), os.Rename(elsewhere, d.socket)); err != nil {
		t.Fatal(err)
	}
	d.says("This is not your agent")
	_ = l.(*net.UnixListener).SetDeadline(time.Now())
	if c, err := l.Accept(); err == nil {
		t.Errorf("it was talked to: %v", c)
	}
}

// Only a tray that somebody sees is a place where the person can be asked.
func TestFrontEnd(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{})
	d.serve()
	d.icon(tray.Idle)
	frontEnds := func(want ...string) {
		t.Helper()
		for late := time.Now().Add(patience); !slices.Equal(d.agent.FrontEnds(), want); runtime.Gosched() {
			if time.Now().After(late) {
				t.Fatalf("front ends %q, want %q", d.agent.FrontEnds(), want)
			}
		}
	}
	frontEnds()
	d.Seen(true)
	frontEnds("tray")
	d.agent.Ask(ask("a"))
	d.icon(tray.Waiting)
	d.agent.Lock()
	if last := d.agent.Asked[len(d.agent.Asked)-1]; last != "tray" {
		t.Errorf("listed as %q", last)
	}
	d.agent.Unlock()
	d.Seen(false)
	frontEnds()
	d.agent.Ask(ask("b")) // the view goes on
	d.await("two", func(v tray.View) bool { return strings.Contains(v.Tooltip, "2 sign-ins") })
}

func TestAnswers(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{Outcomes: map[string]api.PromptOutcome{"late": {ID: "late", Outcome: "expired"}, "twice": {ID: "twice", Outcome: "denied", Reason: "answered_elsewhere"}},
		TooLate: map[string]error{"gone": &api.Error{Status: http.StatusGone, Code: "prompt_withdrawn", Message: "the browser has given up the sign-in", Hint: "not for a menu"}}})
	d.serve()
	numbers := func(p *api.Prompt) { p.NeedsNumber, p.Numbers = true, []string{"42", "17", "93"} }
	choices := func(p *api.Prompt) {
		p.Account, p.User, p.Choices = "", "", []api.Choice{{Account: "acc-1", User: "alice", UserVerification: "none"}, {Account: "acc-2", User: "bob", UserVerification: "none"}}
	}
	for _, row := range []struct {
		id, click string
		change    []func(*api.Prompt)
		want      api.Decision
		says      string
	}{
		{"a", "Approve", nil, api.Decision{Action: "approve"}, "Approved: sign-in to Payroll as alice@example.com"},
		{"b", "Deny", nil, api.Decision{Action: "deny"}, "Denied: sign-in to Payroll as alice@example.com"},
		{"c", "This wasn't me", nil, api.Decision{Action: "deny", Report: true}, "Reported. Further pushes of this account are held back"},
		{"d", "Approve: the sign-in page shows 17", []func(*api.Prompt){numbers}, api.Decision{Action: "approve", Number: "17"}, "Approved"},
		{"e", "Approve as bob (acc-2)", []func(*api.Prompt){choices}, api.Decision{Action: "approve", Account: "acc-2"}, "Approved: sign-in to Payroll"},
		{"late", "Approve", nil, api.Decision{Action: "approve"}, "It had expired: sign-in to Payroll"},
		{"twice", "Approve", nil, api.Decision{Action: "approve"}, "It was denied already: sign-in to Payroll as alice@example.com Answered elsewhere"},
	} {
		t.Run(row.id, func(t *testing.T) {
			d.agent.Ask(ask(row.id, row.change...))
			d.click(row.click)
			if got := d.decided(row.id); !reflect.DeepEqual(got, row.want) {
				t.Errorf("decided %+v, want %+v", got, row.want)
			}
			d.says(row.says)
			d.icon(tray.Idle)
		})
	}
	d.says("It was denied already") // what came of the last one
	d.agent.Ask(ask("gone"))
	d.await("it is not said above another", func(v tray.View) bool {
		return v.Icon == tray.Waiting && !strings.Contains(strings.Join(labels(v.Menu), " "), "It was denied already")
	})
	d.click("Approve")
	v := d.says("The browser has given up the sign-in")
	if strings.Contains(strings.Join(labels(v.Menu), " "), "not for a menu") {
		t.Error("a hint for a terminal is said of what is over")
	}
	if _, ok := d.agent.Decided["gone"]; ok {
		t.Error("decided")
	}
}

// B5: an answer is for the prompt that was shown. One that is gone, that has been
// replaced under its id, or that is being answered, is answered by nobody.
func TestB5StaleClicksDoNothing(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{})
	d.serve()
	d.agent.Ask(ask("a"))
	yes := d.action("Approve")

	d.agent.Lock() // another request under the same id
	d.agent.PromptsHeld[0].App = "Bank"
	d.agent.Unlock()
	d.agent.Tell(api.Event{Type: "prompt", Prompt: &api.Prompt{ID: "a"}})
	d.says("Sign in to Bank?")
	d.Click(yes)
	d.Click(tray.Action{Kind: tray.Approve, Prompt: "a"})
	d.Click(tray.Action{Kind: tray.Approve})
	d.Click(tray.Action{})

	d.agent.Ask(ask("b"))
	d.says("Sign in to Payroll?")
	d.agent.Lock()
	d.agent.PromptsHeld = d.agent.PromptsHeld[1:] // and gone without a word
	d.agent.Unlock()
	no := d.action("Deny")
	d.Click(no)
	d.says("There is no such prompt")
	d.end()
	if len(d.agent.Decided) != 0 {
		t.Errorf("decided %+v", d.agent.Decided)
	}
	d.Click(yes) // after the end
}

// What the agent shows is the agent's to show; where it cannot, the menu offers
// what a menu can.
func TestWindows(t *testing.T) {
	agent := &localapitest.Agent{StatusReply: api.Status{FrontEnds: []string{"dialog"}}}
	d := newDesk(t, agent)
	d.serve()
	d.click("Doctor…")
	agent.Ask(ask("a", func(p *api.Prompt) { p.NeedsNumber, p.Numbers = true, []string{"42", "17", "93"} }))
	d.click("Approve…")
	for late := time.Now().Add(patience); ; runtime.Gosched() {
		agent.Lock()
		shown := slices.Clone(agent.Shown)
		agent.Unlock()
		if slices.Equal(shown, []string{"doctor", "a"}) {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("shown %q", shown)
		}
	}
	agent.Lock()
	agent.NoWindow = true
	agent.Unlock()
	d.click("Approve…")
	d.says("No window can be shown here. Answer below")
	d.click("Approve: the sign-in page shows 42")
	if got := d.decided("a"); got.Number != "42" {
		t.Errorf("decided %+v", got)
	}
	d.says("To check everything, in a terminal: countersign doctor")
}

func TestAccounts(t *testing.T) {
	agent := &localapitest.Agent{AccountsHeld: []api.Account{{ID: "acc-1", Name: "Work", State: "active", PushesHeld: true, Notices: []api.Notice{{Message: "Pixel was added"}}}}}
	d := newDesk(t, agent)
	d.serve()
	d.icon(tray.Attention)
	d.click("I have seen this")
	d.await("no news", func(v tray.View) bool { _, ok := find(v.Menu, "I have seen this"); return !ok })
	d.click("Let pushes through again")
	d.icon(tray.Idle)
	agent.Lock()
	defer agent.Unlock()
	if a := agent.AccountsHeld[0]; a.PushesHeld || len(a.Notices) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestPause(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{})
	d.serve()
	d.agent.Ask(ask("a"))
	d.icon(tray.Waiting)
	d.click("For 1 hour")
	v := d.icon(tray.Resting)
	if _, ok := find(v.Menu, "Approve"); ok {
		t.Error("something can be approved in a pause")
	}
	d.says("Paused: nothing is shown or signed until")
	d.click("End the pause")
	d.icon(tray.Waiting)
}

func TestCodes(t *testing.T) {
	agent := &localapitest.Agent{CodesHeld: []api.CodeEntry{{ID: "code-1", Name: "alice@example.com", Issuer: "id.example.com"}},
		Digits: []api.Code{{Code: "111111", ExpiresInSeconds: 0}, {Code: "222222", ExpiresInSeconds: 30}}}
	d := newDesk(t, agent)
	d.serve()
	d.click("Copy the code of alice@example.com at id.example.com")
	v := d.says("Copied the code of alice@example.com. It is good for 30 seconds.")
	d.mu.Lock()
	if !slices.Equal(d.copied, []string{"222222"}) {
		t.Errorf("copied %q, and the first was about to end", d.copied)
	}
	d.mu.Unlock()
	if all := strings.Join(append(labels(v.Menu), v.Tooltip), " "); strings.Contains(all, "222222") {
		t.Error("the digits are in the menu")
	}
}

func TestCodeIsNotCopied(t *testing.T) {
	agent := &localapitest.Agent{CodesHeld: []api.CodeEntry{{ID: "code-1", Name: "alice@example.com"}}, Digits: []api.Code{{Code: "222222", ExpiresInSeconds: 30}}}
	d := newDesk(t, agent, func(o *Options) { o.Copy = func(context.Context, string) error { return errors.New("no owner") } })
	d.serve()
	d.click("Copy the code of alice@example.com at")
	d.says("The code could not be copied: no owner hint: countersign code get alice@example.com")
}

// Failures are said in words, with what to do.
func TestFailures(t *testing.T) {
	agent := &localapitest.Agent{}
	d := newDesk(t, agent)
	d.serve()
	pause := d.action("For 15 minutes")
	agent.Lock()
	agent.Fail = &api.Error{Status: http.StatusServiceUnavailable, Code: "busy", Message: "another change is under way", Hint: "try again"}
	agent.Unlock()
	d.Click(pause)
	d.says("Another change is under way hint: try again")
}

// What is merely on record wakes nobody.
func TestRecordsWakeNobody(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{})
	d.serve()
	d.icon(tray.Idle)
	d.agent.Ask(ask("a"))
	d.icon(tray.Waiting)
	d.agent.Lock()
	asked := len(d.agent.Asked)
	d.agent.Unlock()
	for range 20 {
		d.agent.Record(api.AuditRecord{Event: "answer"})
	}
	d.agent.Tell(api.Event{Type: "prompt_closed", Outcome: &api.PromptOutcome{ID: "x"}})
	for late := time.Now().Add(patience); ; runtime.Gosched() {
		d.agent.Lock()
		n := len(d.agent.Asked) - asked
		d.agent.Unlock()
		if n == 1 {
			return
		}
		if n > 1 || time.Now().After(late) {
			t.Fatalf("listed %d times", n)
		}
	}
}

func TestQuit(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{})
	d.click("Quit (the agent keeps running)")
	if d.quits != 1 {
		t.Errorf("%d times", d.quits)
	}
}

// A push is in the model within milliseconds, however many there are.
func TestLatency(t *testing.T) {
	d := newDesk(t, &localapitest.Agent{})
	d.serve()
	d.icon(tray.Idle)
	var took []time.Duration
	for i := range 20 {
		began := time.Now()
		d.agent.Ask(ask(fmt.Sprint(i)))
		d.await("it", func(v tray.View) bool {
			return strings.HasPrefix(v.Tooltip, fmt.Sprintf("Countersign: %d sign-in", i+1))
		})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("median %s, worst %s", took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > 100*time.Millisecond {
		t.Errorf("median %s", median)
	}
}

func BenchmarkEventToView(b *testing.B) {
	d := newDesk(b, &localapitest.Agent{})
	d.serve()
	d.icon(tray.Idle)
	waiting := true
	for b.Loop() {
		// The hold turns the icon, so that each event is seen by itself.
		if waiting = !waiting; waiting {
			d.agent.SetHold(nil)
			d.icon(tray.Idle)
		} else {
			d.agent.SetHold(&api.Hold{Reason: api.HoldPaused})
			d.icon(tray.Resting)
		}
		b.StopTimer()
		time.Sleep(calm) // what comes within it is shown together
		b.StartTimer()
	}
}
