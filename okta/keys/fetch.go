package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta/jose"
)

// turn is what a look-up has to wait for: a fetch that is its own to make, or
// somebody else's to end.
type turn struct {
	is    *issuer
	mine  bool
	ended <-chan struct{}
}

// look returns the key or the reason why there is none, unless there is a turn
// to take before looking again.
func (c *Cache) look(iss, kid string) (jose.JWK, *turn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	is := c.issuer(iss, now)
	key, known := is.keys[kid]
	fresh := now.Before(is.expires)
	switch {
	case known && fresh:
		return key, nil, nil
	case is.fetching != nil:
		return jose.JWK{}, &turn{is: is, ended: is.fetching}, nil
	case is.mayFetch(kid, fresh, now):
		is.fetching = make(chan struct{})
		return jose.JWK{}, &turn{is: is, mine: true}, nil
	case known && now.Before(is.expires.Add(maxStale)):
		return key, nil, nil // the org cannot be reached: stale is better than locked out
	case is.err != nil:
		return jose.JWK{}, nil, fmt.Errorf("fetching the keys of %s: %w", iss, is.err)
	}
	return jose.JWK{}, nil, fmt.Errorf("%w by %s", ErrUnknownKey, iss)
}

// mayFetch says whether it is time to ask the org: when the set is old, or
// once for a kid that is not in it, in both cases after the waits.
func (is *issuer) mayFetch(kid string, fresh bool, now time.Time) bool {
	if now.Before(is.retryAt) {
		return false
	}
	return !fresh || !now.Before(is.unknownAt) && !now.Before(is.missing[kid])
}

// refresh fetches the keys of iss for the caller that look gave the turn.
func (c *Cache) refresh(ctx context.Context, iss, kid string, is *issuer) {
	var (
		set map[string]jose.JWK
		age time.Duration
		err = context.Canceled // stands if fetch panics
	)
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		close(is.fetching)
		is.fetching = nil
		is.note(kid, set, age, err, ctx.Err() != nil, time.Now())
	}()
	var list []jose.JWK
	if list, age, err = c.fetch(ctx, iss); err == nil {
		set, err = usable(list)
	}
}

// note records how a fetch ended. A caller that gave up says nothing about the
// org, but pays for its unknown kid, so that giving up is no way around the
// wait.
func (is *issuer) note(kid string, set map[string]jose.JWK, age time.Duration, err error, gaveUp bool, now time.Time) {
	switch {
	case err != nil && gaveUp:
		if now.Before(is.expires) {
			is.miss(kid, now)
		}
		return
	case err != nil:
		is.err = err
		is.retry = longer(is.retry, firstRetry, lastRetry)
		is.retryAt = now.Add(is.retry)
		return
	}
	asked := now.Before(is.expires) // the set was good: only kid was the reason to ask
	is.keys, is.expires = set, now.Add(min(max(age, minAge), maxAge))
	is.err, is.retry, is.retryAt = nil, 0, time.Time{}
	for k := range set {
		delete(is.missing, k)
	}
	switch _, found := set[kid]; {
	case found:
		is.unknown, is.unknownAt = 0, time.Time{}
	case asked:
		is.miss(kid, now)
	default:
		is.missed(kid, now)
	}
}

// miss makes the issuer wait before it is asked for an unknown kid again.
func (is *issuer) miss(kid string, now time.Time) {
	is.unknown = longer(is.unknown, firstUnknown, lastUnknown)
	is.unknownAt = now.Add(is.unknown)
	is.missed(kid, now)
}

// missed remembers that kid is not published. When there is no room it is
// forgotten; the wait of the issuer still holds.
func (is *issuer) missed(kid string, now time.Time) {
	if is.missing == nil {
		is.missing = make(map[string]time.Time)
	}
	if len(is.missing) >= maxMissing {
		for k, until := range is.missing {
			if !now.Before(until) {
				delete(is.missing, k)
			}
		}
	}
	if len(is.missing) < maxMissing {
		is.missing[kid] = now.Add(missingFor)
	}
}

// usable files the keys that can verify something under their kid. The first
// one of a kid wins.
func usable(list []jose.JWK) (map[string]jose.JWK, error) {
	set := make(map[string]jose.JWK)
	for _, k := range list {
		if k.KeyID == "" || len(k.KeyID) > maxKID {
			continue
		}
		if _, taken := set[k.KeyID]; taken {
			continue
		}
		if len(set) == maxKeys {
			return nil, fmt.Errorf("more than %d keys published", maxKeys)
		}
		if _, err := k.PublicKey(); err == nil {
			set[k.KeyID] = k
		}
	}
	if len(set) == 0 {
		return nil, errors.New("no usable key published")
	}
	return set, nil
}

func longer(wait, first, last time.Duration) time.Duration {
	if wait == 0 {
		return first
	}
	return min(2*wait, last)
}

// issuer returns the entry of iss, dropping the one that was not used for
// longest when there are too many.
func (c *Cache) issuer(iss string, now time.Time) *issuer {
	is := c.issuers[iss]
	if is == nil {
		if len(c.issuers) >= maxIssuers {
			c.evict()
		}
		is = &issuer{}
		c.issuers[iss] = is
	}
	is.used = now
	return is
}

func (c *Cache) evict() {
	var oldest string
	var at time.Time
	for name, is := range c.issuers {
		if is.fetching == nil && (oldest == "" || is.used.Before(at)) {
			oldest, at = name, is.used
		}
	}
	delete(c.issuers, oldest)
}
