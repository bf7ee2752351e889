package account

import (
	"context"
	"errors"
	"fmt"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// An account whose keys are lost (a TPM that was cleared, state from another
// computer) can do nothing but be replaced: the person enrols again, as a new
// device. Its record stays until the new account is active, since it may be all
// that the person has: its one-time codes are made from a seed, and go on.

// lostBefore lists the accounts that a new one stands in for: the same user at
// the same org, whose keys are lost. One that has codes stays while the new one
// has none.
func (b *Book) lostBefore(ctx context.Context, a *Account) []string {
	_, codes := a.Method(okta.MethodTOTP)
	var ids []string
	for _, old := range b.All() {
		if old.ID == a.ID || old.OrgURL != a.OrgURL || old.OrgID != a.OrgID || old.UserID != a.UserID || !old.Usable() || !devicekey.Lost(b.KeyError(ctx, old)) {
			continue
		}
		if _, had := old.Method(okta.MethodTOTP); had && !codes {
			continue
		}
		ids = append(ids, old.ID)
	}
	return ids
}

// replace ends the accounts that a new one stands in for: at the org as far as
// it lets who has signed in do that, and here. What could not be done at the org
// is said.
func (b *Book) replace(ctx context.Context, a *Account, auth client.Authorization) (*Account, []string) {
	if len(a.Replaces) == 0 {
		return a, nil
	}
	var notes []string
	for _, id := range a.Replaces {
		old, err := b.Get(id)
		if errors.Is(err, ErrUnknown) {
			continue
		}
		if err := b.endAtOrg(ctx, old, auth); err != nil {
			b.opts.Log.Info("enrolment with lost keys not deleted at the org", "account", id, "error", err)
			notes = append(notes, fmt.Sprintf("the organisation may still list what this computer was enrolled as before (%s): remove it there", old.EnrolmentID))
		}
		b.step("replaced at org")
		if err := b.erase(ctx, old); err != nil {
			b.opts.Log.Warn("account with lost keys not erased", "account", id, "error", err)
			return a, notes // the next start goes on
		}
	}
	b.step("replaced")
	now, err := b.update(a.ID, func(a *Account) { a.Replaces = nil })
	if err != nil {
		b.opts.Log.Warn("account not tidied", "account", a.ID, "error", err)
		return a, notes
	}
	return now, notes
}

// endAtOrg deletes an enrolment by the token of its person.
func (b *Book) endAtOrg(ctx context.Context, a *Account, auth client.Authorization) error {
	if auth == (client.Authorization{}) {
		return errors.New("nobody has signed in for it")
	}
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return err
	}
	speak, err := a.Dialect.protocol()
	if err != nil {
		return err
	}
	err = speak.remove(ctx, org, auth, a.EnrolmentID)
	var refusal *okta.Error
	if errors.As(err, &refusal) && React(refusal, Using) == Lost {
		return nil
	}
	return err
}
