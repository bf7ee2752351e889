//go:build !linux || gtktray

package desktop

import (
	"context"

	"countersign.dev/tray/icon"
)

// Await has nothing to wait for: the system's own means need no bus of ours.
func Await(context.Context, func(string)) error { return nil }

// Watch says that the icon is seen. Nobody here tells of the panel's colours.
func Watch(ctx context.Context, h Hears) error {
	if h.Theme != nil {
		h.Theme(icon.Any)
	}
	h.Seen(true)
	<-ctx.Done()
	return ctx.Err()
}
