package daemon

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/challenge"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/loopback"
	"countersign.dev/okta/oktatest"
)

// A subscriber that does not read is let go; the others and the publisher do
// not notice.
func TestSlowSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		ctx, cancel := context.WithCancel(t.Context())
		var ended atomic.Int64
		slow := h.subscribe(ctx, func() { ended.Add(1) })
		fast := h.subscribe(ctx, func() { ended.Add(1) })
		for i := range 2 * backlog {
			h.publish(api.Event{Type: "status"})
			if e := <-fast; e.ID != uint64(i+1) {
				t.Fatalf("event %d came as %d", i+1, e.ID)
			}
		}
		n := 0
		for range slow {
			n++
		}
		if n != backlog || !h.listened() {
			t.Fatalf("%d events", n)
		}
		cancel()
		synctest.Wait()
		if _, open := <-fast; open || h.listened() || ended.Load() != 2 {
			t.Fatalf("still there, %d ended", ended.Load())
		}
	})
}

// Every outcome has a reply, and only a delivered one is a success.
func TestReplies(t *testing.T) {
	for o := range challenge.Outcome(40) {
		if got := replyTo(o); (got == loopback.Accepted) != o.Delivered() {
			t.Errorf("%v: %v", o, got)
		}
	}
}

func TestGate(t *testing.T) {
	var g gate
	now := time.Now()
	if !g.pass(now) || g.pass(now.Add(59*time.Second)) || !g.pass(now.Add(time.Minute)) {
		t.Fatal("not one a minute")
	}
}

// C8: at debug level the log holds no token, no answer and no link.
func TestLogHoldsNoSecrets(t *testing.T) {
	var log locked
	c := testConfig(t)
	c.Log = newDebugLog(&log)
	org := oktatest.NewOrg(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	token := org.Challenge(nil)
	a.post(t, org.URL, token)
	a.post(t, org.URL, token)
	a.post(t, org.URL, token[:len(token)-8]+"AAAAAAAA")
	_ = a.stop()
	for name, secret := range map[string]string{
		"link token": org.Link().Token.Reveal(), "challenge": token[len(token)-40:], "answer": org.Answers()[0].ChallengeResponse[:40],
	} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds the %s", name)
		}
	}
	if log.String() == "" {
		t.Fatal("nothing was logged: the test proves nothing")
	}
}

type locked struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newDebugLog writes all there is to say.
func newDebugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
