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

// Run shows the icon until ctx ends. It must be called by the main goroutine, on
// a session bus that answers. The library meets a panel that comes later, or
// again; it does not outlive its bus.
func Run(ctx context.Context, o Options) (err error) {
	log.SetOutput(io.Discard)       // the library complains of every panel that is not there yet
	systray.SetTitle("countersign") // what panels know the icon by
	defer context.AfterFunc(ctx, systray.Quit)()
	defer func() {
		if recover() != nil {
			err = errNoBus // it closes a connection that it never had
		}
	}()
	systray.Run(func() {
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
		o.Ready(p)
	}, func() {})
	return nil
}

func setIcon(b []byte)          { systray.SetIcon(b) }
func setTooltip(tooltip string) { systray.SetTooltip(tooltip) }

// escape writes an underscore as one: alone it marks a key.
func escape(label string) string { return strings.ReplaceAll(label, "_", "__") }
