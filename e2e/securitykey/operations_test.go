//go:build linux

package securitykey_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/e2e/softkey"
)

func secret(s string) devicekey.Secret { return devicekey.Secret(s) }

// fails expects an error of a kind.
func fails(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

// A key's life: found, asked, given a PIN, enrolled, used, managed, wiped.
func TestEveryOperation(t *testing.T) {
	for _, kind := range []softkey.Kind{softkey.FIDO21, softkey.FIDO20} {
		for _, attestation := range []softkey.Attestation{softkey.SelfAttestation, softkey.BasicAttestation} {
			t.Run(fmt.Sprint("kind ", kind, " attestation ", attestation), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1)
				ctx := t.Context()
				_, err := w.Register(ctx, registration(""))
				fails(t, err, securitykey.ErrNoKey)
				k := softkey.New(softkey.Options{Kind: kind, Attestation: attestation})
				id := w.plug(0, k)

				info, err := w.Info(ctx, id)
				if err != nil || info.Firmware != "5.4.3" || info.Model != "Countersign Soft Key (for tests)" || info.Product != "Soft Key" ||
					info.Manufacturer != "Countersign" || info.VendorID != 0x1209 || info.ProductID != 0xf1d0 || info.PINSet() || info.TriesLeft != 0 {
					t.Errorf("%+v, %v", info, err)
				}
				// No PIN yet.
				r := registration(id)
				r.Verification = securitykey.Required
				_, err = w.Register(ctx, r)
				fails(t, err, securitykey.ErrPINNotSet)
				fails(t, w.SetPIN(ctx, id, secret("12"), nil), securitykey.ErrPINRefused)
				fails(t, w.SetPIN(ctx, id, secret("12345"), secret("9999")), securitykey.ErrPINNotSet)
				if err := w.SetPIN(ctx, id, secret("1234"), nil); err != nil {
					t.Fatal(err)
				}
				fails(t, w.SetPIN(ctx, id, secret("12345"), nil), securitykey.ErrNotAllowed)
				err = w.SetPIN(ctx, id, secret("abcdef"), secret("9999"))
				var wrong *securitykey.PINError
				if !errors.As(err, &wrong) || wrong.Left != 7 {
					t.Error(err)
				}
				if err := w.SetPIN(ctx, id, secret("ab cd\u00e9"), secret("1234")); err != nil || !k.CheckPIN("ab cd\u00e9") {
					t.Fatal(err)
				}
				pin := secret("ab cd\u00e9")
				if info, err = w.Info(ctx, id); err != nil || !info.PINSet() || info.TriesLeft != 8 {
					t.Errorf("%+v, %v", info, err)
				}
				// Enrolled, with verification.
				_, err = w.Register(ctx, r)
				var needed *securitykey.PINNeededError
				if !errors.As(err, &needed) || needed.Left != 8 || !errors.Is(err, securitykey.ErrPINNeeded) {
					t.Error(err)
				}
				r.PIN, r.HMACSecret = pin, true
				made := w.register(r)
				if !made.Verified || made.AAGUID != info.AAGUID || len(made.AttestationObject) == 0 {
					t.Errorf("%+v", made)
				}
				r.Exclude = [][]byte{[]byte("some other credential, which it has not"), made.CredentialID}
				_, err = w.Register(ctx, r)
				fails(t, err, securitykey.ErrExcluded)
				// Used: without, with PIN, and for secrets.
				a := assertion(id, made.CredentialID)
				if got := w.assert(a, made); got.Verified {
					t.Error("verified by nothing")
				}
				a.Verification, a.PIN = securitykey.Required, pin
				a.Salts = [][]byte{bytes.Repeat([]byte{1}, 32)}
				one := w.assert(a, made)
				a.Salts = append(a.Salts, bytes.Repeat([]byte{2}, 32))
				two := w.assert(a, made)
				if !one.Verified || len(one.Secret) != 32 || len(two.Secret) != 64 || !bytes.Equal(one.Secret, two.Secret[:32]) {
					t.Errorf("%x, %x", []byte(one.Secret), []byte(two.Secret))
				}
				_, err = w.Assert(ctx, assertion(id, []byte("some other credential, which it has not")))
				fails(t, err, securitykey.ErrNoCredential)
				// On the key.
				r.Exclude, r.Resident, r.HMACSecret = nil, true, false
				resident := w.register(r)
				a = assertion(id)
				a.Verification, a.PIN = securitykey.Required, pin
				if got := w.assert(a, resident); !bytes.Equal(got.UserID, alice.ID) {
					t.Errorf("%q", got.UserID)
				}
				stored, err := w.Credentials(ctx, id, pin)
				if kind == softkey.FIDO20 {
					fails(t, err, securitykey.ErrUnsupported)
				} else {
					if err != nil || len(stored.Credentials) != 1 || stored.Left != 24 || stored.Credentials[0].RPID != rpID ||
						stored.Credentials[0].User.Name != alice.Name || !bytes.Equal(stored.Credentials[0].ID, resident.CredentialID) {
						t.Errorf("%+v, %v", stored, err)
					}
					fails(t, w.DeleteCredential(ctx, id, secret("0000"), resident.CredentialID), securitykey.ErrPIN)
					if err := w.DeleteCredential(ctx, id, pin, resident.CredentialID); err != nil {
						t.Error(err)
					}
					fails(t, w.DeleteCredential(ctx, id, pin, resident.CredentialID), securitykey.ErrNoCredential)
					if stored, err = w.Credentials(ctx, id, pin); err != nil || len(stored.Credentials) != 0 {
						t.Errorf("%+v, %v", stored, err)
					}
				}
				_, err = w.Fingerprints(ctx, id, pin)
				fails(t, err, securitykey.ErrUnsupported)
				// Wiped, soon after it was plugged in.
				id = w.plug(0, k)
				if err := w.Reset(ctx, id, nil); err != nil || k.HasPIN() || len(k.Credentials()) != 0 {
					t.Error(err)
				}
			})
		}
	}
}

