package verification_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
)

// left checks that an error is the one wanted, with what is left.
func left(t *testing.T, err, want error, tries int, pause time.Duration) {
	t.Helper()
	var e *verification.TryError
	if !errors.As(err, &e) || !errors.Is(err, want) {
		t.Fatalf("%v, not %v", err, want)
	}
	got := time.Duration(0)
	if !e.Until.IsZero() {
		got = time.Until(e.Until)
	}
	if e.Method != verification.PIN || e.Left != tries || got.Round(time.Second) != pause {
		t.Fatalf("%v: %d tries left, %s to wait; not %d, %s", err, e.Left, got, tries, pause)
	}
}

// C13: five tries, then pauses that double; in a pause not even the right PIN
// reaches the key store; success starts afresh.
func TestC13PausesDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := verificationtest.Options()
		keys := o.Keys.(*verificationtest.Keys)
		s := withPIN(t, o)
		for n := 4; n > 0; n-- {
			left(t, try(t, s, wrong), verification.ErrWrong, n, 0)
		}
		for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			left(t, try(t, s, wrong), verification.ErrWrong, 0, pause*time.Minute)
			time.Sleep(pause*time.Minute - time.Second)
			before := keys.Looked()
			left(t, try(t, s, right), verification.ErrTooMany, 0, time.Second)
			if state := s.States(t.Context())[0]; state.State != "lockout" || state.Left != 0 || time.Until(state.Until) != time.Second || state.Hint == "" {
				t.Errorf("%+v", state)
			}
			if ready := s.Ready(t.Context(), bioOrPIN); len(ready) != 0 {
				t.Errorf("ready: %v", ready)
			}
			if keys.Looked() != before {
				t.Fatal("a try in a pause has reached the key store")
			}
			time.Sleep(time.Second)
			if state := s.States(t.Context())[0]; state.State != "ready" || state.Left != 1 {
				t.Errorf("%+v", state)
			}
		}
		if err := try(t, s, right); err != nil {
			t.Fatal(err)
		}
		left(t, try(t, s, wrong), verification.ErrWrong, 4, 0)
	})
}

// C13: a hundred wrong PINs, each with a restart of the agent, are five tries.
func TestC13Restarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := verificationtest.Options()
		keys := o.Keys.(*verificationtest.Keys)
		withPIN(t, o)
		before := keys.Looked()
		for n := range 100 {
			err := try(t, open(t, o), wrong)
			switch {
			case n < 4:
				left(t, err, verification.ErrWrong, 4-n, 0)
			case n == 4:
				left(t, err, verification.ErrWrong, 0, time.Minute)
			default:
				left(t, err, verification.ErrTooMany, 0, time.Minute)
			}
		}
		if n := keys.Looked() - before; n != 5 {
			t.Errorf("%d tries have reached the key store", n)
		}
		time.Sleep(time.Minute)
		if err := try(t, open(t, o), right); err != nil {
			t.Error(err)
		}
	})
}

// C13: a hundred wrong PINs at once are five tries: they are made one by one.
func TestC13Parallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := verificationtest.Options()
		keys := o.Keys.(*verificationtest.Keys)
		s := withPIN(t, o)
		before := keys.Looked()
		keys.Fail = func(string, string) error {
			time.Sleep(time.Second) // everybody else has a chance to get ahead
			return nil
		}
		var mu sync.Mutex
		counts := map[error]int{}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := s.Verify(t.Context(), verification.Request{Purpose: "p", PIN: wrong})
				var e *verification.TryError
				if !errors.As(err, &e) {
					t.Errorf("%v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				counts[e.Err]++
			})
		}
		wg.Wait()
		if n := keys.Looked() - before; n != 5 || counts[verification.ErrWrong] != 5 || counts[verification.ErrTooMany] != 95 {
			t.Errorf("%d tries have reached the key store: %v", n, counts)
		}
	})
}

