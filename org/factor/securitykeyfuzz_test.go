package factor_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
)

// What browsers bring of security keys is the first thing here that a stranger
// wrote. These look at the two doors for it, VerifyKey and VerifyNewKey.

const (
	fuzzUser   = "00u1"
	fuzzOrigin = "http://localhost:8080"

	// The limits, as bytes.
	mostClientData, mostAuthData, mostSignature, mostAttestation = 4 << 10, 4 << 10, 1 << 10, 32 << 10
)

// keyDoors is an org that asks a key, and a key: the same ones in every process
// that takes part in fuzzing.
func keyDoors(t testing.TB, kind signin.Step) (*factor.Factors, factor.Challenge, *signintest.SoftKey, *signin.KeyView) {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := factor.New(factor.Deps{BaseURL: fuzzOrigin, Now: func() time.Time { return now }})
	c := f.NewKeyChallenge(factor.KeyRequest{SigninID: "s", UserID: fuzzUser, PageOrigin: fuzzOrigin, UserVerification: okta.NeedPreferred, Enrol: kind == signin.StepEnrol})
	c.Nonce = strings.Repeat("A", 43)
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	k := &signintest.SoftKey{Private: private, ID: bytes.Repeat([]byte{9}, 32), Count: 5}
	return f, c, k, &signin.KeyView{Challenge: c.Nonce, RPID: "localhost"}
}

// enrolled is the key as the org has stored it.
func enrolled(t testing.TB, k *signintest.SoftKey) []factor.SecurityKey {
	t.Helper()
	f, c, _, v := keyDoors(t, signin.StepEnrol)
	use, err := f.VerifyNewKey(c, directory.WebAuthnSettings{}, k.Make(v, fuzzOrigin))
	if err != nil {
		t.Fatal(err)
	}
	return []factor.SecurityKey{use.Key}
}

func raw(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "="))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// refusal fails the test unless err says why an answer was not taken.
func refusal(t testing.TB, err error) factor.KeyReason {
	t.Helper()
	var refused *factor.KeyError
	if !errors.As(err, &refused) || refused.Reason == "" || refused.Error() == "" || len(refused.Error()) > 4<<10 {
		t.Fatalf("not a refusal: %v", err)
	}
	return refused.Reason
}

// FuzzSecurityKeyAnswer: nothing but what the key has signed is taken, and what
// is not is refused with a reason.
func FuzzSecurityKeyAnswer(f *testing.F) {
	doors, c, k, v := keyDoors(f, signin.StepKey)
	keys := enrolled(f, k)
	good := k.Assert(v, fuzzOrigin)
	goodClient, goodData, goodSignature := raw(f, good.ClientData), raw(f, good.AuthenticatorData), raw(f, good.Signature)
	if use, err := doors.VerifyKey(c, keys, good); err != nil || !use.Verified {
		f.Fatalf("the good one: %+v, %v", use, err)
	}
	f.Add(goodClient, goodData, goodSignature, []byte(fuzzUser))
	f.Add(goodClient, append(bytes.Clone(goodData), 0xa0), goodSignature, []byte{})
	f.Add(goodClient, append(bytes.Clone(goodData[:32]), 0xc5, 0, 0, 0, 6, 0), goodSignature, []byte{})                                 // says that a credential follows
	f.Add(goodClient, append(append(bytes.Clone(goodData[:32]), 0x85), bytes.Repeat([]byte{0x9f}, 200)...), goodSignature, []byte("x")) // extensions without an end
	f.Add([]byte(`{"type":"webauthn.get"}`), goodData, []byte{0x30, 0x80}, []byte{})
	f.Fuzz(func(t *testing.T, client, data, signature, handle []byte) {
		use, err := doors.VerifyKey(c, keys, factor.KeyAssertion{ClientData: text(client), AuthenticatorData: text(data), Signature: text(signature), UserHandle: text(handle)})
		if err != nil {
			refusal(t, err)
			if _, ok := use.Proof(); ok || use.Key.ID != "" {
				t.Fatalf("refused, and proves something: %+v", use)
			}
		} else if !bytes.Equal(client, goodClient) || !bytes.Equal(data, goodData) || len(handle) > 0 && string(handle) != fuzzUser {
			t.Fatalf("taken, and never signed: %q %x", client, data)
		}
		// As it is: whatever is no base64 has no meaning.
		if _, err := doors.VerifyKey(c, keys, factor.KeyAssertion{ClientData: string(client), AuthenticatorData: string(data), Signature: string(signature), UserHandle: string(handle)}); err == nil {
			t.Fatal("taken as it is")
		}
	})
}

