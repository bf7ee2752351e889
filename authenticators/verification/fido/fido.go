// Package fido verifies the user by a FIDO2 security key: by the PIN of the key,
// or a finger on it, which the key itself checks, and a touch.
//
// What it proves: the very key that was enrolled here has just seen its PIN or its
// owner's finger, and a touch. Enrolling makes a credential that lies nowhere but
// in the key and whose public half lies in the vault; it is for a name that no web
// site can ever have, so that no page can ask for it, and what is signed here is of
// no use to one. Each verification has the key sign a fresh challenge. The
// signature, its flags and its counter are checked here: neither the key nor what
// talks to it is believed.
//
// A key that is enrolled is not relied on before package verification has switched
// the method on.
package fido

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/verification"
)

// ErrWhichKey says that a PIN was given, and several keys are there to be enrolled.
var ErrWhichKey = errors.New("several security keys are plugged in, and a PIN is for one of them")

// PINNeededError says which of the keys wants its PIN. It is
// securitykey.ErrPINNeeded.
type PINNeededError struct {
	Key string // id
	Err error
}

func (e *PINNeededError) Error() string { return e.Err.Error() }

// Unwrap returns what the key said.
func (e *PINNeededError) Unwrap() error { return e.Err }

// Where credentials belong. The top-level domain invalid is nobody's, for good
// (RFC 2606).
const (
	RPID   = "countersign.invalid"
	origin = "https://" + RPID
	rpName = "Countersign on this computer"
	room   = "securitykey"
)

// Keys are the security keys of this computer, as far as it takes.
type Keys interface {
	List(ctx context.Context) ([]securitykey.Key, error)
	Choose(ctx context.Context, id string, progress securitykey.Progress) (string, error)
	Proves(ctx context.Context, id string, want securitykey.Expected) (bool, error)
	Register(ctx context.Context, r securitykey.Registration) (securitykey.Registered, error)
	Assert(ctx context.Context, a securitykey.Assertion) (securitykey.Asserted, error)
}

// Options are what a Verifier is made of.
type Options struct {
	Keys  Keys
	Rooms verification.Rooms
	// Watch gives what hears of a key that waits, for one operation; done is called
	// at its end. nil hears nothing.
	Watch func() (progress securitykey.Progress, done func())
	Now   func() time.Time // nil: time.Now
}

// Verifier is the method.
type Verifier struct {
	o Options

	mu     sync.Mutex // held while the room is read and written
	proved string     // id of the plugged-in key that was last seen to be the one
	likely string     // id of the one that is asked first when several are plugged in
}

var _ verification.Verifier = (*Verifier)(nil)

// New returns the method. It asks nobody.
func New(o Options) *Verifier {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Watch == nil {
		o.Watch = func() (securitykey.Progress, func()) { return nil, func() {} }
	}
	return &Verifier{o: o}
}

// contents is the room.
type contents struct {
	Key *enrolled `json:"key,omitempty"`
}

// enrolled is the key that verifies the user.
type enrolled struct {
	CredentialID []byte    `json:"credentialId"`
	PublicKey    []byte    `json:"publicKey"` // COSE
	Counter      uint32    `json:"counter"`   // of the last signature
	AAGUID       string    `json:"aaguid"`
	Product      string    `json:"product"`
	EnrolledAt   time.Time `json:"enrolledAt"`
}

// load reads the room; mu is held. Without a key it is empty.
func (v *Verifier) load() (contents, error) {
	var c contents
	err := v.o.Rooms.Load(room, &c)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return contents{}, nil
	case err != nil && v.o.Rooms.Locked():
		return contents{}, devicekey.ErrLocked
	case err != nil:
		return contents{}, fmt.Errorf("%w: %w", verification.ErrBroken, err)
	case c.Key != nil && (len(c.Key.CredentialID) == 0 || len(c.Key.PublicKey) == 0):
		return contents{}, fmt.Errorf("%w: a security key without a credential", verification.ErrBroken)
	}
	return c, nil
}

func (v *Verifier) save(c contents) error {
	if err := v.o.Rooms.Save(room, c); err != nil {
		if v.o.Rooms.Locked() {
			return devicekey.ErrLocked
		}
		return fmt.Errorf("%w: %w", verification.ErrBroken, err)
	}
	return nil
}

// Method is verification.SecurityKey.
func (*Verifier) Method() verification.Method { return verification.SecurityKey }

