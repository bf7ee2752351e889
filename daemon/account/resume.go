package account

import (
	"context"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// abandon undoes an enrolment that the org does not have: keys first, so that
// the record remembers them until they are gone.
func (b *Book) abandon(ctx context.Context, id string) {
	a, err := b.Get(id)
	if err != nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if a.Pending != nil && a.Pending.Ready {
		if _, err := b.update(id, func(a *Account) { a.Pending.Ready = false }); err != nil {
			b.opts.Log.Warn("pending enrolment not undone", "account", id, "error", err)
			return
		}
	}
	b.step("abandoning")
	b.wipe(ctx, b.ownKeys(a))
	b.step("keys wiped")
	if err := b.drop(id); err != nil {
		b.opts.Log.Warn("pending enrolment not dropped", "account", id, "error", err)
	}
}

// ownKeys lists the keys that go with the account: its method keys, and the
// client instance key unless another account of this device uses it.
func (b *Book) ownKeys(a *Account) []devicekey.Ref {
	refs := a.refs()
	for _, other := range b.All() {
		if other.ID != a.ID && other.Device.Key == a.Device.Key {
			return refs
		}
	}
	return append(refs, a.Device.Key)
}

// Resume finishes or undoes what was under way when the agent stopped. It
// needs the network and belongs into the background.
func (b *Book) Resume(ctx context.Context) {
	end, err := b.begin(ctx)
	if err != nil {
		return
	}
	defer end()
	for _, a := range b.All() {
		var err error
		switch a.State {
		case Enrolling:
			_, err = b.resume(ctx, a, client.Authorization{})
		case Removing:
			err = b.finishRemoval(ctx, a)
		case Active, Suspended, Gone:
			if a, err = b.resumeRekeying(ctx, a); a != nil {
				a = b.discard(ctx, a)
				b.replace(ctx, a, client.Authorization{})
			}
		}
		if err != nil {
			b.opts.Log.Warn("account change not finished", "account", a.ID, "state", string(a.State), "error", err)
		}
	}
}

// resume brings one pending enrolment to an end. It returns the account if it
// is active now. auth is what lets it be sent again; without it that is the
// link it was begun with. One that a person signed in for has none after a
// restart, and cannot be finished: should the org have taken it, then as a
// device whose keys nobody has, which the person finds in the org's own list.
func (b *Book) resume(ctx context.Context, a *Account, auth client.Authorization) (*Account, error) {
	if auth == (client.Authorization{}) && a.Pending != nil && a.Pending.Token != "" {
		auth = client.OTDT(okta.Secret(a.Pending.Token))
	}
	if a.Pending == nil || !a.Pending.Ready || auth == (client.Authorization{}) || !b.haveKeys(ctx, a) {
		// The org has not heard of it, its keys are being deleted, or nothing
		// can be said to the org about it.
		b.abandon(ctx, a.ID)
		return nil, nil
	}
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return nil, err
	}
	return b.post(ctx, org, a, auth)
}

// haveKeys says whether the keys of a pending account are there without which it
// is none. An error other than their absence counts as there: nothing is given
// up for it.
func (b *Book) haveKeys(ctx context.Context, a *Account) bool {
	return len(a.Methods) > 0 && !devicekey.Lost(b.keyError(ctx, a.Device.Key)) && !devicekey.Lost(b.KeyError(ctx, a))
}
