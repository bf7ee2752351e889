// Package securitykeytest has security keys in memory, for tests of what stands
// above package securitykey: they are asked by the same calls, sign for real, and
// fail and lie on demand. What package securitykey itself sees to (the helper, the
// queue, checks of what a key says) is not here; e2e/softkey is a key for that.
package securitykeytest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
)

// Token is one key. Its fields are set before it is plugged in, or under Keys.Do.
type Token struct {
	securitykey.Key
	PIN     string // "" is none
	Finger  bool   // it verifies its owner by finger: no PIN is needed
	Stored  []securitykey.Credential
	Fingers []securitykey.Fingerprint
	Counter uint32
	// Touch is waited for where a key waits for its owner; nil is touched at once.
	Touch func(ctx context.Context) error
	// Spoil changes what the key has signed.
	Spoil func(*securitykey.Asserted)
	// Claims says that it has every credential.
	Claims bool
	// Sign replaces the authenticator data that are signed.
	Sign func(authData []byte) []byte

	credentials map[string]*ecdsa.PrivateKey
}

// New makes a key with a PIN, "" for none.
func New(product, pin string) *Token {
	t := &Token{PIN: pin, Key: securitykey.Key{
		Path: "/dev/hidraw7", VendorID: 0x1050, ProductID: 0x0407, Product: product, Manufacturer: "Yubico", Firmware: "5.4.3",
		AAGUID: "ee882879-721c-4913-9775-3dfcce97072a", Model: "YubiKey 5 Series", Protocols: []string{"U2F_V2", "FIDO_2_0"},
		Options: map[string]bool{"clientPin": pin != "", "rk": true}, TriesLeft: 8,
	}}
	return t
}

// Keys are those that are plugged in. The zero value has none.
type Keys struct {
	// Fail is called with the operation before anything is done, and may refuse it.
	Fail func(operation string) error
	// Slip is called after an operation was asked for and before it finds its key.
	Slip func(operation string)
	// Sandbox is what the system has not.
	Sandbox string

	mu     sync.Mutex
	tokens []*Token
	last   int
	asked  []string
}

// Plug plugs a key in, which gives it an id.
func (ks *Keys) Plug(t *Token) string {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.last++
	t.ID = "key" + strconv.Itoa(ks.last)
	ks.tokens = append(ks.tokens, t)
	return t.ID
}

// Unplug pulls all keys out.
func (ks *Keys) Unplug() {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.tokens = nil
}

// Lacks is Sandbox.
func (ks *Keys) Lacks() string {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return ks.Sandbox
}

// Do runs f while no key does anything.
func (ks *Keys) Do(f func()) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	f()
}

// Asked returns the operations so far.
func (ks *Keys) Asked() []string {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return slices.Clone(ks.asked)
}

func (ks *Keys) begin(operation string) error {
	ks.mu.Lock()
	ks.asked = append(ks.asked, operation)
	ks.mu.Unlock()
	if ks.Slip != nil {
		ks.Slip(operation)
	}
	if ks.Fail != nil {
		return ks.Fail(operation)
	}
	return nil
}

