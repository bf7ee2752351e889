package tpm

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// another is the secret of another program in the same TPM: a key under the
// dictionary-attack protection that everybody shares.
type another struct {
	x    *tpmtest.TPM
	load tpm2.Load
}

func anotherProgram(t *testing.T, x *tpmtest.TPM) *another {
	t.Helper()
	a := &another{x: x}
	a.withRoot(t, func(root tpm2.NamedHandle) error {
		rsp, err := tpm2.Create{
			ParentHandle: root, InPublic: tpm2.New2B(template(false)),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte("disk")}}},
		}.Execute(x)
		if err == nil {
			a.load = tpm2.Load{InPrivate: rsp.OutPrivate, InPublic: rsp.OutPublic}
		}
		return err
	})
	return a
}

func (a *another) withRoot(t *testing.T, do func(tpm2.NamedHandle) error) {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(a.x)
	if err != nil {
		t.Fatal(err)
	}
	if err := do(tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}); err != nil {
		t.Error(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(a.x); err != nil {
		t.Error(err)
	}
}

// works uses the other program's key: it would not if the TPM were locked.
func (a *another) works(t *testing.T) {
	t.Helper()
	a.withRoot(t, func(root tpm2.NamedHandle) error {
		a.load.ParentHandle = root
		rsp, err := a.load.Execute(a.x)
		if err != nil {
			return err
		}
		defer tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(a.x)
		_, err = tpm2.Sign{
			KeyHandle:  tpm2.AuthHandle{Handle: rsp.ObjectHandle, Name: rsp.Name, Auth: tpm2.PasswordAuth([]byte("disk"))},
			Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
			InScheme:   ecdsaSHA256,
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(a.x)
		if err != nil {
			return fmt.Errorf("another program's key: %w", err)
		}
		return nil
	})
}

// C13: a hundred wrong PINs, by an agent that is started again and again and
// whose state is put back: the TPM goes on counting, and refuses; and we stop one
// try before it would lock everybody else out.
func TestC13WrongPINs(t *testing.T) {
	for _, limits := range []tpmtest.Lockout{
		{Max: 3, Interval: 1000, Recovery: 1000}, // swtpm's own
		{Max: 32, Interval: 7200, Recovery: 86400},
	} {
		t.Run(fmt.Sprintf("limit %d", limits.Max), func(t *testing.T) {
			x, rooms := tpmtest.New(t), newRooms()
			if err := x.SetLockout(limits.Max, limits.Interval, limits.Recovery); err != nil {
				t.Fatal(err)
			}
			other := anotherProgram(t, x)
			c := open(t, x)
			s := NewStore(c, rooms)
			guarded, silent := mustCreate(t, s, guard), mustCreate(t, s, quiet)
			before := maps.Clone(rooms.rooms)
			wrong, refused := uint32(0), 0
			for i := range 100 {
				if i%10 == 0 {
					_ = c.Close()
					if err := x.Restart(); err != nil {
						t.Fatal(err)
					}
					rooms.rooms = maps.Clone(before)
					c = open(t, x)
					s = NewStore(c, rooms)
				}
				k, err := s.Open(t.Context(), guarded.ref)
				if err != nil {
					t.Fatal(err)
				}
				err = signs(t.Context(), k, devicekey.Authorisation{Secret: devicekey.Secret(fmt.Sprintf("%06d", i))})
				switch {
				case errors.Is(err, devicekey.ErrUnauthorised):
					wrong++
					state := s.State(t.Context())
					if wrong < limits.Max-1 && (state.State != devicekey.Ready || state.Left != int(limits.Max-1-wrong)) || wrong == limits.Max-1 && state.State != devicekey.Lockout {
						t.Errorf("after %d wrong ones: %+v", wrong, state)
					}
				case errors.Is(err, devicekey.ErrTooManyTries):
					refused++
					e := mustBe(t, err, devicekey.Lockout)
					if wait := time.Until(e.State.Until); wait <= 0 || wait > time.Duration(limits.Interval)*time.Second {
						t.Errorf("until %s, in %s", e.State.Until, wait)
					}
				default:
					t.Fatalf("try %d: %v", i, err)
				}
			}
			if wrong != limits.Max-1 || refused != 100-int(limits.Max-1) {
				t.Errorf("%d wrong tries, %d refused", wrong, refused)
			}
			if l, err := x.Lockout(); err != nil || l.Counter != limits.Max-1 {
				t.Errorf("the TPM has counted %+v, %v", l, err)
			}
			// Not even the right one: it might be wrong. But others go on.
			k, err := s.Open(t.Context(), guarded.ref)
			if err != nil {
				t.Fatal(err)
			}
			mustBe(t, signs(t.Context(), k, pin), devicekey.Lockout)
			mustBe(t, s.Reauthorise(t.Context(), []devicekey.Ref{guarded.ref}, pin, newPIN), devicekey.Lockout)
			if state := s.State(t.Context()); state.State != devicekey.Lockout || state.Until.IsZero() || state.Hint == "" {
				t.Errorf("%+v", state)
			}
			k, err = s.Open(t.Context(), silent.ref)
			if err != nil {
				t.Fatal(err)
			}
			if err := signs(t.Context(), k, devicekey.Authorisation{}); err != nil {
				t.Errorf("a silent key: %v", err)
			}
			_ = c.Close()
			other.works(t)
			if err := x.ResetLockout(); err != nil {
				t.Fatal(err)
			}
			c = open(t, x)
			if k, err = NewStore(c, rooms).Open(t.Context(), guarded.ref); err != nil {
				t.Fatal(err)
			}
			if err := signs(t.Context(), k, pin); err != nil {
				t.Errorf("when it has forgotten: %v", err)
			}
		})
	}
}

// What is left of the count is asked for, though silent keys have shown that the
// TPM is well.
func TestCountIsAskedFor(t *testing.T) {
	x := tpmtest.New(t)
	if err := x.SetLockout(10, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	s := NewStore(open(t, x), newRooms())
	k := mustCreate(t, s, quiet)
	if err := signs(t.Context(), k, devicekey.Authorisation{}); err != nil {
		t.Fatal(err)
	}
	if state := s.State(t.Context()); state.State != devicekey.Ready || state.Left != 9 {
		t.Errorf("%+v", state)
	}
}

// C13: a TPM that others have locked is said to be, until when, and is not
// tried.
func TestC13LockedByOthers(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	guarded, silent := mustCreate(t, s, guard), mustCreate(t, s, quiet)
	for range 3 { // with a try of another kind than ours
		_ = c.Close()
		other := anotherProgram(t, x)
		other.withRoot(t, func(root tpm2.NamedHandle) error {
			other.load.ParentHandle = root
			rsp, err := other.load.Execute(x)
			if err != nil {
				return err
			}
			defer tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(x)
			_, err = tpm2.Sign{
				KeyHandle: tpm2.AuthHandle{Handle: rsp.ObjectHandle, Name: rsp.Name, Auth: tpm2.PasswordAuth([]byte("no"))},
				Digest:    tpm2.TPM2BDigest{Buffer: digest[:]}, InScheme: ecdsaSHA256,
				Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
			}.Execute(x)
			if !errors.Is(err, tpm2.TPMRCAuthFail) && !errors.Is(err, tpm2.TPMRCLockout) {
				return fmt.Errorf("a wrong try: %w", err)
			}
			return nil
		})
		c = open(t, x)
		m = &meddler{door: c.door}
		c.door = m
		s = NewStore(c, s.rooms)
	}
	k, err := s.Open(t.Context(), guarded.ref)
	if err != nil {
		t.Fatal(err)
	}
	if e := mustBe(t, signs(t.Context(), k, pin), devicekey.Lockout); e.State.Until.IsZero() {
		t.Error("nobody says until when")
	}
	for _, code := range m.passed() {
		if code == tpm2.TPMCCSign {
			t.Error("tried")
		}
	}
	if k, err = s.Open(t.Context(), silent.ref); err != nil {
		t.Fatal(err)
	}
	if err := signs(t.Context(), k, devicekey.Authorisation{}); err != nil {
		t.Errorf("a silent key: %v", err)
	}
}

// C13: a try whose answer is lost is not made again: it may have been counted.
func TestC13LostAnswerIsOneTry(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	k := mustCreate(t, s, guard)
	if err := signs(t.Context(), k, pin); err != nil { // in use, so that it would be tried afresh
		t.Fatal(err)
	}
	sent := 0
	m.reset(func(e *exchange) ([]byte, error) {
		answer, err := e.pass()
		if e.code == tpm2.TPMCCSign {
			sent++
			return nil, errors.New("lost")
		}
		return answer, err
	})
	mustBe(t, signs(t.Context(), k, newPIN), devicekey.Unavailable)
	if l, err := x.Lockout(); err != nil || l.Counter != 1 || sent != 1 {
		t.Errorf("sent %d times, counted %d, %v", sent, l.Counter, err)
	}
}
