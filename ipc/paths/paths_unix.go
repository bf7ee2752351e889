//go:build !windows

package paths

import (
	"os"
	"path/filepath"
	"runtime"
)

func defaultStateDir() (string, error) {
	// The base directory specification says to ignore relative values.
	if base := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) && runtime.GOOS != "darwin" {
		return filepath.Join(base, "countersign"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "Countersign"), nil
	}
	return filepath.Join(home, ".local", "state", "countersign"), nil
}

func defaultSocket(stateDir func() (string, error)) (string, error) {
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		return filepath.Join(base, "countersign", "agent.sock"), nil
	}
	dir, err := stateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "agent.sock"), nil
}
