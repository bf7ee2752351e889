package verification

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// guarded is the role whose keys demand the PIN, when there is one.
const guarded = okta.KeyUserVerificationBioOrPIN

// SetPIN makes a PIN where there is none. Keys of the guarded role then demand
// it in place of the escrowed secret: refs names all such keys of accounts, so
// that they change with it, all or none. Where there is an escrowed secret, one
// of the methods that release it must verify the user first; otherwise whoever
// may call this could take the keys over.
//
// A PIN whose anchor is gone with its key store (a TPM that was cleared) counts
// as none: the keys that it guarded are gone with it. If some are not, since they
// lie in another store, nobody could change what they demand: ErrInUse.
//
// The order is made for a crash at any point. The anchor is made to demand the
// old secret, written down as pending, and changed together with the keys; so
// whichever secret the anchor demands, the keys do (see settle).
func (s *Service) SetPIN(ctx context.Context, pin devicekey.Secret, refs []devicekey.Ref) error {
	return s.SetPINBy(ctx, pin, nil, refs)
}

// SetPINBy is SetPIN with the PIN of a security key, for when one verifies the
// user until now.
func (s *Service) SetPINBy(ctx context.Context, pin, keyPIN devicekey.Secret, refs []devicekey.Ref) error {
	if err := checkPIN(pin); err != nil {
		return err
	}
	c, err := s.change(ctx)
	if err != nil {
		return err
	}
	defer s.changing.give()
	defer func() { c.wipe() }()
	if c.PIN != nil && !s.anchorGone(ctx, c) {
		return ErrPINSet
	}
	if c.Escrow[guarded] == nil && len(refs) != 0 && c.PIN == nil {
		return fmt.Errorf("keys are to change from a secret that does not exist: %w", ErrBroken)
	}
	if c.PIN != nil && len(refs) != 0 {
		return fmt.Errorf("the PIN of before: %w", ErrInUse)
	}
	if c.Escrow[guarded] != nil {
		if err := s.askOneOf(ctx, c, guarded, Request{Purpose: "change verification", Reason: "Set a PIN", KeyPIN: keyPIN, Fresh: true}); err != nil {
			return err
		}
	}
	if err := s.slot.take(ctx); err != nil {
		return err
	}
	defer s.slot.give()
	c.wipe()
	if c, err = s.loadHeld(); err != nil {
		c = &contents{}
		return err
	}
	s.changed()
	if c.PIN != nil {
		c.Gone = append(c.Gone, c.PIN.Ref)
		c.PIN = nil
	}
	if c.Escrow[guarded] == nil {
		return s.firstPIN(ctx, c, pin)
	}
	return s.fromEscrow(ctx, c, pin, refs)
}

// firstPIN makes a PIN where nothing demands anything yet.
func (s *Service) firstPIN(ctx context.Context, c *contents, pin devicekey.Secret) error {
	a, err := s.newAnchor(ctx, pin)
	if err != nil {
		return err
	}
	if err = s.checkAnchor(ctx, a, pin); err == nil {
		c.PIN = a
		err = s.uncount(c, PIN, tries{})
	}
	if err != nil {
		// The room may name it all the same, after a save that failed late. Then
		// the PIN is one whose anchor is gone: not set.
		return errors.Join(err, s.keys.Delete(ctx, a.Ref))
	}
	s.sweep(ctx, c)
	return nil
}

// fromEscrow makes a PIN for keys that demand the escrowed secret.
func (s *Service) fromEscrow(ctx context.Context, c *contents, pin devicekey.Secret, refs []devicekey.Ref) error {
	old := c.Escrow[guarded]
	a, err := s.newAnchor(ctx, old)
	if err != nil {
		return err
	}
	c.Pending = a
	if err := s.save(c); err != nil {
		return err // settled when the room can be used again, or an anchor too many
	}
	all := append([]devicekey.Ref{a.Ref}, refs...)
	failed := s.keys.Reauthorise(ctx, all, devicekey.Authorisation{Secret: old}, devicekey.Authorisation{Secret: pin})
	if failed == nil {
		failed = s.checkAnchor(ctx, a, pin)
	}
	if err := s.settle(ctx, c); err != nil {
		return errors.Join(failed, err)
	}
	if failed != nil && c.PIN == nil {
		return fmt.Errorf("set the PIN: %w", failed)
	}
	return nil
}

// ChangePIN replaces the PIN, for its anchor and for all keys of accounts that
// demand it, all or none. A wrong old PIN counts as a try.
func (s *Service) ChangePIN(ctx context.Context, old, new devicekey.Secret, refs []devicekey.Ref) error {
	if err := checkPIN(new); err != nil {
		return err
	}
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
	s.Forget()
	if err := s.tryPIN(ctx, c, old); err != nil {
		return err
	}
	s.changed()
	all := append([]devicekey.Ref{c.PIN.Ref}, refs...)
	from, to := devicekey.Authorisation{Secret: old}, devicekey.Authorisation{Secret: new}
	err = s.keys.Reauthorise(ctx, all, from, to)
	if errors.Is(err, devicekey.ErrUnauthorised) {
		if left := s.unchanged(ctx, all, to); len(left) < len(all) {
			err = s.keys.Reauthorise(ctx, left, from, to)
		}
	}
	if err != nil {
		return fmt.Errorf("change the PIN: %w", err)
	}
	return nil
}

