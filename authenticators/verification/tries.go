package verification

import "time"

const (
	freeTries  = 5           // without a pause
	firstPause = time.Minute // after the fifth; each further one doubles it
	longest    = time.Hour
)

// tries counts the tries of one method since its last success. It is written
// down before a try, so one that is cut short has counted.
//
// What is written is what is left of the pause and when that was so, not when
// the pause ends: a clock that is set back then takes nothing away. One that is
// set forward does, and so does putting back an older state; whoever can do
// either to the running agent is root.
type tries struct {
	Failed int           `json:"failed"`
	Pause  time.Duration `json:"pause,omitempty"` // what is left of it, at Seen
	Seen   time.Time     `json:"seen,omitzero"`
}

// left is what is left of the pause.
func (t tries) left(now time.Time) time.Duration {
	if t.Pause <= 0 {
		return 0
	}
	// The one clock stands still while the machine sleeps, the other can be set:
	// the farther of the two is right, unless both went backwards.
	return max(0, t.Pause-max(0, now.Sub(t.Seen), now.Round(0).Sub(t.Seen.Round(0))))
}

// at is the same, seen from now.
func (t tries) at(now time.Time) tries {
	if t.Pause = t.left(now); t.Pause == 0 {
		t.Seen = time.Time{}
	} else {
		t.Seen = now
	}
	return t
}

// with counts one more try.
func (t tries) with(now time.Time) tries {
	t.Failed++
	t.Pause, t.Seen = 0, time.Time{}
	if t.Failed >= freeTries {
		t.Pause, t.Seen = longest, now
		if doublings := t.Failed - freeTries; doublings < 6 { // 2^6 minutes is beyond the longest
			t.Pause = min(longest, firstPause<<doublings)
		}
	}
	return t
}

// free is how many tries are left before a pause. After one there is a single
// try each time.
func (t tries) free(now time.Time) int {
	if t.Failed < freeTries {
		return freeTries - t.Failed
	}
	if t.left(now) == 0 {
		return 1
	}
	return 0
}

// until is when the next try is possible; zero: now.
func (t tries) until(now time.Time) time.Time {
	if left := t.left(now); left > 0 {
		return now.Add(left)
	}
	return time.Time{}
}

// err tells of it, as ErrWrong or ErrTooMany.
func (t tries) err(m Method, now time.Time, err error) *TryError {
	return &TryError{Method: m, Left: t.free(now), Until: t.until(now), Err: err}
}

// sane refuses a count that was never ours.
func (t tries) sane() bool { return t.Failed >= 0 && t.Pause >= 0 && t.Pause <= longest }
