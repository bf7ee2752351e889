// Package desktop is the agent's own front end on the person's desktop:
// notifications that say who asks, and dialogs for what takes more than a press.
//
// It is a front end like any other: it hears of prompts, shows them, and hands
// decisions over, each for one prompt by its id. What it promises on top: the
// matching number is never in a notification; a notification approves only what
// takes nothing but a yes; what is closed, runs out of time, crashes or makes no
// sense decides nothing; and during a hold there is nothing on the screen.
//
// Nothing is polled. Whether there is a notification service or a program for
// dialogs is looked at when somebody wants to know: at the start, when a prompt
// comes, and for status. A connection to the desktop lasts as long as something
// of ours is on the screen.
package desktop

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/ipc/api"
)

// The names of the front ends that there may be.
const (
	Notification = "notification"
	Dialog       = "dialog"
)

// Superseded is the reason of an outcome when a newer prompt of the same kind
// has taken the place of an older one. Its notification then changes in place.
const Superseded = "replaced by a newer request"

// Errors of Show and ShowReport.
var (
	ErrNoWindow       = errors.New("there is no way to show a window here")
	ErrTooManyWindows = errors.New("too many windows are open")
	ErrUnknown        = errors.New("no such prompt waits")
	ErrHeld           = errors.New("nothing is shown for now")
	ErrStopped        = errors.New("the desktop front end does not run")
)

// Agent is what asks, as far as this front end needs it.
type Agent interface {
	// Subscribe delivers events from now on. The channel is closed when ctx ends,
	// or when the subscriber is too slow.
	Subscribe(ctx context.Context) <-chan api.Event
	// Prompts lists what waits; who lists it has shown it.
	Prompts(ctx context.Context) (api.PromptList, error)
	// Decide answers a prompt and says what became of that. The caller clears the
	// PIN.
	Decide(ctx context.Context, id string, d api.Decision) (api.PromptOutcome, error)
	// Attach says that a front end of that name can ask the person, until detach.
	Attach(name string) (detach func())
}

// Options are what a Desktop is made of.
type Options struct {
	Agent Agent
	// Look and Connect are those of package notification, Window is dialog.Find.
	Look    func(ctx context.Context) (buttons bool, err error)
	Connect func(ctx context.Context) (notification.Server, error)
	Window  func() (dialog.Window, error)
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
}

// Desktop is the front end. Use New, then Run.
type Desktop struct {
	o       Options
	log     *slog.Logger
	do      chan func(*screen)
	stopped chan struct{} // closed when Run has ended
}

// New makes a front end that does nothing yet.
func New(o Options) *Desktop {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Desktop{o: o, log: o.Log, do: make(chan func(*screen)), stopped: make(chan struct{})}
}

// Run shows what waits until ctx ends; then it puts everything away. Call it
// once.
func (d *Desktop) Run(ctx context.Context) {
	defer close(d.stopped)
	s := newScreen(ctx, d)
	defer s.clear()
	s.run()
}

// within runs f with what is on the screen, between events.
func (d *Desktop) within(ctx context.Context, f func(*screen) error) error {
	done := make(chan error, 1)
	select {
	case d.do <- func(s *screen) { done <- f(s) }:
	case <-d.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done // f waits for nobody
}

// atLeast is how long what is known is waited for.
const atLeast = 100 * time.Millisecond

// looked looks anew, for as long as ctx lasts, and runs f with what is known
// then.
func (d *Desktop) looked(ctx context.Context, f func(*screen)) {
	done := make(chan struct{})
	if d.within(ctx, func(s *screen) error { s.look(func() { close(done) }); return nil }) != nil {
		return
	}
	select {
	case <-done:
	case <-d.stopped:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atLeast) // something is known always
	defer cancel()
	_ = d.within(ctx, func(s *screen) error { f(s); return nil })
}

// Show opens the dialog of a prompt that waits; one that is open stays so.
func (d *Desktop) Show(ctx context.Context, id string) error {
	return d.within(ctx, func(s *screen) error { return s.show(id) })
}

// ShowReport shows lines to read, in the place of an earlier report. It does not
// wait for the person.
func (d *Desktop) ShowReport(ctx context.Context, title string, lines []string) error {
	return d.within(ctx, func(s *screen) error { return s.report(title, lines) })
}

// FrontEnds looks anew and names the front ends that can ask the person.
func (d *Desktop) FrontEnds(ctx context.Context) (names []string) {
	d.looked(ctx, func(s *screen) { names = s.attached() })
	return names
}

// Absent is a front end that cannot ask, and why.
type Absent struct{ Name, Why string }

// Missing looks anew and names the front ends that cannot ask the person.
func (d *Desktop) Missing(ctx context.Context) (list []Absent) {
	d.looked(ctx, func(s *screen) {
		for _, name := range []string{Notification, Dialog} {
			if why := s.missing[name]; why != "" && !slices.Contains(s.attached(), name) {
				list = append(list, Absent{name, why})
			}
		}
	})
	return list
}
