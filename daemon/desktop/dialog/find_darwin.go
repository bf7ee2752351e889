package dialog

import (
	"context"
	"strings"
	"time"

	"countersign.dev/daemon/desktop/macos"
)

// Find finds the windows of macOS, where this process belongs to a desktop.
func Find() (Window, error) {
	if known, _ := macos.Screen(); !known {
		return nil, ErrNone
	}
	return &asker{
		name: "macOS", shower: alerts{}, since: time.Since,
		environment: func(context.Context) ([]string, error) { return nil, nil },
	}, nil
}

// secondWithin is how long a denial waits to become a report.
const secondWithin = 20 * time.Second

// alerts shows windows of CFUserNotification, which need no application and no
// main thread.
type alerts struct{}

func (alerts) show(ctx context.Context, _ []string, o offer) (press, []byte, time.Time, error) {
	began := time.Now()
	reply, err := macos.Show(ctx, until(ctx, alert(o)))
	if err != nil {
		clear(reply.Typed)
		return pressClosed, nil, began, err
	}
	pressed, text := alertPress(o, reply.Flags, reply.Typed)
	if len(text) == 0 {
		clear(reply.Typed)
	}
	if pressed == pressDeny && o.report {
		// A denial is one, whatever becomes of this window, and soon.
		soon, cancel := context.WithTimeout(ctx, secondWithin)
		defer cancel()
		if reply, err := macos.Show(soon, until(soon, second(o))); err == nil {
			pressed = secondPress(reply.Flags)
		}
	}
	return pressed, text, began, nil
}

func (alerts) tell(ctx context.Context, _ []string, title string, lines []string) error {
	_, err := macos.Show(ctx, until(ctx, macos.Alert{Header: title, Message: strings.Join(lines, "\n"), Default: buttonClose}))
	return err
}

// until ends a window with ctx, even if the agent is killed before.
func until(ctx context.Context, a macos.Alert) macos.Alert {
	a.Until, _ = ctx.Deadline()
	return a
}
