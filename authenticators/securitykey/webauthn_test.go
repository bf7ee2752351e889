package securitykey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"countersign.dev/authenticators/securitykey/wire"
)

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func TestClientDataIsExact(t *testing.T) {
	got := string(clientData(typeGet, []byte{0, 255, 254, 16}, "https://login.example.com:8443"))
	if want := `{"type":"webauthn.get","challenge":"AP_-EA","origin":"https://login.example.com:8443","crossOrigin":false}`; got != want {
		t.Errorf("%s", got)
	}
	// CCDToString: nothing but these is escaped, and it stays JSON.
	odd := "a\"b\\c\x01d\u00e9\u2028<&>"
	var b strings.Builder
	ccd(&b, odd)
	if want := `"a\"b\\c\u0001dé` + "\u2028" + `<&>"`; b.String() != want {
		t.Errorf("%s", b.String())
	}
	var back string
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back != odd {
		t.Errorf("%q, %v", back, err)
	}
}

func TestOriginsAndRPIDs(t *testing.T) {
	for _, c := range []struct {
		origin, rp string
		ok         bool
	}{
		{"https://example.com", "example.com", true},
		{"https://login.example.com", "example.com", true},
		{"https://a.b.example.co.uk:8443", "example.co.uk", true},
		{"https://countersign.invalid", "countersign.invalid", true},
		{"http://localhost:8080", "localhost", true},
		{"http://org.localhost:8080", "org.localhost", true},
		{"http://example.com", "example.com", false},
		{"https://example.com", "login.example.com", false},
		{"https://badexample.com", "example.com", false},
		{"https://example.com", "com", false},
		{"https://example.co.uk", "co.uk", false},
		{"https://me.github.io", "github.io", false},
		{"https://127.0.0.1", "127.0.0.1", false},
		{"http://127.0.0.1:80", "127.0.0.1", false},
		{"https://[::1]", "::1", false},
		{"https://Example.com", "example.com", false},
		{"https://example.com", "Example.com", false},
		{"https://example.com/", "example.com", false},
		{"https://example.com/login", "example.com", false},
		{"https://user@example.com", "example.com", false},
		{"https://example.com", "", false},
		{"https://example.com", ".example.com", false},
		{"https://example.com.", "example.com.", false},
		{"", "example.com", false},
		{"null", "example.com", false},
		{"file:///etc/passwd", "example.com", false},
		{"android:apk-key-hash:x", "example.com", false},
	} {
		err := CheckOrigin(c.origin, c.rp)
		var refused *OriginError
		if (err == nil) != c.ok || err != nil && !errors.As(err, &refused) {
			t.Errorf("%q may use %q: %v, want %t", c.origin, c.rp, err, c.ok)
		}
	}
	if _, err := New(Options{}).Register(t.Context(), Registration{Origin: "http://example.com", RPID: "example.com", Challenge: make([]byte, 32)}); err == nil {
		t.Error("a registration for an insecure origin")
	}
	if _, err := New(Options{}).Assert(t.Context(), Assertion{Origin: "https://example.com", RPID: "example.com", Challenge: make([]byte, 8)}); err == nil {
		t.Error("a short challenge")
	}
}

// token is a key in a few lines, for what is checked here.
type token struct {
	id      []byte
	private *ecdsa.PrivateKey
	cose    []byte
}

func newToken(t testing.TB) *token {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	cose, err := canonical.Marshal(map[int]any{1: 2, 3: ES256, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		t.Fatal(err)
	}
	return &token{id: []byte("credential"), private: k, cose: cose}
}

func (k *token) authData(rpID string, flags byte, counter uint32, attested bool) []byte {
	b := append(hash([]byte(rpID)), flags)
	b = binary.BigEndian.AppendUint32(b, counter)
	if attested {
		b = append(b, make([]byte, 16)...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(k.id)))
		b = append(append(b, k.id...), k.cose...)
	}
	return b
}

func (k *token) sign(auth, data []byte) []byte {
	digest := sha256.Sum256(append(bytes.Clone(auth), hash(data)...))
	s, err := ecdsa.SignASN1(rand.Reader, k.private, digest[:])
	if err != nil {
		panic(err)
	}
	return s
}

var testChallenge = []byte("0123456789abcdef")

