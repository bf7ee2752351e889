package daemon

import (
	"runtime/debug"
	"time"
)

// quietAfter is how long after the last challenge memory is given back. There
// is no ticker: activity arms the timer, so an idle agent never wakes up.
const quietAfter = 10 * time.Second

// giveBack returns to the system what a burst, or the start, has left over.
func giveBack() { debug.FreeOSMemory() }
