package account

import (
	"context"
	"errors"
	"net/http"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// How a change of keys ended. The zero value is that nobody knows.
type ending int

const (
	unsettled ending = iota // both sets of keys are kept, and the old sign
	exchanged               // the org has the new keys; the old are gone
	undone                  // the org has the old keys; the new are gone
)

// knowledge is what an org says about a key. The zero value is that it said
// nothing.
type knowledge int

const (
	silence knowledge = iota
	knows             // the key is one of the enrolment's
	knowsNot
)

// settle finds out which keys the org has, by asking it with each, and lets the
// others go. said is that it has acknowledged the new ones: an org that knows no
// exchange may do so and ignore them, so its word is not enough for a key that
// the account depends on. by is who was verified; it may be nobody.
//
// Nothing but the org's own "that is no key of mine" for one set, and its "that
// one is" for the other, deletes a key.
func (b *Book) settle(ctx context.Context, a *Account, by verified, said bool) (*Account, ending) {
	now := silence
	probe, depends, auth, ok := a.Rekeying.probe(by)
	if ok {
		now = b.asks(ctx, a, probe, auth, !depends)
	}
	switch {
	case now == knows:
		return b.adopt(ctx, a)
	case now == silence && said && !depends:
		return b.adopt(ctx, a)
	case now == silence:
		return a, unsettled
	}
	signer, ok := a.signer()
	if !ok {
		return a, unsettled
	}
	// In the same way, so that one that is not listened to means the same.
	switch before := b.asks(ctx, a, signer.ProofOfPossession, devicekey.Authorisation{}, !depends); {
	case before == knows:
		a, err := b.undo(ctx, a)
		if err != nil {
			b.opts.Log.Warn("new keys not undone", "account", a.ID, "error", err)
			return a, unsettled
		}
		return a, undone
	case before == knowsNot && said && !depends:
		// An org that answers no questions of keys: its word is all there is.
		return b.adopt(ctx, a)
	}
	return a, unsettled
}

// probe chooses the new key that asks: the one that the account will depend on,
// or else one for verification that the person has released.
func (r *Rekeying) probe(by verified) (ref devicekey.Ref, depends bool, auth devicekey.Authorisation, ok bool) {
	for _, k := range r.New {
		if k.Method != "" && k.Role == okta.KeyProofOfPossession {
			return k.Ref, true, auth, true
		}
	}
	for _, k := range r.New {
		if k.silent() {
			continue
		}
		if auth, ok := by.authorise(k.Role); ok {
			return k.Ref, false, auth, true
		}
	}
	return ref, false, auth, false
}

// asks asks the org whether a key is one of the enrolment's. Where it takes no
// requests that a key has signed, a token may be asked for, which takes a silent
// key.
func (b *Book) asks(ctx context.Context, a *Account, ref devicekey.Ref, auth devicekey.Authorisation, requestsOnly bool) knowledge {
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return silence
	}
	speak, err := a.Dialect.protocol()
	if err != nil {
		return silence
	}
	key, err := b.opts.Keys.Open(ctx, ref)
	if err != nil {
		return silence
	}
	token, err := b.signWith(ctx, key, auth, okta.TypeEnrolmentUpdate, a.EnrolmentID, a.UserID, a.OrgURL)
	if err != nil {
		return silence
	}
	err = speak.ask(ctx, org, client.SSWS(okta.Secret(token)), a)
	var refusal *okta.Error
	switch {
	case err == nil:
		return knows
	case !errors.As(err, &refusal) || refusal.HTTPStatus != http.StatusUnauthorized:
		b.refusedBy(a.ID, err)
		return silence
	case requestsOnly:
		return knowsNot
	}
	_, _, err = b.maintainWith(ctx, a, key)
	var oauth *okta.TokenError
	switch {
	case err == nil:
		return knows
	case errors.As(err, &oauth) && oauth.Code == "invalid_grant":
		return knowsNot
	}
	return silence
}

// adopt puts the new keys in the place of the old, which are written down as
// unused before they are deleted.
func (b *Book) adopt(ctx context.Context, a *Account) (*Account, ending) {
	now, err := b.update(a.ID, func(a *Account) {
		for _, k := range a.Rekeying.New {
			if k.Method == "" {
				a.Unused = append(a.Unused, a.Device.Key)
				a.Device.Key = k.Ref
				continue
			}
			for i := range a.Methods {
				m := &a.Methods[i]
				if m.Type != k.Method {
					continue
				}
				if k.Role == okta.KeyProofOfPossession {
					a.Unused = append(a.Unused, m.ProofOfPossession)
					a.Protection = protection(k.JWK.KPR)
				} else if old := m.key(k.Role); old != nil {
					a.Unused = append(a.Unused, *old)
				}
				m.setKey(k.Role, k.Ref)
			}
		}
		a.Rekeying = nil
	})
	if err != nil {
		b.opts.Log.Warn("new keys not taken over", "account", a.ID, "error", err)
		return a, unsettled
	}
	b.tokens.forget(a.ID) // got by the old key
	b.step("exchanged")
	return b.discard(ctx, now), exchanged
}

// undo lets the new keys go: that nothing was sent, or nothing taken, is written
// down first, and the record remembers them until they are gone.
func (b *Book) undo(ctx context.Context, a *Account) (*Account, error) {
	ctx = context.WithoutCancel(ctx)
	if a.Rekeying.Sent {
		now, err := b.update(a.ID, func(a *Account) { a.Rekeying.Sent = false })
		if err != nil {
			return a, err
		}
		a = now
	}
	b.step("undoing")
	b.wipe(ctx, a.Rekeying.refs())
	b.step("new keys wiped")
	now, err := b.update(a.ID, func(a *Account) { a.Rekeying = nil })
	if err != nil {
		return a, err
	}
	return now, nil
}

// resumeRekeying finishes or undoes what was under way when the agent stopped.
func (b *Book) resumeRekeying(ctx context.Context, a *Account) (*Account, error) {
	switch {
	case a.Rekeying == nil:
		return a, nil
	case !a.Rekeying.Sent:
		return b.undo(ctx, a)
	case !a.Usable():
		return a, nil
	}
	a, _ = b.settle(ctx, a, nil, false)
	return a, nil
}

// settleNow does the same while the agent runs, unless another change is under
// way: whoever needs the account's key needs the one that the org has.
func (b *Book) settleNow(ctx context.Context, a *Account) *Account {
	if a.Rekeying == nil || !a.Rekeying.Sent {
		return a
	}
	select {
	case b.changing <- struct{}{}:
		defer func() { <-b.changing }()
	default:
		return a
	}
	now, err := b.Get(a.ID)
	if err != nil || now.Rekeying == nil || !now.Rekeying.Sent {
		return a
	}
	now, _ = b.settle(ctx, now, nil, false)
	return now
}
