package park

import (
	"iter"
	"time"
)

// slot is how finely deadlines are told apart: with one timer for all of them
// the program wakes up four times a second at most, however many wait.
const slot = 250 * time.Millisecond

// wheel holds spots by their deadline. A deadline is early by less than a slot
// rather than late. It is guarded by the lot's lock.
type wheel struct {
	start time.Time
	timer *time.Timer
	armed int64           // the slot that the timer is set for; 0: none
	slots map[int64]*spot // lists, linked through the spots
}

func (w *wheel) init(tick func()) {
	w.start = time.Now()
	w.slots = map[int64]*spot{}
	w.timer = time.AfterFunc(time.Hour, tick)
	w.timer.Stop()
}

func (w *wheel) slotOf(t time.Time) int64 { return int64(t.Sub(w.start) / slot) }

func (w *wheel) add(s *spot, deadline time.Time) {
	s.slot = max(w.slotOf(deadline), w.slotOf(time.Now())+1)
	s.prev, s.next = nil, w.slots[s.slot]
	if s.next != nil {
		s.next.prev = s
	}
	w.slots[s.slot] = s
	if w.armed == 0 || s.slot < w.armed {
		w.set(s.slot)
	}
}

// remove takes a spot out; one that is not in stays out.
func (w *wheel) remove(s *spot) {
	switch {
	case s.slot == 0:
		return
	case s.prev != nil:
		s.prev.next = s.next
	case s.next != nil:
		w.slots[s.slot] = s.next
	default:
		delete(w.slots, s.slot)
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.slot, s.prev, s.next = 0, nil, nil
}

// due yields the spots whose time has come. Each must be removed by whoever
// gets it.
func (w *wheel) due() iter.Seq[*spot] {
	return w.until(w.slotOf(time.Now()))
}

// all yields every spot, likewise.
func (w *wheel) all() iter.Seq[*spot] { return w.until(1<<63 - 1) }

func (w *wheel) until(last int64) iter.Seq[*spot] {
	return func(yield func(*spot) bool) {
		for n, s := range w.slots {
			if n > last {
				continue
			}
			for s != nil {
				next := s.next // s leaves the list
				if !yield(s) {
					return
				}
				s = next
			}
		}
	}
}

// arm sets the timer for the next deadline.
func (w *wheel) arm() {
	w.armed = 0
	first := int64(0)
	for n := range w.slots {
		if first == 0 || n < first {
			first = n
		}
	}
	if first != 0 {
		w.set(first)
	}
}

func (w *wheel) set(n int64) {
	w.armed = n
	w.timer.Reset(time.Until(w.start.Add(time.Duration(n) * slot)))
}

func (w *wheel) stop() { w.timer.Stop() }
