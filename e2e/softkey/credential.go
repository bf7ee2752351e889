package softkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

type raw = cbor.RawMessage

const (
	maxList            = 8
	credentialIDLength = 48
)

// Levels of the credProtect extension (CTAP 2.1, 12.1).
const (
	protectOptional = 1 + iota
	protectOptionalWithList
	protectRequired
)

// Credential is one that the key holds.
type Credential struct {
	ID       []byte
	RP       RelyingParty // without ID if it was made by U2F
	RPHash   [32]byte
	User     User
	Resident bool
	Protect  int // credProtect, 1 to 3
	HMAC     bool

	algorithm                 int
	key                       crypto.Signer
	secretWith, secretWithout []byte // with and without user verification
}

func newCredential(algorithm int) *Credential {
	c := &Credential{
		ID: random(credentialIDLength), algorithm: algorithm, Protect: protectOptional, secretWith: random(32), secretWithout: random(32),
	}
	if algorithm == algEdDSA {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		c.key = must(key, err)
	} else {
		c.key = newP256()
	}
	return c
}

// cose is the public key.
func (c *Credential) cose() coseKey {
	if public, is := c.key.Public().(ed25519.PublicKey); is {
		return coseKey{Type: 1, Algorithm: algEdDSA, Curve: 6, X: public}
	}
	p := c.point()
	return coseKey{2, algES256, 1, p[1:33], p[33:]}
}

// point is the public key of a credential on P-256, uncompressed.
func (c *Credential) point() []byte { return must(c.key.Public().(*ecdsa.PublicKey).Bytes()) }

func sign(key crypto.Signer, parts ...[]byte) []byte {
	message, hash := bytes.Join(parts, nil), crypto.Hash(0)
	if _, is := key.(*ecdsa.PrivateKey); is {
		sum := sha256.Sum256(message)
		message, hash = sum[:], crypto.SHA256
	}
	return must(key.Sign(rand.Reader, message, hash))
}

// Flags of authenticator data (WebAuthn 2, 6.1).
const (
	flagPresent    = 0x01
	flagVerified   = 0x04
	flagAttested   = 0x40
	flagExtensions = 0x80
)

type makeRequest struct {
	Hash   []byte        `cbor:"1,keyasint"`
	RP     *RelyingParty `cbor:"2,keyasint"`
	User   *User         `cbor:"3,keyasint"`
	Params []struct {
		Algorithm int    `cbor:"alg"`
		Type      string `cbor:"type"`
	} `cbor:"4,keyasint"`
	Exclude    []descriptor `cbor:"5,keyasint"`
	Extensions struct {
		HMAC    bool `cbor:"hmac-secret"`
		Protect *int `cbor:"credProtect"`
	} `cbor:"6,keyasint"`
	Options    map[string]bool `cbor:"7,keyasint"`
	Auth       *[]byte         `cbor:"8,keyasint"`
	Protocol   *int            `cbor:"9,keyasint"`
	Enterprise *int            `cbor:"10,keyasint"`
}

// check refuses a request that no key would take.
func (r *makeRequest) check(k *Key) (algorithm int, err error) {
	switch {
	case r.Hash == nil || r.RP == nil || r.User == nil || r.Params == nil:
		return 0, MissingParameter
	case len(r.Hash) != 32 || len(r.RP.ID) == 0 || len(r.User.ID) == 0 || len(r.User.ID) > 64:
		return 0, InvalidParameter
	case len(r.Exclude) > maxList:
		return 0, RequestTooLarge
	}
	for _, p := range r.Params {
		if p.Type == "public-key" && (p.Algorithm == algES256 || p.Algorithm == algEdDSA) {
			algorithm = p.Algorithm
			break
		}
	}
	up, asked := r.Options["up"]
	switch {
	case algorithm == 0:
		return 0, UnsupportedAlgorithm
	case asked && !up:
		return 0, InvalidOption
	case r.Options["uv"] && r.Auth == nil && len(k.store.prints) == 0:
		return 0, InvalidOption
	case r.Enterprise != nil:
		return 0, InvalidParameter
	case r.Extensions.Protect != nil && (*r.Extensions.Protect < 1 || *r.Extensions.Protect > 3 || k.o.Kind != FIDO21):
		return 0, InvalidOption
	}
	return algorithm, nil
}

