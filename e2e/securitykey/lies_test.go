//go:build linux

package securitykey_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/e2e/softkey"
)

// What a key says falsely is refused, by the one who can know: the agent when the
// answer contradicts itself or the question, and Verify, which has the public key.
// A key that claims a touch or a PIN that it has not seen is believed: nobody but
// the key can know, and the org trusts its maker, or not.
func TestF1Lies(t *testing.T) {
	believed := []softkey.Fault{softkey.ClaimsVerified, softkey.ClaimsPresence}
	// Not said in that answer, or not false there.
	// A wrong ID is one that signs nothing later.
	notMaking := []softkey.Fault{softkey.WrongCredentialID, softkey.WrongUser, softkey.WrongSecret, softkey.CounterStuck, softkey.CounterBack}
	notAsserting := []softkey.Fault{softkey.WrongAAGUID, softkey.BadPublicKey, softkey.WrongAlgorithm, softkey.WrongCredentialLength}
	b := newBay(t, softkey.Options{PIN: "1234", MakeWithoutPIN: true})
	isOne := func(list []softkey.Fault, f softkey.Fault) bool {
		return slices.ContainsFunc(list, func(o softkey.Fault) bool { return o.Name == f.Name })
	}
	for _, f := range softkey.Lies {
		t.Run(f.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := registration(b.id(t))
			r.Verification, r.PIN = securitykey.Required, secret("1234")
			b.k.Break(f, softkey.When{Step: softkey.StepMake, Times: 1})
			_, err := b.w.Register(ctx, r)
			b.k.Mend()
			if fine := isOne(believed, f) || isOne(notMaking, f); fine != (err == nil) || err != nil && !errors.Is(err, securitykey.ErrBadKey) {
				t.Errorf("registering: %v", err)
			}
			if isOne(notAsserting, f) {
				return
			}
			a := assertion(b.id(t), b.made.CredentialID)
			a.Verification, a.PIN = securitykey.Required, secret("1234")
			if f.Name == softkey.WrongUser.Name {
				return // a user handle is the org's to compare
			}
			if err := b.use(ctx, a.Key, softkey.StepAssert); err != nil { // so that there is a count
				t.Fatal(err)
			}
			b.k.Break(f, softkey.When{Step: softkey.StepAssert, Times: 1})
			got, err := b.w.Assert(ctx, a)
			b.k.Mend()
			if err == nil {
				_, err = verify(got, b.made, a)
				if err == nil && f.Name == softkey.WrongSecret.Name {
					return // none was asked for
				}
			} else if !errors.Is(err, securitykey.ErrBadKey) {
				t.Errorf("asserting: %v", err)
			}
			if isOne(believed, f) != (err == nil) {
				t.Errorf("asserting: %v", err)
			}
		})
	}
}

// A key that takes the place of another one gets nothing that was meant for it: no
// PIN, and no order.
func TestF2SwappedKeyIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	one, other := softkey.New(softkey.Options{PIN: "1234"}), softkey.New(softkey.Options{PIN: "1234"})
	id := w.plug(0, one)
	made := w.register(func() securitykey.Registration {
		r := registration(id)
		r.PIN = secret("1234")
		return r
	}())
	if _, err := w.hub.Plug(0, other); err != nil {
		t.Fatal(err)
	}
	other.Steps()
	ctx, pin := t.Context(), secret("1234")
	fails(t, w.Reset(ctx, id, nil), securitykey.ErrOtherKey)
	fails(t, w.DeleteCredential(ctx, id, pin, made.CredentialID), securitykey.ErrOtherKey)
	fails(t, w.SetPIN(ctx, id, secret("99999"), pin), securitykey.ErrOtherKey)
	_, err := w.Register(ctx, registration(id))
	fails(t, err, securitykey.ErrOtherKey)
	_, err = w.Assert(ctx, assertion(id, made.CredentialID))
	fails(t, err, securitykey.ErrOtherKey)
	if steps := other.Steps(); len(steps) > 0 || !other.CheckPIN("1234") {
		t.Errorf("the other key was asked %q", steps)
	}
	// The same one again is another arrival, and has another id.
	if again := w.plug(0, one); again == id {
		t.Error("the same id")
	}
	fails(t, w.Reset(ctx, id, nil), securitykey.ErrOtherKey)
}

