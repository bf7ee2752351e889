package securitykey

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey/wire"
)

// UserVerification says whether the key must see its owner's PIN or finger
// (WebAuthn 5.8.6). The zero value is what WebAuthn takes for missing: preferred.
type UserVerification string

// The ways.
const (
	Required    UserVerification = "required"
	Preferred   UserVerification = "preferred"
	Discouraged UserVerification = "discouraged"
)

func (v UserVerification) wire() string {
	if v == "" {
		return string(Preferred)
	}
	return string(v)
}

// Registration asks for a credential.
type Registration struct {
	Key      string           // id; "" is the only key, or the one that is touched first
	PIN      devicekey.Secret // used if the key wants it
	Progress Progress

	Origin, RPID, RPName string
	Challenge            []byte
	User                 User
	Algorithms           []int    // by preference; nil is ES256
	Exclude              [][]byte // IDs of credentials: a key that has one is refused (ErrExcluded)
	Resident             bool     // kept on the key, to be found without its ID
	Verification         UserVerification
	HMACSecret           bool // the credential can keep secrets
}

// Registered is a new credential, checked.
type Registered struct {
	Key               Key
	CredentialID      []byte
	ClientDataJSON    []byte
	AttestationObject []byte
	AuthData          []byte
	PublicKey         []byte // COSE
	Algorithm         int
	AAGUID            string
	Counter           uint32
	Verified          bool // the key saw its owner's PIN or finger
}