// find gives the key of an id; "" is the only one.
func (ks *Keys) find(operation, id string) (*Token, error) {
	if err := ks.begin(operation); err != nil {
		return nil, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if len(ks.tokens) == 0 {
		return nil, securitykey.ErrNoKey
	}
	for _, t := range ks.tokens {
		if t.ID == id || id == "" {
			if t.Problem != nil {
				return nil, t.Problem
			}
			return t, nil
		}
	}
	return nil, securitykey.ErrOtherKey
}

// pin checks a PIN, as keys do.
func (ks *Keys) pin(t *Token, pin devicekey.Secret) error {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	switch {
	case t.PIN == "":
		return securitykey.ErrPINNotSet
	case t.TriesLeft == 0:
		return &securitykey.PINError{Blocked: true}
	case len(pin) == 0:
		return &securitykey.PINNeededError{Left: t.TriesLeft}
	case string(pin) != t.PIN:
		t.TriesLeft--
		return &securitykey.PINError{Left: t.TriesLeft, Blocked: t.TriesLeft == 0}
	}
	t.TriesLeft = 8
	return nil
}

// touch waits for the owner.
func (ks *Keys) touch(ctx context.Context, t *Token, progress securitykey.Progress) error {
	if progress != nil {
		progress(securitykey.Event{Key: t.Key, State: securitykey.Touch})
	}
	if t.Touch == nil {
		return nil
	}
	if err := t.Touch(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return securitykey.ErrCancelled
	}
	return nil
}

// List lists them.
func (ks *Keys) List(context.Context) ([]securitykey.Key, error) {
	if err := ks.begin("list"); err != nil {
		return nil, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	list := []securitykey.Key{}
	for _, t := range ks.tokens {
		list = append(list, t.Key)
	}
	return list, nil
}

// Info is one of them.
func (ks *Keys) Info(_ context.Context, id string) (securitykey.Key, error) {
	t, err := ks.find("info", id)
	if err != nil {
		return securitykey.Key{}, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return t.Key, nil
}

// Choose takes the only one.
func (ks *Keys) Choose(_ context.Context, id string, _ securitykey.Progress) (string, error) {
	if id != "" {
		return id, nil
	}
	t, err := ks.find("choose", id)
	if err != nil {
		return "", err
	}
	return t.ID, nil
}

// Holds says whether it made one of the credentials.
func (ks *Keys) Holds(_ context.Context, id, _ string, credentials [][]byte) (bool, error) {
	t, err := ks.find("holds", id)
	if err != nil {
		return false, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return slices.ContainsFunc(credentials, func(c []byte) bool { return t.credentials[string(c)] != nil }), nil
}

// Proves says whether it made the credential; a key that only claims it is found out.
func (ks *Keys) Proves(_ context.Context, id string, want securitykey.Expected) (bool, error) {
	t, err := ks.find("proves", id)
	if err != nil {
		return false, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	has := t.credentials[string(want.CredentialID)] != nil
	if !has && t.Claims {
		return false, securitykey.ErrBadKey
	}
	return has, nil
}

// SetPIN sets or changes it.
func (ks *Keys) SetPIN(_ context.Context, id string, pin, old devicekey.Secret) error {
	t, err := ks.find("set_pin", id)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		if err := ks.pin(t, old); err != nil {
			return err
		}
	} else if t.PIN != "" {
		return securitykey.ErrNotAllowed
	}
	if len(pin) < 4 {
		return securitykey.ErrPINRefused
	}
	ks.Do(func() { t.PIN, t.Options = string(pin), map[string]bool{"clientPin": true} })
	return nil
}

// Credentials lists what is stored.
func (ks *Keys) Credentials(_ context.Context, id string, pin devicekey.Secret) (securitykey.Stored, error) {
	t, err := ks.find("credentials", id)
	if err == nil {
		err = ks.pin(t, pin)
	}
	if err != nil {
		return securitykey.Stored{}, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return securitykey.Stored{Credentials: slices.Clone(t.Stored), Left: 25 - len(t.Stored)}, nil
}

// DeleteCredential deletes one.
func (ks *Keys) DeleteCredential(_ context.Context, id string, pin devicekey.Secret, credentialID []byte) error {
	t, err := ks.find("delete_credential", id)
	if err == nil {
		err = ks.pin(t, pin)
	}
	if err != nil {
		return err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	i := slices.IndexFunc(t.Stored, func(c securitykey.Credential) bool { return bytes.Equal(c.ID, credentialID) })
	if i < 0 {
		return securitykey.ErrNoCredential
	}
	t.Stored = slices.Delete(t.Stored, i, i+1)
	return nil
}

// Fingerprints lists them.
func (ks *Keys) Fingerprints(_ context.Context, id string, pin devicekey.Secret) ([]securitykey.Fingerprint, error) {
	t, err := ks.find("fingerprints", id)
	if err == nil {
		err = ks.pin(t, pin)
	}
	if err != nil {
		return nil, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return slices.Clone(t.Fingers), nil
}

// EnrolFingerprint reads a finger three times.
func (ks *Keys) EnrolFingerprint(ctx context.Context, id string, pin devicekey.Secret, name string, progress securitykey.Progress) (securitykey.Fingerprint, error) {
	t, err := ks.find("enrol_fingerprint", id)
	if err == nil {
		err = ks.pin(t, pin)
	}
	if err == nil {
		err = ks.touch(ctx, t, progress)
	}
	if err != nil {
		return securitykey.Fingerprint{}, err
	}
	for left := 2; left >= 0 && progress != nil; left-- {
		progress(securitykey.Event{Key: t.Key, State: securitykey.Sample, Left: left})
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	f := securitykey.Fingerprint{ID: fmt.Sprintf("f%d", len(t.Fingers)+1), Name: name}
	t.Fingers = append(t.Fingers, f)
	return f, nil
}

// DropFingerprint forgets one.
func (ks *Keys) DropFingerprint(_ context.Context, id string, pin devicekey.Secret, fingerprint string) error {
	t, err := ks.find("drop_fingerprint", id)
	if err == nil {
		err = ks.pin(t, pin)
	}
	if err != nil {
		return err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	i := slices.IndexFunc(t.Fingers, func(f securitykey.Fingerprint) bool { return f.ID == fingerprint })
	if i < 0 {
		return securitykey.ErrNoCredential
	}
	t.Fingers = slices.Delete(t.Fingers, i, i+1)
	return nil
}

// Reset wipes it.
func (ks *Keys) Reset(ctx context.Context, id string, progress securitykey.Progress) error {
	t, err := ks.find("reset", id)
	if err == nil {
		err = ks.touch(ctx, t, progress)
	}
	if err != nil {
		return err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	t.PIN, t.Stored, t.Fingers, t.credentials, t.Options = "", nil, nil, nil, map[string]bool{"clientPin": false}
	return nil
}

// verify has the key see its owner, if that is asked for.
func (ks *Keys) verify(t *Token, how securitykey.UserVerification, pin devicekey.Secret) error {
	if how != securitykey.Required || t.Finger {
		return nil
	}
	return ks.pin(t, pin)
}

// flags of authenticator data.
const (
	present  = 0x01
	verified = 0x04
	attested = 0x40
)

func authData(rpID string, flags byte, counter uint32) []byte {
	sum := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(sum[:], flags), counter)
}

func clientData(kind string, challenge []byte, origin string) []byte {
	return fmt.Appendf(nil, `{"type":"webauthn.%s","challenge":"%s","origin":"%s","crossOrigin":false}`, kind, base64.RawURLEncoding.EncodeToString(challenge), origin)
}

// Register makes a credential.
func (ks *Keys) Register(ctx context.Context, r securitykey.Registration) (securitykey.Registered, error) {
	t, err := ks.find("register", r.Key)
	if err == nil {
		err = ks.verify(t, r.Verification, r.PIN)
	}
	if err == nil {
		err = ks.touch(ctx, t, r.Progress)
	}
	if err != nil {
		return securitykey.Registered{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return securitykey.Registered{}, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return securitykey.Registered{}, err
	}
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: securitykey.ES256, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		return securitykey.Registered{}, err
	}
	id := make([]byte, 32)
	rand.Read(id)
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if t.credentials == nil {
		t.credentials = map[string]*ecdsa.PrivateKey{}
	}
	t.credentials[string(id)] = key
	if r.Resident {
		t.Stored = append(t.Stored, securitykey.Credential{ID: id, RPID: r.RPID, RP: r.RPName, User: r.User})
	}
	flags := byte(present | attested)
	if r.Verification == securitykey.Required {
		flags |= verified
	}
	return securitykey.Registered{
		Key: t.Key, CredentialID: id, ClientDataJSON: clientData("create", r.Challenge, r.Origin), AuthData: authData(r.RPID, flags, t.Counter),
		PublicKey: cose, Algorithm: securitykey.ES256, AAGUID: t.AAGUID, Counter: t.Counter, Verified: flags&verified != 0,
	}, nil
}

// Assert signs.
func (ks *Keys) Assert(ctx context.Context, a securitykey.Assertion) (securitykey.Asserted, error) {
	t, err := ks.find("assert", a.Key)
	if err != nil {
		return securitykey.Asserted{}, err
	}
	ks.mu.Lock()
	var id []byte
	for _, allowed := range a.Allow {
		if t.credentials[string(allowed)] != nil {
			id = allowed
		}
	}
	key := t.credentials[string(id)]
	ks.mu.Unlock()
	if key == nil {
		return securitykey.Asserted{}, securitykey.ErrNoCredential
	}
	if err := ks.verify(t, a.Verification, a.PIN); err != nil {
		return securitykey.Asserted{}, err
	}
	if err := ks.touch(ctx, t, a.Progress); err != nil {
		return securitykey.Asserted{}, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	t.Counter++
	flags := byte(present)
	if a.Verification == securitykey.Required {
		flags |= verified
	}
	got := securitykey.Asserted{
		Key: t.Key, CredentialID: id, ClientDataJSON: clientData("get", a.Challenge, a.Origin), AuthData: authData(a.RPID, flags, t.Counter),
		Counter: t.Counter, Verified: flags&verified != 0,
	}
	if t.Sign != nil {
		got.AuthData = t.Sign(got.AuthData)
	}
	sum := sha256.Sum256(got.ClientDataJSON)
	digest := sha256.Sum256(append(slices.Clone(got.AuthData), sum[:]...))
	if got.Signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
		return securitykey.Asserted{}, err
	}
	if t.Spoil != nil {
		t.Spoil(&got)
	}
	return got, nil
}