func TestInUse(t *testing.T) {
	w := newWorld(t, 1)
	id := w.plug(0, softkey.New(softkey.Options{}))
	release, err := w.hub.Port(0).Occupy()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = w.Info(t.Context(), id)
	fails(t, err, securitykey.ErrInUse)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %s", took)
	}
	keys, err := w.List(t.Context())
	if err != nil || len(keys) != 1 || !errors.Is(keys[0].Problem, securitykey.ErrInUse) || keys[0].ID != id {
		t.Errorf("%+v, %v", keys, err)
	}
	release()
	if _, err := w.Info(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// Of several keys the one that is touched is meant; the others stop blinking, and
// can be used at once.
func TestTouchChooses(t *testing.T) {
	w := newWorld(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fingers := []*softkey.Finger{softkey.NewFinger(), softkey.NewFinger()}
	w.plug(0, softkey.New(softkey.Options{Name: "One", Touch: fingers[0].Touch, PIN: "1234"}))
	old := w.plug(1, softkey.New(softkey.Options{Name: "Two", Touch: fingers[1].Touch, Kind: softkey.U2FOnly}))
	made := make(chan securitykey.Registered, 1)
	failed := make(chan error, 1)
	told := make(chan string, 16)
	go func() {
		r := registration("")
		r.Progress = func(e securitykey.Event) { told <- e.Key.Product + " " + e.State }
		m, err := w.Register(ctx, r)
		made <- m
		failed <- err
	}()
	wanted := func(i int) *softkey.Wanted {
		t.Helper()
		ask, err := fingers[i].Wanted(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return ask
	}
	one, two := wanted(0), wanted(1)
	if both := []string{<-told, <-told}; !slices.Contains(both, "One touch") || !slices.Contains(both, "Two touch") {
		t.Errorf("%q", both)
	}
	two.Touch()
	select {
	case <-one.Over:
	case <-ctx.Done():
		t.Fatal("the other one blinks on")
	}
	two = wanted(1) // to register
	if e := <-told; e != "Two touch" {
		t.Errorf("%q", e)
	}
	two.Touch()
	m, err := <-made, <-failed
	if err != nil || m.Key.ID != old {
		t.Fatalf("%+v, %v", m, err)
	}
}

// A key that waits for its owner goes on with others, and stops when it is told to.
func TestF3CancelledWhileItBlinks(t *testing.T) {
	w := newWorld(t, 2)
	finger := softkey.NewFinger()
	id := w.plug(0, softkey.New(softkey.Options{Name: "Waits", Touch: finger.Touch}))
	other := w.plug(1, softkey.New(softkey.Options{Name: "Other"}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	operation, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	told := make(chan securitykey.Event, 8)
	go func() {
		r := registration(id)
		r.Progress = func(e securitykey.Event) { told <- e }
		_, err := w.Register(operation, r)
		ended <- err
	}()
	ask, err := finger.Wanted(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-told; e.State != securitykey.Touch || e.Key.ID != id || e.Key.Product != "Waits" {
		t.Errorf("%+v", e)
	}
	// Meanwhile: others, and the list, which says what it knew.
	w.register(registration(other))
	keys, err := w.List(ctx)
	if err != nil || len(keys) != 2 || keys[0].Problem != nil || keys[0].ID != id || keys[0].Firmware == "" {
		t.Errorf("%+v, %v", keys, err)
	}
	stop()
	fails(t, <-ended, securitykey.ErrCancelled)
	select {
	case <-ask.Over:
	default:
		t.Error("it blinks on")
	}
	// And when its owner does not come.
	brief, cancelBrief := context.WithTimeout(ctx, time.Second)
	defer cancelBrief()
	go func() {
		_, err := w.Register(brief, registration(id))
		ended <- err
	}()
	if ask, err = finger.Wanted(ctx); err != nil {
		t.Fatal(err)
	}
	fails(t, <-ended, securitykey.ErrTimedOut)
	<-ask.Over
	go func() {
		_, err := w.Register(ctx, registration(id))
		ended <- err
	}()
	if ask, err = finger.Wanted(ctx); err != nil {
		t.Fatal(err)
	}
	ask.TimeOut() // the key's own
	fails(t, <-ended, securitykey.ErrTimedOut)
}
