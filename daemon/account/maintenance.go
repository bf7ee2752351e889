package account

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

const (
	maintenanceScopes = okta.ScopeMaintenanceManage + " " + okta.ScopeMaintenanceRead
	renewBefore       = time.Minute     // a token is not used in its last minute
	unstatedLife      = 5 * time.Minute // of a token whose org does not say
	maxTokenLife      = 24 * time.Hour
)

// tokens holds the maintenance tokens of this process, and the keys that orgs
// bind them to. Nothing of it is ever written down.
type tokens struct {
	mu     sync.Mutex
	held   map[string]*held
	proofs map[string]*client.ProofKey // by org address
}

// held is the token of one account.
type held struct {
	turn chan struct{} // taken while asking, so that many callers ask once

	mu       sync.Mutex // guards what follows
	token    client.Authorization
	until    time.Time
	obtained int // how often one was obtained
}

// proof is the key that tokens of this org are bound to: one per org, since
// two orgs that see the same could tell that it is the same device.
func (t *tokens) proof(orgURL string) (*client.ProofKey, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.proofs[orgURL]; ok {
		return k, nil
	}
	k, err := client.NewProofKey()
	if err != nil {
		return nil, err
	}
	if t.proofs == nil {
		t.proofs = map[string]*client.ProofKey{}
	}
	t.proofs[orgURL] = k
	return k, nil
}

func (t *tokens) of(id string) *held {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.held[id]
	if !ok {
		if t.held == nil {
			t.held = map[string]*held{}
		}
		h = &held{turn: make(chan struct{}, 1)}
		t.held[id] = h
	}
	return h
}

func (t *tokens) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, id)
}

// good returns the token if it may still be used.
func (h *held) good(now time.Time) (auth client.Authorization, ok bool, obtained int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.token, now.Before(h.until), h.obtained
}

// Maintenance returns what an account authorises itself with where no person
// is: a token that may read its pending challenges and change how it is pushed
// to, and nothing else (3.6). It comes from memory while it is good; renew asks
// for another, for an org that has just refused this one. The org's refusals
// are *okta.TokenError.
func (b *Book) Maintenance(ctx context.Context, a *Account, renew bool) (client.Authorization, error) {
	h := b.tokens.of(a.ID)
	auth, ok, before := h.good(b.opts.Now())
	if ok && !renew {
		return auth, nil
	}
	b.step("token wanted")
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return client.Authorization{}, fmt.Errorf("wait for the token of account %s: %w", a.ID, context.Cause(ctx))
	}
	if auth, ok, obtained := h.good(b.opts.Now()); ok && (!renew || obtained != before) {
		return auth, nil // somebody else has asked meanwhile
	}
	auth, life, err := b.maintain(ctx, a)
	if err != nil {
		return client.Authorization{}, fmt.Errorf("get the maintenance token of account %s: %w", a.ID, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token, h.until = auth, b.opts.Now().Add(life-renewBefore)
	h.obtained++
	return auth, nil
}

// maintain turns an assertion signed by the account's own key into a token.
func (b *Book) maintain(ctx context.Context, a *Account) (client.Authorization, time.Duration, error) {
	a = b.settleNow(ctx, a)
	m, ok := a.signer()
	if !ok || a.UserID == "" {
		return client.Authorization{}, 0, fmt.Errorf("account %s has no key to sign with", a.ID)
	}
	key, err := b.opts.Keys.Open(ctx, m.ProofOfPossession)
	if err != nil {
		return client.Authorization{}, 0, fmt.Errorf("open the key: %w", err)
	}
	return b.maintainWith(ctx, a, key)
}

func (b *Book) maintainWith(ctx context.Context, a *Account, key devicekey.Key) (client.Authorization, time.Duration, error) {
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return client.Authorization{}, 0, err
	}
	assertion, err := b.assertion(ctx, a, key)
	if err != nil {
		return client.Authorization{}, 0, err
	}
	meta, err := org.Metadata(ctx)
	if err != nil {
		return client.Authorization{}, 0, err
	}
	proof, err := b.Proof(org.URL(), meta)
	if err != nil {
		return client.Authorization{}, 0, err
	}
	t, auth, err := org.BoundToken(ctx, url.Values{
		"grant_type": {okta.GrantJWTBearer}, "client_id": {ClientID}, "scope": {maintenanceScopes}, "assertion": {assertion},
	}, proof)
	if err != nil {
		return client.Authorization{}, 0, err
	}
	life := unstatedLife
	if t.ExpiresIn > 0 {
		life = time.Duration(min(t.ExpiresIn, int64(maxTokenLife/time.Second))) * time.Second
	}
	return auth, life, nil
}

// Proof is the key to bind tokens of an org to; nil where it binds none.
func (b *Book) Proof(orgURL string, meta client.Metadata) (*client.ProofKey, error) {
	if !meta.BindsTokens() {
		return nil, nil
	}
	return b.tokens.proof(orgURL)
}

// assertion says, signed by the key of an enrolled method, that this device
// asks (3.5).
func (b *Book) assertion(ctx context.Context, a *Account, key devicekey.Key) (string, error) {
	m, _ := a.signer()
	now := b.opts.Now()
	return jose.Sign(ctx, devicekey.Signer(key, devicekey.Authorisation{}), okta.TypeMaintenanceGrant, okta.MaintenanceAssertion{
		Issuer: okta.MaintenanceIssuer, Subject: a.UserID, Audience: a.OrgURL, ID: UUID(),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(ownLife)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		MethodEnrolmentID: m.ID,
	})
}
