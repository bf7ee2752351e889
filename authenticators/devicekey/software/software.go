// Package software keeps device keys in the agent's vault: P-256 keys in the
// sealed room "keys".
//
// It is the weakest back end: whoever opens the vault has the silent keys. It
// says so on the wire (protection SOFTWARE) and has no evidence to offer.
//
// While the vault is open the silent keys lie parsed in memory, so signing costs
// one signature and nothing else. Each use looks at the vault's state first: a
// locked vault's keys are wiped and refused.
//
// Keys that demand user verification are sealed once more, under a key derived
// from the secret they demand (sealed.go), and are in the clear for the moment
// of a signature only. What that is worth, plainly:
//
//   - Nothing but the secret opens such a key. This store counts no tries: who
//     asks it through the agent is counted by package verification.
//   - Who has the vault open, the agent's memory or its data key, can guess
//     secrets offline, as fast as Argon2id lets them and without being counted.
//     A PIN of four digits then lasts minutes, a random secret for ever. A TPM
//     counts by itself, and is what resists that.
//   - Putting back an older state brings back the older seal: a secret that was
//     changed since is accepted again, and package verification's count of tries
//     is as old as the state is.
package software

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/google/uuid"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Rooms is the part of the vault that this store needs. A room that was never
// written is fs.ErrNotExist.
type Rooms interface {
	Load(room string, dst any) error
	Save(room string, value any) error
	Locked() bool
}

const (
	room    = "keys"
	maxKeys = 1024
)

// entry is one key in the room. It has one of Private and Sealed.
type entry struct {
	ID      string       `json:"id"`
	Role    okta.KeyType `json:"role"`
	Private secret       `json:"private,omitempty"` // PKCS #8, of a silent key
	Sealed  *sealed      `json:"sealed,omitempty"`  // of a key that demands a secret
}

// secret goes into the sealed room, and nowhere else.
type secret []byte

