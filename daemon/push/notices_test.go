package push

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/okta/client"
)

// Notices are fetched at first, and when a list speaks of newer ones than were
// seen, whether the list is new or not: once, and after an error not again at once.
func TestNoticesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(ctx context.Context, n int, _ client.PendingRequest) (client.PendingList, error) {
			select {
			case <-time.After(20 * time.Second):
			case <-ctx.Done():
				return client.PendingList{}, ctx.Err()
			}
			return client.PendingList{Waited: true, Notice: 7, Unchanged: n > 0}, nil
		}}
		var fetched []time.Duration
		run(t, w, func(c *Config) {
			c.Notices = func(_ context.Context, a *account.Account) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if fetched = append(fetched, time.Since(w.start)); len(fetched) == 1 {
					return errors.New("the org is busy")
				}
				seen := *a
				seen.NoticeSeen = 7
				w.accounts = []*account.Account{&seen}
				return nil
			}
		})
		w.after(time.Hour)
		if want := []time.Duration{0, 60 * time.Second}; !slices.Equal(fetched, want) {
			t.Errorf("fetched at %v", fetched)
		}
	})
}