// unchanged returns the keys without those of another kind than the anchor's
// that demand the new PIN already. A change is all or none within one kind; one
// that is cut short between two kinds is finished by making it again.
func (s *Service) unchanged(ctx context.Context, all []devicekey.Ref, to devicekey.Authorisation) []devicekey.Ref {
	return slices.DeleteFunc(slices.Clone(all), func(ref devicekey.Ref) bool {
		if ref.Kind == all[0].Kind {
			return false
		}
		key, err := s.keys.Open(ctx, ref)
		if err != nil {
			return false
		}
		_, err = key.Sign(ctx, make([]byte, 32), to)
		return err == nil
	})
}

// RemovePIN removes the PIN. No key of an account may depend on it: such keys
// are removed or replaced first. A wrong old PIN counts as a try. One whose
// anchor is gone can be told by nobody, and is removed as it is.
func (s *Service) RemovePIN(ctx context.Context, old devicekey.Secret) error {
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
	s.Forget()
	if c.PIN != nil && s.used(guarded) {
		return ErrInUse
	}
	if c.PIN == nil || !s.anchorGone(ctx, c) {
		if err := s.tryPIN(ctx, c, old); err != nil {
			return err
		}
	}
	s.changed()
	c.Gone = append(c.Gone, c.PIN.Ref)
	c.PIN = nil
	c.makeEscrow()
	if err := s.save(c); err != nil {
		return err
	}
	s.sweep(ctx, c)
	return nil
}

// Enable switches a method on. It must verify the user now: what does not work
// is not relied on. Where it would release keys that others release already,
// one of those verifies the user too.
func (s *Service) Enable(ctx context.Context, m Method) error { return s.EnableBy(ctx, m, nil) }

// EnableBy is Enable with the PIN of a security key, for when one takes part.
func (s *Service) EnableBy(ctx context.Context, m Method, keyPIN devicekey.Secret) error {
	if m == PIN || s.verifier(m) == nil {
		return ErrAbsent
	}
	c, err := s.change(ctx)
	if err != nil {
		return err
	}
	defer s.changing.give()
	defer func() { c.wipe() }()
	if slices.Contains(c.Enabled, m) {
		return nil
	}
	if !c.useful(m) {
		return ErrNoUse
	}
	for role := range c.Escrow {
		if !m.Satisfies(role) {
			continue
		}
		if err := s.askOneOf(ctx, c, role, Request{Purpose: "change verification", Reason: "Allow another way to verify yourself", KeyPIN: keyPIN, Fresh: true}); err != nil {
			return err
		}
	}
	if _, err := s.ask(ctx, m, Request{Purpose: "enable " + string(m), Reason: "Use this to verify yourself", KeyPIN: keyPIN, Fresh: true}); err != nil {
		return err
	}
	return s.rewrite(ctx, func(c *contents) error {
		c.Enabled = append(c.Enabled, m)
		c.makeEscrow()
		return nil
	})
}

// Disable switches a method off, and forgets secrets that no other method
// releases. While keys of accounts demand those it is refused.
func (s *Service) Disable(ctx context.Context, m Method) error {
	c, err := s.change(ctx)
	if err != nil {
		return err
	}
	defer s.changing.give()
	defer c.wipe()
	if !slices.Contains(c.Enabled, m) {
		return nil
	}
	return s.rewrite(ctx, func(c *contents) error {
		c.Enabled = slices.DeleteFunc(c.Enabled, func(e Method) bool { return e == m })
		for role, secret := range c.Escrow {
			if slices.ContainsFunc(c.Enabled, func(e Method) bool { return e.Satisfies(role) }) {
				continue
			}
			if s.used(role) {
				return ErrInUse
			}
			clear(secret)
			delete(c.Escrow, role)
		}
		return nil
	})
}

// change begins a change: one at a time, on a room in which none is pending.
// The caller gives s.changing back, unless there is an error.
func (s *Service) change(ctx context.Context) (*contents, error) {
	if err := s.changing.take(ctx); err != nil {
		return nil, err
	}
	c, err := s.settled(ctx)
	if err != nil {
		s.changing.give()
		return nil, err
	}
	return c, nil
}

// rewrite changes the room.
func (s *Service) rewrite(ctx context.Context, change func(*contents) error) error {
	if err := s.slot.take(ctx); err != nil {
		return err
	}
	defer s.slot.give()
	c, err := s.loadHeld()
	if err != nil {
		return err
	}
	defer c.wipe()
	s.changed()
	if err := change(c); err != nil {
		return err
	}
	return s.save(c)
}

// askOneOf has one of the methods that release the keys of a role verify the
// user: the first that is ready.
func (s *Service) askOneOf(ctx context.Context, c *contents, role okta.KeyType, req Request) error {
	for _, v := range s.methods {
		if v.Method().Satisfies(role) && s.methodState(ctx, c, v).State == "ready" {
			_, err := s.ask(ctx, v.Method(), req)
			return err
		}
	}
	return fmt.Errorf("none of the ways that are set up: %w", ErrAbsent)
}

