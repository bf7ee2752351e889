package daemon

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/daemon/desktop"
	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
)

// fakeWindows are windows of a test: asked says what the person answers, told
// hears what they are told.
type fakeWindows struct {
	asked func(ctx context.Context, q dialog.Question) (dialog.Answer, error)

	mu   sync.Mutex
	told [][]string
}

func (*fakeWindows) Name() string { return "fake" }

func (w *fakeWindows) Ask(ctx context.Context, q dialog.Question) (dialog.Answer, error) {
	return w.asked(ctx, q)
}

func (w *fakeWindows) Tell(_ context.Context, title string, lines []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, append([]string{title}, lines...))
	return nil
}

func (w *fakeWindows) tells() [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// onDesktop is the configuration of an agent that asks there: by the
// notifications of the session bus, and by windows, if there are any.
func onDesktop(t testing.TB, w *fakeWindows) Config {
	c := testConfig(t)
	c.Desktop = DesktopAuto
	c.surfaces = &desktop.Options{Look: notification.Look, Connect: notification.Connect, Window: func() (dialog.Window, error) {
		if w == nil {
			return nil, dialog.ErrNone
		}
		return w, nil
	}}
	return c
}

// noBus makes sure that there is none.
func noBus(t *testing.T) {
	t.Helper()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
}

// until polls what has no event.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

// calm is a clock by which everything was a while ago: a notification that has
// just come may approve.
func calm() func() time.Time {
	began := time.Now()
	var looks atomic.Int64
	return func() time.Time { return began.Add(time.Duration(looks.Add(1)) * time.Second) }
}
