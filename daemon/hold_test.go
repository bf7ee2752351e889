package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
)

// holding is an agent with nothing but a queue of prompts and its holds.
func holding(t *testing.T, now func() time.Time) *Daemon {
	d := &Daemon{now: now, ctx: t.Context(), hub: newHub(), screen: newScreen(&fakeSession{})}
	d.prompts = prompt.New(d.now, d.hub)
	return d
}

func (d *Daemon) heldBy() string {
	if h := d.prompts.Held(); h != nil {
		return h.Reason
	}
	return ""
}

func TestPauseEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := holding(t, time.Now)
		h, err := front{d}.Pause(t.Context(), api.Pause{Seconds: 60})
		if err != nil || h.Reason != api.HoldPaused || h.Until.Sub(h.Since) != time.Minute || d.heldBy() != api.HoldPaused {
			t.Fatalf("%+v, %v", h, err)
		}
		time.Sleep(59 * time.Second)
		if d.heldBy() == "" {
			t.Fatal("ended too early")
		}
		// A later pause takes the place of the earlier one, whose end is not its.
		again, err := front{d}.Pause(t.Context(), api.Pause{Seconds: 60})
		if err != nil || again.Since != h.Since || again.Until.Sub(h.Until) != 59*time.Second {
			t.Fatalf("%+v, %v", again, err)
		}
		time.Sleep(59 * time.Second)
		if d.heldBy() == "" {
			t.Fatal("the end of the earlier one has ended it")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if d.heldBy() != "" {
			t.Fatal("not ended")
		}
	})
}

func TestUnpause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := holding(t, time.Now)
		for range 2 { // ending what has ended is no error
			if err := (front{d}).Unpause(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		d.pause(time.Hour)
		timer := d.holds.resume
		if err := (front{d}).Unpause(t.Context()); err != nil || d.heldBy() != "" {
			t.Fatalf("%v, %s", err, d.heldBy())
		}
		if timer.Stop() || d.holds.resume != nil {
			t.Fatal("the timer runs on")
		}
	})
}

func TestPauseRefused(t *testing.T) {
	d := holding(t, time.Now)
	for _, seconds := range []int{0, -1, int(api.MaxPause/time.Second) + 1, 1 << 62} {
		if _, err := (front{d}).Pause(t.Context(), api.Pause{Seconds: seconds}); refusalOf(t, err).Code != "bad_pause" || d.heldBy() != "" {
			t.Errorf("%d seconds: %v", seconds, err)
		}
	}
}

// B7: a pause follows the clock on the wall over a sleep, in which its timer
// stands still.
func TestB7PauseOverASleep(t *testing.T) {
	for name, look := range map[string]func(d *Daemon){
		"awake":                        func(d *Daemon) { desk{d}.Wake() },
		"nobody says that it is awake": func(d *Daemon) { d.lookAround() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var slept time.Duration
				d := holding(t, func() time.Time { return time.Now().Add(slept) })
				d.pause(time.Hour)
				slept = 30 * time.Minute
				if look(d); d.heldBy() != api.HoldPaused {
					t.Fatal("ended too early")
				}
				slept = time.Hour
				if look(d); d.heldBy() != "" {
					t.Fatal("not ended")
				}
				if d.holds.resume != nil {
					t.Fatal("its timer runs on")
				}
			})
		})
	}
}

// Several reasons: the strongest is told, and the end of one is not the end of
// the others.
func TestHoldsForSeveralReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := holding(t, time.Now)
		events := d.hub.subscribe(t.Context(), func() {})
		d.pause(time.Hour)
		d.hold(api.HoldScreenLocked, time.Time{})
		d.hold(api.HoldAsleep, time.Time{})
		d.pause(2 * time.Hour) // nothing that is seen
		d.hold(api.HoldAsleep, time.Time{})
		d.release(api.HoldAsleep)
		d.release(api.HoldAsleep)
		d.release(api.HoldScreenLocked)
		d.hold(api.HoldScreenLocked, time.Time{})
		if err := (front{d}).Unpause(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.release(api.HoldScreenLocked)
		var told []string
		for len(events) > 0 {
			reason := "none"
			if e := <-events; e.Hold != nil {
				reason = e.Hold.Reason
			}
			told = append(told, reason)
		}
		want := []string{"paused", "screen_locked", "asleep", "screen_locked", "paused", "screen_locked", "none"}
		if len(told) != len(want) {
			t.Fatalf("%v, want %v", told, want)
		}
		for i := range want {
			if told[i] != want[i] {
				t.Fatalf("%v, want %v", told, want)
			}
		}
	})
}

// A pause ends with the agent, and leaves no timer behind.
func TestStopDuringAPause(t *testing.T) {
	a := startAgent(t, testConfig(t))
	if _, err := a.client.Pause(t.Context(), api.Pause{Seconds: 3600}); err != nil {
		t.Fatal(err)
	}
	if s := a.status(t); s.Hold == nil || s.Hold.Reason != api.HoldPaused || s.Hold.Until.IsZero() {
		t.Fatalf("%+v", s.Hold)
	}
	if got := check(t, a, "session"); got.State != "warning" || got.Hint != "to end that: countersign resume" {
		t.Errorf("%+v", got)
	}
	timer := a.holds.resume
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if timer.Stop() {
		t.Error("its timer runs on")
	}
	a.pause(time.Hour)
	if a.holds.resume != nil {
		t.Error("a stopped agent has a timer")
	}
	if s := startAgent(t, a.config).status(t); s.Hold != nil {
		t.Errorf("%+v", s.Hold)
	}
}