func (secret) String() string       { return "[redacted]" }
func (secret) GoString() string     { return "[redacted]" }
func (secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

type contents struct {
	Keys []entry `json:"keys"`
}

// Store is the software back end. Its methods may be called at once.
type Store struct {
	rooms    Rooms
	deriving chan struct{} // one derivation at a time: each takes memory

	mu    sync.RWMutex    // guards what follows
	keys  map[string]*key // by id; nil until the room was read
	order []string        // as in the room
}

var _ devicekey.Store = (*Store)(nil)

// New returns the store on top of a vault, which may be locked still.
func New(rooms Rooms) *Store { return &Store{rooms: rooms, deriving: make(chan struct{}, 1)} }

// Create makes a key. It is saved when Create returns.
func (s *Store) Create(ctx context.Context, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error) {
	none := devicekey.Evidence{}
	if err := ctx.Err(); err != nil {
		return nil, none, err
	}
	secret := spec.Authorisation.Secret
	switch {
	case spec.UserVerification && len(secret) == 0:
		return nil, none, fmt.Errorf("create software key with user verification: %w", devicekey.ErrUnauthorised)
	case !spec.UserVerification && len(secret) != 0:
		return nil, none, errors.New("create software key: a silent key demands no secret")
	case s.rooms.Locked():
		return nil, none, devicekey.ErrLocked // before the work, not after it
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, none, fmt.Errorf("create software key: %w", err)
	}
	k := s.newKey(strings.ToUpper(uuid.NewString()), spec.Role, private)
	if spec.UserVerification {
		defer overwrite(private)
		k.private = nil
		if k.sealed, err = s.seal(ctx, k, private, secret); err != nil {
			return nil, none, fmt.Errorf("create software key: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, none, err
	}
	if len(s.keys) >= maxKeys {
		return nil, none, fmt.Errorf("create software key: there are %d already", len(s.keys))
	}
	s.keys[k.ref.ID] = k
	s.order = append(s.order, k.ref.ID)
	if err := s.save(); err != nil {
		s.forget() // the disk has the old or the new state: the next use reads it
		return nil, none, fmt.Errorf("save software key: %w", err)
	}
	return k, none, nil
}

// Open finds a key again.
func (s *Store) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.find(ref)
}

// Delete removes a key; deleting an absent one is no error. The previous
// generation of the room keeps a sealed copy until the next change.
func (s *Store) Delete(ctx context.Context, ref devicekey.Ref) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ref.Kind != devicekey.KindSoftware {
		return fmt.Errorf("delete key of kind %q: %w", ref.Kind, devicekey.ErrUnsupported)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	gone, ok := s.keys[ref.ID]
	if !ok {
		return nil
	}
	delete(s.keys, ref.ID)
	rest := make([]string, 0, len(s.order))
	for _, id := range s.order {
		if id != ref.ID {
			rest = append(rest, id)
		}
	}
	s.order = rest
	if err := s.save(); err != nil {
		s.forget()
		wipe(gone)
		return fmt.Errorf("delete software key: %w", err)
	}
	wipe(gone)
	return nil
}

// State is how the store is doing.
func (s *Store) State(context.Context) devicekey.State {
	state := devicekey.State{Kind: devicekey.KindSoftware, State: devicekey.Ready}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch err := s.load(); {
	case errors.Is(err, devicekey.ErrLocked):
		state.State, state.Hint = devicekey.Locked, "unlock the vault"
	case err != nil:
		state.State, state.Hint = devicekey.Unavailable, err.Error()
	}
	return state
}

// Lock wipes the keys in memory. They come back with the vault.
func (s *Store) Lock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
}

// find returns the key, read from the room if need be.
func (s *Store) find(ref devicekey.Ref) (*key, error) {
	if ref.Kind != devicekey.KindSoftware {
		return nil, fmt.Errorf("open key of kind %q: %w", ref.Kind, devicekey.ErrUnsupported)
	}
	if !s.rooms.Locked() {
		s.mu.RLock()
		k, ok := s.keys[ref.ID]
		s.mu.RUnlock()
		if ok {
			return k, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	k, ok := s.keys[ref.ID]
	if !ok {
		return nil, fmt.Errorf("software key %s: %w", ref.ID, devicekey.ErrNotFound)
	}
	return k, nil
}

// load reads the room unless that was done. The caller holds mu.
func (s *Store) load() error {
	if s.rooms.Locked() {
		s.forget()
		return devicekey.ErrLocked
	}
	if s.keys != nil {
		return nil
	}
	var c contents
	defer func() { c.wipe() }()
	err := s.rooms.Load(room, &c)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil && s.rooms.Locked():
		return devicekey.ErrLocked
	case err != nil:
		return fmt.Errorf("%w: %w", devicekey.ErrUnavailable, err)
	}
	keys := make(map[string]*key, len(c.Keys))
	order := make([]string, 0, len(c.Keys))
	for _, e := range c.Keys {
		k, err := s.parse(e)
		if err == nil && keys[e.ID] != nil {
			err = errors.New("is there twice")
		}
		if err != nil {
			return fmt.Errorf("%w: key %s: %w", devicekey.ErrUnavailable, e.ID, err)
		}
		keys[e.ID] = k
		order = append(order, e.ID)
	}
	s.keys, s.order = keys, order
	return nil
}

func (s *Store) parse(e entry) (*key, error) {
	if e.Sealed != nil {
		if len(e.Private) != 0 {
			return nil, errors.New("sealed and not")
		}
		return s.parseSealed(e)
	}
	private, err := parsePrivate(e.Private)
	if err != nil {
		return nil, err
	}
	return s.newKey(e.ID, e.Role, private), nil
}

func parsePrivate(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("unreadable") // the cause might quote the key
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("no P-256 key")
	}
	return private, nil
}

func (s *Store) newKey(id string, role okta.KeyType, private *ecdsa.PrivateKey) *key {
	public := private.PublicKey // a copy: a handle must not keep the private part alive
	return &key{
		store: s, ref: devicekey.Ref{Kind: devicekey.KindSoftware, ID: id},
		role: role, public: &public, private: private,
	}
}

// save writes the room. The caller holds mu.
func (s *Store) save() error {
	c := contents{Keys: make([]entry, 0, len(s.order))}
	defer func() { c.wipe() }()
	for _, id := range s.order {
		k := s.keys[id]
		if k.sealed != nil {
			c.Keys = append(c.Keys, entry{ID: id, Role: k.role, Sealed: k.sealed})
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return errors.New("encode key") // the cause might quote the key
		}
		c.Keys = append(c.Keys, entry{ID: id, Role: k.role, Private: der})
	}
	return s.rooms.Save(room, c)
}

func (c *contents) wipe() {
	for _, e := range c.Keys {
		clear(e.Private)
	}
}

// forget wipes the keys in memory. The caller holds mu.
func (s *Store) forget() {
	for _, k := range s.keys {
		wipe(k)
	}
	s.keys, s.order = nil, nil
}

// key is a handle: it holds the private part only while the store knows it.
type key struct {
	store  *Store
	ref    devicekey.Ref
	role   okta.KeyType
	public *ecdsa.PublicKey
	sealed *sealed // of a key that demands a secret; read-only, a change makes a new handle

	mu      sync.RWMutex
	private *ecdsa.PrivateKey // nil once wiped, and of a key that demands a secret
}

func (k *key) String() string              { return "software key " + k.ref.ID }
func (k *key) GoString() string            { return k.String() }
func (k *key) LogValue() slog.Value        { return slog.StringValue(k.String()) }
func (k *key) Ref() devicekey.Ref          { return k.ref }
func (k *key) Public() crypto.PublicKey    { return k.public }
func (k *key) Protection() jose.Protection { return jose.ProtectionSoftware }

// Sign signs a SHA-256 digest.
func (k *key) Sign(ctx context.Context, digest []byte, auth devicekey.Authorisation) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("sign with software key: digest of %d bytes", len(digest))
	}
	// The store may have been locked and opened since: ask it who we are now.
	now, err := k.store.find(k.ref)
	if err != nil {
		return nil, err
	}
	if now.sealed != nil {
		return now.signSealed(ctx, digest, auth.Secret)
	}
	now.mu.RLock()
	defer now.mu.RUnlock()
	if now.private == nil {
		return nil, devicekey.ErrLocked
	}
	return ecdsa.SignASN1(rand.Reader, now.private, digest)
}

// wipe clears what can be cleared of a private key: Go's own copies made while
// signing are out of reach.
func wipe(k *key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.private == nil {
		return
	}
	overwrite(k.private)
	k.private = nil
}

func overwrite(private *ecdsa.PrivateKey) {
	//lint:ignore SA1019 nobody computes with the number any more, it is only overwritten
	clear(private.D.Bits())
}
