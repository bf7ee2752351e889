package tpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/uuid"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// Rooms is the part of the vault that this store needs. A room that was never
// written is fs.ErrNotExist.
type Rooms interface {
	Load(room string, dst any) error
	Save(room string, value any) error
	Locked() bool
}

const (
	room     = "tpm-keys"
	maxKeys  = 1024
	saltSize = 32
)

// entry is one key in the room: what the TPM needs to have it again, and whose
// it is. None of it signs anything without that TPM.
type entry struct {
	ID      string       `json:"id"`
	Role    okta.KeyType `json:"role"`
	Public  []byte       `json:"public"`         // TPMT_PUBLIC
	Private []byte       `json:"private"`        // TPM2B_PRIVATE, encrypted by the TPM
	SRK     []byte       `json:"srk"`            // name of the storage root key it lies under
	EK      []byte       `json:"ek,omitempty"`   // name of the TPM's endorsement key
	Salt    []byte       `json:"salt,omitempty"` // of a key that demands a secret: makes the auth value of it
}

type contents struct {
	Keys []entry `json:"keys"`
}

// Store is the TPM back end. Its methods may be called at once.
//
// An older state of the room brings back what keys demanded then: the TPM goes
// on counting wrong tries, whichever state it is, but takes a PIN that was
// changed since.
type Store struct {
	tpm   *TPM
	rooms Rooms

	mu    sync.RWMutex    // guards what follows
	keys  map[string]*key // by id; nil until the room was read
	order []string        // as in the room
	roots map[string]seen // by name of a root key: whether the TPM has it, as seen last
}

// seen is what was seen of a root key.
type seen struct {
	state string // Cleared or OtherDevice; "" when it is there
	at    time.Time
}

var _ devicekey.Store = (*Store)(nil)

// NewStore returns the store on top of a TPM and a vault, which may be locked
// still.
func NewStore(t *TPM, rooms Rooms) *Store { return &Store{tpm: t, rooms: rooms} }

// Create makes a key. It is saved when Create returns.
func (s *Store) Create(ctx context.Context, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error) {
	none := devicekey.Evidence{}
	k, err := s.create(ctx, spec)
	if err != nil {
		return nil, none, fmt.Errorf("create TPM key: %w", err)
	}
	return k, none, nil
}

func (s *Store) create(ctx context.Context, spec devicekey.Spec) (*key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	secret := spec.Authorisation.Secret
	switch {
	case spec.UserVerification && len(secret) == 0:
		return nil, devicekey.ErrUnauthorised
	case !spec.UserVerification && len(secret) != 0:
		return nil, errors.New("a silent key demands no secret")
	}
	if err := s.room(); err != nil { // before the work, not after it
		return nil, err
	}
	e := entry{ID: strings.ToUpper(uuid.NewString()), Role: spec.Role}
	var auth []byte
	if spec.UserVerification {
		e.Salt = newSalt()
		auth = derive(secret, e.Salt)
	}
	made, err := run(ctx, s.tpm, op[entry]{
		do:   func(l *link) (entry, error) { return l.newKey(e, auth) },
		done: func() { clear(auth) },
	})
	if err != nil {
		return nil, err
	}
	k, err := s.parse(made)
	if err != nil {
		return nil, s.tpm.fault(fmt.Errorf("%w: %w", errGarbage, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	if len(s.keys) >= maxKeys {
		return nil, fmt.Errorf("there are %d already", len(s.keys))
	}
	s.keys[e.ID] = k
	s.order = append(s.order, e.ID)
	if err := s.save(); err != nil {
		s.forget() // the disk has the old or the new state: the next use reads it
		return nil, fmt.Errorf("save: %w", err)
	}
	return k, nil
}

// newKey has the TPM make a key.
func (l *link) newKey(e entry, auth []byte) (entry, error) {
	r, err := l.root(nil, nil)
	if err != nil {
		return e, err
	}
	if e.EK, err = l.endorsementOf(r); err != nil {
		return e, err
	}
	made, err := l.create(r, template(len(auth) == 0), tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}})
	if err != nil {
		return e, err
	}
	e.SRK, e.Public, e.Private = bytes.Clone(r.name), made.public, made.private
	return e, nil
}

// Open finds a key again. It does not ask the TPM: of a key that is known to be
// lost it says so, until State finds that the TPM has it after all.
func (s *Store) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	state := s.roots[string(k.entry.SRK)].state
	s.mu.RUnlock()
	if state != "" {
		return nil, fmt.Errorf("open %s: %w", k, s.tpm.refuse(state, nil))
	}
	return k, nil
}

