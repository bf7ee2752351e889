//go:build !linux && !darwin && !windows

package posture

import (
	"os"
	"runtime"
)

// Local knows of other systems what Go knows.
func Local() System {
	host, _ := os.Hostname()
	return System{OS: runtime.GOOS, Host: host, Env: os.Getenv, Run: run}
}
