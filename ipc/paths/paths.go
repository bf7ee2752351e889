// Package paths knows where the agent keeps its state and where its socket is,
// so that the daemon, the command line and the tray agree without a setting.
package paths

import (
	"fmt"
	"os"
	"path/filepath"
)

// Environment variables that stand in for the flags --state and --socket.
const (
	EnvStateDir = "COUNTERSIGN_STATE_DIR"
	EnvSocket   = "COUNTERSIGN_SOCKET"
)

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
	if stateDir == "" {
		var err error
		if stateDir, err = StateDir(); err != nil {
			return "", err
		}
	}
	path, err := defaultSocket(stateDir)
	if err != nil {
		return "", fmt.Errorf("find the agent's socket: %w", err)
	}
	return path, nil
}
