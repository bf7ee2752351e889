// Package verificationtest has what tests of user verification need: a vault
// and a key store in memory, which fail on demand, and a method that answers as
// it is told.
package verificationtest

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Rooms is a vault in memory. The zero value is open and empty.
type Rooms struct {
	// Fail is called before each "load" and "save" of a room, and may refuse it.
	// FailLate is called after a save, which has happened then.
	Fail, FailLate func(operation, room string) error

	mu     sync.Mutex
	rooms  map[string][]byte
	locked bool
}

var errLocked = errors.New("the vault is locked")

func (r *Rooms) Load(room string, dst any) error {
	if err := call(r.Fail, "load", room); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.locked {
		return errLocked
	}
	data, ok := r.rooms[room]
	if !ok {
		return fs.ErrNotExist
	}
	return json.Unmarshal(data, dst)
}

func (r *Rooms) Save(room string, value any) error {
	if err := call(r.Fail, "save", room); err != nil {
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.locked {
		return errLocked
	}
	if r.rooms == nil {
		r.rooms = map[string][]byte{}
	}
	r.rooms[room] = data
	return call(r.FailLate, "save", room)
}

func (r *Rooms) Locked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.locked
}

// SetLocked locks the vault, or opens it.
func (r *Rooms) SetLocked(locked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.locked = locked
}

// Copy returns the state as a copied disk has it. Restore puts such a copy back.
func (r *Rooms) Copy() map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.rooms)
}

func (r *Rooms) Restore(rooms map[string][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rooms = maps.Clone(rooms)
}

func call(f func(string, string) error, operation, what string) error {
	if f == nil {
		return nil
	}
	return f(operation, what)
}

// Keys is a key store in memory, without the slow derivation of the real one.
// The zero value is empty and well.
type Keys struct {
	// Fail is called before each "create", "open", "sign", "delete" and
	// "reauthorise" with the key's id ("" of the first and the last), and may
	// refuse it. FailLate is called after a reauthorise, which has happened then.
	Fail, FailLate func(operation, id string) error
	Health         devicekey.State // "" means ready
	Kind           devicekey.Kind  // "" means software

	mu     sync.Mutex
	keys   map[string]*key
	secret int // how many secrets were looked at
}

var _ devicekey.Store = (*Keys)(nil)

type key struct {
	store   *Keys
	id      string
	private *ecdsa.PrivateKey
	secret  string // "" of a silent key
}

// Looked is how many secrets of keys were compared: what reached the store.
func (s *Keys) Looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret
}

// IDs lists the keys.
func (s *Keys) IDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.keys))
}

func (s *Keys) Create(ctx context.Context, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error) {
	if err := errors.Join(ctx.Err(), call(s.Fail, "create", "")); err != nil {
		return nil, devicekey.Evidence{}, err
	}
	if spec.UserVerification == (len(spec.Authorisation.Secret) == 0) {
		return nil, devicekey.Evidence{}, devicekey.ErrUnauthorised
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, devicekey.Evidence{}, err
	}
	k := &key{store: s, id: strings.ToUpper(uuid.NewString()), private: private, secret: string(spec.Authorisation.Secret)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[string]*key{}
	}
	s.keys[k.id] = k
	return k, devicekey.Evidence{}, nil
}

func (s *Keys) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	if err := errors.Join(ctx.Err(), call(s.Fail, "open", ref.ID)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[ref.ID]; k != nil && ref.Kind == s.kind() {
		return k, nil
	}
	return nil, devicekey.ErrNotFound
}

func (s *Keys) Delete(ctx context.Context, ref devicekey.Ref) error {
	if err := errors.Join(ctx.Err(), call(s.Fail, "delete", ref.ID)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, ref.ID)
	return nil
}

func (s *Keys) Reauthorise(ctx context.Context, refs []devicekey.Ref, from, to devicekey.Authorisation) error {
	if err := errors.Join(ctx.Err(), call(s.Fail, "reauthorise", "")); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range refs {
		k := s.keys[ref.ID]
		if k == nil {
			return devicekey.ErrNotFound
		}
		s.secret++
		if len(from.Secret) == 0 || len(to.Secret) == 0 || k.secret != string(from.Secret) {
			return devicekey.ErrUnauthorised
		}
	}
	for _, ref := range refs {
		s.keys[ref.ID].secret = string(to.Secret)
	}
	return call(s.FailLate, "reauthorise", "")
}

func (s *Keys) State(context.Context) devicekey.State {
	state := s.Health
	state.Kind = s.kind()
	if state.State == "" {
		state.State = devicekey.Ready
	}
	return state
}

func (s *Keys) kind() devicekey.Kind { return cmp.Or(s.Kind, devicekey.KindSoftware) }

func (k *key) Ref() devicekey.Ref          { return devicekey.Ref{Kind: k.store.kind(), ID: k.id} }
func (k *key) Public() crypto.PublicKey    { return k.private.Public() }
func (k *key) Protection() jose.Protection { return jose.ProtectionSoftware }
func (k *key) Sign(ctx context.Context, digest []byte, auth devicekey.Authorisation) ([]byte, error) {
	if err := errors.Join(ctx.Err(), call(k.store.Fail, "sign", k.id)); err != nil {
		return nil, err
	}
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	if k.store.keys[k.id] == nil {
		return nil, devicekey.ErrNotFound
	}
	if k.secret != "" {
		if len(auth.Secret) == 0 {
			return nil, devicekey.ErrUnauthorised
		}
		k.store.secret++
		if k.secret != string(auth.Secret) {
			return nil, devicekey.ErrUnauthorised
		}
	}
	return ecdsa.SignASN1(rand.Reader, k.private, digest)
}

// Method is a Verifier that answers as it is told. It is there, and its zero
// Answer verifies nobody.
type Method struct {
	Name   verification.Method
	Answer func(ctx context.Context, req verification.Request) error // nil: ErrWrong
	Health string                                                    // "" means "ready"

	mu    sync.Mutex
	asked []verification.Request
}

var _ verification.Verifier = (*Method)(nil)

// Yes is an Answer that verifies everybody.
func Yes(context.Context, verification.Request) error { return nil }

func (m *Method) Method() verification.Method { return m.Name }

func (m *Method) State(context.Context) verification.State {
	state := verification.State{Method: m.Name, State: m.Health}
	if state.State == "" {
		state.State = "ready"
	}
	return state
}

func (m *Method) Verify(ctx context.Context, req verification.Request) error {
	m.mu.Lock()
	m.asked = append(m.asked, req)
	m.mu.Unlock()
	if m.Answer == nil {
		return verification.ErrWrong
	}
	return m.Answer(ctx, req)
}

// Asked is what the method was asked so far.
func (m *Method) Asked() []verification.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

// Options are those of a service with a fresh vault and key store.
func Options(methods ...verification.Verifier) verification.Options {
	return verification.Options{
		Rooms: &Rooms{}, Keys: &Keys{}, Methods: methods,
		InUse: func(okta.KeyType) bool { return false },
	}
}
