package account

import (
	"context"
	"errors"
	"fmt"

	"countersign.dev/okta"
)

// Remove ends an enrolment at the org and then here. localOnly leaves the org
// alone. When the org cannot be asked, or says anything but that the enrolment
// is gone, nothing is deleted here.
func (b *Book) Remove(ctx context.Context, id string, localOnly bool) error {
	end, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	a, err := b.Get(id)
	if err != nil {
		return err
	}
	switch {
	case a.State == Enrolling:
		b.abandon(ctx, id)
		if _, err := b.Get(id); err == nil {
			return fmt.Errorf("drop the pending enrolment of %s", a.OrgURL)
		}
		return nil
	case localOnly || a.State == Gone || a.OrgDone:
		return b.erase(ctx, a)
	}
	before := a.State
	if a, err = b.update(id, func(a *Account) { a.State = Removing }); err != nil {
		return err
	}
	b.step("removing")
	if err := b.finishRemoval(ctx, a); err != nil {
		if _, undo := b.update(id, func(a *Account) { a.State = before }); undo != nil {
			b.opts.Log.Warn("account state not saved", "account", id, "error", undo)
		}
		return err
	}
	return nil
}

// finishRemoval asks the org to delete and erases the account when it has.
func (b *Book) finishRemoval(ctx context.Context, a *Account) error {
	if a.OrgDone {
		return b.erase(ctx, a)
	}
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return err
	}
	speak, err := a.Dialect.protocol()
	if err != nil {
		return err
	}
	if a.Rekeying != nil && a.Rekeying.Sent {
		a, _ = b.settle(ctx, a, nil, false) // it is signed by a key that the org knows
	}
	auth, err := b.own(ctx, a)
	if err != nil {
		return fmt.Errorf("sign the removal: %w", err)
	}
	err = speak.remove(ctx, org, auth, a.EnrolmentID)
	var refusal *okta.Error
	if errors.As(err, &refusal) && React(refusal, Using) == Lost {
		err = nil // it was deleted at the org before
	}
	if err != nil {
		return fmt.Errorf("delete the enrolment at %s: %w", a.OrgURL, err)
	}
	b.step("deleted at org")
	return b.erase(ctx, a)
}

// erase deletes keys and record. The record goes last and says so, since it is
// what remembers the keys.
func (b *Book) erase(ctx context.Context, a *Account) error {
	ctx = context.WithoutCancel(ctx)
	a, err := b.update(a.ID, func(a *Account) { a.State, a.OrgDone = Removing, true })
	if err != nil {
		return err
	}
	b.step("erasing")
	b.wipe(ctx, b.ownKeys(a))
	b.step("keys wiped")
	return b.drop(a.ID)
}
