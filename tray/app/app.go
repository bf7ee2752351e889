// Package app is the tray program: it puts the parts together, and sees to it
// that there is one of them in a session and that it outlives what it depends on.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"countersign.dev/ipc/client"
	"countersign.dev/ipc/paths"
	"countersign.dev/program"
	"countersign.dev/tray"
	"countersign.dev/tray/clipboard"
	"countersign.dev/tray/desktop"
	"countersign.dev/tray/icon"
	"countersign.dev/tray/panel"
	"countersign.dev/tray/runner"
)

// lastWord is how long the parts have to end. A message bus that hangs must not
// keep the program.
const lastWord = time.Second

// Options are what was typed.
type Options struct {
	Socket string // of the agent; "" is the usual place
	Theme  string // "auto", "light", "dark"
	Stderr io.Writer
}

// Run shows the icon until ctx ends. It must be called by the main goroutine: on
// some systems no other one may draw. Where another tray runs already it says so
// and is done.
func Run(ctx context.Context, o Options) error {
	theme, fixed := icon.ParseTheme(o.Theme)
	if !fixed && o.Theme != "auto" {
		return fmt.Errorf("--theme is %q, not one of auto, light, dark", o.Theme)
	}
	var err error
	if o.Socket == "" {
		if o.Socket, err = paths.Socket(""); err != nil {
			return &program.Failure{Err: err, Hint: "say where the agent is with --socket PATH (or $" + paths.EnvSocket + ")", Code: program.Usage}
		}
	}
	if err := paths.CheckSocket(o.Socket); err != nil {
		return &program.Failure{Err: fmt.Errorf("reach the agent: %w", err), Code: program.Usage}
	}
	say := func(s string) { fmt.Fprintln(o.Stderr, "countersign-tray: "+s) }
	release, err := desktop.Alone()
	switch {
	case errors.Is(err, desktop.ErrTaken):
		say("there is an icon in this session already")
		return nil
	case err != nil:
		say("whether there is an icon in this session already cannot be told: " + err.Error())
	default:
		defer release()
	}
	if err := desktop.Await(ctx, say); err != nil {
		return nil // told to stop
	}
	switch err = show(ctx, o, theme, fixed, say); {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.Is(err, panel.ErrNone):
		return &program.Failure{Err: fmt.Errorf("show the icon: %w", err), Hint: "in a terminal: countersign prompt watch"}
	case !errors.Is(err, desktop.ErrLost):
		return &program.Failure{Err: fmt.Errorf("show the icon: %w", err)}
	}
	// What draws the icon does not outlive its bus; this program does, by starting
	// anew once there is one.
	say("the session's message bus has gone; waiting for it")
	if desktop.Await(ctx, nil) != nil {
		return nil
	}
	if err := restart(); err != nil {
		return &program.Failure{Err: fmt.Errorf("start anew: %w", err)}
	}
	return nil
}

// show is one life of the icon. ErrLost ends it with its bus.
func show(ctx context.Context, o Options, theme icon.Theme, fixed bool, say func(string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	agent := client.New(o.Socket)
	defer agent.Close()
	options := runner.Options{Agent: agent, Quit: func() { cancel(nil) }}
	board, err := clipboard.Find()
	if err == nil {
		defer board.Close()
		options.Copy = board.Copy
	} else {
		options.NoClipboard = noClipboard(err)
	}

	ready, p := make(chan struct{}), (*panel.Panel)(nil) // p is set before ready is closed
	there := func() bool {
		select {
		case <-ready:
			return true
		case <-ctx.Done():
			return false
		}
	}
	options.Show = func(v tray.View) {
		if there() {
			p.Show(v)
		}
	}
	r := runner.New(options)
	var once sync.Once
	hears := desktop.Hears{Seen: func(seen bool) {
		once.Do(func() {
			if !seen {
				say("no panel shows icons here yet; waiting for one")
			}
		})
		r.Seen(seen)
	}}
	if !fixed {
		hears.Theme = func(t icon.Theme) {
			if there() {
				p.Theme(t)
			}
		}
	}
	var work sync.WaitGroup
	work.Go(func() { r.Run(ctx) })
	work.Go(func() {
		if err := desktop.Watch(ctx, hears); err != nil {
			cancel(err)
		}
	})
	ended := make(chan struct{})
	work.Go(func() { insist(ctx, ended) })

	err = panel.Run(ctx, panel.Options{
		First: r.View(), Theme: theme, Clicked: r.Click, Opened: r.Opened,
		Ready: func(made *panel.Panel) { p = made; close(ready) },
	})
	cancel(err)
	close(ended)
	work.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, desktop.ErrLost) {
		return cause
	}
	return err
}

// insist ends the program when what draws does not: a bus that hangs holds up
// whoever writes to it, and the library has no way out of that.
func insist(ctx context.Context, ended <-chan struct{}) {
	<-ctx.Done()
	late := time.NewTimer(lastWord)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		os.Exit(program.Done)
	}
}

// noClipboard says what to do without one.
func noClipboard(err error) string {
	words := "Nothing here can copy a code (wl-copy, xclip and xsel can). In a terminal:"
	if _, why, found := strings.Cut(err.Error(), ": "); found {
		words = "Nothing here can copy a code: " + why + ". In a terminal:"
	}
	return words
}
