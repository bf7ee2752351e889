package verification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

const (
	maxGrace    = 15 * time.Minute
	interactive = 2 * time.Minute  // for a person to do something
	moment      = 10 * time.Second // to write down how that ended
)

// Options are what a Service is made of.
type Options struct {
	Rooms   Rooms
	Keys    devicekey.Store // where the PIN's anchor is made
	Methods []Verifier      // besides the PIN, the preferred one first
	// Grace is for how long a verification is taken for further purposes: 0 for
	// none, 15 minutes at most.
	Grace time.Duration
	// InUse says whether keys of accounts demand verification in this role. What
	// would leave them without it is refused while it says so; so is it when
	// InUse is nil, since then nobody can tell.
	InUse func(role okta.KeyType) bool
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: none
}

// Service verifies the user. Its methods may be called at once.
type Service struct {
	rooms   Rooms
	keys    devicekey.Store
	methods []Verifier
	grace   time.Duration
	inUse   func(okta.KeyType) bool
	now     func() time.Time
	log     *slog.Logger

	changing slot            // held by what changes the PIN or methods; taken first
	asking   map[Method]slot // one question of a method at a time; taken second
	slot     slot            // held by what tries a PIN or writes the room; taken last
	changes  atomic.Uint64   // of the PIN and methods, while this process lives; see changed

	mu    sync.Mutex       // guards what follows
	tried map[Method]tries // as counted by this process
	kept  *kept            // what grace has left; nil when nothing
}

// slot is a mutex that is not waited for longer than a context lasts.
type slot chan struct{}

func (l slot) take(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ended(ctx.Err())
	}
}

func (l slot) give() { <-l }

