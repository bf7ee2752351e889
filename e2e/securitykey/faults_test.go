//go:build linux

package securitykey_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/e2e/softkey"
)

// known are the errors that an operation may end with: each is one that a person
// can be told about.
var known = []error{
	securitykey.ErrNoKey, securitykey.ErrRemoved, securitykey.ErrOtherKey, securitykey.ErrPIN, securitykey.ErrPINNeeded, securitykey.ErrPINNotSet,
	securitykey.ErrPINRefused, securitykey.ErrNotAllowed, securitykey.ErrNoCredential, securitykey.ErrExcluded, securitykey.ErrFull,
	securitykey.ErrTimedOut, securitykey.ErrCancelled, securitykey.ErrUnsupported, securitykey.ErrInUse, securitykey.ErrHelper, securitykey.ErrBadKey,
}

func typed(err error) bool {
	for _, k := range known {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// slow has every fault at every step, as make test-slow does.
var slow = os.Getenv("COUNTERSIGN_SLOW") == "1"

const (
	brief = 1200 * time.Millisecond // what a faulty operation is given
	slack = 4 * time.Second         // what its end may take beyond, with the processor shared
)

// bay is a hub with a key in it, and a credential of the key.
type bay struct {
	w    *world
	k    *softkey.Key
	made securitykey.Registered
	dead bool
}

// use has the key go through a step.
func (b *bay) use(ctx context.Context, id string, step softkey.Step) error {
	switch step {
	case softkey.StepInfo, softkey.StepInit:
		_, err := b.w.Info(ctx, id)
		return err
	case softkey.StepMake:
		_, err := b.w.Register(ctx, registration(id))
		return err
	}
	a := assertion(id, b.made.CredentialID)
	if step != softkey.StepAssert {
		a.Verification, a.PIN = securitykey.Required, secret("1234")
	}
	got, err := b.w.Assert(ctx, a)
	if err != nil {
		return err
	}
	if b.made.Counter, err = verify(got, b.made, a); err != nil {
		return fmt.Errorf("%w: %w", securitykey.ErrBadKey, err)
	}
	return nil
}

// Whatever is wrong with what a key answers, the operation ends with an error of
// its own kind within its deadline, or is right; and once the key behaves, the next
// one works.
func TestF1F3EveryFault(t *testing.T) {
	bays := make(chan *bay, 8)
	for range cap(bays) {
		bays <- newBay(t, softkey.Options{PIN: "1234", MakeWithoutPIN: true, TouchTime: 500 * time.Millisecond})
	}
	steps := []softkey.Step{softkey.StepInfo, softkey.StepMake, softkey.StepAssert, softkey.StepPINAgreement, softkey.StepPINToken}
	t.Run("all", func(t *testing.T) {
		for i, f := range softkey.AllFaults() {
			at := steps
			if !slow { // where it is asked for most, and at one other step each
				at = []softkey.Step{softkey.StepAssert, steps[[]int{0, 1, 3, 4}[i%4]]}
			}
			for _, step := range at {
				if f.Name == softkey.WrongNonce.Name {
					step = softkey.StepInit
				}
				t.Run(fmt.Sprint(f.Name, " at ", step), func(t *testing.T) {
					t.Parallel()
					b := <-bays
					defer func() { bays <- b }()
					b.suffer(t, f, softkey.When{Step: step, Times: 1}, step)
				})
				if f.Name == softkey.WrongNonce.Name {
					break
				}
			}
		}
	})
}

// The key is pulled out at each message of each operation, one after the other: at
// each before it is done, when it blinks, and amid and after the answer.
func TestF3UnpluggedAtEveryStep(t *testing.T) {
	bays := make(chan *bay, 8)
	for range cap(bays) {
		bays <- newBay(t, softkey.Options{PIN: "1234", MakeWithoutPIN: true, TouchTime: 500 * time.Millisecond})
	}
	t.Run("all", func(t *testing.T) {
		uses := []softkey.Step{softkey.StepInfo, softkey.StepMake, softkey.StepAssert, softkey.StepPINToken}
		if !slow { // the last has all messages of the others but the making
			uses = []softkey.Step{softkey.StepMake, softkey.StepPINToken}
		}
		for _, use := range uses {
			// As many as there are when all goes well.
			b := <-bays
			id := b.id(t)
			b.k.Steps()
			if err := b.use(t.Context(), id, use); err != nil {
				t.Fatal(err)
			}
			messages := len(b.k.Steps())
			bays <- b
			if messages < 3 {
				t.Fatalf("%d messages", messages)
			}
			for _, f := range softkey.UnplugFaults {
				for n := range messages {
					t.Run(fmt.Sprintf("%s, message %d of %s", f.Name, n, use), func(t *testing.T) {
						t.Parallel()
						b := <-bays
						defer func() { bays <- b }()
						b.suffer(t, f, softkey.When{Skip: n, Times: 1}, use)
					})
				}
			}
		}
	})
}

// suffer has a use of the key go wrong, and the next one right.
func (b *bay) suffer(t *testing.T, f softkey.Fault, when softkey.When, step softkey.Step) {
	t.Helper()
	id := b.id(t)
	b.k.Break(f, when)
	pulls := slices.ContainsFunc(softkey.UnplugFaults, func(u softkey.Fault) bool { return u.Name == f.Name })
	given := brief
	if pulls { // nothing hangs then: it is found out long before
		given = 4 * brief
	}
	ctx, cancel := context.WithTimeout(t.Context(), given)
	defer cancel()
	began := time.Now()
	err := b.use(ctx, id, step)
	took := time.Since(began)
	happened := b.k.Mend()
	b.dead = f.Name == softkey.Dead.Name
	t.Logf("%v after %s", err, took)
	if took > given+slack {
		t.Errorf("it took %s", took)
	}
	switch {
	case err != nil && !typed(err):
		t.Errorf("no error that a person can be told about: %v", err)
	case happened == 0:
		t.Error("it did not happen")
	case f.Name == softkey.UnplugMidAnswer.Name && errors.Is(err, securitykey.ErrBadKey):
		// Half an answer is that, if the plug is out only a while later.
	case pulls && err != nil && !errors.Is(err, securitykey.ErrRemoved):
		t.Errorf("%v, want that it was pulled out", err)
	}
	if pulls {
		select {
		case <-b.w.hub.Port(0).Gone():
		case <-time.After(2 * time.Second): // not all faults can happen at all messages
		}
	}
	b.plug(t)
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.use(ctx, b.id(t), step); err != nil {
		t.Errorf("and then: %v", err)
	}
}

// plug plugs the key in again, if it is out or dead; a key that goes on is left
// alone, so that what it does next shows what it has become.
func (b *bay) plug(t *testing.T) {
	t.Helper()
	select {
	case <-b.w.hub.Port(0).Gone():
	default:
		if !b.dead {
			return
		}
	}
	b.dead = false
	if _, err := b.w.hub.Plug(0, b.k); err != nil {
		t.Fatal(err)
	}
}

func (b *bay) id(t *testing.T) string {
	t.Helper()
	b.plug(t)
	return b.w.idIn(t, 0)
}

func newBay(t *testing.T, o softkey.Options) *bay {
	t.Helper()
	b := &bay{w: newWorld(t, 1), k: softkey.New(o)}
	b.made = b.w.register(registration(b.w.plug(0, b.k)))
	return b
}
