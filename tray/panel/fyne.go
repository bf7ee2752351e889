//go:build linux && !gtktray

package panel

import (
	"context"
	"errors"
	"io"
	"log"
	"strings"

	"fyne.io/systray"
)

var errNoBus = errors.New("the session bus has gone")

// Run shows the icon until ctx ends, on a session bus that answers. The library
// meets a panel that comes later, or again; it does not outlive its bus.
func Run(ctx context.Context, o Options) (err error) {
	log.SetOutput(io.Discard)       // the library complains of every panel that is not there yet
	systray.SetTitle("countersign") // what panels know the icon by
	// What is set while the library begins is lost: it has read what it exports,
	// and does not export it yet. So all is there before, and what changes comes
	// after.
	p := begin(o, func(parent item, title string) (item, <-chan struct{}) {
		if parent == nil {
			i := systray.AddMenuItem(title, "")
			return i, i.ClickedCh
		}
		i := parent.(*systray.MenuItem).AddSubMenuItem(title, "")
		return i, i.ClickedCh
	}, systray.AddSeparator)
	go func() {
		for range systray.TrayOpenedCh {
			o.Opened()
		}
	}()
	start, end := systray.RunWithExternalLoop(func() {}, func() {})
	start()
	o.Ready(p)
	<-ctx.Done()
	defer func() {
		if recover() != nil {
			err = errNoBus // it closes a connection that it never had
		}
	}()
	end()
	return nil
}

// setIcon sets both. The library writes a new icon over the old one, while that
// may be on its way to a panel: what was sent before is on its way no more once
// something else was sent. (All icons have one size, so that half of each would
// be one of them.)
func setIcon(b []byte, tooltip string) {
	systray.SetTooltip(tooltip)
	defer func() { _ = recover() }() // it panics when its bus has gone, of which we hear elsewhere
	systray.SetIcon(b)
}

// escape writes an underscore as one: alone it marks a key.
func escape(label string) string { return strings.ReplaceAll(label, "_", "__") }
