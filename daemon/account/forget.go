package account

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// Forget deletes the keys of all accounts that demand verification in a role, for
// a person who can release them no more, and names the accounts. These keep them
// in their records, as keys that are lost: their orgs know them still, and the
// next change of keys takes them from there first (dropVerification). The caller
// holds the book.
func (b *Book) Forget(ctx context.Context, role okta.KeyType) ([]*Account, error) {
	var touched []*Account
	var errs []error
	for _, a := range b.All() {
		refs := a.demanding(role)
		if len(refs) == 0 {
			continue
		}
		touched = append(touched, a)
		var err error
		for _, ref := range refs {
			err = errors.Join(err, b.opts.Keys.Delete(ctx, ref))
		}
		b.step("forgotten")
		if err == nil && a.Rekeying != nil && a.Rekeying.Sent {
			a, err = b.update(a.ID, func(a *Account) { a.overtake(role) })
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("keys of account %s: %w", touched[len(touched)-1].ID, err))
			continue
		}
		b.opts.Changed(a)
	}
	return touched, errors.Join(errs...)
}

// demanding lists the keys of an account that demand verification in a role,
// those included that its org may not know yet.
func (a *Account) demanding(role okta.KeyType) []devicekey.Ref {
	var refs []devicekey.Ref
	for _, m := range a.Methods {
		if ref := m.key(role); ref != nil && ref.ID != "" {
			refs = append(refs, *ref)
		}
	}
	if a.Rekeying != nil {
		for _, k := range a.Rekeying.New {
			if k.Role == role {
				refs = append(refs, k.Ref)
			}
		}
	}
	return refs
}

// overtake has new keys of a role, which the org may know or not, stand for the
// old ones: both are deleted, and whichever the org has is lost. What is left of the change is settled as before.
func (a *Account) overtake(role okta.KeyType) {
	left := a.Rekeying.New[:0:0]
	for _, k := range a.Rekeying.New {
		if k.Role != role {
			left = append(left, k)
			continue
		}
		for i := range a.Methods {
			if m := &a.Methods[i]; m.Type == k.Method {
				if old := m.key(role); old != nil {
					a.Unused = append(slices.Clone(a.Unused), *old)
				}
				m.setKey(role, k.Ref)
			}
		}
	}
	if a.Rekeying.New = left; len(left) == 0 {
		a.Rekeying = nil
	}
}

// LostRoles are the roles in which an account has keys that demand verification,
// and has lost one.
func (b *Book) LostRoles(ctx context.Context, a *Account) []okta.KeyType {
	var lost []okta.KeyType
	for _, role := range verifyingRoles {
		if slices.ContainsFunc(a.Methods, func(m Method) bool {
			ref := m.key(role)
			return ref != nil && devicekey.Lost(b.keyError(ctx, *ref))
		}) {
			lost = append(lost, role)
		}
	}
	return lost
}
