package verification_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/okta"
)

const bio = okta.KeyUserVerification

func methods() (finger, password *verificationtest.Method, o verification.Options) {
	finger = &verificationtest.Method{Name: verification.Fingerprint, Answer: verificationtest.Yes}
	password = &verificationtest.Method{Name: verification.Password, Answer: verificationtest.Yes}
	return finger, password, verificationtest.Options(finger, password)
}

// released is the secret for a role that a method releases; nil for none.
func released(t *testing.T, s *verification.Service, m verification.Method, role okta.KeyType) devicekey.Secret {
	t.Helper()
	v, err := s.Verify(t.Context(), verification.Request{Purpose: "p", Method: m, Fresh: true})
	if err != nil {
		return nil
	}
	auth, ok := v.Authorise(role)
	if ok == (len(auth.Secret) == 0) {
		t.Errorf("%v with %d bytes", ok, len(auth.Secret))
	}
	return auth.Secret
}

// A method releases what it may, when it is switched on and says yes.
func TestEscrow(t *testing.T) {
	finger, password, o := methods()
	s := open(t, o)
	if got := released(t, s, verification.Fingerprint, bio); got != nil || len(finger.Asked()) != 0 {
		t.Error("asked a method that is not switched on")
	}
	if len(s.Roles()) != 0 || len(s.Ready(t.Context(), bioOrPIN)) != 0 {
		t.Errorf("%v", s.Roles())
	}
	if err := s.Enable(t.Context(), verification.Password); err != nil {
		t.Fatal(err)
	}
	first := released(t, s, verification.Password, bioOrPIN)
	if len(first) != 32 || released(t, s, verification.Password, bio) != nil || !slices.Equal(s.Roles(), []okta.KeyType{bioOrPIN}) {
		t.Errorf("%d bytes, %v", len(first), s.Roles())
	}
	// Switching on another that would release the same keys takes both.
	asked := len(password.Asked())
	if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if len(password.Asked()) != asked+1 || len(finger.Asked()) != 1 || !finger.Asked()[0].Fresh {
		t.Error("nobody was asked")
	}
	if !bytes.Equal(released(t, s, verification.Fingerprint, bioOrPIN), first) {
		t.Error("another secret for the same role")
	}
	second := released(t, s, verification.Fingerprint, bio)
	if len(second) != 32 || bytes.Equal(first, second) || released(t, s, verification.Password, bio) != nil {
		t.Error("a password has released a biometric key")
	}
	if !slices.Equal(s.Roles(), []okta.KeyType{bio, bioOrPIN}) {
		t.Errorf("%v", s.Roles())
	}
	if got := s.Ready(t.Context(), bio); !slices.Equal(got, []verification.Method{verification.Fingerprint}) {
		t.Errorf("ready: %v", got)
	}
	finger.Health = "absent"
	if got := s.Ready(t.Context(), bioOrPIN); !slices.Equal(got, []verification.Method{verification.Password}) {
		t.Errorf("ready without a reader: %v", got)
	}
	finger.Health = ""
	again := open(t, o) // secrets survive a restart
	if !bytes.Equal(released(t, again, verification.Fingerprint, bio), second) {
		t.Error("another secret after a restart")
	}
	finger.Answer = nil
	if released(t, again, verification.Fingerprint, bio) != nil {
		t.Error("released without a yes")
	}
}

// What does not verify now is not switched on, and neither is what its elder
// does not agree to, nor what would release nothing.
func TestEnableRefuses(t *testing.T) {
	finger, password, o := methods()
	s := open(t, o)
	finger.Answer = nil
	if err := s.Enable(t.Context(), verification.Fingerprint); !errors.Is(err, verification.ErrWrong) || len(s.Roles()) != 0 {
		t.Error(err)
	}
	for _, m := range []verification.Method{verification.PIN, verification.SecurityKey, "", "shout"} {
		if err := s.Enable(t.Context(), m); !errors.Is(err, verification.ErrAbsent) {
			t.Errorf("%q: %v", m, err)
		}
	}
	finger.Answer = verificationtest.Yes
	if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if err := s.Enable(t.Context(), verification.Fingerprint); err != nil || len(finger.Asked()) != 2 {
		t.Errorf("a second time: %v, asked %d times", err, len(finger.Asked()))
	}
	finger.Answer = nil
	if err := s.Enable(t.Context(), verification.Password); !errors.Is(err, verification.ErrWrong) || len(password.Asked()) != 0 {
		t.Errorf("without its elder: %v", err)
	}
	finger.Health = "absent"
	if err := s.Enable(t.Context(), verification.Password); !errors.Is(err, verification.ErrAbsent) {
		t.Errorf("its elder is broken: %v", err)
	}
	_, _, o = methods()
	s = withPIN(t, o)
	if err := s.Enable(t.Context(), verification.Password); !errors.Is(err, verification.ErrNoUse) {
		t.Errorf("where the PIN guards: %v", err)
	}
	if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
		t.Error(err)
	}
	if released(t, s, verification.Fingerprint, bio) == nil || released(t, s, verification.Fingerprint, bioOrPIN) != nil {
		t.Error("a finger releases its own role, and not the PIN's")
	}
}

