package verification_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/okta"
)

// faults are all kinds of errors that a room or a key store may have.
var faults = map[string]error{
	"unknown":      errors.New("what is this?"),
	"unavailable":  devicekey.ErrUnavailable,
	"locked":       devicekey.ErrLocked,
	"not found":    devicekey.ErrNotFound,
	"unauthorised": devicekey.ErrUnauthorised,
	"unsupported":  devicekey.ErrUnsupported,
	"many tries":   devicekey.ErrTooManyTries,
	"lockout":      &devicekey.StateError{State: devicekey.State{State: devicekey.Lockout}},
	"cleared":      &devicekey.StateError{State: devicekey.State{State: devicekey.Cleared}},
	"cancelled":    context.Canceled,
	"deadline":     context.DeadlineExceeded,
}

// faulty makes the n-th call of rooms and keys fail, before or after it has
// happened, and tells whether it came to that.
func faulty(o verification.Options, n int, late bool, err error) (hit func() bool) {
	rooms, keys := o.Rooms.(*verificationtest.Rooms), o.Keys.(*verificationtest.Keys)
	calls, done := 0, false
	fail := func(string, string) error {
		if calls++; calls == n {
			done = true
			return err
		}
		return nil
	}
	if late {
		rooms.FailLate, keys.FailLate = fail, fail
	} else {
		rooms.Fail, keys.Fail = fail, fail
	}
	return func() bool {
		rooms.Fail, rooms.FailLate, keys.Fail, keys.FailLate = nil, nil, nil, nil
		return done
	}
}

// C4: whichever call of the vault or the key store fails, and however, nobody is
// verified: not by the right PIN, not by a finger, not by a wrong PIN.
func TestC4VerificationFailsClosed(t *testing.T) {
	finger, _, plain := methods()
	ways := map[string]struct {
		request verification.Request
		set     func(*testing.T, *verification.Service)
		yes     bool // without a fault
	}{
		"right PIN": {verification.Request{Purpose: "p", PIN: right}, setPIN, true},
		"wrong PIN": {verification.Request{Purpose: "p", PIN: wrong}, setPIN, false},
		"finger":    {verification.Request{Purpose: "p", Method: verification.Fingerprint}, enable, true},
		"no method": {verification.Request{Purpose: "p"}, enable, true},
	}
	plain.Grace = 0
	for way, c := range ways {
		for fault, err := range faults {
			for _, late := range []bool{false, true} {
				steps := 0
				for n := 1; ; n++ {
					o := verificationtest.Options(finger)
					s := open(t, o)
					c.set(t, s)
					hit := faulty(o, n, late, err)
					v, failed := s.Verify(t.Context(), c.request)
					if !hit() {
						if (failed == nil) != c.yes || v.For("p") != c.yes {
							t.Errorf("%s without a fault: %v", way, failed)
						}
						break
					}
					steps++
					_, bioReleased := v.Authorise(bio)
					_, pinReleased := v.Authorise(bioOrPIN)
					if failed == nil || v.For("p") || v.Method() != "" || bioReleased || pinReleased {
						t.Errorf("%s, call %d (late %v) says %q: verified, %v", way, n, late, fault, failed)
					}
					if _, ok := again(t, s, "grace"); ok && c.request.Method == "" && way == "wrong PIN" {
						t.Errorf("%s, call %d says %q: kept", way, n, fault)
					}
				}
				if least := map[bool]int{false: 4, true: 2}[late]; steps < least && way != "wrong PIN" {
					t.Errorf("%s: %d calls only (late %v)", way, steps, late)
				}
			}
		}
	}
}

func setPIN(t *testing.T, s *verification.Service) {
	t.Helper()
	if err := s.SetPIN(t.Context(), right, nil); err != nil {
		t.Fatal(err)
	}
}

func enable(t *testing.T, s *verification.Service) {
	t.Helper()
	if err := s.Enable(t.Context(), verification.Fingerprint); err != nil {
		t.Fatal(err)
	}
}

// lying is a key store whose keys answer anything.
type lying struct {
	*verificationtest.Keys
	sign func(digest []byte, auth devicekey.Authorisation) ([]byte, error)
}

type lyingKey struct {
	devicekey.Key
	sign func(digest []byte, auth devicekey.Authorisation) ([]byte, error)
}

func (l *lying) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	k, err := l.Keys.Open(ctx, ref)
	if l.sign == nil || err != nil {
		return k, err
	}
	return lyingKey{k, l.sign}, nil
}

func (k lyingKey) Sign(_ context.Context, digest []byte, auth devicekey.Authorisation) ([]byte, error) {
	return k.sign(digest, auth)
}

