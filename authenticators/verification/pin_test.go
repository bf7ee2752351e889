package verification_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/software"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/okta"
)

const bioOrPIN = okta.KeyUserVerificationBioOrPIN

var (
	right = devicekey.Secret("271828")
	other = devicekey.Secret("314159")
	wrong = devicekey.Secret("111213")
)

func open(t *testing.T, o verification.Options) *verification.Service {
	t.Helper()
	s, err := verification.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Forget)
	return s
}

func withPIN(t *testing.T, o verification.Options) *verification.Service {
	t.Helper()
	s := open(t, o)
	if err := s.SetPIN(t.Context(), right, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func try(t *testing.T, s *verification.Service, pin devicekey.Secret) error {
	t.Helper()
	v, err := s.Verify(t.Context(), verification.Request{Purpose: "p", PIN: pin})
	if err != nil && (v.For("p") || v.Method() != "") {
		t.Errorf("an error with a verification: %+v", v.Method())
	}
	return err
}

// The PIN opens the keys that demand it, across a restart, in a real store.
func TestPINReleasesKeys(t *testing.T) {
	rooms := &verificationtest.Rooms{}
	o := verification.Options{Rooms: rooms, Keys: software.New(rooms)}
	s := withPIN(t, o)
	v, err := s.Verify(t.Context(), verification.Request{Purpose: "prompt 1", PIN: right})
	if err != nil {
		t.Fatal(err)
	}
	if !v.For("prompt 1") || v.For("prompt 2") || v.For("") || v.Method() != verification.PIN {
		t.Errorf("verified %v for another purpose, or by %s", v.For("prompt 2"), v.Method())
	}
	if _, ok := v.Authorise(okta.KeyUserVerification); ok {
		t.Error("a PIN has released a biometric key")
	}
	auth, ok := v.Authorise(bioOrPIN)
	if !ok || !bytes.Equal(auth.Secret, right) {
		t.Fatal("nothing released")
	}
	key, _, err := o.Keys.Create(t.Context(), devicekey.Spec{Role: bioOrPIN, UserVerification: true, Authorisation: auth})
	if err != nil {
		t.Fatal(err)
	}
	v.Wipe()
	if bytes.Equal(auth.Secret, right) || !bytes.Equal(right, []byte("271828")) {
		t.Error("wiped nothing, or what belongs to the caller")
	}
	o.Keys = software.New(rooms)
	s = open(t, o)
	if v, err = s.Verify(t.Context(), verification.Request{Purpose: "after", PIN: right}); err != nil {
		t.Fatal(err)
	}
	auth, _ = v.Authorise(bioOrPIN)
	again, err := o.Keys.Open(t.Context(), key.Ref())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Sign(t.Context(), make([]byte, 32), auth); err != nil {
		t.Error(err)
	}
	if err := try(t, s, wrong); !errors.Is(err, verification.ErrWrong) {
		t.Error(err)
	}
}

func TestPINRules(t *testing.T) {
	s := open(t, verificationtest.Options())
	for pin, why := range map[string]string{
		"": "shorter", "123": "shorter", "äöü": "shorter", strings.Repeat("7a", 32): "longer",
		"0000": "repeated", "ääää": "repeated", "1234": "run", "987654": "run", "7890": "run", "3210": "run", "0987": "run", "abcdef": "run",
		"12\x0034": "control", "27\n18": "control", "27\xff18": "not text",
	} {
		if err := s.SetPIN(t.Context(), devicekey.Secret(pin), nil); !errors.Is(err, verification.ErrPIN) || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", pin, err)
		}
	}
	if len(s.Keys()) != 0 {
		t.Error("a refused PIN has left a key")
	}
	for _, pin := range []string{"1235", "1122", "2468", "äöüß", "pass phrase of mine", strings.Repeat("7a", 31) + "b"} {
		if err := open(t, verificationtest.Options()).SetPIN(t.Context(), devicekey.Secret(pin), nil); err != nil {
			t.Errorf("%q: %v", pin, err)
		}
	}
}

func TestChangeAndRemovePIN(t *testing.T) {
	o := verificationtest.Options()
	used := true
	o.InUse = func(role okta.KeyType) bool { return used && role == bioOrPIN }
	keys := o.Keys.(*verificationtest.Keys)
	s := withPIN(t, o)
	if err := s.SetPIN(t.Context(), other, nil); !errors.Is(err, verification.ErrPINSet) {
		t.Error(err)
	}
	account, _, err := keys.Create(t.Context(), devicekey.Spec{Role: bioOrPIN, UserVerification: true, Authorisation: devicekey.Authorisation{Secret: right}})
	if err != nil {
		t.Fatal(err)
	}
	refs := []devicekey.Ref{account.Ref()}
	if err := s.ChangePIN(t.Context(), wrong, other, refs); !errors.Is(err, verification.ErrWrong) {
		t.Errorf("by a wrong PIN: %v", err)
	}
	if err := s.ChangePIN(t.Context(), right, devicekey.Secret("1234"), refs); !errors.Is(err, verification.ErrPIN) {
		t.Errorf("to a bad PIN: %v", err)
	}
	if err := s.ChangePIN(t.Context(), right, other, append(refs, devicekey.Ref{Kind: devicekey.KindSoftware, ID: "gone"})); err == nil {
		t.Error("a key that is not there was changed")
	}
	if err := try(t, s, right); err != nil {
		t.Errorf("not all changed, so none: %v", err)
	}
	if err := s.ChangePIN(t.Context(), right, other, refs); err != nil {
		t.Fatal(err)
	}
	if err := try(t, s, right); !errors.Is(err, verification.ErrWrong) {
		t.Errorf("the old PIN: %v", err)
	}
	if _, err := account.Sign(t.Context(), make([]byte, 32), devicekey.Authorisation{Secret: other}); err != nil {
		t.Error(err)
	}
	if err := s.RemovePIN(t.Context(), other); !errors.Is(err, verification.ErrInUse) {
		t.Errorf("keys depend on it: %v", err)
	}
	used = false
	if err := s.RemovePIN(t.Context(), right); !errors.Is(err, verification.ErrWrong) {
		t.Error(err)
	}
	if err := s.RemovePIN(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if len(s.Keys()) != 0 || len(keys.IDs()) != 1 || len(s.Roles()) != 0 {
		t.Errorf("left: %v, %v, %v", s.Keys(), keys.IDs(), s.Roles())
	}
	if err := try(t, s, other); !errors.Is(err, verification.ErrNotSetUp) {
		t.Error(err)
	}
}

func TestRefusesBadOptions(t *testing.T) {
	for name, change := range map[string]func(*verification.Options){
		"no vault":     func(o *verification.Options) { o.Rooms = nil },
		"no keys":      func(o *verification.Options) { o.Keys = nil },
		"much grace":   func(o *verification.Options) { o.Grace = 16 * 60 * 1e9 },
		"less than no": func(o *verification.Options) { o.Grace = -1 },
		"twice":        func(o *verification.Options) { o.Methods = append(o.Methods, o.Methods[0]) },
		"another PIN": func(o *verification.Options) {
			o.Methods = []verification.Verifier{&verificationtest.Method{Name: verification.PIN}}
		},
		"nameless": func(o *verification.Options) { o.Methods = []verification.Verifier{&verificationtest.Method{}} },
	} {
		o := verificationtest.Options(&verificationtest.Method{Name: verification.Password})
		change(&o)
		if _, err := verification.Open(o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	s := withPIN(t, verificationtest.Options())
	if _, err := s.Verify(t.Context(), verification.Request{PIN: right}); err == nil {
		t.Error("verified for no purpose")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(ended, verification.Request{Purpose: "p", PIN: right}); !errors.Is(err, verification.ErrCancelled) {
		t.Error(err)
	}
}
