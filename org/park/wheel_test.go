package park

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Ten thousand deadlines wake the program four times a second, and none is
// late or much too early; those that were taken out never come.
func TestOneTimerForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, span = 10_000, 55 * time.Second
		var mu sync.Mutex // a lot has its lock
		var w wheel
		began, ticks, came := time.Now(), 0, 0
		until := map[*spot]time.Time{}
		w.init(func() {
			mu.Lock()
			defer mu.Unlock()
			ticks++
			for s := range w.due() {
				early := time.Until(until[s])
				if _, ok := until[s]; !ok || early < 0 || early >= slot {
					t.Errorf("early by %v", early)
				}
				w.remove(s)
				w.remove(s) // again is no harm
				delete(until, s)
				came++
			}
			w.arm()
		})
		mu.Lock()
		rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's dice
		var all []*spot
		for range n {
			s := &spot{}
			until[s] = began.Add(2*slot + time.Duration(rng.Int64N(int64(span))))
			w.add(s, until[s])
			all = append(all, s)
		}
		for _, s := range all[:n/10] {
			w.remove(s)
			delete(until, s)
		}
		mu.Unlock()
		time.Sleep(span + time.Second)
		mu.Lock()
		if came != n-n/10 || len(until) != 0 || len(w.slots) != 0 {
			t.Errorf("%d came, %d are left", came, len(until))
		}
		if most := 4 * int(time.Since(began)/time.Second); ticks > most {
			t.Errorf("woken %d times", ticks)
		}
		before := ticks
		mu.Unlock()
		time.Sleep(time.Hour) // nothing to wait for, nothing to wake up for
		mu.Lock()
		defer mu.Unlock()
		if ticks > before {
			t.Errorf("woken %d times for nothing", ticks-before)
		}
		// What is over already comes with the next slot.
		s := &spot{}
		until[s] = time.Now().Add(slot)
		w.add(s, time.Now().Add(-time.Hour))
		mu.Unlock()
		time.Sleep(slot)
		synctest.Wait()
		mu.Lock()
		if s.slot != 0 {
			t.Error("a deadline in the past never came")
		}
	})
}
