package posture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// maxOutput bounds what a program may print.
const maxOutput = 1 << 20

// passed are the variables that a program gets to see: where the session is,
// and nothing of what somebody put into the agent's environment.
var passed = []string{"HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS"}

// run runs a program of the system by its absolute path, in a bare environment.
// It is killed when ctx ends, and cut off when it prints too much; what it has
// started ends with it.
func run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Dir = "/"
	cmd.WaitDelay = 100 * time.Millisecond // for children that keep the pipe
	ownGroup(cmd)
	var out bounded
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		endGroup(cmd)
		return "", fmt.Errorf("run %s: %w", program, err)
	}
	return out.b.String(), nil
}

// bounded takes so much and no more.
type bounded struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *bounded) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.b.Len()+len(p) > maxOutput {
		return 0, errTooLong
	}
	return w.b.Write(p)
}