func (s *Service) used(role okta.KeyType) bool { return s.inUse == nil || s.inUse(role) }

// useful says whether a method would release anything: the PIN guards one role
// alone.
func (c *contents) useful(m Method) bool {
	for role := range satisfies {
		if m.Satisfies(role) && (role != guarded || c.PIN == nil) {
			return true
		}
	}
	return false
}

// makeEscrow makes the secrets that enabled methods release and that are not
// there yet.
func (c *contents) makeEscrow() {
	for role := range satisfies {
		if c.Escrow[role] != nil || role == guarded && c.PIN != nil {
			continue
		}
		if slices.ContainsFunc(c.Enabled, func(m Method) bool { return m.Satisfies(role) }) {
			secret := make(devicekey.Secret, escrowSize)
			rand.Read(secret)
			c.Escrow[role] = secret
		}
	}
}

// newAnchor makes a key that demands the secret.
func (s *Service) newAnchor(ctx context.Context, secret devicekey.Secret) (*anchor, error) {
	key, _, err := s.keys.Create(ctx, devicekey.Spec{
		Role: guarded, UserVerification: true, Authorisation: devicekey.Authorisation{Secret: secret},
	})
	if err != nil {
		return nil, fmt.Errorf("make a key for the PIN: %w", err)
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("make a key for the PIN: it is a %T", key.Public())
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("make a key for the PIN: %w", err)
	}
	return &anchor{Ref: key.Ref(), Public: der}, nil
}

// checkAnchor sees that the anchor does its job: it signs with the PIN, and not
// without. Nobody would notice a store that does not care.
func (s *Service) checkAnchor(ctx context.Context, a *anchor, pin devicekey.Secret) error {
	key, err := s.keys.Open(ctx, a.Ref)
	if err != nil {
		return fmt.Errorf("check the PIN's key: %w", err)
	}
	if err := a.accepts(ctx, key, pin); err != nil {
		return fmt.Errorf("check the PIN's key: %w", err)
	}
	if err := a.accepts(ctx, key, nil); !errors.Is(err, devicekey.ErrUnauthorised) {
		return fmt.Errorf("check the PIN's key: it signs, or fails, without a PIN: %w", errors.Join(ErrBroken, err))
	}
	return nil
}

// anchorGone says whether the PIN's key can never be used again.
func (s *Service) anchorGone(ctx context.Context, c *contents) bool {
	_, err := s.keys.Open(ctx, c.PIN.Ref)
	return devicekey.Lost(err)
}

// settled is load, after what a crash left pending was finished or undone.
func (s *Service) settled(ctx context.Context) (*contents, error) {
	c, err := s.load()
	if err != nil || c.Pending == nil {
		return c, err
	}
	c.wipe()
	if err := s.slot.take(ctx); err != nil {
		return nil, err
	}
	defer s.slot.give()
	if c, err = s.loadHeld(); err != nil {
		return nil, err
	}
	if err := s.settle(ctx, c); err != nil {
		c.wipe()
		return nil, fmt.Errorf("finish setting the PIN: %w", err)
	}
	return c, nil
}

// settle ends a SetPIN: the anchor says whether the keys demand the escrowed
// secret still, or the PIN already. While it cannot be asked, nothing is
// decided, and no key of that role is released. The caller holds the slot.
func (s *Service) settle(ctx context.Context, c *contents) error {
	if c.Pending == nil {
		return nil
	}
	s.changed()
	key, err := s.keys.Open(ctx, c.Pending.Ref)
	if err == nil {
		err = c.Pending.accepts(ctx, key, c.Escrow[guarded])
	}
	switch {
	case err == nil, errors.Is(err, devicekey.ErrNotFound):
		c.Gone = append(c.Gone, c.Pending.Ref)
	case errors.Is(err, devicekey.ErrUnauthorised):
		c.PIN = c.Pending
		clear(c.Escrow[guarded])
		delete(c.Escrow, guarded)
		c.Enabled = slices.DeleteFunc(c.Enabled, func(m Method) bool { return !c.useful(m) })
	default:
		return err
	}
	c.Pending = nil
	if err := s.uncount(c, PIN, tries{}); err != nil {
		return err
	}
	s.sweep(ctx, c)
	return nil
}

// sweep deletes anchors that are not needed any more. What stays, stays on the
// list.
func (s *Service) sweep(ctx context.Context, c *contents) {
	left := c.Gone[:0:0]
	for _, ref := range c.Gone {
		if err := s.keys.Delete(ctx, ref); err != nil {
			s.log.Info("an old key of the PIN not deleted yet", "key", ref.ID, "error", err)
			left = append(left, ref)
		}
	}
	if len(left) == len(c.Gone) {
		return
	}
	c.Gone = left
	if err := s.save(c); err != nil {
		s.log.Info("an old key of the PIN stays on the list", "error", err)
	}
}
