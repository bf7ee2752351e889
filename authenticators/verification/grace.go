package verification

import (
	"maps"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// kept is a verification that grace keeps for further purposes: with the PIN,
// or the secrets that were released, in memory. That is what grace costs; with
// none, nothing is kept.
type kept struct {
	method  Method
	at      time.Time
	anchor  devicekey.Ref // of the PIN: which one it was
	secrets map[okta.KeyType]devicekey.Secret
	timer   *time.Timer
}

// keep starts grace anew. The caller holds the slot.
func (s *Service) keep(v Verified, c *contents) {
	if s.grace == 0 {
		return
	}
	k := &kept{method: v.method, at: v.at, secrets: cloned(v.secrets)}
	if v.method == PIN {
		k.anchor = c.PIN.Ref
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	s.kept = k
	k.timer = time.AfterFunc(s.grace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.kept == k {
			s.drop()
		}
	})
}

// fromGrace answers a request by an earlier verification, if it may.
func (s *Service) fromGrace(req Request, method Method, c *contents) (Verified, bool) {
	if req.Fresh || len(req.PIN) != 0 { // who typed a PIN wants it checked
		return Verified{}, false
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kept
	if k == nil || k.method != method {
		return Verified{}, false
	}
	if method == PIN && (c.PIN == nil || c.PIN.Ref != k.anchor) ||
		method != PIN && !slices.Contains(c.Enabled, method) || over(k.at, now, s.grace) {
		s.drop()
		return Verified{}, false
	}
	return s.verified(req.Purpose, method, k.at, now, cloned(k.secrets)), true
}

// Forget ends grace: the screen or the vault was locked, or a try was wrong.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}

// drop wipes what is kept. The caller holds mu.
func (s *Service) drop() {
	if s.kept == nil {
		return
	}
	if s.kept.timer != nil {
		s.kept.timer.Stop()
	}
	for _, secret := range s.kept.secrets {
		clear(secret)
	}
	s.kept = nil
}

func cloned(secrets map[okta.KeyType]devicekey.Secret) map[okta.KeyType]devicekey.Secret {
	c := maps.Clone(secrets)
	for role, secret := range c {
		c[role] = slices.Clone(secret)
	}
	return c
}
