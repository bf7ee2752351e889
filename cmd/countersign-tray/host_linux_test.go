package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"countersign.dev/bus/bustest"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/localapi/localapitest"
)

const (
	patience    = 20 * time.Second
	watcherName = "org.kde.StatusNotifierWatcher"
	watcherPath = dbus.ObjectPath("/StatusNotifierWatcher")
	itemIface   = "org.kde.StatusNotifierItem"
	menuIface   = "com.canonical.dbusmenu"
)

// TestMain is the tray itself where it is asked to be.
func TestMain(m *testing.M) {
	if os.Getenv("COUNTERSIGN_TEST_TRAY") != "" {
		main()
	}
	os.Exit(m.Run())
}

// await polls until ok, with a deadline.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not in time", what)
		}
	}
}

// world is an agent in memory, a bus, and a tray between them.
type world struct {
	t      *testing.T
	agent  *localapitest.Agent
	socket string
	stop   func() // the agent
	bus    *bustest.Daemon
	dir    string
	env    []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "tr") // a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, agent: &localapitest.Agent{}, socket: filepath.Join(dir, "countersign", "agent.sock"), dir: dir, bus: bustest.Run(t)}
	w.env = []string{"COUNTERSIGN_TEST_TRAY=1", "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CACHE_HOME=" + dir,
		"TMPDIR=" + dir, "DBUS_SESSION_BUS_ADDRESS=" + w.bus.Address, "COUNTERSIGN_SOCKET=" + w.socket, "GORACE=exitcode=0 atexit_sleep_ms=0",
		"NO_AT_BRIDGE=1", "DISPLAY=" + os.Getenv("DISPLAY"), "XAUTHORITY=" + os.Getenv("XAUTHORITY")}
	w.serve()
	t.Cleanup(func() { w.stop(); os.RemoveAll(dir) })
	return w
}

func (w *world) serve() {
	w.t.Helper()
	l, err := localapi.Listen(w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	s := localapi.New(w.agent, localapi.Options{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	w.stop = sync.OnceFunc(func() { _ = s.Shutdown(context.Background()); <-done })
}

// process is a tray that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	exited chan struct{}

	mu   sync.Mutex
	said []string // on standard error
}

// tray starts one; it is stopped at the end, which it must survive in good order.
func (w *world) tray(args ...string) *process {
	w.t.Helper()
	p := &process{t: w.t, cmd: exec.Command(os.Args[0], args...), exited: make(chan struct{})}
	p.cmd.Env = w.env
	out, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.said = append(p.said, s.Text())
			p.mu.Unlock()
		}
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	w.t.Cleanup(p.end)
	return p
}

func (p *process) words() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said, "\n")
}

// end stops it as the end of a session does, and looks whether it ends well.
func (p *process) end() {
	p.t.Helper()
	began := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	if code, took := p.cmd.ProcessState.ExitCode(), time.Since(began); code != 0 || took > 2*time.Second {
		p.t.Errorf("the tray ended with %d after %s\n%s", code, took, p.words())
	}
	for _, report := range races(p.words()) {
		p.t.Error(report)
	}
}

// races are the reports of the race detector that are about us. The library has
// races of its own, in what it tells panels: a number that only grows, and the
// icon, see package panel.
func races(words string) (ours []string) {
	reports := strings.Split(words, "==================")
	for _, report := range reports {
		if !strings.Contains(report, "DATA RACE") {
			continue
		}
		accesses, _, _ := strings.Cut(report, "\nGoroutine ")
		if !strings.Contains(accesses, "fyne.io/systray.refresh()") && !strings.Contains(accesses, "fyne.io/systray.SetIcon()") {
			ours = append(ours, report)
		}
	}
	return ours
}

// panel is the test as the panel: it owns the watcher's name and reads the item.
type panel struct {
	t     *testing.T
	conn  *dbus.Conn
	props *prop.Properties
	items chan item
	deaf  atomic.Int32 // registrations that it has yet to miss
}

type item struct {
	dest string
	path dbus.ObjectPath
}

// RegisterStatusNotifierItem takes a bus name, or an object path of the sender.
func (p *panel) RegisterStatusNotifierItem(sender dbus.Sender, s string) *dbus.Error {
	if p.deaf.Add(-1) >= 0 {
		return dbus.MakeFailedError(errors.New("missed"))
	}
	it := item{string(sender), dbus.ObjectPath(s)}
	if !strings.HasPrefix(s, "/") {
		it = item{s, "/StatusNotifierItem"}
	}
	p.props.SetMust(watcherName, "RegisteredStatusNotifierItems", []string{it.dest + string(it.path)}) // as panels write it
	p.items <- it
	return nil
}

