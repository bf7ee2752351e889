package myaccount

import (
	"sync"
	"time"
)

// How often an enrolment may ask for its pending list: an agent on a plain
// network asks every ten seconds at its busiest, one that waits much less.
const (
	pollsPerMinute = 30
	pollsAtOnce    = 60
	pollInterval   = time.Minute / pollsPerMinute
)

// polls counts them: a bucket for each enrolment, kept as the moment when it
// is full again. The zero value is ready.
type polls struct {
	mu    sync.Mutex
	full  map[string]time.Time
	swept time.Time
}

// take counts a request. When there were too many it says after which time
// the next is welcome.
func (p *polls) take(id string, now time.Time) (again time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(now)
	full := p.full[id]
	if full.Before(now) || full.Sub(now) > pollsAtOnce*pollInterval { // the clock was set back
		full = now
	}
	if next := full.Add(pollInterval); next.Sub(now) <= pollsAtOnce*pollInterval {
		p.full[id] = next
		return 0, true
	}
	return full.Sub(now) - (pollsAtOnce-1)*pollInterval, false
}

// sweep forgets full buckets now and then.
func (p *polls) sweep(now time.Time) {
	if p.full == nil {
		p.full = map[string]time.Time{}
	}
	if age := now.Sub(p.swept); age >= 0 && age < time.Minute {
		return
	}
	p.swept = now
	for id, full := range p.full {
		if !full.After(now) {
			delete(p.full, id)
		}
	}
}
