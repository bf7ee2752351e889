//go:build windows || (cgo && (darwin || (linux && gtktray)))

package panel

import (
	"context"
	"runtime"
	"strings"

	"github.com/getlantern/systray"
)

// Run shows the icon until ctx ends. It must be called by the main goroutine.
func Run(ctx context.Context, o Options) error {
	systray.Run(func() {
		p := begin(o, func(parent item, title string) (item, <-chan struct{}) {
			if parent == nil {
				i := systray.AddMenuItem(title, "")
				return i, i.ClickedCh
			}
			i := parent.(*systray.MenuItem).AddSubMenuItem(title, "")
			return i, i.ClickedCh
		}, systray.AddSeparator)
		context.AfterFunc(ctx, systray.Quit) // not before there is a loop to end
		o.Ready(p)
	}, func() {})
	return nil
}

func setIcon(b []byte, tooltip string) {
	systray.SetTooltip(tooltip)
	systray.SetIcon(b)
}

// escape writes characters as themselves that alone mark a key. GTK passes labels
// on to the panel as they are.
func escape(label string) string {
	switch runtime.GOOS {
	case "windows":
		return strings.ReplaceAll(label, "&", "&&")
	case "linux":
		return strings.ReplaceAll(label, "_", "__")
	}
	return label
}