// C13: a try is on disk before the key store hears of it, so an agent that is
// killed in the middle has counted it.
func TestC13CountedBefore(t *testing.T) {
	o := verificationtest.Options()
	keys := o.Keys.(*verificationtest.Keys)
	s := withPIN(t, o)
	keys.Fail = func(operation, _ string) error {
		if operation == "sign" {
			keys.Fail = nil
			if state := open(t, o).States(t.Context())[0]; state.Left != 4 {
				t.Errorf("as after a kill: %+v", state)
			}
		}
		return nil
	}
	if err := try(t, s, right); err != nil {
		t.Fatal(err)
	}
	if state := open(t, o).States(t.Context())[0]; state.Left != 5 {
		t.Errorf("after success: %+v", state)
	}
	// What could not be written down is not tried, and counts while we run.
	o.Rooms.(*verificationtest.Rooms).Fail = func(operation, _ string) error {
		if operation == "save" {
			return errors.New("disk full")
		}
		return nil
	}
	before := keys.Looked()
	for range 5 {
		if err := try(t, s, right); !errors.Is(err, verification.ErrBroken) {
			t.Errorf("disk full: %v", err)
		}
	}
	if err := try(t, s, right); !errors.Is(err, verification.ErrTooMany) {
		t.Errorf("disk full: %v", err)
	}
	if keys.Looked() != before {
		t.Error("tried without counting")
	}
}

// C13: what is left of a pause is what was left of it, whatever the clock is set
// back to, also across a restart.
func TestC13ClockSetBack(t *testing.T) {
	o := verificationtest.Options()
	wall := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC) // no monotonic clock in it
	o.Now = func() time.Time { return wall }
	s := withPIN(t, o)
	for range 7 {
		try(t, s, wrong)
		wall = wall.Add(time.Hour)
	}
	try(t, s, wrong) // a pause of eight minutes
	pause := func(s *verification.Service) time.Duration {
		t.Helper()
		var e *verification.TryError
		if err := try(t, s, right); !errors.As(err, &e) || !errors.Is(err, verification.ErrTooMany) {
			t.Fatal(err)
		}
		return e.Until.Sub(wall)
	}
	wall = wall.Add(3 * time.Minute)
	if got := pause(s); got != 5*time.Minute {
		t.Errorf("%s left", got)
	}
	wall = wall.Add(-24 * time.Hour)
	if got := pause(s); got != 5*time.Minute {
		t.Errorf("set back: %s left", got)
	}
	wall = wall.Add(4 * time.Minute)
	if got := pause(s); got != time.Minute {
		t.Errorf("set back, and later: %s left", got)
	}
	again := open(t, o) // knows what is on disk: the pause when it began
	if got := pause(again); got != 8*time.Minute {
		t.Errorf("set back, and restarted: %s left", got)
	}
	wall = wall.Add(8*time.Minute - 1)
	if got := pause(again); got != 1 {
		t.Errorf("at last: %s left", got)
	}
	wall = wall.Add(1)
	if err := try(t, again, right); err != nil {
		t.Error(err)
	}
}

// C13, C14: what can and what cannot be promised of state that is rolled back.
// A running agent knows better. After a restart the tries are given back: with a
// store that does not count by itself that is a limit (docs/verification.md).
// One that does count refuses by itself, until when it says.
func TestC13RolledBackState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := verificationtest.Options()
		rooms, keys := o.Rooms.(*verificationtest.Rooms), o.Keys.(*verificationtest.Keys)
		s := withPIN(t, o)
		fresh := rooms.Copy()
		for range 5 {
			try(t, s, wrong)
			rooms.Restore(fresh)
		}
		left(t, try(t, s, right), verification.ErrTooMany, 0, time.Minute)
		if state := s.States(t.Context())[0]; state.State != "lockout" {
			t.Errorf("%+v", state)
		}

		// The limit, in software: a restart after a rollback.
		rooms.Restore(fresh)
		left(t, try(t, open(t, o), wrong), verification.ErrWrong, 4, 0)

		// A store that counts by itself: its word holds.
		counted := 0
		until := time.Now().Add(2 * time.Hour)
		keys.Fail = func(operation, _ string) error {
			if operation != "sign" {
				return nil
			}
			if counted++; counted > 32 {
				return &devicekey.StateError{State: devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Lockout, Until: until}}
			}
			return nil
		}
		refused := 0
		for range 100 {
			rooms.Restore(fresh)
			if err := try(t, open(t, o), wrong); errors.Is(err, verification.ErrTooMany) {
				refused++
				left(t, err, verification.ErrTooMany, 0, 2*time.Hour)
			}
		}
		if refused != 100-32 {
			t.Errorf("%d refused", refused)
		}
		rooms.Restore(fresh)
		left(t, try(t, open(t, o), right), verification.ErrTooMany, 0, 2*time.Hour)
	})
}