// RegisterStatusNotifierHost does nothing: the host is the panel.
func (p *panel) RegisterStatusNotifierHost(string) *dbus.Error { return nil }

// panel starts one.
func (w *world) panel() *panel { return w.panelMissing(0) }

// panelMissing starts one that misses the first registrations.
func (w *world) panelMissing(n int32) *panel {
	w.t.Helper()
	p := &panel{t: w.t, conn: bustest.Conn(w.t, w.bus.Address), items: make(chan item, 64)}
	p.deaf.Store(n)
	err := p.conn.Export(p, watcherPath, watcherName)
	if err == nil {
		p.props, err = prop.Export(p.conn, watcherPath, prop.Map{watcherName: {
			"IsStatusNotifierHostRegistered": {Value: true}, "ProtocolVersion": {Value: int32(0)}, "RegisteredStatusNotifierItems": {Value: []string{}},
		}})
	}
	if err == nil {
		_, err = p.conn.RequestName(watcherName, dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// icon waits for the icon.
func (p *panel) icon() *icon {
	p.t.Helper()
	select {
	case it := <-p.items:
		i := &icon{t: p.t, conn: p.conn, item: it}
		await(p.t, "the menu's place", func() bool {
			v, err := p.conn.Object(it.dest, it.path).GetProperty(itemIface + ".Menu")
			if err == nil {
				i.menu, _ = v.Value().(dbus.ObjectPath)
			}
			return i.menu != ""
		})
		return i
	case <-time.After(patience):
		p.t.Fatal("no icon came")
		return nil
	}
}

// icon is the tray as a panel sees it.
type icon struct {
	t    *testing.T
	conn *dbus.Conn
	item item
	menu dbus.ObjectPath
}

// node is an entry of a menu on the bus.
type node struct {
	ID    int32
	Props map[string]dbus.Variant
	Kids  []dbus.Variant
}

// line is one that can be seen.
type line struct {
	id      int32
	label   string
	enabled bool
	kids    []line
}

func (n node) lines() (list []line) {
	for _, kid := range n.Kids {
		var k node
		if dbus.Store([]any{kid.Value()}, &k) != nil {
			continue
		}
		if visible, ok := k.Props["visible"].Value().(bool); ok && !visible {
			continue
		}
		label, _ := k.Props["label"].Value().(string)
		if kind, _ := k.Props["type"].Value().(string); kind == "separator" {
			label = "---"
		}
		enabled, ok := k.Props["enabled"].Value().(bool)
		list = append(list, line{k.ID, strings.ReplaceAll(strings.ReplaceAll(label, "__", "\x00"), "_", ""), enabled || !ok, k.lines()})
	}
	return list
}

// lines reads the menu; nil while it cannot be read.
func (i *icon) lines() []line {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var revision uint32
	var root node
	if i.conn.Object(i.item.dest, i.menu).CallWithContext(ctx, menuIface+".GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root) != nil {
		return nil
	}
	return root.lines()
}

func draw(list []line, indent string) string {
	var b strings.Builder
	for _, l := range list {
		label := strings.ReplaceAll(l.label, "\x00", "_")
		if l.enabled && len(l.kids) == 0 && label != "---" {
			label = "[" + label + "]"
		}
		b.WriteString(indent + label + "\n" + draw(l.kids, indent+"  "))
	}
	return b.String()
}

func find(list []line, label string) (line, bool) {
	for _, l := range list {
		if strings.HasPrefix(l.label, label) {
			return l, true
		}
		if found, ok := find(l.kids, label); ok {
			return found, true
		}
	}
	return line{}, false
}

// see waits for a line.
func (i *icon) see(label string) (l line) {
	i.t.Helper()
	var last []line
	defer func() {
		if i.t.Failed() {
			i.t.Logf("the menu:\n%s", draw(last, ""))
		}
	}()
	await(i.t, "the line "+label, func() (ok bool) {
		last = i.lines()
		l, ok = find(last, label)
		return ok
	})
	return l
}

// click sends what a panel sends for a click.
func (i *icon) click(id int32) error {
	return i.conn.Object(i.item.dest, i.menu).Call(menuIface+".Event", 0, id, "clicked", dbus.MakeVariant(""), uint32(0)).Err
}

// press clicks a line, again and again since a new one is not taken at its word,
// until something has come of it.
func (i *icon) press(label string, done func() bool) {
	i.t.Helper()
	i.see(label)
	await(i.t, "what comes of "+label, func() bool {
		if done() {
			return true
		}
		if l, ok := find(i.lines(), label); ok && l.enabled {
			if err := i.click(l.id); err != nil {
				i.t.Logf("click: %v", err)
			}
		}
		return false
	})
}

func (w *world) decided(id string) func() bool {
	return func() bool {
		w.agent.Lock()
		defer w.agent.Unlock()
		_, ok := w.agent.Decided[id]
		return ok
	}
}

func (w *world) ask(id string, change ...func(*api.Prompt)) {
	p := api.Prompt{ID: id, Account: "acc-1", Kind: "push", App: "Pay_roll", Org: "https://id.example.com", User: "alice@example.com",
		CreatedAt: time.Now(), ExpiresAt: time.Now().Add(5 * time.Minute), UserVerification: "none"}
	for _, c := range change {
		c(&p)
	}
	w.agent.Ask(p)
}

// A push is approved from the menu, another denied, and a third reported; the
// tray meets a panel that comes late or again, and an agent that comes again.
func TestPanelAndAgentComeAndGo(t *testing.T) {
	w := newWorld(t)
	tray := w.tray()
	first := w.panel() // later than the tray
	i := first.icon()
	i.see("No sign-in is waiting")
	w.ask("a")
	if l := i.see("Sign in to Pay"); l.label != "Sign in to Pay\x00roll? alice@example.com" {
		t.Errorf("the underscore is taken for a key: %q", l.label)
	}
	i.press("Approve", w.decided("a"))
	i.see("Approved: sign-in to Pay\x00roll as alice@example.com")

	if err := errors.Join(first.conn.Close(), nil); err != nil {
		t.Fatal(err)
	}
	second := w.panel() // as after a crash of the first
	i = second.icon()
	w.ask("b")
	i.press("Deny", w.decided("b"))
	i.see("Denied: ")

	w.stop()
	i.see("The agent is not running")
	w.serve()
	i.see("No sign-in is waiting")
	w.ask("c")
	i.press("This wasn't me", w.decided("c"))
	i.see("Reported. Further pushes")
	w.agent.Lock()
	for id, want := range map[string]api.Decision{"a": {Action: "approve"}, "b": {Action: "deny"}, "c": {Action: "deny", Report: true}} {
		if got := w.agent.Decided[id]; got.Action != want.Action || got.Report != want.Report {
			t.Errorf("%s: decided %+v", id, got)
		}
	}
	w.agent.Unlock()

	i.press("Quit", func() bool {
		select {
		case <-tray.exited:
			return true
		default:
			return false
		}
	})
}

// B3: a prompt that pops up under the pointer is not approved by a click that
// was on its way.
func TestB3ClickAtOnce(t *testing.T) {
	w := newWorld(t)
	w.tray()
	i := w.panel().icon()
	i.see("No sign-in is waiting")
	asked := time.Now()
	w.ask("a")
	await(t, "the entry", func() bool {
		l, ok := find(i.lines(), "Approve")
		if ok {
			if err := i.click(l.id); err != nil {
				t.Fatal(err)
			}
		}
		return ok
	})
	i.press("Approve", w.decided("a")) // taken in the end
	if took := time.Since(asked); took < 700*time.Millisecond {
		t.Errorf("taken %s after it was asked", took)
	}
}

// One icon in a session.
func TestSecondTray(t *testing.T) {
	w := newWorld(t)
	p := w.panel()
	w.tray()
	p.icon()
	second := w.tray()
	select {
	case <-second.exited:
	case <-time.After(patience):
		t.Fatal("the second one stays")
	}
	if code := second.cmd.ProcessState.ExitCode(); code != 0 || second.words() != "countersign-tray: there is an icon in this session already" {
		t.Errorf("exit %d, %q", code, second.words())
	}
	select {
	case it := <-p.items:
		t.Errorf("a second icon: %+v", it)
	default:
	}
}

func TestUsage(t *testing.T) {
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--theme", "pink"}, 2, "--theme is \"pink\", not one of auto, light, dark"},
		{[]string{"--socket", "/" + strings.Repeat("x", 200)}, 2, "has 201 bytes"},
		{[]string{"--nope"}, 2, "unknown flag"},
		{[]string{"walk"}, 2, "understand the command"},
		{[]string{"version", "--json"}, 0, `"program":"countersign-tray"`},
		{[]string{"man"}, 0, "TRAY 1"},
		{[]string{"completion", "bash"}, 0, "countersign-tray"},
		{[]string{"--help"}, 0, "--theme"},
	} {
		cmd := exec.Command(os.Args[0], row.args...)
		cmd.Env = []string{"COUNTERSIGN_TEST_TRAY=1", "GORACE=atexit_sleep_ms=0", "HOME=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != row.code || !strings.Contains(string(out), row.says) {
			t.Errorf("%q: exit %d, %v, %.300s", row.args, code, err, out)
		}
	}
}