// makeCredential is authenticatorMakeCredential (CTAP 2.1, 6.1.2).
func (c *call) makeCredential(in []byte) (any, error) {
	k := c.k
	var r makeRequest
	if err := decode(in, &r); err != nil {
		return nil, err
	}
	if probe, err := c.probed(r.Auth, r.Protocol); probe {
		return nil, err
	}
	algorithm, err := r.check(k)
	if err != nil {
		return nil, err
	}
	verified, err := c.verified(r.Auth, r.Protocol, r.Hash, mayMake, r.RP.ID, r.Options["uv"])
	if err != nil {
		return nil, err
	}
	if protected := k.store.pinHash != nil || len(k.store.prints) > 0; !verified {
		if k.store.alwaysUV || protected && (r.Options["rk"] || !k.o.MakeWithoutPIN) {
			return nil, PINRequired
		}
	}
	rpHash := sha256.Sum256([]byte(r.RP.ID))
	if err := c.touch(r.RP.ID); err != nil {
		return nil, err
	}
	k.spend()
	if len(r.Exclude) > 0 {
		for _, found := range k.find(rpHash, r.Exclude) {
			if found.Protect < protectRequired || verified {
				return nil, CredentialExcluded
			}
		}
	}
	made := newCredential(algorithm)
	made.RP, made.RPHash, made.User, made.Resident, made.HMAC = *r.RP, rpHash, *r.User, r.Options["rk"], r.Extensions.HMAC
	if r.Extensions.Protect != nil {
		made.Protect = *r.Extensions.Protect
	}
	if err := k.keep(made); err != nil {
		return nil, err
	}
	return c.attest(made, r, verified), nil
}

// keep stores a new credential. A resident one takes the place of another for the
// same user.
func (k *Key) keep(made *Credential) error {
	all := k.store.credentials
	if made.Resident {
		others := slices.DeleteFunc(slices.Clone(all), func(old *Credential) bool {
			return old.Resident && old.RPHash == made.RPHash && bytes.Equal(old.User.ID, made.User.ID)
		})
		if len(others) == len(all) && k.room() <= 0 {
			return KeyStoreFull
		}
		all = others
	}
	k.store.credentials = append(all, made)
	return nil
}

// attest makes the answer to makeCredential.
func (c *call) attest(made *Credential, r makeRequest, verified bool) any {
	k, l := c.k, c.fault.lie
	extensions := map[string]any{}
	if r.Extensions.HMAC {
		extensions["hmac-secret"] = true
	}
	if r.Extensions.Protect != nil {
		extensions["credProtect"] = made.Protect
	}
	aaguid, id, public := k.o.AAGUID[:], made.ID, made.cose()
	if l == lieAAGUID {
		aaguid = random(16)
	}
	if l == lieCredential {
		id = random(len(id))
	}
	switch l {
	case liePublicKey:
		public.X = bytes.Repeat([]byte{0xff}, 32) // on no curve
	case lieAlgorithm:
		public.Algorithm = -257
	}
	attested := binary.BigEndian.AppendUint16(slices.Clone(aaguid), uint16(len(id)))
	attested = append(append(attested, id...), encode(public)...)
	if l == lieCredentialLength {
		binary.BigEndian.PutUint16(attested[16:], 0xffff)
	}
	flags := byte(flagPresent | flagAttested)
	if verified {
		flags |= flagVerified
	}
	data := c.authData(made.RPHash, flags, attested, extensions)
	answer := map[int]any{1: "packed", 2: data, 3: c.statement(made, data, r.Hash)}
	if k.o.Attestation == NoAttestation {
		answer[1] = "none"
	}
	return answer
}

func (c *call) statement(made *Credential, data, hash []byte) map[string]any {
	k := c.k
	switch k.o.Attestation {
	case NoAttestation:
		return map[string]any{}
	case BasicAttestation:
		a := k.ca.model(k.o.AAGUID)
		return map[string]any{"alg": algES256, "sig": c.signed(a.key, data, hash), "x5c": [][]byte{a.der}}
	}
	return map[string]any{"alg": made.algorithm, "sig": c.signed(made.key, data, hash)}
}

// authData is authenticator data, with what the fault of the day makes of it.
func (c *call) authData(rpHash [32]byte, flags byte, attested []byte, extensions map[string]any) []byte {
	if len(extensions) > 0 {
		flags |= flagExtensions
	}
	switch c.fault.lie {
	case lieVerified:
		flags |= flagVerified
	case lieNotVerified:
		flags &^= flagVerified
	case liePresent:
		flags |= flagPresent
	case lieNotPresent:
		flags &^= flagPresent
	case lieRPHash:
		rpHash = sha256.Sum256([]byte("elsewhere.example"))
	}
	data := append(rpHash[:], flags)
	data = binary.BigEndian.AppendUint32(data, c.count())
	data = append(data, attested...)
	if len(extensions) > 0 {
		data = append(data, encode(extensions)...)
	}
	return data
}

// count is the next value of the signature counter.
func (c *call) count() uint32 {
	switch n := &c.k.store.counter; {
	case c.fault.lie == lieCounterStuck:
	case c.fault.lie == lieCounterBack:
		return *n / 2
	default:
		*n++
	}
	return c.k.store.counter
}

// signed signs, with what the fault of the day makes of it.
func (c *call) signed(key crypto.Signer, parts ...[]byte) []byte {
	switch c.fault.lie {
	case lieSignature:
		s := sign(key, parts...)
		s[len(s)-1] ^= 1
		return s
	case lieOtherKey:
		return sign(newP256(), parts...)
	case lieChallenge:
		parts = slices.Clone(parts)
		parts[len(parts)-1] = random(32)
	}
	return sign(key, parts...)
}
