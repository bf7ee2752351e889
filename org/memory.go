package org

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// quietAfter is how long after the last request memory is given back.
const quietAfter = 10 * time.Second

// givingBack returns to the system what a burst of requests has left over: a
// few thousand devices that come back at once after an outage leave many times
// what they need while they wait. Requests arm the timer; there is no ticker,
// so an org that nobody asks never wakes up.
func givingBack(next http.Handler) (handler http.Handler, stop func()) {
	var mu sync.Mutex
	stopped := false
	timer := time.AfterFunc(quietAfter, func() {
		runtime.GC() // what sits in pools survives one collection, hence two
		debug.FreeOSMemory()
	})
	handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			if !stopped {
				timer.Reset(quietAfter)
			}
		}()
		next.ServeHTTP(w, r)
	})
	return handler, func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}
