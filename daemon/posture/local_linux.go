package posture

import "os"

// Local is the machine at hand.
func Local() System {
	host, _ := os.Hostname()
	return System{OS: "linux", Host: host, Files: os.DirFS("/"), Env: os.Getenv, Run: run}
}