func TestDisable(t *testing.T) {
	_, _, o := methods()
	used := map[okta.KeyType]bool{bio: true, bioOrPIN: true}
	o.InUse = func(role okta.KeyType) bool { return used[role] }
	s := open(t, o)
	for _, m := range []verification.Method{verification.Fingerprint, verification.Password} {
		if err := s.Enable(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	secret := released(t, s, verification.Password, bioOrPIN)
	if err := s.Disable(t.Context(), verification.Fingerprint); !errors.Is(err, verification.ErrInUse) || released(t, s, verification.Fingerprint, bio) == nil {
		t.Errorf("keys depend on it: %v", err)
	}
	used[bio] = false
	if err := s.Disable(t.Context(), verification.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Roles(), []okta.KeyType{bioOrPIN}) || released(t, s, verification.Fingerprint, bioOrPIN) != nil {
		t.Error("still there")
	}
	if !bytes.Equal(released(t, s, verification.Password, bioOrPIN), secret) {
		t.Error("the other method's secret has changed")
	}
	if err := s.Disable(t.Context(), verification.Password); !errors.Is(err, verification.ErrInUse) {
		t.Errorf("the last one: %v", err)
	}
	o.InUse = nil // nobody can tell
	if err := open(t, o).Disable(t.Context(), verification.Password); !errors.Is(err, verification.ErrInUse) {
		t.Errorf("nobody can tell: %v", err)
	}
	used[bioOrPIN] = false
	for range 2 {
		if err := s.Disable(t.Context(), verification.Password); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Roles()) != 0 {
		t.Errorf("%v", s.Roles())
	}
}

// account makes a key of an account that demands a secret.
func account(t *testing.T, o verification.Options, secret devicekey.Secret) devicekey.Key {
	t.Helper()
	k, _, err := o.Keys.Create(t.Context(), devicekey.Spec{Role: bioOrPIN, UserVerification: true, Authorisation: devicekey.Authorisation{Secret: secret}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func accepts(t *testing.T, k devicekey.Key, secret devicekey.Secret) bool {
	t.Helper()
	_, err := k.Sign(t.Context(), make([]byte, 32), devicekey.Authorisation{Secret: secret})
	if err != nil && !errors.Is(err, devicekey.ErrUnauthorised) {
		t.Fatal(err)
	}
	return err == nil
}

// A PIN takes the place of the escrowed secret, for all keys, once a method that
// releases it has verified the user. Methods that release nothing more are
// switched off; without the PIN there is an escrowed secret again.
func TestPINTakesOverFromEscrow(t *testing.T) {
	finger, password, o := methods()
	s := open(t, o)
	for _, m := range []verification.Method{verification.Password, verification.Fingerprint} {
		if err := s.Enable(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	secret := slices.Clone(released(t, s, verification.Fingerprint, bioOrPIN))
	k := account(t, o, secret)
	refs := []devicekey.Ref{k.Ref()}
	finger.Answer, password.Answer = nil, nil
	if err := s.SetPIN(t.Context(), right, refs); !errors.Is(err, verification.ErrWrong) || !accepts(t, k, secret) {
		t.Errorf("set by nobody: %v", err)
	}
	finger.Answer = verificationtest.Yes
	if err := s.SetPIN(t.Context(), right, refs); err != nil {
		t.Fatal(err)
	}
	if accepts(t, k, secret) || !accepts(t, k, right) {
		t.Error("the key demands the old secret")
	}
	if got := s.Ready(t.Context(), bioOrPIN); !slices.Equal(got, []verification.Method{verification.PIN}) {
		t.Errorf("ready: %v", got)
	}
	if released(t, s, verification.Fingerprint, bioOrPIN) != nil || released(t, s, verification.Fingerprint, bio) == nil {
		t.Error("a finger releases what the PIN guards, or nothing")
	}
	if states := s.States(t.Context()); states[2].State != "not_set" || states[2].Hint == "" {
		t.Errorf("the password: %+v", states[2])
	}
	o.Keys.Delete(t.Context(), k.Ref())
	if err := s.RemovePIN(t.Context(), right); err != nil {
		t.Fatal(err)
	}
	if got := released(t, s, verification.Fingerprint, bioOrPIN); len(got) != 32 || bytes.Equal(got, secret) {
		t.Error("no new secret")
	}
	if ids := o.Keys.(*verificationtest.Keys).IDs(); len(ids) != 0 || len(s.Keys()) != 0 {
		t.Errorf("keys left: %v, %v", ids, s.Keys())
	}
	if err := open(t, verificationtest.Options()).SetPIN(t.Context(), right, refs); err == nil {
		t.Error("keys were to change from no secret at all")
	}
}

// A PIN whose anchor is gone with its key store can be set anew; one whose key
// store is merely unwell cannot.
func TestAnchorGone(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"cleared":      {&devicekey.StateError{State: devicekey.State{State: devicekey.Cleared}}, nil},
		"other device": {&devicekey.StateError{State: devicekey.State{State: devicekey.OtherDevice}}, nil},
		"deleted":      {devicekey.ErrNotFound, nil},
		"busy":         {&devicekey.StateError{State: devicekey.State{State: devicekey.Busy}}, verification.ErrPINSet},
		"lockout":      {&devicekey.StateError{State: devicekey.State{State: devicekey.Lockout}}, verification.ErrPINSet},
		"locked":       {devicekey.ErrLocked, verification.ErrPINSet},
		"unknown":      {errors.New("what?"), verification.ErrPINSet},
	} {
		o := verificationtest.Options()
		keys := o.Keys.(*verificationtest.Keys)
		s := withPIN(t, o)
		old := s.Keys()[0].ID
		keys.Fail = func(operation, id string) error {
			if operation == "open" && id == old {
				return c.err
			}
			return nil
		}
		if state := s.States(t.Context())[0]; state.State == "ready" || state.Hint == "" {
			t.Errorf("%s: %+v", name, state)
		}
		if c.want == nil {
			remove := open(t, verification.Options{Rooms: copied(o), Keys: keys, InUse: o.InUse})
			if err := remove.RemovePIN(t.Context(), nil); err != nil || len(remove.Roles()) != 0 {
				t.Errorf("%s: not removed: %v", name, err)
			}
		} else if err := s.RemovePIN(t.Context(), wrong); err == nil {
			t.Errorf("%s: removed by a wrong PIN", name)
		}
		if err := s.SetPIN(t.Context(), other, nil); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == nil {
			if err := try(t, s, other); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := try(t, s, right); !errors.Is(err, verification.ErrWrong) {
				t.Errorf("%s: the old PIN: %v", name, err)
			}
		}
	}
}

func copied(o verification.Options) *verificationtest.Rooms {
	rooms := &verificationtest.Rooms{}
	rooms.Restore(o.Rooms.(*verificationtest.Rooms).Copy())
	return rooms
}

// The vault may lock, and a method may be switched off, while the person is
// asked: then a yes releases nothing.
func TestC4ChangedWhileAsking(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*verification.Service, verification.Options)
		want error
	}{
		"locked": {func(_ *verification.Service, o verification.Options) {
			o.Rooms.(*verificationtest.Rooms).SetLocked(true)
		}, devicekey.ErrLocked},
		"switched off": {func(s *verification.Service, _ verification.Options) {
			_ = s.Disable(context.Background(), verification.Fingerprint)
		}, verification.ErrNotSetUp},
	} {
		finger, _, o := methods()
		s := open(t, o)
		if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
			t.Fatal(err)
		}
		finger.Answer = func(context.Context, verification.Request) error { c.do(s, o); return nil }
		v, err := s.Verify(t.Context(), verification.Request{Purpose: "p"})
		if _, ok := v.Authorise(bio); !errors.Is(err, c.want) || ok || v.For("p") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// C4: the request that reaches a method carries no PIN.
func TestMethodsSeeNoPIN(t *testing.T) {
	finger, _, o := methods()
	s := open(t, o)
	if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(t.Context(), verification.Request{Purpose: "p", Method: verification.Fingerprint, PIN: right}); err != nil {
		t.Fatal(err)
	}
	for _, r := range finger.Asked() {
		if len(r.PIN) != 0 || r.Method != verification.Fingerprint {
			t.Errorf("%+v", r)
		}
	}
}

// Everything at once: nothing but the right PIN verifies, and in the end one PIN
// holds, for the service and the key.
func TestEverythingAtOnce(t *testing.T) {
	finger, _, o := methods()
	finger.Answer = verificationtest.Yes
	o.Grace = time.Minute
	s := withPIN(t, o)
	k := account(t, o, right)
	refs := []devicekey.Ref{k.Ref()}
	var wg sync.WaitGroup
	// A verification ends with a change of PIN or methods; without one it stands.
	var begun, ended atomic.Int64
	changing := func(do func()) func() {
		return func() {
			begun.Add(1)
			do()
			ended.Add(1)
		}
	}
	for _, do := range []func(){
		changing(func() { s.ChangePIN(t.Context(), right, other, refs) }),
		changing(func() { s.ChangePIN(t.Context(), other, right, refs) }),
		func() {
			over := ended.Load()
			v, err := s.Verify(t.Context(), verification.Request{Purpose: "p", PIN: right})
			v.Authorise(bioOrPIN)
			v.Wipe()
			stands := v.For("p")
			changed := begun.Load() != over // one begins, or was under way
			if stands && err != nil || !stands && err == nil && !changed {
				t.Errorf("stands: %t, error: %v", stands, err)
			}
		},
		func() { s.Verify(t.Context(), verification.Request{Purpose: "p"}) },
		changing(func() { s.Enable(t.Context(), verification.Fingerprint) }),
		changing(func() { s.Disable(t.Context(), verification.Fingerprint) }),
		func() { s.Verify(t.Context(), verification.Request{Purpose: "p", Method: verification.Fingerprint}) },
		func() { s.States(t.Context()); s.Ready(t.Context(), bioOrPIN); s.Roles(); s.Keys() },
		s.Forget,
	} {
		wg.Go(func() {
			for range 50 {
				do()
			}
		})
	}
	wg.Wait()
	// Tries may be paused by now; the key tells which PIN it is.
	is := right
	if accepts(t, k, other) {
		is = other
	}
	if !accepts(t, k, is) {
		t.Fatal("the key is lost")
	}
	anchor, err := o.Keys.Open(t.Context(), s.Keys()[0])
	if err != nil || !accepts(t, anchor, is) {
		t.Errorf("the service and the key demand different PINs: %v", err)
	}
}

// two is a key store of two kinds. A change may be cut short between them.
type two struct {
	*verificationtest.Keys                        // of new keys
	software               *verificationtest.Keys // of older ones
	cut                    bool
}

func (s *two) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	if ref.Kind == devicekey.KindSoftware {
		return s.software.Open(ctx, ref)
	}
	return s.Keys.Open(ctx, ref)
}

func (s *two) Reauthorise(ctx context.Context, refs []devicekey.Ref, from, to devicekey.Authorisation) error {
	var soft, rest []devicekey.Ref
	for _, ref := range refs {
		if ref.Kind == devicekey.KindSoftware {
			soft = append(soft, ref)
		} else {
			rest = append(rest, ref)
		}
	}
	if err := s.software.Reauthorise(ctx, soft, from, to); err != nil {
		return err
	}
	if s.cut {
		return errCrash
	}
	return s.Keys.Reauthorise(ctx, rest, from, to)
}

// A change that was cut short between two kinds of stores is finished by making
// it again.
func TestChangeCutShortBetweenKinds(t *testing.T) {
	o := verificationtest.Options()
	store := &two{Keys: &verificationtest.Keys{Kind: devicekey.KindTPM}, software: &verificationtest.Keys{}}
	o.Keys = store
	s := withPIN(t, o)
	young := account(t, o, right)
	old := account(t, verification.Options{Keys: store.software}, right)
	foreign := account(t, verification.Options{Keys: store.software}, wrong)
	refs := []devicekey.Ref{young.Ref(), old.Ref()}
	store.cut = true
	if err := s.ChangePIN(t.Context(), right, other, refs); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	store.cut = false
	s = open(t, o)
	if accepts(t, young, other) || !accepts(t, old, other) {
		t.Fatal("not what this test is about")
	}
	if err := s.ChangePIN(t.Context(), right, other, append(refs, foreign.Ref())); !errors.Is(err, devicekey.ErrUnauthorised) {
		t.Errorf("with a key that demands neither: %v", err)
	}
	if err := s.ChangePIN(t.Context(), right, other, refs); err != nil {
		t.Fatal(err)
	}
	if err := try(t, s, other); err != nil || !accepts(t, young, other) || !accepts(t, old, other) {
		t.Errorf("not finished: %v", err)
	}
}
