// Package paths knows where the agent keeps its state and where its socket is,
// so that the daemon, the command line and the tray agree without a setting.
package paths

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Environment variables that stand in for the flags --state and --socket.
const (
	EnvStateDir = "COUNTERSIGN_STATE_DIR"
	EnvSocket   = "COUNTERSIGN_SOCKET"
)

// DefaultLoopbackPorts are the ports that the agent tries, in this order, and
// that orgs of this project tell browsers to try. Okta's own pages allow them
// in their content security policy.
var DefaultLoopbackPorts = []int{8769, 65111, 65121, 65131, 65141, 65151}

// TooLongError says that the system cannot hold a socket's path.
type TooLongError struct {
	Path  string
	Limit int // longest path in bytes
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("the socket path %s has %d bytes, this system allows %d", e.Path, len(e.Path), e.Limit)
}

// CheckSocket returns a *TooLongError when no socket can be at path: an address
// has that much room less a closing zero. Names of pipes are not limited so.
func CheckSocket(path string) error {
	limit := 103 // macOS and the BSDs
	switch runtime.GOOS {
	case "linux":
		limit = 107
	case "windows":
		return nil
	}
	if len(path) > limit {
		return &TooLongError{Path: path, Limit: limit}
	}
	return nil
}

// StateDir is where the agent keeps its state: $COUNTERSIGN_STATE_DIR, or the
// place the system keeps such things of this user.
func StateDir() (string, error) {
	if dir := os.Getenv(EnvStateDir); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := defaultStateDir()
	if err != nil {
		return "", fmt.Errorf("find the state folder: %w", err)
	}
	return dir, nil
}

// Socket is where the agent listens for front ends: $COUNTERSIGN_SOCKET, else
// the user's runtime folder, else the given state folder ("" means StateDir).
// On Windows it is the name of a pipe.
func Socket(stateDir string) (string, error) {
	if path := os.Getenv(EnvSocket); path != "" {
		return path, nil
	}
	path, err := defaultSocket(func() (string, error) {
		if stateDir != "" {
			return stateDir, nil
		}
		return StateDir()
	})
	if err != nil {
		return "", fmt.Errorf("find the agent's socket: %w", err)
	}
	return path, nil
}
