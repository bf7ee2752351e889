// Package keys remembers the signing keys that orgs publish.
//
// A token names its key by a kid, and whoever writes the token chooses the
// kid. The cache therefore never lets a token decide when to talk to an org or
// what to believe: keys are filed under (issuer, kid), where the issuer comes
// from the account; a kid that is not published costs at most one fetch, and
// fruitless fetches are spaced further and further apart. When an org cannot
// be reached, the last good set stays in use for a while.
package keys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"countersign.dev/okta/jose"
)

// Fetch gets the keys that an issuer publishes now, and for how long it says
// they may be kept (0: it does not say).
type Fetch func(ctx context.Context, issuer string) (keys []jose.JWK, maxAge time.Duration, err error)

// ErrUnknownKey says that the issuer does not publish a usable key of that kid.
var ErrUnknownKey = errors.New("signing key not published")

// Bounds of the cache.
const (
	minAge   = time.Minute    // whatever the org says
	maxAge   = 24 * time.Hour // whatever the org says
	maxStale = 24 * time.Hour // use of an expired set while the org cannot be reached

	maxIssuers = 64
	maxKeys    = 64  // of one issuer; orgs publish two or three
	maxMissing = 128 // kids of one issuer known not to be published
	maxKID     = 256 // bytes

	missingFor   = 5 * time.Minute // how long a kid stays known as not published
	firstUnknown = 5 * time.Second // wait after the first fruitless fetch, doubled with each
	lastUnknown  = 5 * time.Minute
	firstRetry   = 500 * time.Millisecond // wait after the first failed fetch, doubled with each
	lastRetry    = 10 * time.Second
)

// Cache holds the keys of some issuers. It is safe for concurrent use; its
// methods wait for nothing but a fetch of the same issuer.
type Cache struct {
	fetch Fetch

	mu      sync.Mutex // guards what follows, never held during a fetch
	issuers map[string]*issuer
}

// issuer is what is known of one issuer; Cache.mu guards it.
type issuer struct {
	keys    map[string]jose.JWK
	expires time.Time // of keys; zero when there never were any
	used    time.Time // last look-up, to find the one to drop

	fetching chan struct{} // closed when the running fetch has ended; nil when none runs

	err     error         // of the last fetch, nil if it succeeded
	retryAt time.Time     // no fetch before, after failures
	retry   time.Duration // last wait

	missing   map[string]time.Time // kid to the time until which it counts as not published
	unknownAt time.Time            // no fetch for an unknown kid before
	unknown   time.Duration        // last wait
}

// New returns an empty cache that gets keys by fetch.
func New(fetch Fetch) *Cache {
	return &Cache{fetch: fetch, issuers: make(map[string]*issuer)}
}

// Key returns the key that iss publishes as kid. It fails with ErrUnknownKey
// if iss publishes no usable key of that kid, else with the reason why its
// keys could not be fetched.
func (c *Cache) Key(ctx context.Context, iss, kid string) (jose.JWK, error) {
	if iss == "" || kid == "" || len(kid) > maxKID {
		return jose.JWK{}, ErrUnknownKey
	}
	for {
		key, wait, err := c.look(iss, kid)
		switch {
		case wait == nil:
			return key, err
		case wait.mine:
			c.refresh(ctx, iss, kid, wait.is)
		default:
			select {
			case <-wait.ended:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return jose.JWK{}, fmt.Errorf("fetching the keys of %s: %w", iss, context.Cause(ctx))
		}
	}
}

// Forget drops what is known of an issuer.
func (c *Cache) Forget(iss string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.issuers, iss)
}