// FuzzNewSecurityKey: what is taken for a new key was made for this sign-in, and
// can be used; a statement that is checked covers all of it.
func FuzzNewSecurityKey(f *testing.F) {
	doors, c, k, v := keyDoors(f, signin.StepEnrol)
	plain := k.Make(v, fuzzOrigin)
	attested := k.Make(v, fuzzOrigin, func(a *signintest.KeyAnswer) { a.SelfAttested = true })
	goodClient, object, signed := raw(f, plain.ClientData), raw(f, plain.Attestation), raw(f, attested.Attestation)
	data := object[bytes.LastIndex(object, []byte("authData"))+10:]
	for _, a := range []factor.KeyAttestation{plain, attested} {
		if use, err := doors.VerifyNewKey(c, directory.WebAuthnSettings{}, a); err != nil || use.Key.CredentialID != text(k.ID) {
			f.Fatalf("the good one: %+v, %v", use, err)
		}
	}
	f.Add(goodClient, object)
	f.Add(goodClient, signed)
	// Statements of the other formats are read by code of their own.
	for _, format := range []string{"packed", "fido-u2f", "tpm", "android-key", "android-safetynet", "apple", "compound", "xxx"} {
		f.Add(goodClient, bytes.Replace(signed, []byte("\x66packed"), append([]byte{0x60 + byte(len(format))}, format...), 1))
		f.Add(goodClient, statement(format, []byte("\xa2calg&cx5c\x81B0\x00"), data))
		f.Add(goodClient, statement(format, []byte("\xa5cverc2.0calg&csigA0hcertInfoA0gpubAreaA0"), data))
	}
	f.Add(goodClient, statement("none", bytes.Repeat([]byte{0x81}, 300), data))
	f.Fuzz(func(t *testing.T, client, object []byte) {
		use, err := doors.VerifyNewKey(c, directory.WebAuthnSettings{}, factor.KeyAttestation{ClientData: text(client), Attestation: text(object), Transports: []string{"usb", string(client)}})
		if _, err := doors.VerifyNewKey(c, directory.WebAuthnSettings{}, factor.KeyAttestation{ClientData: string(client), Attestation: string(object)}); err == nil {
			t.Fatal("taken as it is")
		}
		if err != nil {
			refusal(t, err)
			return
		}
		var said struct{ Type, Challenge, Origin string }
		rp := sha256.Sum256([]byte("localhost"))
		if json.Unmarshal(client, &said) != nil || said.Type != "webauthn.create" || said.Challenge != c.Nonce || said.Origin != fuzzOrigin || !bytes.Contains(object, rp[:]) {
			t.Fatalf("made for something else: %s", client)
		}
		n := len(raw(t, use.Key.CredentialID))
		if n == 0 || n > 1023 || use.Key.UserID != fuzzUser || use.Key.ID == "" || len(use.Key.Transports) > 1 || len(use.Key.AAGUID) != 36 {
			t.Fatalf("%+v", use.Key)
		}
		if use.Key.Format != "none" && (!bytes.Equal(client, goodClient) || !bytes.Contains(object, data)) {
			t.Fatalf("%s, and nobody has signed it: %x", use.Key.Format, object)
		}
		if len(client) > mostClientData || len(object) > mostAttestation {
			t.Fatalf("%d and %d bytes", len(client), len(object))
		}
		// The org can ask it: a strange signature is refused, and nothing else happens.
		_, question, _, asked := keyDoors(t, signin.StepKey)
		answer := k.Assert(asked, fuzzOrigin, func(a *signintest.KeyAnswer) { a.Signature = []byte{0x30, 0} })
		_, err = doors.VerifyKey(question, []factor.SecurityKey{use.Key}, answer)
		refusal(t, err)
	})
}

// statement makes an attestation object.
func statement(format string, stmt, authData []byte) []byte {
	b := append([]byte{0xa3, 0x63}, "fmt"...)
	b = append(append(b, 0x60+byte(len(format))), format...)
	b = append(append(append(b, 0x67), "attStmt"...), stmt...)
	b = append(append(b, 0x68), "authData"...)
	return append(append(b, 0x58, byte(len(authData))), authData...)
}

