package verification

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// Rooms is the part of the vault that the service needs. A room that was never
// written is fs.ErrNotExist.
type Rooms interface {
	Load(room string, dst any) error
	Save(room string, value any) error
	Locked() bool
}

const (
	room       = "verification"
	escrowSize = 32
)

// contents is the room. It is read anew for each operation: what is in memory
// then is no older than the disk, and no secret waits there.
type contents struct {
	PIN *anchor `json:"pin,omitempty"`
	// Pending is the anchor of a SetPIN that is under way. It demands the escrowed
	// secret still, or the new PIN already: see settle.
	Pending *anchor                           `json:"pending,omitempty"`
	Gone    []devicekey.Ref                   `json:"gone,omitempty"` // anchors to delete
	Enabled []Method                          `json:"enabled,omitempty"`
	Escrow  map[okta.KeyType]devicekey.Secret `json:"escrow,omitempty"`
	Tries   map[Method]tries                  `json:"tries,omitempty"`
}

// anchor is the key that tells whether a PIN is right.
type anchor struct {
	Ref    devicekey.Ref `json:"ref"`
	Public []byte        `json:"public"` // PKIX
}

func (c *contents) wipe() {
	for _, s := range c.Escrow {
		clear(s)
	}
}

func (c *contents) check() error {
	for role, s := range c.Escrow {
		if len(satisfies[role]) == 0 || len(s) != escrowSize {
			return errors.New("an escrowed secret is not one of ours")
		}
	}
	if c.Pending != nil && (c.PIN != nil || c.Escrow[guarded] == nil) || c.PIN != nil && c.Escrow[guarded] != nil {
		return errors.New("it names both a PIN and a secret in its place")
	}
	for _, t := range c.Tries {
		if !t.sane() {
			return errors.New("a count of tries is not one of ours")
		}
	}
	return nil
}

// load reads the room, and takes the count of tries that is worse: the room's
// or the one in memory. The caller wipes what it gets.
func (s *Service) load() (*contents, error) {
	if s.rooms.Locked() {
		s.Forget()
		return nil, devicekey.ErrLocked
	}
	c := &contents{}
	err := s.rooms.Load(room, c)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err != nil && s.rooms.Locked():
		err = devicekey.ErrLocked
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrBroken, err)
	default:
		if err = c.check(); err != nil {
			err = fmt.Errorf("%w: %w", ErrBroken, err)
		}
	}
	if err != nil {
		c.wipe()
		s.Forget()
		return nil, err
	}
	if c.Tries == nil {
		c.Tries = map[Method]tries{}
	}
	if c.Escrow == nil {
		c.Escrow = map[okta.KeyType]devicekey.Secret{}
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for m, t := range s.tried {
		if t.Failed > 0 && t.Failed >= c.Tries[m].Failed {
			c.Tries[m] = t
		}
	}
	for m, t := range c.Tries {
		c.Tries[m] = t.at(now)
	}
	return c, nil
}

// loadHeld is load for the holder of the slot: what it found is remembered, so
// that pauses are measured by this process's clock from here on.
func (s *Service) loadHeld() (*contents, error) {
	c, err := s.load()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = maps.Clone(c.Tries)
	return c, nil
}

// save writes the room.
func (s *Service) save(c *contents) error {
	if err := s.rooms.Save(room, c); err != nil {
		if s.rooms.Locked() {
			return devicekey.ErrLocked
		}
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return nil
}

// count writes down a try before it is made. One that could not be written is
// not made, and counts while this process lives.
func (s *Service) count(c *contents, m Method, now time.Time) error {
	c.Tries[m] = c.Tries[m].with(now)
	s.mu.Lock()
	s.tried[m] = c.Tries[m]
	s.mu.Unlock()
	return s.save(c)
}

// uncount puts the count back to what it was, or with the zero value to none.
func (s *Service) uncount(c *contents, m Method, to tries) error {
	if c.Tries[m] = to; to == (tries{}) {
		delete(c.Tries, m)
	}
	if err := s.save(c); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried[m] = to
	return nil
}
