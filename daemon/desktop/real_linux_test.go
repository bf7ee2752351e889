package desktop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/bus/bustest"
	"countersign.dev/daemon/desktop/desktoptest"
	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/ipc/api"
)

// real is a desktop with a notification service that people use.
type real struct {
	*desktoptest.Desktop
	t       *testing.T
	bus     string
	agent   *fakeAgent
	window  *fakeWindow
	class   string // of the service's windows
	now     func() time.Time
	stopped func()
}

const realPatience = 20 * time.Second

// onReal starts a service and the desktop front end on it.
func onReal(t *testing.T, class, program string, args ...string) *real {
	t.Helper()
	r := &real{Desktop: desktoptest.Start(t), t: t, bus: bustest.Start(t), agent: newFakeAgent(), window: &fakeWindow{}, class: class}
	r.Use(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", r.bus)
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v; install the package %s", err, filepath.Base(program))
	}
	c := exec.Command(path, args...)
	c.Env = r.env()
	if err := r.Run(c); err != nil {
		t.Fatal(err)
	}
	r.until("the service", func() bool { _, err := notification.Look(t.Context()); return err == nil })
	began := time.Now()
	var looks atomic.Int64
	// By this clock all was calm for a while whenever it is looked at.
	r.now = func() time.Time { return began.Add(time.Duration(looks.Add(1)) * time.Second) }
	d := New(Options{
		Agent: r.agent, Look: notification.Look, Connect: notification.Connect,
		Window: func() (dialog.Window, error) { return r.window, nil }, Now: r.now,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	r.stopped = func() { cancel(); <-done }
	t.Cleanup(r.stopped)
	return r
}

func (r *real) env() []string { return append(r.Env(), "DBUS_SESSION_BUS_ADDRESS="+r.bus) }

func (r *real) until(what string, is func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(realPatience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("waited in vain for " + what)
		}
	}
}

// note is where the one note is on the screen; false while there is none.
func (r *real) note() (x, y, width, height int, there bool) {
	tool := func(args ...string) string {
		c := exec.Command("xdotool", args...)
		c.Env = r.env()
		out, _ := c.Output() // none is an error
		return string(out)
	}
	ids := strings.Fields(tool("search", "--onlyvisible", "--class", r.class))
	if len(ids) != 1 {
		return 0, 0, 0, 0, false
	}
	at := map[string]int{}
	for line := range strings.Lines(tool("getwindowgeometry", "--shell", ids[0])) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		at[name], _ = strconv.Atoi(value)
	}
	return at["X"], at["Y"], at["WIDTH"], at["HEIGHT"], at["HEIGHT"] > 20
}

