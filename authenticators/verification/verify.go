package verification

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// Verify asks whether the user is there. Any error, and any state that it does
// not know, means that nobody was verified. Errors that callers branch on: this
// package's (*TryError tells what is left), devicekey.ErrLocked.
func (s *Service) Verify(ctx context.Context, req Request) (Verified, error) {
	if req.Purpose == "" {
		return Verified{}, errors.New("a verification needs a purpose")
	}
	if err := ctx.Err(); err != nil {
		return Verified{}, ended(err)
	}
	c, err := s.settled(ctx)
	if err != nil {
		return Verified{}, err
	}
	defer c.wipe()
	method := req.Method
	if method == "" {
		method = s.preferred(ctx, c)
	}
	if v, ok := s.fromGrace(req, method, c); ok {
		return v, nil
	}
	var v Verified
	switch {
	case method == PIN:
		v, err = s.byPIN(ctx, req)
	case slices.Contains(c.Enabled, method):
		v, err = s.byMethod(ctx, method, req)
	default:
		err = ErrNotSetUp
	}
	if err != nil {
		s.log.Info("user not verified", "method", string(method), "error", err)
		return Verified{}, err
	}
	return v, nil
}

// preferred is the method of a request that names none: the PIN when there is
// one, else the first that is ready.
func (s *Service) preferred(ctx context.Context, c *contents) Method {
	if c.PIN != nil {
		return PIN
	}
	for _, v := range s.methods {
		if s.methodState(ctx, c, v).State == "ready" {
			return v.Method()
		}
	}
	return ""
}

func (s *Service) byPIN(ctx context.Context, req Request) (Verified, error) {
	if err := s.slot.take(ctx); err != nil {
		return Verified{}, err
	}
	defer s.slot.give()
	c, err := s.loadHeld() // again: somebody else had the slot
	if err != nil {
		return Verified{}, err
	}
	defer c.wipe()
	if err := s.tryPIN(ctx, c, req.PIN); err != nil {
		return Verified{}, err
	}
	now := s.now()
	v := s.verified(req.Purpose, PIN, now, now, map[okta.KeyType]devicekey.Secret{
		okta.KeyUserVerificationBioOrPIN: slices.Clone(req.PIN),
	})
	s.keep(v, c)
	return v, nil
}

// tryPIN returns nil for the right PIN only. The caller holds the slot.
func (s *Service) tryPIN(ctx context.Context, c *contents, pin devicekey.Secret) error {
	if c.PIN == nil {
		return ErrNotSetUp
	}
	now, before := s.now(), c.Tries[PIN]
	if before.left(now) > 0 {
		return before.err(PIN, now, ErrTooMany)
	}
	if checkForm(pin) != nil {
		return before.err(PIN, now, ErrWrong)
	}
	// A store that is not well says so here, at the price of no try.
	key, err := s.keys.Open(ctx, c.PIN.Ref)
	if err != nil {
		return storeError(err)
	}
	if err := s.count(c, PIN, now); err != nil {
		return fmt.Errorf("count a try: %w", err)
	}
	err = c.PIN.accepts(ctx, key, pin)
	switch {
	case err == nil:
		if err := s.uncount(c, PIN, tries{}); err != nil {
			return fmt.Errorf("write down a verification: %w", err)
		}
		return nil
	case errors.Is(err, devicekey.ErrUnauthorised):
		s.Forget()
		e := c.Tries[PIN].err(PIN, now, ErrWrong)
		switch store := s.storeOf(ctx, c.PIN.Ref.Kind); {
		case store.State != devicekey.Lockout:
			e.Left = fewer(e.Left, store)
		default: // that was the last one that it takes
			if e.Left = 0; e.Until.Before(store.Until) {
				e.Until = store.Until
			}
		}
		return e
	case errors.Is(err, devicekey.ErrTooManyTries), errors.Is(err, devicekey.ErrLocked), unseen(err):
		// Not looked at. Not given back it costs a try, which is no harm either.
		_ = s.uncount(c, PIN, before)
	}
	return storeError(err)
}

// unseen says whether the key store was in a state in which it looks at no PIN:
// a device that is not there counts nothing, and neither do we. In others, as
// when an answer is lost, it may have looked.
func unseen(err error) bool {
	var state *devicekey.StateError
	return errors.As(err, &state) && slices.Contains([]string{devicekey.Absent, devicekey.PermissionDenied, devicekey.TooOld,
		devicekey.Cleared, devicekey.OtherDevice, devicekey.OwnerAuthSet}, state.State.State)
}

// storeError tells of a key store that did not say whether a PIN is right.
func storeError(err error) error {
	if errors.Is(err, devicekey.ErrTooManyTries) {
		e := &TryError{Method: PIN, Err: ErrTooMany}
		var state *devicekey.StateError
		if errors.As(err, &state) {
			e.Until = state.State.Until
		}
		return e
	}
	return fmt.Errorf("check the PIN: %w", err)
}

