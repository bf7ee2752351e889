package fido

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/securitykey/securitykeytest"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/okta"
)

const keyPIN = "2580"

// enrolment is a key that is enrolled, and the method.
type enrolment struct {
	keys  *securitykeytest.Keys
	token *securitykeytest.Token
	rooms *verificationtest.Rooms
	v     *Verifier
}

func enrol(t *testing.T) *enrolment {
	t.Helper()
	e := &enrolment{keys: &securitykeytest.Keys{}, token: securitykeytest.New("Test key", keyPIN), rooms: &verificationtest.Rooms{}}
	e.keys.Plug(e.token)
	e.v = New(Options{Keys: e.keys, Rooms: e.rooms})
	if s := e.v.State(t.Context()); s.State != "not_set" {
		t.Fatalf("before: %+v", s)
	}
	if err := e.verify(t); !errors.Is(err, verification.ErrNotSetUp) {
		t.Fatalf("before: %v", err)
	}
	if _, err := e.v.Enrol(t.Context(), "", devicekey.Secret(keyPIN)); err != nil {
		t.Fatal(err)
	}
	if s := e.v.State(t.Context()); s.State != "ready" {
		t.Fatalf("after: %+v", s)
	}
	return e
}

func (e *enrolment) verify(t *testing.T) error {
	return e.v.Verify(t.Context(), verification.Request{Purpose: "test", KeyPIN: devicekey.Secret(keyPIN)})
}

func TestVerify(t *testing.T) {
	e := enrol(t)
	if e.v.Proved() != "" {
		t.Error("known before it has signed")
	}
	for range 3 {
		if err := e.verify(t); err != nil {
			t.Fatal(err)
		}
	}
	if e.v.Proved() != e.token.ID {
		t.Errorf("proved %q", e.v.Proved())
	}
	// Of another process: the room is all that there is.
	again := New(Options{Keys: e.keys, Rooms: e.rooms})
	if err := again.Verify(t.Context(), verification.Request{KeyPIN: devicekey.Secret(keyPIN)}); err != nil {
		t.Fatal(err)
	}
	if len(e.token.Stored) != 0 {
		t.Error("the credential takes room on the key")
	}
	// A finger takes no PIN.
	e.keys.Do(func() { e.token.Finger = true })
	if err := e.v.Verify(t.Context(), verification.Request{Purpose: "test"}); err != nil {
		t.Error(err)
	}
	if err := e.v.Forget(); err != nil {
		t.Fatal(err)
	}
	if err := e.verify(t); !errors.Is(err, verification.ErrNotSetUp) || e.v.Proved() != "" {
		t.Errorf("after it was forgotten: %v", err)
	}
}

// F2: the PIN goes to the key that proves that it is the one, and to no other that
// says so; also when the other is all that is plugged in, in the place of it.
func TestF2PINGoesToTheKeyThatProvesItself(t *testing.T) {
	e := enrol(t)
	liar := securitykeytest.New("Lookalike", "9999")
	liar.Claims = true
	e.keys.Unplug()
	e.keys.Plug(liar)
	e.keys.Plug(e.token)
	if err := e.verify(t); err != nil || liar.TriesLeft != 8 {
		t.Errorf("beside another: %v, %d tries left", err, liar.TriesLeft)
	}
	e.keys.Unplug()
	e.keys.Plug(liar)
	before := len(e.keys.Asked())
	if err := e.verify(t); !errors.Is(err, securitykey.ErrBadKey) || slices.Contains(e.keys.Asked()[before+1:], "assert") || liar.TriesLeft != 8 {
		t.Errorf("in its place: %v, %q, %d tries left", err, e.keys.Asked()[before:], liar.TriesLeft)
	}
}

// A key that has a PIN and cannot prove itself without it is not enrolled: the PIN
// would never be given to it.
func TestKeyThatCannotProveItself(t *testing.T) {
	keys := &securitykeytest.Keys{Fail: func(operation string) error {
		if operation == "proves" {
			return securitykey.ErrUnsupported
		}
		return nil
	}}
	keys.Plug(securitykeytest.New("Silent", keyPIN))
	v := New(Options{Keys: keys, Rooms: &verificationtest.Rooms{}})
	if _, err := v.Enrol(t.Context(), "", devicekey.Secret(keyPIN)); !errors.Is(err, securitykey.ErrUnsupported) || v.State(t.Context()).State != "not_set" {
		t.Errorf("%v, %+v", err, v.State(t.Context()))
	}
}

// A key that does not count says 0 each time.
func TestKeyWithoutCounter(t *testing.T) {
	e := enrol(t)
	e.keys.Do(func() {
		e.token.Sign = func(a []byte) []byte { clear(a[33:37]); return a }
	})
	for range 2 {
		if err := e.verify(t); err != nil {
			t.Fatal(err)
		}
	}
}