// Delete removes a key; deleting an absent one is no error. It does not ask the
// TPM, which keeps nothing of a key. The previous generation of the room keeps a
// copy until the next change.
func (s *Store) Delete(ctx context.Context, ref devicekey.Ref) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ref.Kind != devicekey.KindTPM {
		return fmt.Errorf("delete key of kind %q: %w", ref.Kind, devicekey.ErrUnsupported)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	if _, ok := s.keys[ref.ID]; !ok {
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
		return fmt.Errorf("delete TPM key: %w", err)
	}
	return nil
}

// State is how the store is doing: the TPM, and the vault that has its keys. It
// asks the TPM at most once a minute, and then also whether it still has what
// the keys lie under.
func (s *Store) State(ctx context.Context) devicekey.State {
	switch err := s.room(); {
	case errors.Is(err, devicekey.ErrLocked):
		return devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Locked, Hint: "unlock the vault"}
	case err != nil:
		return devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Unavailable, Hint: err.Error()}
	}
	state := s.tpm.State(ctx)
	if state.State == devicekey.Ready || state.State == devicekey.Lockout {
		s.look(ctx)
	}
	return state
}

// look asks after the root keys that nothing is known of, and once a minute
// after those that were not there.
func (s *Store) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	for _, k := range s.doubtful() {
		_, err := run(ctx, s.tpm, op[*root]{do: func(l *link) (*root, error) {
			return l.root(k.entry.SRK, k.entry.EK)
		}})
		s.learn(k, err)
	}
}

// doubtful is one key under each root key to be asked after.
func (s *Store) doubtful() []*key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.tpm.now()
	var list []*key
	asked := map[string]bool{}
	for _, id := range s.order {
		k := s.keys[id]
		name := string(k.entry.SRK)
		last, known := s.roots[name]
		if age := now.Sub(last.at); asked[name] || known && (last.state == "" || age >= 0 && age < healthGood) {
			continue
		}
		asked[name] = true
		list = append(list, k)
	}
	return list
}

// learn remembers what a use of a key has shown about its root key.
func (s *Store) learn(k *key, err error) {
	var named *devicekey.StateError
	state := ""
	switch {
	case err == nil, errors.Is(err, devicekey.ErrUnauthorised):
	case errors.As(err, &named) && (named.State.State == devicekey.Cleared || named.State.State == devicekey.OtherDevice):
		state = named.State.State
	default:
		return
	}
	name := string(k.entry.SRK)
	s.mu.RLock()
	known, ok := s.roots[name]
	s.mu.RUnlock()
	if ok && known.state == "" && state == "" {
		return // as at nearly every use
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roots == nil {
		s.roots = map[string]seen{}
	}
	s.roots[name] = seen{state, s.tpm.now()}
}

// Lock forgets what was read from the vault. It comes back with it.
func (s *Store) Lock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
}

// room reads the room if need be, and says whether that can be done.
func (s *Store) room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load()
}

// find returns the key, read from the room if need be.
func (s *Store) find(ref devicekey.Ref) (*key, error) {
	if ref.Kind != devicekey.KindTPM {
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
		return nil, fmt.Errorf("TPM key %s: %w", ref.ID, devicekey.ErrNotFound)
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
			return fmt.Errorf("%w: TPM key %s: %w", devicekey.ErrUnavailable, e.ID, err)
		}
		keys[e.ID] = k
		order = append(order, e.ID)
	}
	s.keys, s.order = keys, order
	return nil
}

func (s *Store) parse(e entry) (*key, error) {
	if len(e.Salt) != 0 && len(e.Salt) != saltSize {
		return nil, errors.New("salt of the wrong size")
	}
	if err := checkParts(e.SRK, e.EK, e.Public, e.Private); err != nil {
		return nil, err
	}
	area, public, err := parsePublic(e.Public, len(e.Salt) == 0)
	if err != nil {
		return nil, err
	}
	return &key{store: s, ref: devicekey.Ref{Kind: devicekey.KindTPM, ID: e.ID}, entry: e, area: area, public: public}, nil
}

// save writes the room. The caller holds mu.
func (s *Store) save() error {
	c := contents{Keys: make([]entry, 0, len(s.order))}
	for _, id := range s.order {
		c.Keys = append(c.Keys, s.keys[id].entry)
	}
	return s.rooms.Save(room, c)
}

// forget has the room read again. The caller holds mu.
func (s *Store) forget() { s.keys, s.order = nil, nil }

func newSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return salt
}

// equal says whether both are the same key demanding the same.
func (k *key) equal(other *key) bool {
	return other != nil && bytes.Equal(k.entry.Private, other.entry.Private) && k.public.Equal(other.public)
}