func TestOldKeys(t *testing.T) {
	w := newWorld(t, 1)
	id := w.plug(0, softkey.New(softkey.Options{Kind: softkey.U2FOnly}))
	info, err := w.Info(t.Context(), id)
	if err != nil || !info.U2FOnly() || !slices.Equal(info.Protocols, []string{"U2F_V2"}) || info.Firmware != "5.4.3" {
		t.Errorf("%+v, %v", info, err)
	}
	r := registration(id)
	r.Algorithms = []int{securitykey.EdDSA, securitykey.ES256}
	made := w.register(r)
	r.Exclude = [][]byte{made.CredentialID}
	_, err = w.Register(t.Context(), r)
	fails(t, err, securitykey.ErrExcluded)
	w.assert(assertion(id, made.CredentialID), made)
	_, err = w.Assert(t.Context(), assertion(id, bytes.Repeat([]byte{7}, 64)))
	fails(t, err, securitykey.ErrNoCredential)
	r = registration(id)
	r.Verification = securitykey.Required
	_, err = w.Register(t.Context(), r)
	fails(t, err, securitykey.ErrUnsupported)
	r.Verification = securitykey.Preferred
	w.register(r)
	fails(t, w.SetPIN(t.Context(), id, secret("1234"), nil), securitykey.ErrUnsupported)
	fails(t, w.Reset(t.Context(), id, nil), securitykey.ErrUnsupported)
}

// A key that is to be verified by finger asks for no PIN, and for it once the
// fingers have failed.
func TestFingers(t *testing.T) {
	w := newWorld(t, 1)
	k := softkey.New(softkey.Options{PIN: "1234", Fingerprints: true})
	id, ctx, pin := w.plug(0, k), t.Context(), secret("1234")
	if prints, err := w.Fingerprints(ctx, id, pin); err != nil || len(prints) != 0 {
		t.Fatal(prints, err)
	}
	var left []int
	thumb, err := w.EnrolFingerprint(ctx, id, pin, "thumb", func(e securitykey.Event) {
		if e.State == securitykey.Sample {
			left = append(left, e.Left)
		}
	})
	if err != nil || thumb.Name != "thumb" || len(left) < 2 || left[len(left)-1] != 0 {
		t.Fatal(thumb, left, err)
	}
	if prints, err := w.Fingerprints(ctx, id, pin); err != nil || len(prints) != 1 || prints[0] != thumb {
		t.Error(prints, err)
	}
	r := registration(id)
	r.Verification = securitykey.Required
	made := w.register(r) // no PIN
	if !made.Verified {
		t.Error("not verified")
	}
	if err := w.DropFingerprint(ctx, id, pin, thumb.ID); err != nil || len(k.Fingerprints()) != 0 {
		t.Error(err)
	}
	_, err = w.Register(ctx, r)
	fails(t, err, securitykey.ErrPINNeeded)
}