// State says whether a key is enrolled. It does not look whether that is plugged
// in: looking takes a process, and this is called often.
func (v *Verifier) State(context.Context) verification.State {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := verification.State{Method: verification.SecurityKey, State: "ready"}
	switch c, err := v.load(); {
	case errors.Is(err, devicekey.ErrLocked):
		s.State, s.Hint = "unavailable", "unlock the vault"
	case err != nil:
		s.State, s.Hint = "unavailable", "what is known of the security key cannot be read: enrol it again: countersign verification enable security_key"
	case c.Key == nil:
		s.State, s.Hint = "not_set", "plug your key in, then: countersign verification enable security_key"
	}
	return s
}

// Proved is the id of the plugged-in key that is known to be the enrolled one,
// since it has signed; "" when none is.
func (v *Verifier) Proved() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.proved
}

// Has says whether a key that is plugged in is the enrolled one, as far as it proves
// that without a touch.
func (v *Verifier) Has(ctx context.Context, id string) bool {
	if v.Proved() == id {
		return true
	}
	v.mu.Lock()
	c, err := v.load()
	v.mu.Unlock()
	if err != nil || c.Key == nil {
		return false
	}
	found, err := v.proves(ctx, id, c.Key)
	return found && err == nil
}

// Enrol makes a credential on a key, "" for the only one or the one that is
// touched (a *PINNeededError says which that was), and keeps what is needed to check its signatures in the place of a key
// of before. undo puts that one back.
func (v *Verifier) Enrol(ctx context.Context, key string, pin devicekey.Secret) (undo func() error, err error) {
	if key == "" && len(pin) > 0 {
		if keys, err := v.o.Keys.List(ctx); err != nil {
			return nil, err
		} else if len(keys) > 1 {
			return nil, ErrWhichKey
		}
	}
	progress, done := v.o.Watch()
	defer done()
	if key, err = v.o.Keys.Choose(ctx, key, progress); err != nil {
		return nil, err
	}
	user := make([]byte, 32)
	rand.Read(user)
	made, err := v.o.Keys.Register(ctx, securitykey.Registration{
		Key: key, PIN: pin, Progress: progress,
		Origin: origin, RPID: RPID, RPName: rpName, Challenge: challenge(),
		User:         securitykey.User{ID: user, Name: "verification", DisplayName: "Verification"},
		Algorithms:   []int{securitykey.ES256, securitykey.EdDSA, securitykey.RS256},
		Verification: securitykey.Required,
	})
	if errors.Is(err, securitykey.ErrPINNeeded) {
		return nil, &PINNeededError{key, err}
	}
	if err != nil {
		return nil, err
	}
	if !made.Verified || len(made.CredentialID) == 0 {
		return nil, fmt.Errorf("%w: a credential without verification", securitykey.ErrBadKey)
	}
	if _, err := securitykey.PublicKeyOf(made.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: %w", securitykey.ErrBadKey, err)
	}
	enrolled := &enrolled{
		CredentialID: made.CredentialID, PublicKey: made.PublicKey, Counter: made.Counter,
		AAGUID: made.AAGUID, Product: made.Key.Product, EnrolledAt: v.o.Now().UTC(),
	}
	if len(pin) > 0 { // which goes to a key that proves itself first
		if found, err := v.proves(ctx, made.Key.ID, enrolled); err != nil {
			return nil, err
		} else if !found {
			return nil, securitykey.ErrUnsupported
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	before, err := v.load()
	if errors.Is(err, devicekey.ErrLocked) {
		return nil, err
	}
	if err := v.save(contents{Key: enrolled}); err != nil {
		return nil, err
	}
	v.proved, v.likely = "", made.Key.ID
	return func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.proved, v.likely = "", ""
		return v.save(before)
	}, nil
}

// Forget forgets the key.
func (v *Verifier) Forget() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.proved, v.likely = "", ""
	return v.save(contents{})
}

// challenge is a fresh one.
func challenge() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

