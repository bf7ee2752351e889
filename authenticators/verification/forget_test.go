package verification_test

import (
	"context"
	"errors"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/okta"
)

// Keys in another store than the PIN's, which is gone, would go on demanding the
// PIN of before: no new one is set beside them.
func TestAnchorGoneKeysLeft(t *testing.T) {
	o := verificationtest.Options()
	keys := o.Keys.(*verificationtest.Keys)
	s := withPIN(t, o)
	left := account(t, o, right)
	if err := keys.Delete(t.Context(), s.Keys()[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPIN(t.Context(), other, []devicekey.Ref{left.Ref()}); !errors.Is(err, verification.ErrInUse) {
		t.Fatal(err)
	}
	forget := func(ctx context.Context) error { return keys.Delete(ctx, left.Ref()) }
	if err := s.ForgetPIN(t.Context(), forget); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPIN(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	if err := try(t, s, other); err != nil {
		t.Error(err)
	}
}

// A forgotten PIN goes, with the keys that demand it and not before them: also
// in a pause, and when it was said wrong. Ways that stood back release keys again.
func TestForgetPIN(t *testing.T) {
	finger, _, o := methods()
	keys := o.Keys.(*verificationtest.Keys)
	var guarded devicekey.Key
	o.InUse = func(role okta.KeyType) bool {
		if role != bioOrPIN || guarded == nil {
			return false
		}
		_, err := keys.Open(t.Context(), guarded.Ref())
		return err == nil
	}
	s := open(t, o)
	enable(t, s)
	never := func(context.Context) error {
		t.Error("keys are deleted that no PIN guards")
		return nil
	}
	if err := s.ForgetPIN(t.Context(), never); !errors.Is(err, verification.ErrNotSetUp) {
		t.Fatal(err)
	}
	setPIN(t, s)
	guarded = account(t, o, right)
	v, err := s.Verify(t.Context(), verification.Request{Purpose: "p", Method: verification.PIN, PIN: right})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := try(t, s, wrong); err == nil {
			t.Fatal("a wrong PIN")
		}
	}
	broken := errors.New("the disk is full")
	if err := s.ForgetPIN(t.Context(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if err := s.ForgetPIN(t.Context(), func(context.Context) error { return nil }); !errors.Is(err, verification.ErrInUse) {
		t.Fatal(err)
	}
	if state := s.States(t.Context())[0]; state.State != "lockout" {
		t.Fatalf("%+v", state)
	}
	if err := s.ForgetPIN(t.Context(), func(ctx context.Context) error { return keys.Delete(ctx, guarded.Ref()) }); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Authorise(bioOrPIN); ok {
		t.Error("a verification by the old PIN is good still")
	}
	again := open(t, o)
	for _, s := range []*verification.Service{s, again} {
		if state := s.States(t.Context())[0]; state.State != "not_set" || len(s.Keys()) != 0 || len(keys.IDs()) != 0 {
			t.Errorf("%+v, %d keys", state, len(keys.IDs()))
		}
		if secret := released(t, s, finger.Name, bioOrPIN); len(secret) != 32 {
			t.Errorf("a finger releases %d bytes", len(secret))
		}
	}
}
