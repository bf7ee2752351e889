package clipboard

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Clipboard is the pasteboard, by the system's own programs.
type Clipboard struct {
	mu    sync.Mutex // guards what follows
	text  string     // what was copied, while it may be there
	timer *time.Timer
}

const asking = 5 * time.Second

// Find returns the clipboard.
func Find() (*Clipboard, error) { return &Clipboard{}, nil }

func put(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/pbcopy")
	cmd.Stdin = strings.NewReader(text)
	return cmd.Run()
}

// Copy puts text on the clipboard, in place of what it put there before.
func (c *Clipboard) Copy(ctx context.Context, text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := put(ctx, text); err != nil {
		return err
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.text, c.timer = text, time.AfterFunc(Kept, c.Close)
	return nil
}

// Close takes away what was copied, if it is there still.
func (c *Clipboard) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text == "" {
		return
	}
	c.timer.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), asking)
	defer cancel()
	if now, err := exec.CommandContext(ctx, "/usr/bin/pbpaste").Output(); err == nil && bytes.Equal(now, []byte(c.text)) {
		_ = put(ctx, "")
	}
	c.text = ""
}
