package signintest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
	"countersign.dev/org/store"
)

// TakeKeys switches security keys on, as --demo does, and returns the world.
func (w *World) TakeKeys(t testing.TB, edits ...func(*directory.WebAuthnSettings)) *World {
	t.Helper()
	w.Write(t, func(tx store.Tx) error {
		a, err := directory.EnsureWebAuthn(t.Context(), tx, true, w.Clock.Now())
		if err != nil {
			return err
		}
		for _, edit := range edits {
			edit(&a.Settings)
		}
		w.Org.Authenticators.WebAuthn = a.ID
		return directory.SetWebAuthn(t.Context(), tx, a.Settings, w.Clock.Now())
	})
	return w
}

// SoftKey is a security key with one credential, and the browser that asks it.
// Its fields can be bent before it answers.
type SoftKey struct {
	Private    *ecdsa.PrivateKey
	ID         []byte
	AAGUID     [16]byte
	Count      uint32 // the next answer says Count+1, unless Frozen
	Frozen     bool
	UserHandle string
	Transports []string
	Public     []byte // COSE, instead of Private's
}

// NewSoftKey makes a security key.
func NewSoftKey() *SoftKey {
	id := make([]byte, 32)
	rand.Read(id)
	return &SoftKey{Private: newKey(), ID: id, Transports: []string{"usb"}}
}

// The flags of authenticator data.
const (
	FlagUP byte = 1 << 0 // somebody touched the key
	FlagUV byte = 1 << 2 // it verified them
	FlagBE byte = 1 << 3 // its credential may be copied
	FlagBS byte = 1 << 4 // and was
	FlagAT byte = 1 << 6 // a credential was made
)

// KeyAnswer is an answer in the making.
type KeyAnswer struct {
	Type, Challenge, Origin string
	CrossOrigin             bool
	RPID                    string
	Flags                   byte
	SelfAttested            bool   // with a statement by the credential's own key
	Maker                   *Maker // with one by its maker

	clientData, data, Signature []byte
	ClientDataText              string // instead of what the browser would say
}

// honest is the answer that a browser on the page would bring.
func honest(v *signin.KeyView, kind, origin string, edits []func(*KeyAnswer)) *KeyAnswer {
	a := &KeyAnswer{Type: kind, Challenge: v.Challenge, Origin: origin, RPID: v.RPID, Flags: FlagUP | FlagUV}
	for _, edit := range edits {
		edit(a)
	}
	client, err := json.Marshal(map[string]any{"type": a.Type, "challenge": a.Challenge, "origin": a.Origin, "crossOrigin": a.CrossOrigin})
	if err != nil {
		panic(err)
	}
	if a.ClientDataText != "" {
		client = []byte(a.ClientDataText)
	}
	rp := sha256.Sum256([]byte(a.RPID))
	a.clientData, a.data = client, append(rp[:], a.Flags)
	return a
}

// Assert answers what a page asks of the key.
func (k *SoftKey) Assert(v *signin.KeyView, origin string, edits ...func(*KeyAnswer)) factor.KeyAssertion {
	a := honest(v, "webauthn.get", origin, edits)
	if !k.Frozen {
		k.Count++
	}
	a.data = binary.BigEndian.AppendUint32(a.data, k.Count)
	hash := sha256.Sum256(a.clientData)
	signature := a.Signature
	if signature == nil {
		signature = sign(k.Private, append(append([]byte{}, a.data...), hash[:]...))
	}
	return factor.KeyAssertion{
		ClientData: base64.StdEncoding.EncodeToString(a.clientData), AuthenticatorData: base64.StdEncoding.EncodeToString(a.data),
		Signature: base64.StdEncoding.EncodeToString(signature), UserHandle: k.UserHandle,
	}
}

// Make makes the key's credential as a page asks.
func (k *SoftKey) Make(v *signin.KeyView, origin string, edits ...func(*KeyAnswer)) factor.KeyAttestation {
	a := honest(v, "webauthn.create", origin, append([]func(*KeyAnswer){func(a *KeyAnswer) { a.Flags |= FlagAT }}, edits...))
	a.data = binary.BigEndian.AppendUint32(a.data, k.Count)
	a.data = append(a.data, k.AAGUID[:]...)
	a.data = binary.BigEndian.AppendUint16(a.data, uint16(len(k.ID)))
	a.data = append(append(a.data, k.ID...), k.cose()...)
	format, statement := "none", []byte{0xa0}
	if a.SelfAttested || a.Maker != nil {
		hash := sha256.Sum256(a.clientData)
		signer, signature := k.Private, a.Signature
		if a.Maker != nil {
			signer = a.Maker.private
		}
		if signature == nil {
			signature = sign(signer, append(append([]byte{}, a.data...), hash[:]...))
		}
		format = "packed"
		statement = append(append([]byte{0xa2}, cborText("alg")...), 0x26) // -7
		statement = append(append(statement, cborText("sig")...), cborBytes(signature)...)
		if a.Maker != nil {
			statement[0] = 0xa3
			statement = append(append(statement, cborText("x5c")...), 0x81)
			statement = append(statement, cborBytes(a.Maker.certificate)...)
		}
	}
	object := append([]byte{0xa3}, cborText("fmt")...)
	object = append(append(object, cborText(format)...), cborText("attStmt")...)
	object = append(append(object, statement...), cborText("authData")...)
	object = append(object, cborBytes(a.data)...)
	return factor.KeyAttestation{
		ClientData:  base64.RawURLEncoding.EncodeToString(a.clientData),
		Attestation: base64.RawURLEncoding.EncodeToString(object), Transports: k.Transports,
	}
}

// Maker signs what it says of the keys that it has made.
type Maker struct {
	private     *ecdsa.PrivateKey
	certificate []byte
}

// NewMaker makes a maker of the model. Only itself vouches for it.
func NewMaker(model [16]byte) *Maker {
	m := &Maker{private: newKey()}
	id, err := asn1.Marshal(model[:])
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		Subject:         pkix.Name{Country: []string{"SE"}, Organization: []string{"Maker"}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Keys"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: id}}, // of the model
	}
	if m.certificate, err = x509.CreateCertificate(rand.Reader, template, template, &m.private.PublicKey, m.private); err != nil {
		panic(err)
	}
	return m
}

func sign(key *ecdsa.PrivateKey, data []byte) []byte {
	digest := sha256.Sum256(data)
	s, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		panic(err)
	}
	return s
}

// cose is the public key: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
func (k *SoftKey) cose() []byte {
	if k.Public != nil {
		return k.Public
	}
	public, err := k.Private.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	out := []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}
	out = append(append(out, cborBytes(public[1:33])...), 0x22)
	return append(out, cborBytes(public[33:])...)
}

func cborText(s string) []byte { return append([]byte{0x60 + byte(len(s))}, s...) } // up to 23

func cborBytes(b []byte) []byte {
	if len(b) < 256 {
		return append([]byte{0x58, byte(len(b))}, b...)
	}
	return append([]byte{0x59, byte(len(b) >> 8), byte(len(b))}, b...)
}