// accepts returns nil when the key signs with that secret: with the very key
// that was made for it. ErrUnauthorised says that the secret is wrong.
func (a *anchor) accepts(ctx context.Context, key devicekey.Key, secret devicekey.Secret) error {
	parsed, err := x509.ParsePKIXPublicKey(a.Public)
	if err != nil {
		return fmt.Errorf("%w: the anchor's public key: %w", ErrBroken, err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: the anchor is a %T", ErrBroken, parsed)
	}
	digest := make([]byte, 32)
	rand.Read(digest)
	signature, err := key.Sign(ctx, digest, devicekey.Authorisation{Secret: secret})
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(public, digest, signature) {
		return fmt.Errorf("%w: the key store has signed with another key", devicekey.ErrUnavailable)
	}
	return nil
}

// byMethod asks by a method that is enabled, and releases what it may.
func (s *Service) byMethod(ctx context.Context, m Method, req Request) (Verified, error) {
	at, err := s.ask(ctx, m, req)
	if err != nil {
		return Verified{}, err
	}
	if err := s.slot.take(ctx); err != nil {
		return Verified{}, err
	}
	defer s.slot.give()
	// Again: the vault may have been locked, or the method switched off, while
	// the person was asked.
	c, err := s.loadHeld()
	if err != nil {
		return Verified{}, err
	}
	defer c.wipe()
	if !slices.Contains(c.Enabled, m) {
		return Verified{}, ErrNotSetUp
	}
	v := s.verified(req.Purpose, m, at, at, map[okta.KeyType]devicekey.Secret{})
	for role, secret := range c.Escrow {
		if m.Satisfies(role) {
			v.secrets[role] = slices.Clone(secret)
		}
	}
	s.keep(v, c)
	return v, nil
}

// ask has a method ask the person, and counts the try. It returns when they
// were there.
func (s *Service) ask(ctx context.Context, m Method, req Request) (time.Time, error) {
	v := s.verifier(m)
	if v == nil {
		return time.Time{}, ErrAbsent
	}
	if err := s.asking[m].take(ctx); err != nil {
		return time.Time{}, err
	}
	defer s.asking[m].give()
	before, err := s.begin(ctx, m)
	if err != nil {
		return time.Time{}, err
	}
	req.Method, req.PIN = m, nil
	if m != SecurityKey {
		req.KeyPIN = nil
	}
	asking, cancel := context.WithTimeout(ctx, interactive)
	err = v.Verify(asking, req)
	if over := asking.Err(); over != nil && (err == nil || !known(err)) {
		err = ended(over)
	}
	cancel()
	at := s.now()
	if ending := s.end(ctx, m, before, err); ending != nil {
		return time.Time{}, ending
	}
	return at, nil
}

// known says whether an error is one of those that a Verifier returns.
func known(err error) bool {
	for _, e := range []error{ErrNotSetUp, ErrWrong, ErrTooMany, ErrCancelled, ErrTimedOut, ErrAbsent} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// begin counts a try before it is made, and returns the count before it.
func (s *Service) begin(ctx context.Context, m Method) (tries, error) {
	if err := s.slot.take(ctx); err != nil {
		return tries{}, err
	}
	defer s.slot.give()
	c, err := s.loadHeld()
	if err != nil {
		return tries{}, err
	}
	defer c.wipe()
	now, before := s.now(), c.Tries[m]
	if before.left(now) > 0 {
		return tries{}, before.err(m, now, ErrTooMany)
	}
	if err := s.count(c, m, now); err != nil {
		return tries{}, fmt.Errorf("count a try: %w", err)
	}
	return before, nil
}

// end writes down how a try ended, and returns nil when it verified the user.
func (s *Service) end(ctx context.Context, m Method, before tries, result error) error {
	// Who asked may be gone; the count is for everybody.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moment)
	defer cancel()
	if err := s.slot.take(ctx); err != nil {
		return errors.Join(result, err)
	}
	defer s.slot.give()
	c, err := s.loadHeld()
	if err != nil {
		return errors.Join(result, err)
	}
	defer c.wipe()
	switch {
	case result == nil:
		if err := s.uncount(c, m, tries{}); err != nil {
			return fmt.Errorf("write down a verification: %w", err)
		}
		return nil
	case errors.Is(result, ErrWrong):
		s.Forget()
		e := c.Tries[m].err(m, s.now(), ErrWrong)
		if device := (*TryError)(nil); errors.As(result, &device) && device.Left > 0 {
			e.Left = min(e.Left, device.Left)
		}
		return e
	}
	_ = s.uncount(c, m, before) // nobody was looked at; not given back it costs a try
	if known(result) {
		return result
	}
	return fmt.Errorf("%w: %w", ErrAbsent, result)
}
