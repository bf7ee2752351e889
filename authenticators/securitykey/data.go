package securitykey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/fxamacker/cbor/v2"

	"countersign.dev/authenticators/securitykey/wire"
)

// Algorithms of COSE that keys sign by.
const (
	ES256 = -7
	EdDSA = -8
	RS256 = -257
)

// Flags of authenticator data (WebAuthn 6.1).
const (
	flagPresent    = 0x01
	flagVerified   = 0x04
	flagAttested   = 0x40
	flagExtensions = 0x80
)

// authData is authenticator data, taken apart.
type authData struct {
	rpHash       []byte
	flags        byte
	counter      uint32
	aaguid       string
	credentialID []byte
	cose         []byte // the public key, as it came
	extensions   map[string]cbor.RawMessage
}

// strict refuses what a canonical encoder does not write, and what is too much.
var strict = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		panic(err) // the options are wrong
	}
	return m
}()

var canonical = func() cbor.EncMode {
	m, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

var errAuthData = errors.New("malformed authenticator data")

// parseAuthData takes authenticator data apart. All of it must make sense.
func parseAuthData(b []byte) (*authData, error) {
	if len(b) < 37 || len(b) > 16<<10 {
		return nil, errAuthData
	}
	d := &authData{rpHash: b[:32], flags: b[32], counter: binary.BigEndian.Uint32(b[33:37])}
	b = b[37:]
	if d.flags&flagAttested != 0 {
		if len(b) < 18 {
			return nil, errAuthData
		}
		id := hex.EncodeToString(b[:16])
		d.aaguid = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
		n := int(binary.BigEndian.Uint16(b[16:18]))
		if n == 0 || n > 1023 || len(b) < 18+n {
			return nil, errAuthData
		}
		d.credentialID, b = b[18:18+n], b[18+n:]
		var key cbor.RawMessage
		rest, err := strict.UnmarshalFirst(b, &key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errAuthData, err)
		}
		d.cose, b = b[:len(b)-len(rest)], rest
	}
	if d.flags&flagExtensions != 0 {
		rest, err := strict.UnmarshalFirst(b, &d.extensions)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errAuthData, err)
		}
		b = rest
	}
	if len(b) != 0 {
		return nil, errAuthData
	}
	return d, nil
}

// publicKey reads a COSE key (WebAuthn 6.5.1.1) of the algorithms above.
func publicKey(cose []byte) (key crypto.PublicKey, algorithm int, err error) {
	var m map[int]cbor.RawMessage
	if err := strict.Unmarshal(cose, &m); err != nil {
		return nil, 0, fmt.Errorf("public key: %w", err)
	}
	number := func(at int) (n int) {
		if strict.Unmarshal(m[at], &n) != nil {
			return 0
		}
		return n
	}
	octets := func(at int) (b []byte) {
		if strict.Unmarshal(m[at], &b) != nil {
			return nil
		}
		return b
	}
	switch kind, algorithm := number(1), number(3); {
	case kind == 2 && algorithm == ES256 && number(-1) == 1:
		x, y := octets(-2), octets(-3)
		if len(x) != 32 || len(y) != 32 {
			break
		}
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil { // on no curve
			return nil, 0, fmt.Errorf("public key: %w", err)
		}
		return k, algorithm, nil
	case kind == 1 && algorithm == EdDSA && number(-1) == 6:
		if x := octets(-2); len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x), algorithm, nil
		}
	case kind == 3 && algorithm == RS256:
		n, e := octets(-1), octets(-2)
		if len(n) >= 256 && len(n) <= 1024 && len(e) > 0 && len(e) <= 4 {
			k := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
			if k.E >= 3 && k.E%2 == 1 && k.N.BitLen() >= 2048 {
				return k, algorithm, nil
			}
		}
	}
	return nil, 0, errors.New("public key: of no kind that is used here")
}

// signed checks a signature over data.
func signed(key crypto.PublicKey, data, signature []byte) bool {
	digest := sha256.Sum256(data)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest[:], signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, data, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

// attestationObject encodes what an org is given (WebAuthn 6.5.4), canonically.
func attestationObject(a *wire.Attestation) ([]byte, error) {
	statement := map[string]any{}
	switch a.Format {
	case "none":
	case "packed":
		statement["alg"], statement["sig"] = a.Algorithm, a.Signature
		if len(a.Certificates) > 0 {
			statement["x5c"] = a.Certificates
		}
	case "fido-u2f":
		if len(a.Certificates) != 1 {
			return nil, errors.New("a U2F attestation has one certificate")
		}
		statement["sig"], statement["x5c"] = a.Signature, a.Certificates
	default:
		return nil, fmt.Errorf("attestation format %.20q", a.Format)
	}
	return canonical.Marshal(map[string]any{"fmt": a.Format, "attStmt": statement, "authData": a.AuthData})
}

// takeApart reads an attestation object that a system made. What is not of the
// formats that attestationObject writes says nothing here.
func takeApart(a *wire.Attestation) error {
	var o struct {
		Format    string `cbor:"fmt"`
		AuthData  []byte `cbor:"authData"`
		Statement struct {
			Algorithm    int      `cbor:"alg"`
			Signature    []byte   `cbor:"sig"`
			Certificates [][]byte `cbor:"x5c"`
		} `cbor:"attStmt"`
	}
	if err := strict.Unmarshal(a.Object, &o); err != nil {
		return fmt.Errorf("attestation object: %w", err)
	}
	s := o.Statement
	*a = wire.Attestation{Format: o.Format, AuthData: o.AuthData, Signature: s.Signature, Certificates: s.Certificates, CredentialID: a.CredentialID, Algorithm: s.Algorithm}
	return nil
}

// attests checks the attestation's signature: by the credential itself, or by the
// certificate that came with it, whose algorithm it notes. Whom the certificate
// belongs to is the org's to say.
func attests(a *wire.Attestation, d *authData, key crypto.PublicKey, clientDataHash []byte) error {
	bad := errors.New("the attestation is not signed by what it names")
	signer := key
	if len(a.Certificates) > 0 {
		c, err := x509.ParseCertificate(a.Certificates[0])
		if err != nil {
			return fmt.Errorf("attestation certificate: %w", err)
		}
		signer = c.PublicKey
		// The library gives the algorithm of the credential, not that of the statement.
		switch signer.(type) {
		case *ecdsa.PublicKey:
			a.Algorithm = ES256
		case ed25519.PublicKey:
			a.Algorithm = EdDSA
		case *rsa.PublicKey:
			a.Algorithm = RS256
		}
	}
	switch a.Format {
	case "none":
		return nil
	case "packed":
		if !signed(signer, append(append([]byte{}, a.AuthData...), clientDataHash...), a.Signature) {
			return bad
		}
		return nil
	case "fido-u2f":
		k, ok := key.(*ecdsa.PublicKey)
		if !ok {
			return errors.New("a U2F credential of another algorithm than ES256")
		}
		point, err := k.Bytes()
		if err != nil {
			return err
		}
		data := append([]byte{0}, d.rpHash...)
		data = append(append(append(data, clientDataHash...), d.credentialID...), point...)
		if len(a.Certificates) == 0 || !signed(signer, data, a.Signature) {
			return bad
		}
		return nil
	}
	return fmt.Errorf("attestation format %.20q", a.Format)
}