// A store that refuses without looking costs no try.
func TestLockoutOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := verificationtest.Options()
		keys := o.Keys.(*verificationtest.Keys)
		s := withPIN(t, o)
		until := time.Now().Add(10 * time.Minute)
		lockout := &devicekey.StateError{State: devicekey.State{Kind: devicekey.KindSoftware, State: devicekey.Lockout, Until: until}}
		for _, at := range []string{"open", "sign"} {
			keys.Fail = func(operation, _ string) error {
				if operation == at {
					return lockout
				}
				return nil
			}
			for range 10 {
				left(t, try(t, s, right), verification.ErrTooMany, 0, 10*time.Minute)
			}
		}
		keys.Fail, keys.Health = nil, lockout.State
		if state := s.States(t.Context())[0]; state.State != "lockout" || !state.Until.Equal(until) {
			t.Errorf("%+v", state)
		}
		keys.Health = devicekey.State{State: devicekey.Busy, Hint: "wait"}
		if state := s.States(t.Context())[0]; state.State != "unavailable" || state.Hint != "wait" {
			t.Errorf("%+v", state)
		}
		keys.Health = devicekey.State{}
		if state := s.States(t.Context())[0]; state.State != "ready" || state.Left != 5 {
			t.Errorf("%+v", state)
		}
	})
}

// Nobody is promised more tries than the key store takes: a TPM counts those of
// other programs too.
func TestStoreTakesFewerTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := verificationtest.Options()
		keys := o.Keys.(*verificationtest.Keys)
		s := withPIN(t, o)
		pin := func(state string, tries int) {
			t.Helper()
			if got := s.States(t.Context())[0]; got.State != state || got.Left != tries {
				t.Errorf("%+v", got)
			}
		}
		keys.Health = devicekey.State{Left: 31}
		pin("ready", 5)
		left(t, try(t, s, wrong), verification.ErrWrong, 4, 0)
		keys.Health.Left = 2
		pin("ready", 2)
		left(t, try(t, s, wrong), verification.ErrWrong, 2, 0)
		// The last one.
		keys.Health = devicekey.State{State: devicekey.Lockout, Until: time.Now().Add(20 * time.Minute)}
		left(t, try(t, s, wrong), verification.ErrWrong, 0, 20*time.Minute)
		pin("lockout", 0)
		keys.Health = devicekey.State{State: devicekey.Lockout}
		left(t, try(t, s, wrong), verification.ErrWrong, 0, 0)
	})
}

// A store that is not there has looked at nothing: the right PIN is not lost for
// having been typed while the TPM was away.
func TestAbsentStoreCostsNoTry(t *testing.T) {
	o := verificationtest.Options()
	keys := o.Keys.(*verificationtest.Keys)
	s := withPIN(t, o)
	for _, row := range []struct {
		state string
		costs bool
	}{
		{devicekey.Absent, false}, {devicekey.PermissionDenied, false}, {devicekey.OwnerAuthSet, false}, {devicekey.TooOld, false},
		{devicekey.Cleared, false}, {devicekey.OtherDevice, false}, {devicekey.Unavailable, true}, {devicekey.Busy, true}, {"", true},
	} {
		fault := &devicekey.StateError{State: devicekey.State{Kind: devicekey.KindSoftware, State: row.state}}
		keys.Fail = func(operation, _ string) error {
			if operation == "sign" {
				return fault
			}
			return nil
		}
		if err := try(t, s, right); !errors.Is(err, devicekey.ErrUnavailable) {
			t.Fatalf("%s: %v", row.state, err)
		}
		keys.Fail = nil
		if got := s.States(t.Context())[0].Left; (got == 4) != row.costs || got < 4 {
			t.Errorf("%s: %d tries left", row.state, got)
		}
		if err := try(t, s, right); err != nil {
			t.Fatal(err)
		}
	}
}

// The PIN's key may be in another store than new keys: that one is asked.
func TestStateOfThePINsStore(t *testing.T) {
	soft, chip := &verificationtest.Keys{}, &verificationtest.Keys{Kind: devicekey.KindTPM}
	stores := map[devicekey.Kind]devicekey.Store{devicekey.KindSoftware: soft, devicekey.KindTPM: chip}
	o := verificationtest.Options()
	o.Keys = devicekey.NewSet(devicekey.KindTPM, stores)
	withPIN(t, o)
	o.Keys = devicekey.NewSet(devicekey.KindSoftware, stores)
	s := open(t, o)
	soft.Health = devicekey.State{State: devicekey.Unavailable}
	if got := s.States(t.Context())[0]; got.State != "ready" {
		t.Errorf("%+v", got)
	}
	chip.Health = devicekey.State{State: devicekey.Absent, Hint: "switch it on"}
	if got := s.States(t.Context())[0]; got.State != "unavailable" || got.Hint != "switch it on" || len(s.Ready(t.Context(), bioOrPIN)) != 0 {
		t.Errorf("%+v", got)
	}
}

