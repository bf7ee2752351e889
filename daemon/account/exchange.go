package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

// How long an answer that was lost is asked for again.
const firstLostWait = time.Second

// exchange tells the org of the new keys and acts on the answer.
func (b *Book) exchange(ctx context.Context, a *Account, auth client.Authorization, by verified) (*Account, error) {
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return nil, err
	}
	speak, err := a.Dialect.protocol()
	if err != nil {
		return nil, err
	}
	doubt := a.Rekeying.Sent // an earlier try may have arrived
	request, err := b.exchangeRequest(ctx, a, by)
	if err == nil && !doubt {
		a, err = b.update(a.ID, func(a *Account) { a.Rekeying.Sent = true })
	}
	if err != nil {
		if now, gone := b.Get(a.ID); gone == nil && !doubt {
			_, _ = b.undo(ctx, now)
		}
		return nil, err
	}
	b.step("before patch")
	again, err := b.persist(ctx, speak, org, auth, a, request)
	doubt = doubt || again
	b.step("patched")
	if err != nil && definite(err) && !doubt {
		b.refusedBy(a.ID, err)
		if _, undoing := b.undo(ctx, a); undoing != nil {
			b.opts.Log.Warn("new keys not undone", "account", a.ID, "error", undoing)
		}
		return nil, fmt.Errorf("exchange the keys at %s: %w", a.OrgURL, err)
	}
	said := err == nil
	a, settled := b.settle(ctx, a, by, said)
	switch {
	case settled == exchanged:
		return a, nil
	case settled == undone && said:
		return nil, ErrNoExchange
	case settled == undone:
		return nil, fmt.Errorf("exchange the keys at %s: %w", a.OrgURL, err)
	case err == nil:
		return nil, ErrUnsettled
	}
	return nil, fmt.Errorf("%w: %w", ErrUnsettled, err)
}

// persist sends an update until an answer comes, or for half a minute. again says
// that it was sent more than once, so that an answer may be to any of them.
func (b *Book) persist(ctx context.Context, speak protocol, org *client.Org, auth client.Authorization, a *Account, r okta.EnrolmentRequest) (again bool, err error) {
	enrolment, err := speak.update(ctx, org, auth, a, r)
	for wait := firstLostWait; unheard(err) && wait <= maxLostWait; wait *= 2 {
		again = true
		if b.sleep(ctx, wait) != nil {
			break
		}
		enrolment, err = speak.update(ctx, org, auth, a, r)
	}
	if err == nil && (enrolment.ID != a.EnrolmentID || enrolment.User.ID != a.UserID) {
		err = &client.UnexpectedAnswer{Host: a.OrgURL, Status: 200, Kind: client.KindIncomplete, Detail: "the answer is about another enrolment"}
	}
	return again, err
}

// dropVerification takes keys that demand verification and are lost from the org,
// which could never agree to others. Who has signed in may do that; to do it
// twice is the same.
func (b *Book) dropVerification(ctx context.Context, a *Account, auth client.Authorization) (*Account, error) {
	roles := b.LostRoles(ctx, a)
	if len(roles) == 0 {
		return a, nil
	}
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return nil, err
	}
	speak, err := a.Dialect.protocol()
	if err != nil {
		return nil, err
	}
	r := b.updateOf(ctx, a)
	for _, m := range a.Methods {
		keys := &okta.MethodKeys{}
		if m.UserVerification != nil && slices.Contains(roles, okta.KeyUserVerification) {
			keys.UserVerification = []byte("null")
		}
		if m.UserVerificationBioOrPIN != nil && slices.Contains(roles, okta.KeyUserVerificationBioOrPIN) {
			keys.UserVerificationBioOrPIN = []byte("null")
		}
		if keys.UserVerification == nil && keys.UserVerificationBioOrPIN == nil {
			continue
		}
		*request(&r.Methods, m.Type) = &okta.MethodRequest{Keys: keys}
	}
	if _, err := b.persist(ctx, speak, org, auth, a, r); err != nil {
		b.refusedBy(a.ID, err)
		return nil, fmt.Errorf("take lost keys from %s: %w", a.OrgURL, err)
	}
	now, err := b.update(a.ID, func(a *Account) {
		for i := range a.Methods {
			m := &a.Methods[i]
			for _, role := range roles {
				if ref := m.key(role); ref != nil {
					a.Unused = append(a.Unused, *ref)
				}
			}
			if slices.Contains(roles, okta.KeyUserVerification) {
				m.UserVerification = nil
			}
			if slices.Contains(roles, okta.KeyUserVerificationBioOrPIN) {
				m.UserVerificationBioOrPIN = nil
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return b.discard(ctx, now), nil
}

// updateOf begins an update of an account: one by the older protocol repeats what
// the device is.
func (b *Book) updateOf(ctx context.Context, a *Account) okta.EnrolmentRequest {
	r := okta.EnrolmentRequest{AuthenticatorID: a.AuthenticatorID}
	if a.Dialect == Legacy {
		r.Device = b.opts.Device(ctx)
	}
	r.Device.ID, r.Device.ClientInstanceID = a.Device.ID, a.Device.ClientInstanceID
	return r
}

// unheard says whether an error leaves open what the org did, and may pass.
func unheard(err error) bool {
	var silent *client.Unreachable
	var odd *client.UnexpectedAnswer
	var refusal *okta.Error
	return errors.As(err, &silent) || errors.As(err, &odd) || errors.As(err, &refusal) && refusal.HTTPStatus/100 == 5
}

// refusedBy notes what a refusal says about the account.
func (b *Book) refusedBy(id string, err error) {
	var refusal *okta.Error
	if errors.As(err, &refusal) {
		b.Refused(id, refusal)
	}
}

// exchangeRequest is what the org is told: the new keys, and that a key which it
// knows agrees to them. A first key for verification needs nobody's agreement,
// which keeps to what the published protocol knows (2.5); an org that knows no
// agreement does not mind one.
func (b *Book) exchangeRequest(ctx context.Context, a *Account, by verified) (okta.EnrolmentRequest, error) {
	r := b.updateOf(ctx, a)
	thumbprints, agree := map[string]string{}, a.Verifies()
	for _, k := range a.Rekeying.New {
		thumbprint, err := k.JWK.Thumbprint()
		if err != nil {
			return r, err
		}
		thumbprints[k.place()] = thumbprint
		agree = agree || k.silent()
		if k.Method == "" {
			r.Device.ClientInstanceKey = &k.JWK
			continue
		}
		told := request(&r.Methods, k.Method)
		if *told == nil {
			*told = &okta.MethodRequest{Keys: &okta.MethodKeys{}}
		}
		if err := tell((*told).Keys, k.Role, k.JWK); err != nil {
			return r, err
		}
	}
	if !agree {
		return r, nil
	}
	ref, auth, ok := a.agreeing(by)
	if !ok {
		return r, ErrNotVerified
	}
	key, err := b.opts.Keys.Open(ctx, ref)
	if err != nil {
		return r, fmt.Errorf("open the key that agrees: %w", err)
	}
	now := b.opts.Now()
	r.KeyChange, err = jose.Sign(ctx, devicekey.Signer(key, auth), okta.TypeKeyChange, okta.KeyChange{
		Issuer: a.EnrolmentID, Subject: a.UserID, Audience: a.OrgURL, ID: UUID(),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(ownLife)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		Keys: thumbprints,
	})
	if err != nil {
		return r, fmt.Errorf("agree to the new keys: %w", err)
	}
	return r, nil
}