// C3: what a key, or whatever speaks for it, answers without having verified
// the user verifies nobody.
func TestC3AssertionsThatProveNothing(t *testing.T) {
	other := sha256.Sum256([]byte("id.example.com"))
	for name, attack := range map[string]func(t *testing.T, e *enrolment){
		"the flag of user verification cleared": func(_ *testing.T, e *enrolment) {
			e.token.Sign = func(a []byte) []byte { a[32] &^= 0x04; return a }
		},
		"not touched": func(_ *testing.T, e *enrolment) {
			e.token.Sign = func(a []byte) []byte { a[32] &^= 0x01; return a }
		},
		"the flag set after the signature": func(_ *testing.T, e *enrolment) {
			e.token.Sign = func(a []byte) []byte { a[32] &^= 0x04; return a }
			e.token.Spoil = func(a *securitykey.Asserted) { a.AuthData[32] |= 0x04; a.Verified = true }
		},
		"made for a web site": func(_ *testing.T, e *enrolment) {
			e.token.Sign = func(a []byte) []byte { copy(a, other[:]); return a }
		},
		"another challenge": func(_ *testing.T, e *enrolment) {
			e.token.Spoil = func(a *securitykey.Asserted) { a.ClientDataJSON[45] ^= 1 }
		},
		"replayed": func(t *testing.T, e *enrolment) {
			var old securitykey.Asserted
			e.token.Spoil = func(a *securitykey.Asserted) { old = *a }
			if err := e.verify(t); err != nil {
				t.Fatal(err)
			}
			e.token.Spoil = func(a *securitykey.Asserted) { *a = old }
		},
		"replayed with the client data of now": func(t *testing.T, e *enrolment) {
			var old securitykey.Asserted
			e.token.Spoil = func(a *securitykey.Asserted) { old = *a }
			if err := e.verify(t); err != nil {
				t.Fatal(err)
			}
			e.token.Spoil = func(a *securitykey.Asserted) {
				now := a.ClientDataJSON
				*a = old
				a.ClientDataJSON = now
			}
		},
		"the counter gone back": func(t *testing.T, e *enrolment) {
			if err := e.verify(t); err != nil {
				t.Fatal(err)
			}
			e.token.Counter = 0
		},
		"the counter of before another verification": func(_ *testing.T, e *enrolment) {
			e.token.Touch = func(context.Context) error { // meanwhile
				c, err := e.v.load()
				if err == nil {
					c.Key.Counter = 50
					err = e.v.save(c)
				}
				return err
			}
		},
		"the counter at zero": func(t *testing.T, e *enrolment) {
			if err := e.verify(t); err != nil {
				t.Fatal(err)
			}
			e.token.Sign = func(a []byte) []byte { clear(a[33:37]); return a }
		},
		"signed by another key": func(t *testing.T, e *enrolment) {
			mine, stranger := &securitykeytest.Keys{}, securitykeytest.New("Other", keyPIN)
			mine.Plug(stranger)
			v := New(Options{Keys: mine, Rooms: &verificationtest.Rooms{}})
			if _, err := v.Enrol(t.Context(), "", devicekey.Secret(keyPIN)); err != nil {
				t.Fatal(err)
			}
			// It answers under the name of the credential that is asked for.
			e.token.Spoil = func(a *securitykey.Asserted) {
				c, _ := v.load()
				got, err := mine.Assert(t.Context(), securitykey.Assertion{PIN: devicekey.Secret(keyPIN), Origin: origin, RPID: RPID,
					Allow: [][]byte{c.Key.CredentialID}, Verification: securitykey.Required})
				if err != nil {
					t.Fatal(err)
				}
				a.AuthData, a.Signature = got.AuthData, got.Signature
			}
		},
		"a signature of nothing": func(_ *testing.T, e *enrolment) {
			e.token.Spoil = func(a *securitykey.Asserted) { a.Signature = nil }
		},
		"another credential": func(_ *testing.T, e *enrolment) {
			e.token.Spoil = func(a *securitykey.Asserted) { a.CredentialID = []byte("another") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := enrol(t)
			attack(t, e)
			err := e.verify(t)
			if !errors.Is(err, verification.ErrAbsent) || !errors.Is(err, securitykey.ErrBadKey) || errors.Is(err, verification.ErrWrong) {
				t.Fatalf("%v", err)
			}
			// The next honest answer counts: nothing of the attack was kept.
			e.keys.Do(func() { e.token.Spoil, e.token.Sign, e.token.Touch, e.token.Counter = nil, nil, nil, 100 })
			if err := e.verify(t); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// C4: each fault is nobody verified, and none but a wrong PIN is a wrong try.
func TestC4SecurityKeyFaults(t *testing.T) {
	for name, row := range map[string]struct {
		fault error
		want  error
	}{
		"no key":        {securitykey.ErrNoKey, verification.ErrAbsent},
		"pulled out":    {securitykey.ErrRemoved, verification.ErrAbsent},
		"another key":   {securitykey.ErrNoCredential, verification.ErrAbsent},
		"blocked":       {&securitykey.PINError{Blocked: true}, verification.ErrAbsent},
		"pause":         {&securitykey.PINError{Pause: true}, verification.ErrAbsent},
		"PIN wanted":    {&securitykey.PINNeededError{Left: 8}, verification.ErrAbsent},
		"wrong PIN":     {&securitykey.PINError{Left: 3}, verification.ErrWrong},
		"not touched":   {securitykey.ErrTimedOut, verification.ErrTimedOut},
		"cancelled":     {securitykey.ErrCancelled, verification.ErrCancelled},
		"no helper":     {&securitykey.HelperError{Why: "is missing"}, verification.ErrAbsent},
		"key that lies": {securitykey.ErrBadKey, verification.ErrAbsent},
	} {
		t.Run(name, func(t *testing.T) {
			e := enrol(t)
			e.keys.Fail = func(string) error { return row.fault }
			err := e.verify(t)
			if !errors.Is(err, row.want) || errors.Is(err, verification.ErrWrong) != (row.want == verification.ErrWrong) {
				t.Fatalf("%v", err)
			}
			e.keys.Fail = nil
			if err := e.verify(t); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
	t.Run("counter not written", func(t *testing.T) {
		e := enrol(t)
		e.rooms.Fail = func(operation, _ string) error {
			if operation == "save" {
				return errors.New("disk full")
			}
			return nil
		}
		if err := e.verify(t); !errors.Is(err, verification.ErrBroken) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("vault locked while the key waits", func(t *testing.T) {
		e := enrol(t)
		e.token.Touch = func(context.Context) error { e.rooms.SetLocked(true); return nil }
		if err := e.verify(t); !errors.Is(err, devicekey.ErrLocked) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("nonsense in the room", func(t *testing.T) {
		e := enrol(t)
		if err := e.rooms.Save(room, map[string]any{"key": map[string]any{"counter": 7}}); err != nil {
			t.Fatal(err)
		}
		if err := e.verify(t); !errors.Is(err, verification.ErrBroken) {
			t.Fatalf("%v", err)
		}
		if s := e.v.State(t.Context()); s.State != "unavailable" {
			t.Errorf("%+v", s)
		}
		if _, err := e.v.Enrol(t.Context(), "", devicekey.Secret(keyPIN)); err != nil {
			t.Errorf("enrolled anew: %v", err)
		}
	})
	t.Run("replaced while the key waits", func(t *testing.T) {
		e := enrol(t)
		other := New(Options{Keys: e.keys, Rooms: e.rooms})
		e.token.Touch = func(context.Context) error {
			e.token.Touch = nil
			_, err := other.Enrol(t.Context(), "", devicekey.Secret(keyPIN))
			return err
		}
		if err := e.verify(t); !errors.Is(err, verification.ErrNotSetUp) {
			t.Fatalf("%v", err)
		}
	})
}

// An enrolment that is undone leaves what was there before.
func TestUndo(t *testing.T) {
	e := enrol(t)
	other := securitykeytest.New("Second", keyPIN)
	id := e.keys.Plug(other)
	undo, err := e.v.Enrol(t.Context(), id, devicekey.Secret(keyPIN))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.verify(t); err != nil || e.v.Proved() != id {
		t.Fatalf("%v, by %q", err, e.v.Proved())
	}
	if err := undo(); err != nil || e.v.Proved() != "" {
		t.Fatal(err)
	}
	if err := e.verify(t); err != nil || e.v.Proved() != e.token.ID {
		t.Fatalf("%v, by %q", err, e.v.Proved())
	}
}

// Of several keys the one that is known is asked; it is found again elsewhere.
func TestSeveralKeys(t *testing.T) {
	e := enrol(t)
	e.keys.Unplug()
	e.keys.Plug(securitykeytest.New("Other", keyPIN))
	if err := e.verify(t); !errors.Is(err, securitykey.ErrNoCredential) {
		t.Fatalf("by another key: %v", err)
	}
	e.keys.Unplug()
	e.keys.Plug(e.token)
	if err := e.verify(t); err != nil {
		t.Fatal(err)
	}
	e.keys.Unplug()
	e.keys.Plug(securitykeytest.New("Other", keyPIN)) // asked, if none is named
	e.keys.Plug(e.token)
	e.v.likely = e.token.ID
	if err := e.v.Verify(t.Context(), verification.Request{KeyPIN: devicekey.Secret("0000")}); !errors.Is(err, verification.ErrWrong) {
		t.Fatalf("wrong PIN: %v", err)
	}
	if err := e.verify(t); err != nil {
		t.Fatalf("beside another one: %v", err)
	}
	e.keys.Unplug()
	e.keys.Plug(e.token) // by another id
	if err := e.verify(t); err != nil || e.v.Proved() != e.token.ID {
		t.Fatalf("plugged in elsewhere: %v", err)
	}
}

// The PIN of the enrolled key goes to no other, whatever is plugged in and whichever
// comes first: there it would be a wrong one, and count.
func TestPINGoesToTheEnrolledKeyAlone(t *testing.T) {
	e := enrol(t)
	other := securitykeytest.New("Other", "1357")
	for name, plugged := range map[string][]*securitykeytest.Token{"alone": {other}, "first": {other, e.token}, "last": {e.token, other}} {
		e.keys.Unplug()
		for _, k := range plugged {
			e.keys.Plug(k)
		}
		v := New(Options{Keys: e.keys, Rooms: e.rooms}) // the agent was started anew
		err := v.Verify(t.Context(), verification.Request{KeyPIN: devicekey.Secret(keyPIN)})
		if name == "alone" != errors.Is(err, securitykey.ErrNoCredential) || name != "alone" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if other.TriesLeft != 8 {
			t.Errorf("%s: the other key has %d tries left", name, other.TriesLeft)
		}
	}
	e.keys.Unplug()
	e.keys.Plug(other)
	e.keys.Plug(e.token)
	if _, err := New(Options{Keys: e.keys, Rooms: e.rooms}).Enrol(t.Context(), "", devicekey.Secret(keyPIN)); !errors.Is(err, ErrWhichKey) {
		t.Errorf("one of several enrolled with a PIN: %v", err)
	}
}

// The service counts wrong PINs of the key as tries, and never passes the agent's
// own PIN on, nor the key's to another method.
func TestInTheService(t *testing.T) {
	keys, token := &securitykeytest.Keys{}, securitykeytest.New("Test key", keyPIN)
	keys.Plug(token)
	o := verificationtest.Options()
	v := New(Options{Keys: keys, Rooms: o.Rooms})
	o.Methods = []verification.Verifier{v}
	s, err := verification.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.EnableBy(t.Context(), verification.SecurityKey, devicekey.Secret(keyPIN)); !errors.Is(err, verification.ErrNotSetUp) {
		t.Fatalf("enabled without a key: %v", err)
	}
	if _, err := v.Enrol(t.Context(), "", devicekey.Secret(keyPIN)); err != nil {
		t.Fatal(err)
	}
	if err := s.Enable(t.Context(), verification.SecurityKey); !errors.Is(err, securitykey.ErrPINNeeded) || len(s.Roles()) != 0 {
		t.Fatalf("enabled without its PIN: %v", err)
	}
	if err := s.EnableBy(t.Context(), verification.SecurityKey, devicekey.Secret(keyPIN)); err != nil {
		t.Fatal(err)
	}
	if ready := s.Ready(t.Context(), okta.KeyUserVerificationBioOrPIN); !slices.Equal(ready, []verification.Method{verification.SecurityKey}) {
		t.Fatalf("ready: %v", ready)
	}
	// Biometrics are not what a key proves.
	if ready := s.Ready(t.Context(), okta.KeyUserVerification); len(ready) != 0 {
		t.Fatalf("ready for biometric keys: %v", ready)
	}
	ask := func(pin, own string) error {
		got, err := s.Verify(t.Context(), verification.Request{Purpose: "test", Method: verification.SecurityKey, KeyPIN: devicekey.Secret(pin), PIN: devicekey.Secret(own)})
		if err == nil {
			if _, ok := got.Authorise(okta.KeyUserVerificationBioOrPIN); !ok {
				t.Error("verified, and no secret")
			}
			got.Wipe()
		}
		return err
	}
	if err := ask(keyPIN, ""); err != nil {
		t.Fatal(err)
	}
	if err := ask("", keyPIN); !errors.Is(err, securitykey.ErrPINNeeded) {
		t.Fatalf("the agent's PIN was passed on: %v", err)
	}
	token.TriesLeft = 3
	var try *verification.TryError
	if err := ask("0000", ""); !errors.As(err, &try) || try.Left != 2 {
		t.Fatalf("wrong PIN: %v, %+v", err, try)
	}
	// The PIN of the agent, by which the key is asked last.
	if err := s.SetPIN(t.Context(), devicekey.Secret("314159"), nil); !errors.Is(err, securitykey.ErrPINNeeded) {
		t.Fatalf("PIN set without the key's: %v", err)
	}
	if err := s.SetPINBy(t.Context(), devicekey.Secret("314159"), devicekey.Secret(keyPIN), nil); err != nil {
		t.Fatal(err)
	}
	if err := ask(keyPIN, ""); !errors.Is(err, verification.ErrNotSetUp) {
		t.Fatalf("the key beside the PIN: %v", err)
	}
}
