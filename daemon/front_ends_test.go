package daemon

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"countersign.dev/daemon/prompt"
)

// Who lists prompts without a name shows them to nobody, as a tray without a
// panel: what nobody has seen is not held against the next one.
func TestListingIsNotShowing(t *testing.T) {
	for name, held := range map[string]bool{"": false, "cli": true} {
		t.Run("front end "+name, func(t *testing.T) {
			a := startAgent(t, testConfig(t))
			f := front{a.Daemon}
			ask := func(i int) (wait func() error, withdraw func()) {
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					_, err := a.prompts.Ask(ctx, prompt.Prompt{Kind: "push", Pushed: true, Account: "acc", App: fmt.Sprint("App ", i), ExpiresAt: time.Now().Add(time.Minute)})
					ended <- err
				}()
				return func() error { return <-ended }, cancel
			}
			for i := range prompt.MaxPushed {
				wait, withdraw := ask(i)
				until(t, "a prompt", func() bool { return a.prompts.Len() == 1 })
				if list, err := f.Prompts(t.Context(), name); err != nil || len(list.Prompts) != 1 {
					t.Fatalf("%+v, %v", list, err)
				}
				withdraw()
				_ = wait()
			}
			wait, withdraw := ask(prompt.MaxPushed)
			defer withdraw()
			if held {
				if err := wait(); !errors.Is(err, prompt.ErrHeld) {
					t.Errorf("after those that were shown: %v", err)
				}
				return
			}
			until(t, "a prompt after those that nobody saw", func() bool { return a.prompts.Len() == 1 })
			withdraw()
			_ = wait()
		})
	}
}
