package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"countersign.dev/daemon/desktop"
	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

// What Config.Desktop may be. The zero value shows nothing.
const (
	DesktopAuto = "auto" // whatever there is
	DesktopOff  = "off"
)

// desktopWait bounds how long somebody waits who wants to know, or see, something of
// the desktop.
const desktopWait = 3 * time.Second

// statusWait is the same for the status, which people and programs ask for often.
const statusWait = time.Second

// newDesktop makes the agent's own front end; nil when it is switched off. It does
// nothing before it runs.
func (d *Daemon) newDesktop() *desktop.Desktop {
	if d.config.Desktop != DesktopAuto {
		return nil
	}
	o := desktop.Options{Look: notification.Look, Connect: notification.Connect, Window: dialog.Find}
	if d.config.surfaces != nil {
		o = *d.config.surfaces
	}
	o.Log = d.log
	if o.Agent == nil {
		o.Agent = asker{front{d}}
	}
	if o.Now == nil {
		o.Now = d.now
	}
	return desktop.New(o)
}

// asker is the agent as its own front end sees it: the way of everybody else,
// without the socket.
type asker struct{ f front }

func (a asker) Subscribe(ctx context.Context) <-chan api.Event {
	return a.f.d.hub.subscribe(ctx, func() {})
}

func (a asker) Prompts(ctx context.Context) (api.PromptList, error) {
	return a.f.Prompts(ctx, desktop.Dialog)
}

func (a asker) Decide(ctx context.Context, id string, d api.Decision) (api.PromptOutcome, error) {
	o, err := a.f.DecidePrompt(ctx, id, d, peer.Peer{UID: os.Getuid(), PID: os.Getpid(), Executable: "the desktop"})
	var known *api.Error
	if err != nil && !errors.As(err, &known) {
		a.f.d.log.Error("decision of the desktop", "prompt", id, "error", err)
	}
	return o, err
}

func (a asker) Attach(name string) (detach func()) {
	detach = a.f.d.prompts.Attach(name)
	a.f.d.nudge()
	return detach
}

// lookAtDesktop makes what is attached of the desktop be true.
func (d *Daemon) lookAtDesktop(ctx context.Context) {
	if d.desktop != nil {
		ctx, cancel := context.WithTimeout(ctx, statusWait)
		defer cancel()
		d.desktop.FrontEnds(ctx)
	}
}

// absentFrontEnds says which ways to ask on the desktop there are not, and why.
func (d *Daemon) absentFrontEnds(ctx context.Context) (list []string) {
	if d.desktop == nil {
		return []string{"the desktop is switched off (--desktop off)"}
	}
	ctx, cancel := context.WithTimeout(ctx, desktopWait)
	defer cancel()
	for _, a := range d.desktop.Missing(ctx) {
		list = append(list, "no "+a.Name+": "+a.Why)
	}
	return list
}

func (x *examination) frontEnds(ctx context.Context) {
	const name = "front ends"
	absent := strings.Join(x.d.absentFrontEnds(ctx), "; ")
	if absent != "" {
		absent = "; " + absent
	}
	if list := x.d.prompts.FrontEnds(); len(list) > 0 {
		x.ok(name, fmt.Sprintf("%d can ask you: %s%s", len(list), strings.Join(list, ", "), absent))
		return
	}
	x.warn(name, "nothing is running that could ask you; sign-ins that need your word wait 30 seconds and fail"+absent, "countersign prompt watch")
}

// errNoWindow says that there is nothing to show a window with.
var errNoWindow = &api.Error{Status: http.StatusConflict, Code: "no_window", Message: "there is no way to show a window here",
	Hint: "on a terminal: countersign prompt watch"}

// ShowPrompt opens the dialog of a prompt on the desktop.
func (f front) ShowPrompt(ctx context.Context, id string) error {
	if f.d.desktop == nil {
		return errNoWindow
	}
	ctx, cancel := context.WithTimeout(ctx, desktopWait)
	defer cancel()
	err := f.d.desktop.Show(ctx, id)
	if errors.Is(err, desktop.ErrUnknown) {
		// Why it does not wait, the queue knows.
		_, err = f.d.prompts.Check(id, prompt.Decision{Action: prompt.Deny})
		if err == nil {
			err = desktop.ErrUnknown // it has come this very moment
		}
	}
	return explainWindow(err)
}

// ShowDoctor shows the report of a self-examination in a window.
func (f front) ShowDoctor(ctx context.Context) error {
	if f.d.desktop == nil {
		return errNoWindow
	}
	report, err := f.Doctor(ctx, "")
	if err != nil {
		return err
	}
	var lines []string
	for _, c := range report.Checks {
		lines = append(lines, c.State+": "+strings.ReplaceAll(c.Name, "_", " ")+": "+c.Message)
		if c.Hint != "" {
			lines = append(lines, "   hint: "+c.Hint)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, desktopWait)
	defer cancel()
	return explainWindow(f.d.desktop.ShowReport(ctx, "Countersign doctor", lines))
}

func explainWindow(err error) error {
	switch {
	case errors.Is(err, desktop.ErrNoWindow), errors.Is(err, desktop.ErrStopped), errors.Is(err, context.DeadlineExceeded):
		return errNoWindow
	case errors.Is(err, desktop.ErrTooManyWindows):
		return &api.Error{Status: http.StatusConflict, Code: "too_many_windows", Message: "too many windows are open", Hint: "close one of them"}
	case errors.Is(err, desktop.ErrHeld):
		return explain(prompt.ErrOnHold)
	case errors.Is(err, desktop.ErrUnknown):
		return explain(prompt.ErrUnknown)
	}
	return explain(err)
}
