package daemon

import (
	"context"
	"sync"
	"time"

	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
)

// backlog is how many events a subscriber may be behind.
const backlog = 64

// hub passes events on to whoever has subscribed. Nobody waits for a
// subscriber: one that is too slow is let go and subscribes anew.
type hub struct {
	mu     sync.Mutex
	last   uint64
	subs   map[*subscription]struct{}
	failed error // why an unlocked state could not be used; for status
}

type subscription struct{ events chan api.Event }

func newHub() *hub { return &hub{subs: map[*subscription]struct{}{}} }

// subscribe delivers events until ctx ends or the subscriber is too slow; then
// the channel is closed. ended is called when ctx has ended.
func (h *hub) subscribe(ctx context.Context, ended func()) <-chan api.Event {
	s := &subscription{make(chan api.Event, backlog)}
	h.mu.Lock()
	h.subs[s] = struct{}{}
	h.mu.Unlock()
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		h.drop(s)
		h.mu.Unlock()
		ended()
	})
	return s.events
}

// drop lets a subscriber go, once. The caller holds the lock.
func (h *hub) drop(s *subscription) {
	if _, there := h.subs[s]; there {
		delete(h.subs, s)
		close(s.events)
	}
}

// listened says whether there is anybody to tell.
func (h *hub) listened() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs) > 0
}

func (h *hub) publish(e api.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	e.ID, e.Time = h.last, time.Now().UTC()
	for s := range h.subs {
		select {
		case s.events <- e:
		default:
			h.drop(s)
		}
	}
}

func (h *hub) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = err
}

func (h *hub) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// PromptOpened and PromptClosed make the hub the prompt queue's observer.
func (h *hub) PromptOpened(p prompt.Pending) {
	view := promptView(p)
	h.publish(api.Event{Type: "prompt", Prompt: &view})
}

// HoldChanged tells of a hold.
func (h *hub) HoldChanged(hold *prompt.Hold) {
	h.publish(api.Event{Type: "hold", Hold: holdView(hold)})
}

func (h *hub) PromptClosed(o prompt.Outcome) {
	view := api.PromptOutcome(o)
	h.publish(api.Event{Type: "prompt_closed", Outcome: &view})
}
