package challenge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/keys"
)

// uses says what a challenge must look like on each transport. A transport
// that is not listed carries none.
var uses = map[Kind]struct {
	use    jose.Use
	method okta.Method
	leeway time.Duration
}{
	Loopback: {jose.DeviceChallenge, okta.MethodSignedNonce, okta.DeviceBindLeeway},
	Push:     {jose.PushChallenge, okta.MethodPush, okta.PushLeeway},
}

// parse checks the form of the token and decodes its claims. They are hearsay
// until verify has passed.
func parse(c *Challenge) error {
	want, ok := uses[c.transport.Kind]
	if !ok {
		return refuse(Malformed, errors.New("unknown transport"))
	}
	var err error
	if c.token, err = jose.Parse(c.raw, want.use); err != nil {
		return refuse(Malformed, err)
	}
	if err := c.token.Claims(&c.claims); err != nil {
		return refuse(Malformed, err)
	}
	if err := c.claims.Validate(c.token.Header.Type); err != nil {
		return refuse(Malformed, err)
	}
	if m := c.claims.Method; m != "" && m != want.method {
		return refuse(Malformed, fmt.Errorf("method %.32q does not go with this transport", m))
	}
	// authorizationServerId says whose keys to fetch, and is not verified yet. Only pushes have it,
	// and they come from the org; a page could have the agent ask the org for
	// the keys of servers that do not exist, as often as it likes (E2).
	if c.transport.Kind == Push {
		c.subject, err = subjectOf(c.claims.Context)
		return err
	}
	if c.claims.AuthorizationServerID != "" {
		return refuse(Malformed, errors.New("authorizationServerId does not go with this transport"))
	}
	return nil
}

// verify checks the signature with the key that the account's own org
// publishes. The challenge has no say in where keys come from.
func (p *Pipeline) verify(ctx context.Context, c *Challenge) error {
	var ok bool
	if c.issuer, ok = c.accounts[0].Issuer(&c.claims); !ok {
		return refuse(Forged, errors.New("issuer is not the account's org"))
	}
	key, err := p.OrgKeys.Key(ctx, c.issuer, c.token.Header.KeyID)
	switch {
	case errors.Is(err, keys.ErrUnknownKey):
		return refuse(Forged, err)
	case err != nil:
		return refuse(OrgUnreachable, err)
	}
	if err := c.token.Verify(key); err != nil {
		return refuse(Forged, err)
	}
	return nil
}

// check compares what the org has signed with the accounts and the transport.
// Accounts that do not pass are dropped; the last one's reason is given.
func (p *Pipeline) check(c *Challenge) error {
	if err := c.claims.CheckTime(p.Now(), uses[c.transport.Kind].leeway); err != nil {
		if errors.Is(err, okta.ErrExpired) {
			return refuse(Expired, err)
		}
		return refuse(Forged, err)
	}
	var last error
	c.accounts = slices.DeleteFunc(slices.Clone(c.accounts), func(a *account.Account) bool {
		err := p.fits(c, a)
		if err != nil {
			last = err
		}
		return err != nil
	})
	if len(c.accounts) == 0 {
		return last
	}
	c.account = oneUsers(c.accounts)
	return nil
}

// oneUsers returns the account that answers when all are of one user: the
// newest, as somebody who enrols again means that one. For different people
// the choice is not ours, and it is nil.
func oneUsers(accounts []*account.Account) *account.Account {
	newest := accounts[0]
	for _, a := range accounts[1:] {
		if a.OrgID != newest.OrgID || a.UserID == "" || a.UserID != newest.UserID {
			return nil
		}
		if a.CreatedAt.After(newest.CreatedAt) {
			newest = a
		}
	}
	return newest
}

// fits checks a verified challenge against one account.
func (p *Pipeline) fits(c *Challenge, a *account.Account) error {
	if a.ClientID == "" || c.claims.Audience != a.ClientID && !slices.Contains(p.Audiences, c.claims.Audience) {
		return refuse(Forged, errors.New("audience is not this agent"))
	}
	if !a.OwnsURL(c.claims.VerificationURI) {
		return refuse(Forged, errors.New("verificationUri is not at the account's org"))
	}
	m, ok := a.Method(uses[c.transport.Kind].method)
	if !ok {
		return refuse(NotMine, errors.New("the account has not enrolled this method"))
	}
	if c.claims.MethodEnrolmentID != "" && c.claims.MethodEnrolmentID != m.ID {
		return refuse(Forged, errors.New("methodEnrollmentId is not the account's"))
	}
	if c.transport.Kind == Push {
		return checkPush(c, a, m)
	}
	return checkOrigin(c, a)
}

// checkOrigin is the phishing check: the page that brought the challenge, as
// the browser says, must be one the org lists and the very one for which the
// org says it made the challenge. No origin is not a trusted one.
func checkOrigin(c *Challenge, a *account.Account) error {
	origin := c.transport.Origin
	if !a.AllowsOrigin(origin) {
		return refuse(ForeignOrigin, errors.New("the page's origin does not belong to the org"))
	}
	if asked, ok := account.OriginOf(c.claims.RequestReferrer); !ok || asked != origin {
		return refuse(ForeignOrigin, errors.New("the page is not the one that the org made the challenge for"))
	}
	return nil
}
