package verification_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/okta"
)

// again asks without a PIN: only grace can answer that.
func again(t *testing.T, s *verification.Service, purpose string) (verification.Verified, bool) {
	t.Helper()
	v, err := s.Verify(t.Context(), verification.Request{Purpose: purpose})
	if (err == nil) != v.For(purpose) {
		t.Errorf("%v with %v", err, v.For(purpose))
	}
	return v, err == nil
}

// Without grace nothing is kept.
func TestNoGraceByDefault(t *testing.T) {
	s := withPIN(t, verificationtest.Options())
	if err := try(t, s, right); err != nil {
		t.Fatal(err)
	}
	if _, ok := again(t, s, "other"); ok {
		t.Error("verified without asking")
	}
}

func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := verificationtest.Options()
		o.Grace = 5 * time.Minute
		s := withPIN(t, o)
		if _, ok := again(t, s, "before"); ok {
			t.Error("setting a PIN has verified somebody")
		}
		start := time.Now()
		first, err := s.Verify(t.Context(), verification.Request{Purpose: "first", PIN: right})
		if err != nil {
			t.Fatal(err)
		}
		first.Wipe()
		time.Sleep(5*time.Minute - time.Second)
		second, ok := again(t, s, "second")
		if !ok || second.For("first") || second.Method() != verification.PIN || !second.At().Equal(start) {
			t.Fatalf("%v, at %s", ok, second.At())
		}
		if auth, ok := second.Authorise(bioOrPIN); !ok || !bytes.Equal(auth.Secret, right) {
			t.Error("another's wipe has wiped this one, or nothing is released")
		}
		second.Wipe()
		if third, ok := again(t, s, "third"); !ok {
			t.Error("grace ended early")
		} else if auth, _ := third.Authorise(bioOrPIN); !bytes.Equal(auth.Secret, right) {
			t.Error("wiping what was given out has wiped what is kept")
		}
		// Taking it does not prolong it.
		time.Sleep(time.Second)
		if _, ok := again(t, s, "late"); ok {
			t.Error("grace has no end")
		}
	})
}

// What ends grace early, and what it is not good for.
func TestGraceEnds(t *testing.T) {
	finger := &verificationtest.Method{Name: verification.Fingerprint, Answer: verificationtest.Yes}
	for name, c := range map[string]struct {
		do   func(t *testing.T, s *verification.Service, o verification.Options)
		want bool // still verified
	}{
		"nothing happens": {func(*testing.T, *verification.Service, verification.Options) {}, true},
		"screen locks":    {func(_ *testing.T, s *verification.Service, _ verification.Options) { s.Forget() }, false},
		"vault locks": {func(t *testing.T, s *verification.Service, o verification.Options) {
			rooms := o.Rooms.(*verificationtest.Rooms)
			rooms.SetLocked(true)
			if _, ok := again(t, s, "locked"); ok {
				t.Error("verified with the vault locked")
			}
			rooms.SetLocked(false)
		}, false},
		"wrong PIN": {func(t *testing.T, s *verification.Service, _ verification.Options) { try(t, s, wrong) }, false},
		"PIN changed": {func(t *testing.T, s *verification.Service, _ verification.Options) {
			if err := s.ChangePIN(t.Context(), right, other, nil); err != nil {
				t.Error(err)
			}
		}, false},
		"method switched on": {func(t *testing.T, s *verification.Service, _ verification.Options) {
			if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
				t.Error(err)
			}
		}, false},
		"room unreadable": {func(t *testing.T, s *verification.Service, o verification.Options) {
			rooms := o.Rooms.(*verificationtest.Rooms)
			rooms.Fail = func(string, string) error { return errors.New("disk") }
			if _, ok := again(t, s, "unreadable"); ok {
				t.Error("verified without state")
			}
			rooms.Fail = nil
		}, false},
		"asked for another method": {func(t *testing.T, s *verification.Service, _ verification.Options) {
			if _, err := s.Verify(t.Context(), verification.Request{Purpose: "p", Method: verification.Fingerprint}); err == nil {
				t.Error("one method's grace has served another")
			}
		}, true},
		"fresh": {func(t *testing.T, s *verification.Service, _ verification.Options) {
			if _, err := s.Verify(t.Context(), verification.Request{Purpose: "p", Fresh: true}); err == nil {
				t.Error("grace has served what must be fresh")
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := verificationtest.Options(finger)
			o.Grace = time.Minute
			s := withPIN(t, o)
			if err := try(t, s, right); err != nil {
				t.Fatal(err)
			}
			c.do(t, s, o)
			if _, ok := again(t, s, "after"); ok != c.want {
				t.Errorf("verified: %v", ok)
			}
		})
	}
}