func TestAttestationObjectIsCanonical(t *testing.T) {
	k := newToken(t)
	auth := k.authData("example.com", flagPresent|flagAttested, 1, true)
	r := &Registration{RPID: "example.com", Algorithms: []int{ES256}}
	data := clientData(typeCreate, testChallenge, "https://example.com")
	a := &wire.Attestation{Format: "packed", AuthData: auth, Signature: k.sign(auth, data), CredentialID: k.id, Algorithm: ES256}
	made, err := registered(a, r, data, "")
	if err != nil {
		t.Fatal(err)
	}
	// fmt, attStmt, authData: the shorter key first; alg, sig.
	want := "a3" + "63666d74" + "667061636b6564" + "6761747453746d74" + "a2" + "63616c6726" + "63736967"
	if got := hex.EncodeToString(made.AttestationObject); !strings.HasPrefix(got, want) {
		t.Errorf("%s", got)
	}
	var back struct {
		Format    string `cbor:"fmt"`
		AuthData  []byte `cbor:"authData"`
		Statement struct {
			Alg int    `cbor:"alg"`
			Sig []byte `cbor:"sig"`
		} `cbor:"attStmt"`
	}
	if err := cbor.Unmarshal(made.AttestationObject, &back); err != nil || back.Format != "packed" || !bytes.Equal(back.AuthData, auth) ||
		back.Statement.Alg != ES256 || !bytes.Equal(back.Statement.Sig, a.Signature) {
		t.Errorf("%+v, %v", back, err)
	}
	for name, spoil := range map[string]func(a *wire.Attestation){
		"another signature":  func(a *wire.Attestation) { a.Signature = k.sign(auth, []byte("other")) },
		"another credential": func(a *wire.Attestation) { a.CredentialID = []byte("other") },
		"another RP":         func(a *wire.Attestation) { a.AuthData = k.authData("example.org", flagPresent|flagAttested, 1, true) },
		"no touch":           func(a *wire.Attestation) { a.AuthData = k.authData("example.com", flagAttested, 1, true) },
		"no credential":      func(a *wire.Attestation) { a.AuthData = k.authData("example.com", flagPresent, 1, false) },
		"more after it":      func(a *wire.Attestation) { a.AuthData = append(bytes.Clone(auth), 0) },
		"another format":     func(a *wire.Attestation) { a.Format = "tpm" },
		"U2F without x5c":    func(a *wire.Attestation) { a.Format = "fido-u2f" },
		"no certificate":     func(a *wire.Attestation) { a.Certificates = [][]byte{{1, 2, 3}} },
	} {
		other := *a
		spoil(&other)
		if _, err := registered(&other, r, data, ""); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := registered(a, &Registration{RPID: "example.com", Algorithms: []int{EdDSA}}, data, ""); err == nil {
		t.Error("an algorithm that was not asked for")
	}
	if _, err := registered(a, &Registration{RPID: "example.com", Algorithms: []int{ES256}, Verification: Required}, data, ""); err == nil {
		t.Error("verification that is missing")
	}
	if _, err := registered(a, r, data, "11111111-1111-1111-1111-111111111111"); err == nil {
		t.Error("another model")
	}
}

// What a system encodes itself is taken apart, and comes out the same.
func TestAttestationObjectIsTakenApart(t *testing.T) {
	for _, a := range []*wire.Attestation{
		{Format: "packed", AuthData: []byte("data"), Signature: []byte("signature"), Algorithm: ES256},
		{Format: "packed", AuthData: []byte("data"), Signature: []byte("signature"), Algorithm: EdDSA, Certificates: [][]byte{{1}, {2}}},
		{Format: "fido-u2f", AuthData: []byte("data"), Signature: []byte("signature"), Certificates: [][]byte{{1}}},
		{Format: "none", AuthData: []byte("data")},
	} {
		object, err := attestationObject(a)
		if err != nil {
			t.Fatal(err)
		}
		back := &wire.Attestation{Object: object, CredentialID: []byte("id")}
		if err := takeApart(back); err != nil || back.Object != nil || string(back.CredentialID) != "id" {
			t.Errorf("%+v, %v", back, err)
		}
		if again, err := attestationObject(back); err != nil || !bytes.Equal(again, object) {
			t.Errorf("%x, %v; want %x", again, err, object)
		}
	}
	for name, object := range map[string]string{
		"nothing": "", "a text": "6474657874", "more after it": "a163666d74646e6f6e6500", "a number for a format": "a163666d7401",
		"cut": "a163666d74646e6f6e", "two formats": "a263666d74646e6f6e6563666d74646e6f6e65", "no end": "bf63666d74646e6f6e65ff",
	} {
		b, err := hex.DecodeString(object)
		if err != nil {
			t.Fatal(err)
		}
		if err := takeApart(&wire.Attestation{Object: b}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestVerify(t *testing.T) {
	k := newToken(t)
	good := func() (Asserted, Expected) {
		data := clientData(typeGet, testChallenge, "https://example.com")
		auth := k.authData("example.com", flagPresent|flagVerified, 8, false)
		return Asserted{CredentialID: k.id, ClientDataJSON: data, AuthData: auth, Signature: k.sign(auth, data)},
			Expected{RPID: "example.com", Origin: "https://example.com", Challenge: testChallenge, CredentialID: k.id, PublicKey: k.cose, Verified: true, Counter: 7}
	}
	if n, err := Verify(good()); err != nil || n != 8 {
		t.Fatal(n, err)
	}
	again := func(a *Asserted, auth, data []byte) {
		a.AuthData, a.ClientDataJSON, a.Signature = auth, data, k.sign(auth, data)
	}
	for name, spoil := range map[string]func(a *Asserted, e *Expected){
		"another challenge":  func(_ *Asserted, e *Expected) { e.Challenge = []byte("fedcba9876543210") },
		"no challenge":       func(_ *Asserted, e *Expected) { e.Challenge = nil },
		"another origin":     func(_ *Asserted, e *Expected) { e.Origin = "https://example.org" },
		"another RP":         func(_ *Asserted, e *Expected) { e.RPID = "example.org" },
		"another credential": func(_ *Asserted, e *Expected) { e.CredentialID = []byte("other") },
		"no credential":      func(a *Asserted, e *Expected) { a.CredentialID, e.CredentialID = nil, nil },
		"another key":        func(_ *Asserted, e *Expected) { e.PublicKey = newToken(t).cose },
		"no key":             func(_ *Asserted, e *Expected) { e.PublicKey = nil },
		"the counter again":  func(_ *Asserted, e *Expected) { e.Counter = 8 },
		"the counter back":   func(_ *Asserted, e *Expected) { e.Counter = 9 },
		"no signature":       func(a *Asserted, _ *Expected) { a.Signature = nil },
		"flags changed":      func(a *Asserted, _ *Expected) { a.AuthData[32] |= 0x08 },
		"a creation's data": func(a *Asserted, _ *Expected) {
			again(a, a.AuthData, clientData(typeCreate, testChallenge, "https://example.com"))
		},
		"data in other order": func(a *Asserted, _ *Expected) { again(a, a.AuthData, append([]byte(" "), a.ClientDataJSON...)) },
		"no touch": func(a *Asserted, _ *Expected) {
			again(a, k.authData("example.com", flagVerified, 8, false), a.ClientDataJSON)
		},
		"no verification": func(a *Asserted, _ *Expected) {
			again(a, k.authData("example.com", flagPresent, 8, false), a.ClientDataJSON)
		},
		"a counter that stops": func(a *Asserted, _ *Expected) {
			again(a, k.authData("example.com", flagPresent|flagVerified, 0, false), a.ClientDataJSON)
		},
	} {
		a, e := good()
		spoil(&a, &e)
		if _, err := Verify(a, e); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	if _, err := Verify(Asserted{}, Expected{}); err == nil {
		t.Error("nothing verifies")
	}
}

func TestPublicKeys(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(m map[int]any) []byte {
		b, err := canonical.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if k, alg, err := publicKey(encode(map[int]any{1: 1, 3: EdDSA, -1: 6, -2: []byte(public)})); err != nil || alg != EdDSA || !public.Equal(k) {
		t.Error(k, alg, err)
	}
	for name, m := range map[string]map[int]any{
		"on no curve":         {1: 2, 3: ES256, -1: 1, -2: make([]byte, 32), -3: bytes.Repeat([]byte{1}, 32)},
		"infinity":            {1: 2, 3: ES256, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)},
		"another curve":       {1: 2, 3: ES256, -1: 2, -2: make([]byte, 32), -3: make([]byte, 32)},
		"short":               {1: 2, 3: ES256, -1: 1, -2: make([]byte, 31), -3: make([]byte, 32)},
		"a small RSA key":     {1: 3, 3: RS256, -1: bytes.Repeat([]byte{0xff}, 128), -2: []byte{1, 0, 1}},
		"an RSA key to the 1": {1: 3, 3: RS256, -1: bytes.Repeat([]byte{0xff}, 256), -2: []byte{1}},
		"another algorithm":   {1: 2, 3: -35, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)},
		"nothing":             {},
	} {
		if k, _, err := publicKey(encode(m)); err == nil {
			t.Errorf("%s: %v", name, k)
		}
	}
}

func TestAdvisories(t *testing.T) {
	for firmware, n := range map[string]int{"5.4.3": 1, "5.6.9": 1, "5.7.0": 0, "5.7.1": 0, "6.0.0": 0, "4.9.9": 1, "": 0, "x.y.z": 0} {
		k := Key{VendorID: yubico, AAGUID: "x", Firmware: firmware}
		if got := len(k.Advisories()); got != n {
			t.Errorf("%s: %d", firmware, got)
		}
		if k.VendorID = 0x1209; len(k.Advisories()) != 0 {
			t.Error("of another maker")
		}
	}
}

// Whatever a key says is refused, or makes sense as a whole.
func FuzzAuthData(f *testing.F) {
	k := newToken(f)
	f.Add(k.authData("example.com", flagPresent|flagAttested, 1, true))
	f.Add(k.authData("example.com", flagPresent|flagVerified, 1, false))
	f.Add(append(k.authData("example.com", flagPresent|flagExtensions, 1, false), 0xa1, 0x6b, 'h', 'm', 'a', 'c', '-', 's', 'e', 'c', 'r', 'e', 't', 0xf5))
	f.Add(append(k.authData("example.com", flagExtensions, 1, false), 0x9b, 0x80, 0, 0, 0, 0, 0, 0, 0))
	object, err := attestationObject(&wire.Attestation{Format: "packed", AuthData: []byte{1}, Signature: []byte{2}, Algorithm: ES256, Certificates: [][]byte{{3}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(object)
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := (&wire.Attestation{Object: b}); takeApart(a) == nil {
			if _, err := attestationObject(a); err == nil && a.Format != "none" && a.Format != "packed" && a.Format != "fido-u2f" {
				t.Fatalf("%+v", a)
			}
		}
		d, err := parseAuthData(b)
		if err != nil {
			return
		}
		n := 37
		if d.flags&flagAttested != 0 {
			if len(d.credentialID) == 0 || len(d.aaguid) != 36 || len(d.cose) == 0 {
				t.Fatalf("%+v", d)
			}
			n += 18 + len(d.credentialID) + len(d.cose)
			if key, _, err := publicKey(d.cose); err == nil {
				signed(key, b, b)
				a := &wire.Attestation{Format: "packed", AuthData: b, Signature: []byte{1}, CredentialID: d.credentialID}
				if err := attests(a, d, key, hash(b)); err == nil {
					t.Fatal("a signature of one byte")
				}
				a.Format = "fido-u2f"
				_ = attests(a, d, key, hash(b))
			}
		}
		if d.flags&flagExtensions == 0 && len(b) != n {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
	})
}

// What is not for the origin, or could be guessed, goes to no key: no helper is
// looked for.
func TestOriginsComeBeforeKeys(t *testing.T) {
	ks := New(Options{Helper: "/nonexistent"})
	var origin *OriginError
	r := Registration{Origin: "https://example.com", RPID: "example.org", Challenge: make([]byte, MinChallenge)}
	a := Assertion{Origin: r.Origin, RPID: r.RPID, Challenge: r.Challenge}
	if _, err := ks.Register(t.Context(), r); !errors.As(err, &origin) {
		t.Error(err)
	}
	if _, err := ks.Assert(t.Context(), a); !errors.As(err, &origin) {
		t.Error(err)
	}
	r.RPID, r.Challenge = "example.com", r.Challenge[1:]
	a.RPID, a.Challenge = r.RPID, r.Challenge
	if _, err := ks.Register(t.Context(), r); err == nil || errors.Is(err, ErrHelper) {
		t.Error(err)
	}
	if _, err := ks.Assert(t.Context(), a); err == nil || errors.Is(err, ErrHelper) {
		t.Error(err)
	}
}

// An assertion by what was not asked for is none.
func TestAssertionsThatWereNotAskedFor(t *testing.T) {
	auth := append(hash([]byte("example.com")), flagPresent, 0, 0, 0, 1)
	good := wire.Assertion{CredentialID: []byte("mine"), AuthData: auth, Signature: []byte{1}}
	ask := Assertion{RPID: "example.com", Allow: [][]byte{[]byte("other"), []byte("mine")}}
	if _, err := asserted(&good, &ask, nil); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(w *wire.Assertion){
		"another credential":     func(w *wire.Assertion) { w.CredentialID = []byte("no one's") },
		"no credential":          func(w *wire.Assertion) { w.CredentialID = nil },
		"a long user handle":     func(w *wire.Assertion) { w.UserID = make([]byte, 65) },
		"a secret":               func(w *wire.Assertion) { w.Secret = make([]byte, 32) },
		"another RP ID":          func(w *wire.Assertion) { w.AuthData = append(hash([]byte("example.org")), auth[32:]...) },
		"more behind it":         func(w *wire.Assertion) { w.AuthData = append(bytes.Clone(auth), 0) },
		"extensions without any": func(w *wire.Assertion) { w.AuthData = bytes.Clone(auth); w.AuthData[32] |= flagExtensions },
		"not touched":            func(w *wire.Assertion) { w.AuthData = bytes.Clone(auth); w.AuthData[32] = 0 },
	} {
		w := good
		change(&w)
		if _, err := asserted(&w, &ask, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	ask.Verification = Required
	if _, err := asserted(&good, &ask, nil); err == nil {
		t.Error("not verified: taken")
	}
}