func TestSeveralAlgorithmsInOrderOfPreference(t *testing.T) {
	w := newWorld(t, 1)
	id := w.plug(0, softkey.New(softkey.Options{}))
	for _, c := range []struct {
		want int
		ask  []int
	}{{securitykey.ES256, []int{-257, -7}}, {securitykey.EdDSA, []int{-8, -7}}} {
		r := registration(id)
		r.Algorithms = c.ask
		made := w.register(r)
		if made.Algorithm != c.want {
			t.Errorf("%d of %d", made.Algorithm, c.ask)
		}
		w.assert(assertion(id, made.CredentialID), made)
	}
	r := registration(id)
	r.Algorithms = []int{-257}
	_, err := w.Register(t.Context(), r)
	fails(t, err, securitykey.ErrUnsupported)
}

// Every wrong PIN is one try, and no more.
func TestPINIsNeverTriedTwice(t *testing.T) {
	w := newWorld(t, 1)
	k := softkey.New(softkey.Options{PIN: "1234"})
	id := w.plug(0, k)
	a := assertion(id)
	a.Verification, a.PIN = securitykey.Required, secret("4321")
	try := func() *securitykey.PINError {
		t.Helper()
		_, err := w.Assert(t.Context(), a)
		var e *securitykey.PINError
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		return e
	}
	for left := 7; left > 0; left-- {
		e := try()
		if k.PINRetries() != left || e.Blocked {
			t.Fatalf("%+v with %d tries left, want %d", e, k.PINRetries(), left)
		}
		if pause := left == 5 || left == 2; e.Pause != pause || !pause && e.Left != left {
			t.Fatalf("%+v with %d left", e, left)
		}
		if e.Pause {
			if e := try(); !e.Pause || k.PINRetries() != left {
				t.Fatalf("%+v while it pauses, %d left", e, k.PINRetries())
			}
			id = w.plug(0, k)
			a.Key = id
		}
	}
	if e := try(); !e.Blocked || k.PINRetries() != 0 {
		t.Fatalf("%+v", e)
	}
	a.PIN = secret("1234")
	if e := try(); !e.Blocked {
		t.Fatalf("%+v: the right one, too late", e)
	}
}

// Messages to a key cost more than all else: an operation sends no more of them than
// fido2-assert and fido2-cred do.
func TestMessagesAreFew(t *testing.T) {
	k, port := plug(t, softkey.Options{PIN: "1234", MakeWithoutPIN: true})
	keys := securitykey.New(securitykey.Options{Helper: product, Owner: os.Getuid(), Devices: []string{port.Path}})
	t.Cleanup(keys.Close)
	var id string
	var made securitykey.Registered
	with := func(v securitykey.UserVerification, pin string) error {
		a := assertion(id, made.CredentialID)
		a.Verification, a.PIN = v, secret(pin)
		_, err := keys.Assert(t.Context(), a)
		return err
	}
	for _, c := range []struct {
		what string
		do   func() error
		want []softkey.Step
	}{
		{"listing", func() error {
			all, err := keys.List(t.Context())
			if len(all) == 1 {
				id = all[0].ID
			}
			return err
		}, []softkey.Step{softkey.StepInit, softkey.StepInfo, softkey.StepInfo, softkey.StepPINRetries}},
		{"registering", func() (err error) {
			made, err = keys.Register(t.Context(), registration(id))
			return err
		}, []softkey.Step{softkey.StepInit, softkey.StepInfo, softkey.StepMake}},
		{"signing", func() error { return with(securitykey.Discouraged, "") },
			[]softkey.Step{softkey.StepInit, softkey.StepInfo, softkey.StepAssert}},
		{"signing with the PIN", func() error { return with(securitykey.Required, "1234") },
			[]softkey.Step{softkey.StepInit, softkey.StepInfo, softkey.StepPINAgreement, softkey.StepPINToken, softkey.StepAssert}},
		// It is told how often the person may try.
		{"asking for the PIN", func() error {
			if err := with(securitykey.Required, ""); !errors.Is(err, securitykey.ErrPINNeeded) {
				return fmt.Errorf("no PIN was asked for: %v", err)
			}
			return nil
		}, []softkey.Step{softkey.StepInit, softkey.StepInfo, softkey.StepPINRetries}},
	} {
		k.Steps()
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if got := k.Steps(); !slices.Equal(got, c.want) {
			t.Errorf("%s takes %q, want %q", c.what, got, c.want)
		}
	}
}