// Open returns the service. The vault may be locked still; what is in its room
// and makes no sense is an error now.
func Open(o Options) (*Service, error) {
	if o.Rooms == nil || o.Keys == nil {
		return nil, errors.New("user verification needs a vault and a key store")
	}
	if o.Grace < 0 || o.Grace > maxGrace {
		return nil, fmt.Errorf("grace of %s: it may be %s at most", o.Grace, maxGrace)
	}
	s := &Service{
		rooms: o.Rooms, keys: o.Keys, methods: o.Methods, grace: o.Grace, inUse: o.InUse, now: o.Now, log: o.Log,
		changing: make(slot, 1), asking: map[Method]slot{}, slot: make(slot, 1), tried: map[Method]tries{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, v := range o.Methods {
		m := v.Method()
		if m == "" || m == PIN || s.asking[m] != nil {
			return nil, fmt.Errorf("method of verification %q: unusable name, or there twice", m)
		}
		s.asking[m] = make(slot, 1)
	}
	c, err := s.loadHeld()
	if err != nil && !errors.Is(err, devicekey.ErrLocked) {
		return nil, err
	}
	if err == nil {
		c.wipe()
	}
	return s, nil
}

// verified makes a verification, which the next change of PIN or methods ends.
// The caller holds the slot, or has the one that it comes from from grace.
func (s *Service) verified(purpose string, m Method, at, from time.Time, secrets map[okta.KeyType]devicekey.Secret) Verified {
	n := s.changes.Load()
	return Verified{purpose: purpose, method: m, at: at, from: from, now: s.now, secrets: secrets,
		same: func() bool { return s.changes.Load() == n }}
}

// changed ends what the user was verified for before: grace, and verifications
// that were given out. Whoever changes the PIN or methods calls it first, and
// holds the slot.
func (s *Service) changed() {
	s.Forget() // first: what grace gives out meanwhile ends too
	s.changes.Add(1)
}

func (s *Service) verifier(m Method) Verifier {
	for _, v := range s.methods {
		if v.Method() == m {
			return v
		}
	}
	return nil
}

// States says how the methods are doing, the PIN first.
func (s *Service) States(ctx context.Context) []State {
	c, err := s.settled(ctx)
	if err != nil {
		hint := err.Error()
		if errors.Is(err, devicekey.ErrLocked) {
			hint = "unlock the vault"
		}
		all := []State{{Method: PIN, State: "unavailable", Hint: hint}}
		for _, v := range s.methods {
			all = append(all, State{Method: v.Method(), State: "unavailable", Hint: hint})
		}
		return all
	}
	defer c.wipe()
	all := []State{s.pinState(ctx, c)}
	for _, v := range s.methods {
		all = append(all, s.methodState(ctx, c, v))
	}
	return all
}

func (s *Service) pinState(ctx context.Context, c *contents) State {
	if c.PIN == nil {
		return State{Method: PIN, State: "not_set", Hint: "set a PIN: countersign pin set"}
	}
	now := s.now()
	t := c.Tries[PIN]
	state := State{Method: PIN, State: "ready", Left: t.free(now)}
	if until := t.until(now); !until.IsZero() {
		return locked(state, until)
	}
	_, err := s.keys.Open(ctx, c.PIN.Ref)
	var bad *devicekey.StateError
	switch {
	case errors.As(err, &bad):
		return fromStore(state, bad.State)
	case errors.Is(err, devicekey.ErrNotFound):
		state.State, state.Hint = "unavailable", newPINHint
	case err != nil:
		state.State, state.Hint = "unavailable", err.Error()
	default:
		store := s.storeOf(ctx, c.PIN.Ref.Kind)
		if store.State != devicekey.Ready {
			return fromStore(state, store)
		}
		state.Left = fewer(state.Left, store)
	}
	return state
}

const newPINHint = "its key is gone; set a new PIN: countersign pin set"

// storeOf is how the store of a kind is doing: new keys may go to another one by
// now.
func (s *Service) storeOf(ctx context.Context, kind devicekey.Kind) devicekey.State {
	if several, ok := s.keys.(interface {
		StateOf(ctx context.Context, kind devicekey.Kind) devicekey.State
	}); ok {
		return several.StateOf(ctx, kind)
	}
	return s.keys.State(ctx)
}

// fewer is how many tries are left where the store takes fewer than we do.
func fewer(left int, store devicekey.State) int {
	if store.Left > 0 {
		return min(left, store.Left)
	}
	return left
}

func fromStore(s State, store devicekey.State) State {
	if store.State == devicekey.Lockout {
		return locked(s, store.Until)
	}
	s.State, s.Hint = "unavailable", store.Hint
	switch {
	case store.State == devicekey.Cleared || store.State == devicekey.OtherDevice:
		s.Hint = newPINHint // what helps the keys of accounts does not help it
	case s.Hint == "":
		s.Hint = "its key store is " + store.State
	}
	return s
}

func locked(s State, until time.Time) State {
	s.State, s.Left, s.Until, s.Hint = "lockout", 0, until, "too many wrong tries; wait"
	return s
}

func (s *Service) methodState(ctx context.Context, c *contents, v Verifier) State {
	state := v.State(ctx)
	state.Method, state.Left, state.Until = v.Method(), 0, time.Time{}
	switch now := s.now(); {
	case state.State != "ready":
	case !slices.Contains(c.Enabled, v.Method()):
		state.State, state.Hint = "not_set", "switch it on: countersign verification enable "+string(v.Method())
		if !c.useful(v.Method()) {
			state.Hint = "the PIN stands in its place"
		}
	default:
		if until := c.Tries[v.Method()].until(now); !until.IsZero() {
			return locked(state, until)
		}
	}
	return state
}

// Ready returns what could release keys of that role now; the PIN first.
func (s *Service) Ready(ctx context.Context, role okta.KeyType) []Method {
	c, err := s.settled(ctx)
	if err != nil {
		return nil
	}
	defer c.wipe()
	var ready []Method
	if PIN.Satisfies(role) && s.pinState(ctx, c).State == "ready" {
		ready = append(ready, PIN)
	}
	if c.Escrow[role] == nil {
		return ready
	}
	for _, v := range s.methods {
		if v.Method().Satisfies(role) && s.methodState(ctx, c, v).State == "ready" {
			ready = append(ready, v.Method())
		}
	}
	return ready
}

// Roles returns the roles for which there is a secret, so that keys which
// demand verification can be made: with what Authorise returns for it.
func (s *Service) Roles() []okta.KeyType {
	c, err := s.load()
	if err != nil {
		return nil
	}
	defer c.wipe()
	var roles []okta.KeyType
	if c.Escrow[okta.KeyUserVerification] != nil {
		roles = append(roles, okta.KeyUserVerification)
	}
	if c.PIN != nil || c.Pending != nil || c.Escrow[okta.KeyUserVerificationBioOrPIN] != nil {
		roles = append(roles, okta.KeyUserVerificationBioOrPIN)
	}
	return roles
}

// Keys returns the service's own keys, which belong to no account.
func (s *Service) Keys() []devicekey.Ref {
	c, err := s.load()
	if err != nil {
		return nil
	}
	defer c.wipe()
	refs := slices.Clone(c.Gone)
	for _, a := range []*anchor{c.PIN, c.Pending} {
		if a != nil {
			refs = append(refs, a.Ref)
		}
	}
	return refs
}

// ended names the end of a context.
func ended(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimedOut, err)
	}
	return fmt.Errorf("%w: %w", ErrCancelled, err)
}