// Verify has the enrolled key sign. Only a wrong PIN of the key is ErrWrong.
func (v *Verifier) Verify(ctx context.Context, req verification.Request) error {
	v.mu.Lock()
	c, err := v.load()
	likely := v.likely
	v.mu.Unlock()
	if err != nil {
		return err
	}
	if c.Key == nil {
		return verification.ErrNotSetUp
	}
	fresh := challenge()
	progress, done := v.o.Watch()
	ask := securitykey.Assertion{
		Key: likely, PIN: req.KeyPIN, Progress: progress, Origin: origin, RPID: RPID, Challenge: fresh,
		Allow: [][]byte{c.Key.CredentialID}, Verification: securitykey.Required,
	}
	var got securitykey.Asserted
	if err = securitykey.ErrOtherKey; likely != "" {
		got, err = v.o.Keys.Assert(ctx, ask)
	}
	if errors.Is(err, securitykey.ErrOtherKey) { // it is elsewhere now, or not known; nothing was sent
		if ask.Key, err = v.which(ctx, c.Key, len(req.KeyPIN) > 0); err == nil {
			got, err = v.o.Keys.Assert(ctx, ask)
		}
	}
	done()
	if err != nil {
		gone := []error{securitykey.ErrOtherKey, securitykey.ErrNoKey, securitykey.ErrRemoved, securitykey.ErrNoCredential}
		if slices.ContainsFunc(gone, func(is error) bool { return errors.Is(err, is) }) {
			v.mu.Lock()
			v.likely = ""
			v.mu.Unlock()
		}
		return explain(err)
	}
	return v.accept(c.Key, got, fresh)
}

// which finds the enrolled key among those that are plugged in, by a signature
// without a touch: its PIN goes to it and to no other, where it would count as a
// wrong one, or be learned by a key that only looks like it. Where a key does not
// say and there is no PIN, it is the one that is touched first ("").
func (v *Verifier) which(ctx context.Context, enrolled *enrolled, pin bool) (id string, err error) {
	keys, err := v.o.Keys.List(ctx)
	if err != nil {
		return "", err
	}
	if len(keys) == 0 {
		return "", securitykey.ErrNoKey
	}
	none := error(securitykey.ErrNoCredential)
	for _, k := range keys {
		found, err := false, k.Problem
		if err == nil {
			found, err = v.proves(ctx, k.ID, enrolled)
		}
		switch {
		case found && err == nil:
			return k.ID, nil
		case err != nil:
			none = err
		}
	}
	if !pin && !errors.Is(none, securitykey.ErrNoCredential) {
		return "", nil
	}
	return "", none
}

// proves says whether a key is the enrolled one.
func (v *Verifier) proves(ctx context.Context, id string, key *enrolled) (bool, error) {
	return v.o.Keys.Proves(ctx, id, securitykey.Expected{
		RPID: RPID, Origin: origin, Challenge: challenge(), CredentialID: key.CredentialID, PublicKey: key.PublicKey,
	})
}

// accept checks what a key has signed, and writes its counter down.
func (v *Verifier) accept(key *enrolled, got securitykey.Asserted, fresh []byte) error {
	counter, err := securitykey.Verify(got, securitykey.Expected{
		RPID: RPID, Origin: origin, Challenge: fresh, CredentialID: key.CredentialID, PublicKey: key.PublicKey, Verified: true, Counter: key.Counter,
	})
	if err != nil {
		return fmt.Errorf("%w: %w: %w", verification.ErrAbsent, securitykey.ErrBadKey, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c, err := v.load()
	if err != nil {
		return err
	}
	// Meanwhile another key may have been enrolled, or this one have signed for
	// somebody else.
	if c.Key == nil || string(c.Key.CredentialID) != string(key.CredentialID) {
		return verification.ErrNotSetUp
	}
	if (counter != 0 || c.Key.Counter != 0) && counter <= c.Key.Counter {
		return fmt.Errorf("%w: %w: the key counts %d after %d", verification.ErrAbsent, securitykey.ErrBadKey, counter, c.Key.Counter)
	}
	if c.Key.Counter != counter {
		c.Key.Counter = counter
		if err := v.save(c); err != nil {
			return err
		}
	}
	v.proved, v.likely = got.Key.ID, got.Key.ID
	return nil
}

// explain says in the terms of package verification why nobody was verified. The
// error of the key stays in it.
func explain(err error) error {
	var pin *securitykey.PINError
	switch {
	case errors.As(err, &pin) && !pin.Blocked && !pin.Pause:
		return &verification.TryError{Method: verification.SecurityKey, Left: pin.Left, Err: fmt.Errorf("%w: %w", verification.ErrWrong, err)}
	case errors.Is(err, securitykey.ErrTimedOut):
		return fmt.Errorf("%w: %w", verification.ErrTimedOut, err)
	case errors.Is(err, securitykey.ErrCancelled):
		return fmt.Errorf("%w: %w", verification.ErrCancelled, err)
	}
	return fmt.Errorf("%w: %w", verification.ErrAbsent, err)
}