// click clicks on a part of the note until something has come of it: a window
// that has just come does not always hear the first time.
func (r *real) click(what string, place func(x, y, width, height int) (int, int), came func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(realPatience); ; {
		if x, y, w, h, there := r.note(); there {
			x, y = place(x, y, w, h)
			r.Do(r.t, "mousemove", "--sync", strconv.Itoa(x), strconv.Itoa(y), "click", "1")
		}
		for again := time.Now().Add(time.Second); time.Now().Before(again); time.Sleep(10 * time.Millisecond) {
			if came() {
				return
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatal("clicked in vain on " + what)
		}
	}
}

// button is the place of one of several that are equally wide, along the lower
// edge.
func button(i, of int) func(x, y, width, height int) (int, int) {
	return func(x, y, width, height int) (int, int) { return x + width*(2*i+1)/(2*of), y + height - 30 }
}

// corner is that of the only one.
func corner(x, y, width, height int) (int, int) { return x + width - 50, y + height - 30 }

func middle(x, y, width, height int) (int, int) { return x + width/2, y + height/2 }

// picture keeps a screenshot of the note, if pictures are to be made anew.
func (r *real) picture(name string) {
	if os.Getenv("UPDATE_SCREENSHOTS") == "" {
		return
	}
	r.until("the note", func() bool { _, _, _, _, there := r.note(); return there })
	var x, y, w, h int
	r.until("it to stand still", func() bool {
		before := fmt.Sprint(x, y, w, h)
		x, y, w, h, _ = r.note()
		return before == fmt.Sprint(x, y, w, h)
	})
	time.Sleep(time.Second) // it fades in
	file := filepath.Join("..", "..", "docs", "screenshots", "notification-"+name+".png")
	c := exec.Command("import", "-silent", "-window", "root", "-crop", fmt.Sprintf("%dx%d+%d+%d", w+24, h+24, max(0, x-12), max(0, y-12)), "+repage", "-strip", file)
	c.Env = r.env()
	if out, err := c.CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
}

// notifyd is where Debian and its relatives have xfce4-notifyd, which is in no
// PATH.
func notifyd(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/xfce4/notifyd/xfce4-notifyd")
	if len(found) == 0 {
		t.Fatal("xfce4-notifyd is missing; install the package xfce4-notifyd")
	}
	return found[0]
}

// payroll is a prompt with everything that a note says.
func (r *real) payroll(id string) api.Prompt {
	p := prompt(id, "Payroll")
	p.Unusual = []string{"New place: Lisbon"}
	p.CreatedAt = r.now()
	p.ExpiresAt = p.CreatedAt.Add(time.Hour)
	return p
}

// The buttons of a service with buttons, pressed by the mouse.
func TestScreenshotXfceNotifications(t *testing.T) {
	r := onReal(t, "xfce4-notifyd", notifyd(t))
	decided := func(want decided) func() bool {
		return func() bool { return slices.Contains(r.agent.decisions(), want) }
	}
	gone := func() {
		t.Helper()
		r.until("the note to go", func() bool { _, _, _, _, there := r.note(); return !there })
	}
	r.agent.open(r.payroll("p1"))
	r.picture("buttons")
	r.click("Approve", button(1, 4), decided(asked("p1", "approve", false)))
	gone()
	r.agent.open(r.payroll("p2"))
	r.click("Deny", button(2, 4), decided(asked("p2", "deny", false)))
	gone()
	r.agent.open(r.payroll("p3"))
	r.click("This wasn't me", button(3, 4), decided(asked("p3", "deny", true)))
	gone()
	p := r.payroll("p4")
	number(&p)
	r.agent.open(p)
	r.picture("number")
	r.click("Open", corner, func() bool { return len(r.window.asks()) == 1 })
	gone()
	r.window.asks()[0].answer <- dialog.Answer{Verdict: dialog.Approve, Number: "42"}
	r.until("the number", decided(numbered("p4", "42")))
	// An agent that stops leaves nothing.
	r.agent.open(r.payroll("p5"))
	r.until("the note", func() bool { _, _, _, _, there := r.note(); return there })
	r.stopped()
	gone()
}

func asked(id, action string, report bool) decided {
	return decided{ID: id, Action: action, Report: report}
}

func numbered(id, number string) decided { return decided{ID: id, Action: "approve", Number: number} }

// One without buttons on the screen: a click opens, its menu approves.
func TestScreenshotDunst(t *testing.T) {
	dir := t.TempDir()
	menu, config := filepath.Join(dir, "menu"), filepath.Join(dir, "dunstrc")
	write := func(file, text string, mode os.FileMode) {
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(config, "[global]\nmouse_left_click = do_action\ndmenu = "+menu+"\n", 0o600)
	write(menu, "#!/bin/sh\ngrep '^#Approve ' | head -n 1\n", 0o700)
	r := onReal(t, "Dunst", "dunst", "-conf", config)
	r.agent.open(r.payroll("p1"))
	r.picture("dunst")
	r.click("the note", middle, func() bool { return len(r.window.asks()) == 1 })
	r.window.asks()[0].answer <- dialog.Answer{} // closed: the note comes again
	r.until("the note", func() bool { _, _, _, _, there := r.note(); return there })
	if got := r.agent.decisions(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	r.until("the menu's word", func() bool {
		c := exec.Command("dunstctl", "context")
		c.Env = r.env()
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for again := time.Now().Add(time.Second); time.Now().Before(again); time.Sleep(10 * time.Millisecond) {
			if slices.Equal(r.agent.decisions(), []decided{asked("p1", "approve", false)}) {
				return true
			}
		}
		return false
	})
	r.until("the note to go", func() bool { _, _, _, _, there := r.note(); return !there })
}
