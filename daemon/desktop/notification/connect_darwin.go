package notification

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"countersign.dev/daemon/desktop/notification/osascript"
)

const answerWithin = 5 * time.Second

// Look says whether there are notifications. They never have buttons: macOS
// gives those to signed bundles alone.
func Look(context.Context) (buttons bool, err error) {
	if _, err := os.Stat(osascript.Program); err != nil {
		return false, fmt.Errorf("%w: %w", ErrNone, err)
	}
	return false, nil
}

// Connect finds the script runner, which shows notifications under its own name.
func Connect(ctx context.Context) (Server, error) {
	if _, err := Look(ctx); err != nil {
		return nil, err
	}
	ending, end := context.WithCancel(context.Background())
	return &server{ending: ending, end: end, events: make(chan Event), gone: make(chan struct{})}, nil
}

// server shows notes and hears nothing of them. None can be taken away again:
// the person, or the next one, does that.
type server struct {
	ending context.Context
	end    context.CancelFunc
	once   sync.Once
	events chan Event
	gone   chan struct{}

	mu   sync.Mutex // one note after the other
	last ID
}

func (s *server) Buttons() bool         { return false }
func (s *server) Events() <-chan Event  { return s.events }
func (s *server) Gone() <-chan struct{} { return s.gone }

// Show shows a note.
func (s *server) Show(ctx context.Context, n Note, _ ID) (ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Err() != nil {
		return 0, ErrGone
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	cmd := exec.CommandContext(ctx, osascript.Program, osascript.Args(n.Title, n.Body)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=en_US.UTF-8"}
	for _, name := range []string{"HOME", "USER", "LOGNAME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("show a notification: %w", err)
	}
	s.last++
	return s.last, nil
}

// Close does nothing: such a note cannot be taken away.
func (s *server) Close(context.Context, ID) error { return nil }

// Disconnect ends the server.
func (s *server) Disconnect() {
	s.once.Do(func() {
		s.end()
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.events)
		close(s.gone)
	})
}