// C4: a key store that says yes to anything is not believed: what counts is a
// signature over our own random digest, by the very key that was made for it.
func TestC4StoreThatLies(t *testing.T) {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := verificationtest.Options()
	store := &lying{Keys: o.Keys.(*verificationtest.Keys)}
	o.Keys = store
	s := withPIN(t, o)
	anchor, err := store.Keys.Open(t.Context(), s.Keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	old, err := anchor.Sign(t.Context(), make([]byte, 32), devicekey.Authorisation{Secret: right})
	if err != nil {
		t.Fatal(err)
	}
	lies := map[string]func([]byte, devicekey.Authorisation) ([]byte, error){
		"nothing":            func([]byte, devicekey.Authorisation) ([]byte, error) { return nil, nil },
		"garbage":            func([]byte, devicekey.Authorisation) ([]byte, error) { return []byte("yes"), nil },
		"an older signature": func([]byte, devicekey.Authorisation) ([]byte, error) { return old, nil },
		"another key's": func(d []byte, _ devicekey.Authorisation) ([]byte, error) {
			return ecdsa.SignASN1(rand.Reader, stranger, d)
		},
		"a signature and no": func(d []byte, _ devicekey.Authorisation) ([]byte, error) { return old, devicekey.ErrUnauthorised },
	}
	for name, lie := range lies {
		store.sign = lie
		for _, pin := range []devicekey.Secret{right, wrong} {
			if err := try(t, s, pin); err == nil {
				t.Errorf("%s: verified", name)
			}
		}
		store.sign = nil
		if err := o.Rooms.Save("verification", nil); err != nil { // forget the tries
			t.Fatal(err)
		}
		o.Rooms.(*verificationtest.Rooms).Restore(nil)
		s = withPIN(t, o)
	}
	// Nor is a store that does not care for the secret ever given a PIN.
	o = verificationtest.Options()
	store = &lying{Keys: o.Keys.(*verificationtest.Keys)}
	o.Keys = store
	store.sign = func(d []byte, _ devicekey.Authorisation) ([]byte, error) {
		ids := store.IDs()
		k, err := store.Keys.Open(t.Context(), devicekey.Ref{Kind: devicekey.KindSoftware, ID: ids[len(ids)-1]})
		if err != nil {
			return nil, err
		}
		return k.Sign(t.Context(), d, devicekey.Authorisation{Secret: right})
	}
	s = open(t, o)
	if err := s.SetPIN(t.Context(), right, nil); err == nil || len(store.IDs()) != 0 {
		t.Errorf("%v, %v", err, store.IDs())
	}
}

// Whenever the world stops while a PIN is set over an escrowed secret, changed or
// removed, the keys demand what the service asks for: after a restart the old or
// the new holds, for the service and for all keys alike.
func TestChangesAreAllOrNone(t *testing.T) {
	used := false
	changes := map[string]struct {
		from, to string // "finger" or a PIN
		do       func(s *verification.Service, refs []devicekey.Ref) error
	}{
		"set": {"finger", string(right), func(s *verification.Service, refs []devicekey.Ref) error { return s.SetPIN(t.Context(), right, refs) }},
		"change": {string(right), string(other), func(s *verification.Service, refs []devicekey.Ref) error {
			return s.ChangePIN(t.Context(), right, other, refs)
		}},
		"remove": {string(right), "", func(s *verification.Service, _ []devicekey.Ref) error { return s.RemovePIN(t.Context(), right) }},
	}
	for name, c := range changes {
		for fault, err := range map[string]error{"error": errors.New("disk"), "crash": errCrash} {
			for _, late := range []bool{false, true} {
				for n, steps := 1, 0; ; n++ {
					finger := &verificationtest.Method{Name: verification.Fingerprint, Answer: verificationtest.Yes}
					o := verificationtest.Options(finger)
					o.InUse = func(okta.KeyType) bool { return used }
					s := open(t, o)
					var k devicekey.Key
					if c.from == "finger" {
						enable(t, s)
						k = account(t, o, slices.Clone(released(t, s, verification.Fingerprint, bioOrPIN)))
					} else {
						setPIN(t, s)
						k = account(t, o, devicekey.Secret(c.from))
					}
					where := fmt.Sprintf("%s: call %d (late %v): %s", name, n, late, fault)
					hit := faulty(o, n, late, err)
					if errors.Is(err, errCrash) {
						crashFrom(o, n, late)
					}
					failed := c.do(s, []devicekey.Ref{k.Ref()})
					if !hit() && !errors.Is(failed, errCrash) {
						if failed != nil || steps < 3 {
							t.Errorf("%s: %v after %d steps", where, failed, steps)
						}
						break
					}
					steps++
					s = open(t, o)
					holds := []string{}
					for _, what := range []string{"finger", string(right), string(other)} {
						r := verification.Request{Purpose: "p", PIN: devicekey.Secret(what), Method: verification.PIN}
						if what == "finger" {
							r = verification.Request{Purpose: "p", Method: verification.Fingerprint}
						}
						v, err := s.Verify(t.Context(), r)
						if err != nil {
							continue
						}
						auth, ok := v.Authorise(bioOrPIN)
						if !ok {
							continue
						}
						holds = append(holds, what)
						if c.to != "" && !accepts(t, k, auth.Secret) {
							t.Errorf("%s: the service says %s, the key does not", where, what)
						}
					}
					if c.to != "" && (len(holds) != 1 || holds[0] != c.from && holds[0] != c.to) {
						t.Errorf("%s: %v holds", where, holds)
					}
					if keys := len(s.Keys()); c.to != "" && keys != map[bool]int{true: 0, false: 1}[holds[0] == "finger"] {
						t.Errorf("%s: %s holds, with %d keys", where, holds[0], keys)
					}
					if failed == nil && c.to != "" && holds[0] != c.to {
						t.Errorf("%s: %v holds, and there was no error", where, holds)
					}
				}
			}
		}
	}
}

var errCrash = errors.New("the world has stopped")

// crashFrom makes everything fail from the n-th call on: nothing more reaches
// the disk.
func crashFrom(o verification.Options, n int, late bool) {
	rooms, keys := o.Rooms.(*verificationtest.Rooms), o.Keys.(*verificationtest.Keys)
	calls, crashed := 0, false
	before := func(string, string) error {
		if !late {
			calls++
		}
		if crashed = crashed || !late && calls >= n; crashed {
			return errCrash
		}
		return nil
	}
	after := func(string, string) error {
		if late {
			calls++
		}
		if crashed = crashed || late && calls >= n; crashed {
			return errCrash
		}
		return nil
	}
	rooms.Fail, rooms.FailLate, keys.Fail, keys.FailLate = before, after, before, after
}
