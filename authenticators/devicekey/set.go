package devicekey

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Set is the stores of an agent as one. A key is where its Ref says, for ever;
// new keys go to the kind that was chosen when the agent started.
type Set struct {
	newIn  Kind
	stores []Store
	kinds  []Kind // of stores
}

var _ Store = (*Set)(nil)

// NewSet returns a set whose new keys go to kind. Software belongs first, see
// Reauthorise. It panics when kind is not among them: then nothing would work.
func NewSet(kind Kind, stores map[Kind]Store) *Set {
	if stores[kind] == nil {
		panic(fmt.Sprintf("no store of kind %q for new keys", kind))
	}
	s := &Set{newIn: kind}
	for k := range stores {
		s.kinds = append(s.kinds, k)
	}
	slices.SortFunc(s.kinds, func(a, b Kind) int {
		switch {
		case a == b:
			return 0
		case a == KindSoftware, b != KindSoftware && a < b:
			return -1
		}
		return 1
	})
	for _, k := range s.kinds {
		s.stores = append(s.stores, stores[k])
	}
	return s
}

// Kind is where new keys go.
func (s *Set) Kind() Kind { return s.newIn }

func (s *Set) store(k Kind) (Store, error) {
	if i := slices.Index(s.kinds, k); i >= 0 {
		return s.stores[i], nil
	}
	return nil, fmt.Errorf("keys of kind %q: %w", k, ErrUnsupported)
}

// Create makes a key where new keys go, or fails: there is no second choice.
func (s *Set) Create(ctx context.Context, spec Spec) (Key, Evidence, error) {
	return s.CreateIn(ctx, s.newIn, spec)
}

// CreateIn makes a key of a kind that was asked for.
func (s *Set) CreateIn(ctx context.Context, kind Kind, spec Spec) (Key, Evidence, error) {
	store, err := s.store(kind)
	if err != nil {
		return nil, Evidence{}, err
	}
	return store.Create(ctx, spec)
}

// Open finds a key again.
func (s *Set) Open(ctx context.Context, ref Ref) (Key, error) {
	store, err := s.store(ref.Kind)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, ref)
}

// Delete removes a key.
func (s *Set) Delete(ctx context.Context, ref Ref) error {
	store, err := s.store(ref.Kind)
	if err != nil {
		return err
	}
	return store.Delete(ctx, ref)
}

// Reauthorise changes what keys demand. Within one kind it is all of them or
// none. Keys of several kinds are changed kind by kind, software first: it finds
// out by itself that from is wrong, which a TPM would count as a try. If a later
// kind fails, the earlier ones are changed back; only an agent that ends in
// between, or cannot write any more, leaves them apart.
func (s *Set) Reauthorise(ctx context.Context, refs []Ref, from, to Authorisation) error {
	byKind := make([][]Ref, len(s.stores))
	for _, ref := range refs {
		i := slices.Index(s.kinds, ref.Kind)
		if i < 0 {
			return fmt.Errorf("keys of kind %q: %w", ref.Kind, ErrUnsupported)
		}
		byKind[i] = append(byKind[i], ref)
	}
	for i, list := range byKind {
		if len(list) == 0 {
			continue
		}
		err := s.stores[i].Reauthorise(ctx, list, from, to)
		if err == nil {
			continue
		}
		for j := i - 1; j >= 0; j-- {
			if len(byKind[j]) == 0 {
				continue
			}
			// Not to be cut short by the caller: half a change is worse.
			if back := s.stores[j].Reauthorise(context.WithoutCancel(ctx), byKind[j], to, from); back != nil {
				err = errors.Join(err, fmt.Errorf("change keys of kind %q back: %w", s.kinds[j], back))
			}
		}
		return err
	}
	return nil
}

// State is how the store of new keys is doing.
func (s *Set) State(ctx context.Context) State {
	return s.StateOf(ctx, s.newIn)
}

// StateOf is how the store of a kind is doing.
func (s *Set) StateOf(ctx context.Context, kind Kind) State {
	store, err := s.store(kind)
	if err != nil {
		return State{Kind: kind, State: Unavailable, Hint: err.Error()}
	}
	return store.State(ctx)
}

// States is how all stores are doing; that of new keys comes first.
func (s *Set) States(ctx context.Context) []State {
	list := []State{s.State(ctx)}
	for i, k := range s.kinds {
		if k != s.newIn {
			list = append(list, s.stores[i].State(ctx))
		}
	}
	return list
}
