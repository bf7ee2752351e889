package verification

import (
	"context"
	"fmt"
)

// ForgetPIN removes the PIN of a person who does not know it any more. Nobody is
// verified for that, and nobody needs to be: what the PIN guards goes with it.
// forget deletes all keys of accounts that demand it; it is called when there is
// a PIN for sure, and what fails leaves the PIN.
func (s *Service) ForgetPIN(ctx context.Context, forget func(context.Context) error) error {
	c, err := s.change(ctx)
	if err != nil {
		return err
	}
	defer s.changing.give()
	c.wipe()
	if err := s.slot.take(ctx); err != nil {
		return err
	}
	defer s.slot.give()
	if c, err = s.loadHeld(); err != nil {
		return err
	}
	defer c.wipe()
	if c.PIN == nil {
		return ErrNotSetUp
	}
	s.changed()
	if err := forget(ctx); err != nil {
		return fmt.Errorf("delete the keys that the PIN guards: %w", err)
	}
	if s.used(guarded) {
		return ErrInUse
	}
	c.Gone = append(c.Gone, c.PIN.Ref)
	c.PIN = nil
	c.makeEscrow()
	if err := s.uncount(c, PIN, tries{}); err != nil {
		return err
	}
	s.sweep(ctx, c)
	return nil
}
