package daemon

import (
	"runtime"
	"runtime/debug"
	"time"

	"countersign.dev/okta/client"
)

// quietAfter is how long after the last challenge memory is given back. There
// is no ticker: activity arms the timer, so an idle agent never wakes up.
const quietAfter = 10 * time.Second

// giveBack returns to the system what a burst, or the start, has left over:
// kept connections to orgs (which would also wake the agent up later), then
// what they and everybody else no longer use. What sits in pools survives one
// collection, hence two.
func giveBack() {
	client.CloseIdle()
	runtime.GC()
	debug.FreeOSMemory()
}