// Every bit of what a key has signed counts, and so does every bit of the
// signature.
func TestEveryBitOfASecurityKeysAnswer(t *testing.T) {
	doors, c, k, v := keyDoors(t, signin.StepKey)
	keys, good := enrolled(t, k), k.Assert(v, fuzzOrigin)
	parts := map[string][]byte{"client data": raw(t, good.ClientData), "authenticator data": raw(t, good.AuthenticatorData), "signature": raw(t, good.Signature)}
	for name, part := range parts {
		for bit := range len(part) * 8 {
			part[bit/8] ^= 1 << (bit % 8)
			_, err := doors.VerifyKey(c, keys, factor.KeyAssertion{ClientData: text(parts["client data"]), AuthenticatorData: text(parts["authenticator data"]), Signature: text(parts["signature"])})
			if err == nil {
				t.Fatalf("bit %d of the %s may be either", bit, name)
			}
			refusal(t, err)
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	if _, err := doors.VerifyKey(c, keys, good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// The same of a new key with a statement by its own key. Around what is signed
// there are names, which the library reads in any case of letters: such a bit
// makes no other key.
func TestEveryBitOfANewSecurityKey(t *testing.T) {
	doors, c, k, v := keyDoors(t, signin.StepEnrol)
	good := k.Make(v, fuzzOrigin, func(a *signintest.KeyAnswer) { a.SelfAttested = true })
	client, object := raw(t, good.ClientData), raw(t, good.Attestation)
	verify := func() (factor.SecurityKey, error) {
		use, err := doors.VerifyNewKey(c, directory.WebAuthnSettings{}, factor.KeyAttestation{ClientData: text(client), Attestation: text(object)})
		use.Key.ID = "" // random
		return use.Key, err
	}
	want, err := verify()
	if err != nil || want.Format != "packed" {
		t.Fatalf("the good one: %+v, %v", want, err)
	}
	signed, idle := len(object)-bytes.LastIndex(object, []byte("authData"))-10, 0
	for name, part := range map[string][]byte{"client data": client, "attestation": object} {
		for bit := range len(part) * 8 {
			part[bit/8] ^= 1 << (bit % 8)
			got, err := verify()
			switch {
			case err != nil:
				refusal(t, err)
			case name == "attestation" && bit%8 == 5 && bit/8 < len(object)-signed && reflect.DeepEqual(got, want):
				idle++
			default:
				t.Fatalf("bit %d of the %s may be either: %+v", bit, name, got)
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	if names := len("fmt" + "attStmt" + "authData"); idle > names {
		t.Errorf("%d bits mean nothing", idle)
	}
}

// What is too long is refused before anything is made of it.
func TestSecurityKeyAnswersAreBounded(t *testing.T) {
	doors, c, k, v := keyDoors(t, signin.StepKey)
	keys, good := enrolled(t, k), k.Assert(v, fuzzOrigin)
	long := func(s string, n int) string { return text(append(raw(t, s), make([]byte, n)...)) }
	spaces := text(append(raw(t, good.ClientData), bytes.Repeat([]byte(" "), mostClientData)...))
	for name, a := range map[string]factor.KeyAssertion{
		"client data":        {ClientData: spaces, AuthenticatorData: good.AuthenticatorData, Signature: good.Signature},
		"authenticator data": {ClientData: good.ClientData, AuthenticatorData: long(good.AuthenticatorData, mostAuthData), Signature: good.Signature},
		"signature":          {ClientData: good.ClientData, AuthenticatorData: good.AuthenticatorData, Signature: long(good.Signature, mostSignature)},
		"user handle":        {ClientData: good.ClientData, AuthenticatorData: good.AuthenticatorData, Signature: good.Signature, UserHandle: text(make([]byte, 65))},
	} {
		_, err := doors.VerifyKey(c, keys, a)
		if refusal(t, err) != factor.KeyMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	doors, c, k, v = keyDoors(t, signin.StepEnrol)
	made := k.Make(v, fuzzOrigin)
	for name, a := range map[string]factor.KeyAttestation{
		"client data":   {ClientData: text(append(raw(t, made.ClientData), bytes.Repeat([]byte(" "), mostClientData)...)), Attestation: made.Attestation},
		"attestation":   {ClientData: made.ClientData, Attestation: long(made.Attestation, mostAttestation)},
		"a longer end":  {ClientData: made.ClientData, Attestation: long(made.Attestation, 1)},
		"no credential": {ClientData: made.ClientData, Attestation: text(raw(t, made.Attestation)[:60])},
	} {
		_, err := doors.VerifyNewKey(c, directory.WebAuthnSettings{}, a)
		if refusal(t, err) != factor.KeyMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	made.Transports = make([]string, 10000)
	for i := range made.Transports {
		made.Transports[i] = "usb"
	}
	if use, err := doors.VerifyNewKey(c, directory.WebAuthnSettings{}, made); err != nil || len(use.Key.Transports) != 1 {
		t.Errorf("%v, %v", use.Key.Transports, err)
	}
}
