//go:build !race

package harness

const (
	raceEnabled  = false
	raceSlowness = 1
)