// Register makes a credential. What the key answers is checked: that it is for the
// RP ID, that the key says it was touched and, if required, verified its owner, and
// its signature.
func (ks *Keys) Register(ctx context.Context, r Registration) (Registered, error) {
	if err := CheckOrigin(r.Origin, r.RPID); err != nil {
		return Registered{}, err
	}
	if len(r.Challenge) < MinChallenge {
		return Registered{}, errors.New("a challenge that can be guessed")
	}
	if len(r.Algorithms) == 0 {
		r.Algorithms = []int{ES256}
	}
	id, err := ks.Choose(ctx, r.Key, r.Progress)
	if err != nil {
		return Registered{}, err
	}
	data := clientData(typeCreate, r.Challenge, r.Origin)
	user := wire.User(r.User)
	result, k, err := ks.on(ctx, id, operation{time: touchTime, pin: wire.PIN{PIN: r.PIN}, progress: r.Progress, req: wire.Request{
		Op: wire.MakeCredential, RPID: r.RPID, RPName: r.RPName, ClientDataHash: hash(data), ClientData: data, User: &user, Algorithms: r.Algorithms,
		CredentialIDs: r.Exclude, Resident: r.Resident, Verification: r.Verification.wire(), HMACSecret: r.HMACSecret,
	}})
	if err != nil {
		return Registered{}, err
	}
	if result.Attestation == nil {
		return Registered{}, &HelperError{Why: "gave no credential"}
	}
	if a := result.Attestation; len(a.Object) > 0 {
		if err := takeApart(a); err != nil {
			return Registered{}, fmt.Errorf("%w: %w", ErrBadKey, err)
		}
	}
	made, err := registered(result.Attestation, &r, data, k.place.AAGUID)
	if err != nil {
		return Registered{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	made.Key = k.Key
	return made, nil
}

// registered checks a new credential.
func registered(a *wire.Attestation, r *Registration, data []byte, aaguid string) (Registered, error) {
	d, err := parseAuthData(a.AuthData)
	if err != nil {
		return Registered{}, err
	}
	if d.flags&flagAttested == 0 {
		return Registered{}, errors.New("no credential in it")
	}
	if err := d.holds(r.RPID, r.Verification == Required); err != nil {
		return Registered{}, err
	}
	if !bytes.Equal(d.credentialID, a.CredentialID) {
		return Registered{}, errors.New("two credential IDs")
	}
	key, algorithm, err := publicKey(d.cose)
	if err != nil {
		return Registered{}, err
	}
	if !slices.Contains(r.Algorithms, algorithm) {
		return Registered{}, fmt.Errorf("algorithm %d, which was not asked for", algorithm)
	}
	// One made by the older protocol has none.
	if aaguid != "" && a.Format != "fido-u2f" && d.aaguid != aaguid {
		return Registered{}, fmt.Errorf("made by a key of model %s, not %s", d.aaguid, aaguid)
	}
	if err := attests(a, d, key, hash(data)); err != nil {
		return Registered{}, err
	}
	object, err := attestationObject(a)
	if err != nil {
		return Registered{}, err
	}
	return Registered{
		CredentialID: a.CredentialID, ClientDataJSON: data, AttestationObject: object, AuthData: a.AuthData, PublicKey: d.cose,
		Algorithm: algorithm, AAGUID: d.aaguid, Counter: d.counter, Verified: d.flags&flagVerified != 0,
	}, nil
}

// holds checks what every answer must say.
func (d *authData) holds(rpID string, verified bool) error {
	if err := d.isFor(rpID); err != nil {
		return err
	}
	switch {
	case d.flags&flagPresent == 0:
		return errors.New("the key was not touched")
	case verified && d.flags&flagVerified == 0:
		return errors.New("the key did not verify its owner")
	}
	return nil
}

func (d *authData) isFor(rpID string) error {
	if !bytes.Equal(d.rpHash, hash([]byte(rpID))) {
		return errors.New("for another RP ID")
	}
	return nil
}

// Assertion asks for a signature by a credential.
type Assertion struct {
	Key      string
	PIN      devicekey.Secret
	Progress Progress

	Origin, RPID string
	Challenge    []byte
	Allow        [][]byte // IDs of credentials; none: one that is kept on the key
	Verification UserVerification
	// Salts, one or two of 32 bytes, ask for the secrets of the credential.
	Salts [][]byte
}

// Asserted is a signature.
type Asserted struct {
	Key            Key
	CredentialID   []byte
	ClientDataJSON []byte
	AuthData       []byte
	Signature      []byte
	UserID         []byte // user handle, of credentials that are kept on the key
	Counter        uint32
	Verified       bool
	Secret         devicekey.Secret // 32 bytes for each salt; wiped by the caller
}

// Assert has the key sign. What it answers is checked but for the signature, whose
// key the org has; see Verify.
func (ks *Keys) Assert(ctx context.Context, a Assertion) (Asserted, error) {
	if err := CheckOrigin(a.Origin, a.RPID); err != nil {
		return Asserted{}, err
	}
	if len(a.Challenge) < MinChallenge {
		return Asserted{}, errors.New("a challenge that can be guessed")
	}
	id, err := ks.Choose(ctx, a.Key, a.Progress)
	if err != nil {
		return Asserted{}, err
	}
	data := clientData(typeGet, a.Challenge, a.Origin)
	result, k, err := ks.on(ctx, id, operation{time: touchTime, pin: wire.PIN{PIN: a.PIN}, progress: a.Progress, req: wire.Request{
		Op: wire.GetAssertion, RPID: a.RPID, ClientDataHash: hash(data), ClientData: data, CredentialIDs: a.Allow, Verification: a.Verification.wire(), Salts: a.Salts,
	}})
	if err != nil {
		return Asserted{}, err
	}
	if result.Assertion == nil {
		return Asserted{}, &HelperError{Why: "gave no signature"}
	}
	got, err := asserted(result.Assertion, &a, data)
	if err != nil {
		return Asserted{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	got.Key = k.Key
	return got, nil
}

// asserted checks what can be checked without the public key.
func asserted(w *wire.Assertion, a *Assertion, data []byte) (Asserted, error) {
	d, err := parseAuthData(w.AuthData)
	if err != nil {
		return Asserted{}, err
	}
	if err := d.holds(a.RPID, a.Verification == Required); err != nil {
		return Asserted{}, err
	}
	if len(w.CredentialID) == 0 || len(a.Allow) > 0 && !slices.ContainsFunc(a.Allow, func(id []byte) bool { return bytes.Equal(id, w.CredentialID) }) {
		return Asserted{}, errors.New("signed by a credential that was not asked for")
	}
	if len(w.UserID) > 64 {
		return Asserted{}, errors.New("a user handle that is too long")
	}
	if len(w.Secret) != 32*len(a.Salts) {
		return Asserted{}, fmt.Errorf("%d bytes of secrets for %d salts", len(w.Secret), len(a.Salts))
	}
	return Asserted{
		CredentialID: w.CredentialID, ClientDataJSON: data, AuthData: w.AuthData, Signature: w.Signature, UserID: w.UserID,
		Counter: d.counter, Verified: d.flags&flagVerified != 0, Secret: w.Secret,
	}, nil
}

// Holds says whether a key has one of the credentials, as far as it tells without
// a touch and without its PIN. It is a hint: a key may be silent about those that
// it guards.
func (ks *Keys) Holds(ctx context.Context, id, rpID string, credentials [][]byte) (bool, error) {
	result, _, err := ks.on(ctx, id, operation{time: askTime, req: wire.Request{
		Op: wire.Holds, RPID: rpID, ClientDataHash: hash(nil), CredentialIDs: credentials, Verification: Discouraged.wire(),
	}})
	if err != nil {
		return false, err
	}
	return result.Found, nil
}

// Proves says whether a key has the credential, by a signature that takes no touch
// and no PIN: that it says so is not enough to give it the PIN of another one. It
// verifies nobody. ErrUnsupported: the key does not say, or does not sign.
func (ks *Keys) Proves(ctx context.Context, id string, want Expected) (bool, error) {
	data := clientData(typeGet, want.Challenge, want.Origin)
	result, _, err := ks.on(ctx, id, operation{time: askTime, req: wire.Request{
		Op: wire.Holds, RPID: want.RPID, ClientDataHash: hash(data), CredentialIDs: [][]byte{want.CredentialID}, Verification: Discouraged.wire(),
	}})
	switch {
	case err != nil || !result.Found:
		return false, err
	case result.Assertion == nil:
		return false, ErrUnsupported
	}
	w := result.Assertion
	if _, err := signedBy(Asserted{CredentialID: w.CredentialID, ClientDataJSON: data, AuthData: w.AuthData, Signature: w.Signature}, want); err != nil {
		return false, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	return true, nil
}

// Expected is what an assertion is checked against by whoever has the public key.
type Expected struct {
	RPID, Origin string
	Challenge    []byte
	CredentialID []byte
	PublicKey    []byte // COSE, as Registered gave it
	Verified     bool   // the key must have seen its owner's PIN or finger
	Counter      uint32 // of the last assertion
}

// Verify checks an assertion, and gives the counter to remember. Any error means
// that nobody is verified.
func Verify(a Asserted, want Expected) (counter uint32, err error) {
	d, err := signedBy(a, want)
	if err != nil {
		return 0, err
	}
	if err := d.holds(want.RPID, want.Verified); err != nil {
		return 0, err
	}
	// A key that counts counts up; one that does not says 0 (WebAuthn 6.1.1).
	if (d.counter != 0 || want.Counter != 0) && d.counter <= want.Counter {
		return 0, fmt.Errorf("the key counts %d after %d: it may have been copied", d.counter, want.Counter)
	}
	return d.counter, nil
}

// signedBy checks that the credential has signed the challenge for the RP ID,
// whatever it says of touch and verification.
func signedBy(a Asserted, want Expected) (*authData, error) {
	if len(want.Challenge) < MinChallenge || !bytes.Equal(a.ClientDataJSON, clientData(typeGet, want.Challenge, want.Origin)) {
		return nil, errors.New("client data that was not asked for")
	}
	if len(want.CredentialID) == 0 || !bytes.Equal(a.CredentialID, want.CredentialID) {
		return nil, errors.New("another credential")
	}
	d, err := parseAuthData(a.AuthData)
	if err != nil {
		return nil, err
	}
	if err := d.isFor(want.RPID); err != nil {
		return nil, err
	}
	key, _, err := publicKey(want.PublicKey)
	if err != nil {
		return nil, err
	}
	if !signed(key, append(append([]byte{}, a.AuthData...), hash(a.ClientDataJSON)...), a.Signature) {
		return nil, errors.New("the signature is not the credential's")
	}
	return d, nil
}

// PublicKeyOf reads the key of a credential.
func PublicKeyOf(cose []byte) (crypto.PublicKey, error) {
	key, _, err := publicKey(cose)
	return key, err
}