// What cannot be a PIN at all is wrong, and costs no try.
func TestSlips(t *testing.T) {
	o := verificationtest.Options()
	keys := o.Keys.(*verificationtest.Keys)
	s := withPIN(t, o)
	before := keys.Looked()
	for range 3 {
		for _, pin := range []string{"", "27", "27182\n", string(make([]byte, 64)), "\xff\xff\xff\xff\xff"} {
			left(t, try(t, s, devicekey.Secret(pin)), verification.ErrWrong, 5, 0)
		}
	}
	if keys.Looked() != before {
		t.Error("a slip has reached the key store")
	}
}

// Wrong fingers count like wrong PINs; what was no try does not.
func TestWrongFingersCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finger := &verificationtest.Method{Name: verification.Fingerprint, Answer: verificationtest.Yes}
		o := verificationtest.Options(finger)
		s := open(t, o)
		if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
			t.Fatal(err)
		}
		verify := func(want error) *verification.TryError {
			t.Helper()
			v, err := s.Verify(t.Context(), verification.Request{Purpose: "p"})
			if !errors.Is(err, want) || v.For("p") {
				t.Fatalf("%v, not %v", err, want)
			}
			var e *verification.TryError
			errors.As(err, &e)
			return e
		}
		for _, other := range []error{verification.ErrCancelled, verification.ErrTimedOut, verification.ErrAbsent, verification.ErrNotSetUp} {
			finger.Answer = func(context.Context, verification.Request) error { return other }
			for range 6 {
				verify(other)
			}
		}
		finger.Answer = func(context.Context, verification.Request) error { return errors.New("what is this?") }
		verify(verification.ErrAbsent)
		finger.Answer = nil
		for n := 4; n > 0; n-- {
			if e := verify(verification.ErrWrong); e.Left != n || e.Method != verification.Fingerprint {
				t.Errorf("%+v", e)
			}
		}
		if e := verify(verification.ErrWrong); time.Until(e.Until) != time.Minute {
			t.Errorf("%+v", e)
		}
		finger.Answer = verificationtest.Yes
		asked := len(finger.Asked())
		_, err := s.Verify(t.Context(), verification.Request{Purpose: "p", Method: verification.Fingerprint})
		if !errors.Is(err, verification.ErrTooMany) || len(finger.Asked()) != asked {
			t.Error(err)
		}
		if state := s.States(t.Context())[1]; state.State != "lockout" || time.Until(state.Until) != time.Minute {
			t.Errorf("%+v", state)
		}
		time.Sleep(time.Minute)
		if _, err := s.Verify(t.Context(), verification.Request{Purpose: "p"}); err != nil {
			t.Error(err)
		}
	})
}

// A count that was never ours is refused, not taken for none.
func TestC4NonsenseInTheRoom(t *testing.T) {
	for name, room := range map[string]string{
		"negative count":         `{"tries":{"pin":{"failed":-5}}}`,
		"negative pause":         `{"tries":{"pin":{"failed":5,"pause":-1}}}`,
		"endless pause":          `{"tries":{"pin":{"failed":5,"pause":9000000000000000000}}}`,
		"short secret":           `{"escrow":{"userVerification":"AAAA"}}`,
		"secret of a silent key": `{"escrow":{"proofOfPossession":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}`,
		"PIN and a secret":       `{"pin":{"ref":{"kind":"software","id":"A"}},"escrow":{"userVerificationBioOrPin":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}`,
		"pending without":        `{"pending":{"ref":{"kind":"software","id":"A"}}}`,
		"other shape":            `{"tries":7}`,
	} {
		o := verificationtest.Options()
		o.Rooms.(*verificationtest.Rooms).Restore(map[string][]byte{"verification": []byte(room)})
		if _, err := verification.Open(o); !errors.Is(err, verification.ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := verificationtest.Options()
	s := withPIN(t, o)
	o.Rooms.(*verificationtest.Rooms).Restore(map[string][]byte{"verification": []byte("{}")})
	if err := try(t, s, right); !errors.Is(err, verification.ErrNotSetUp) {
		t.Errorf("emptied: %v", err)
	}
	if _, err := json.Marshal(s.States(t.Context())); err != nil {
		t.Error(err)
	}
}