// A machine that slept through the grace has none left, whichever clock stood
// still; nor has one whose clock was set back.
func TestGraceWatchesBothClocks(t *testing.T) {
	for name, step := range map[string]time.Duration{"slept": time.Hour, "set back": -time.Hour} {
		o := verificationtest.Options()
		o.Grace = time.Minute
		wall := time.Now().Round(0)
		o.Now = func() time.Time { return wall }
		s := withPIN(t, o)
		v, err := s.Verify(t.Context(), verification.Request{Purpose: "p", PIN: right})
		if err != nil {
			t.Fatal(err)
		}
		wall = wall.Add(step)
		if _, ok := again(t, s, "after"); ok {
			t.Errorf("%s: verified", name)
		}
		if _, ok := v.Authorise(bioOrPIN); ok || v.For("p") {
			t.Errorf("%s: a verification holds", name)
		}
	}
}

// A verification is good for two minutes, in every respect.
func TestVerifiedExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withPIN(t, verificationtest.Options())
		v, err := s.Verify(t.Context(), verification.Request{Purpose: "p", PIN: right})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Minute - 1)
		if _, ok := v.Authorise(bioOrPIN); !ok || !v.For("p") {
			t.Error("expired early")
		}
		time.Sleep(time.Nanosecond)
		if _, ok := v.Authorise(bioOrPIN); ok || v.For("p") {
			t.Error("not expired")
		}
	})
	var zero verification.Verified
	if _, ok := zero.Authorise(bioOrPIN); ok || zero.For("") || zero.For("p") || zero.Method() != "" {
		t.Error("nothing verifies")
	}
	zero.Wipe()
}

// A verification that was given out before a change of the PIN or the methods is
// good for nothing afterwards: keys made with it would demand what was.
func TestVerifiedEndsWithAChange(t *testing.T) {
	finger := &verificationtest.Method{Name: verification.Fingerprint, Answer: verificationtest.Yes}
	for name, row := range map[string]struct {
		change func(*testing.T, *verification.Service) error
		ends   bool
	}{
		"changed": {func(t *testing.T, s *verification.Service) error { return s.ChangePIN(t.Context(), right, other, nil) }, true},
		"removed": {func(t *testing.T, s *verification.Service) error { return s.RemovePIN(t.Context(), right) }, true},
		"another way": {func(t *testing.T, s *verification.Service) error {
			return s.Enable(t.Context(), verification.Fingerprint)
		}, true},
		"not changed": {func(t *testing.T, s *verification.Service) error {
			if err := s.ChangePIN(t.Context(), wrong, other, nil); !errors.Is(err, verification.ErrWrong) {
				return fmt.Errorf("a wrong PIN: %w", err)
			}
			return nil
		}, false},
	} {
		o := verificationtest.Options(finger)
		s := withPIN(t, o)
		v, err := s.Verify(t.Context(), verification.Request{Purpose: "p", PIN: right})
		if err != nil {
			t.Fatal(err)
		}
		if err := row.change(t, s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, ok := v.Authorise(bioOrPIN); ok == row.ends || v.For("p") == row.ends {
			t.Errorf("%s: still good: %v", name, ok)
		}
	}
}

// C4: the table, and what is not in it.
func TestC4WhatSatisfies(t *testing.T) {
	const bio, pop = okta.KeyUserVerification, okta.KeyProofOfPossession
	for m, roles := range map[verification.Method][]okta.KeyType{
		verification.PIN: {bioOrPIN}, verification.Password: {bioOrPIN}, verification.SecurityKey: {bioOrPIN},
		verification.Fingerprint: {bio, bioOrPIN}, "": nil, "shout": nil,
	} {
		for _, role := range []okta.KeyType{bio, bioOrPIN, pop, "", "other"} {
			want := false
			for _, r := range roles {
				want = want || r == role
			}
			if m.Satisfies(role) != want {
				t.Errorf("%q for %q: %v", m, role, !want)
			}
		}
	}
}

// A question that nobody answers ends, and costs no try.
func TestQuestionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finger := &verificationtest.Method{Name: verification.Fingerprint, Answer: verificationtest.Yes}
		o := verificationtest.Options(finger)
		s := open(t, o)
		if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
			t.Fatal(err)
		}
		for name, answer := range map[string]func(context.Context, verification.Request) error{
			"says why":    func(ctx context.Context, _ verification.Request) error { <-ctx.Done(); return ctx.Err() },
			"says yes":    func(ctx context.Context, _ verification.Request) error { <-ctx.Done(); return nil },
			"says itself": func(ctx context.Context, _ verification.Request) error { <-ctx.Done(); return verification.ErrTimedOut },
		} {
			finger.Answer = answer
			start := time.Now()
			if _, err := s.Verify(t.Context(), verification.Request{Purpose: "p"}); !errors.Is(err, verification.ErrTimedOut) || time.Since(start) != 2*time.Minute {
				t.Errorf("%s: %v after %s", name, err, time.Since(start))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		finger.Answer = func(ctx context.Context, _ verification.Request) error { cancel(); return nil }
		if v, err := s.Verify(ctx, verification.Request{Purpose: "p"}); !errors.Is(err, verification.ErrCancelled) || v.For("p") {
			t.Errorf("a yes that came too late: %v", err)
		}
	})
}
