package account

import (
	"context"
	"encoding/json"
	"slices"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// verifyingRoles are the roles of keys that demand the person's verification, in
// the order in which one of them speaks for the enrolment (3.5).
var verifyingRoles = [...]okta.KeyType{okta.KeyUserVerificationBioOrPIN, okta.KeyUserVerification}

// Presence verifies the person for one change of keys, when the keys are made or
// used: a verification is good for two minutes, and a sign-in in the browser may
// take longer. Several ways may be needed for several roles. Nil verifies
// nobody, and no key is made that demands it.
type Presence func(ctx context.Context) ([]verification.Verified, error)

// verified are the verifications of a person for one change. Whoever asked for
// them wipes them.
type verified []verification.Verified

func (p Presence) verify(ctx context.Context) (verified, error) {
	if p == nil {
		return nil, nil
	}
	return p(ctx)
}

// authorise returns what keys of a role demand, if the person was verified in a
// way that releases it.
func (v verified) authorise(role okta.KeyType) (devicekey.Authorisation, bool) {
	for _, one := range v {
		if auth, ok := one.Authorise(role); ok {
			return auth, true
		}
	}
	return devicekey.Authorisation{}, false
}

func (v verified) wipe() {
	for _, one := range v {
		one.Wipe()
	}
}

// chooser is a key store of several kinds, like devicekey.Set.
type chooser interface {
	// CreateIn makes a key in the store of that kind, whatever kind new keys
	// are of.
	CreateIn(ctx context.Context, kind devicekey.Kind, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error)
	// StateOf is how the store of a kind is doing. A TPM is asked after its keys.
	StateOf(ctx context.Context, kind devicekey.Kind) devicekey.State
}

// newKey makes a key and describes its public half. No kind is the kind that new
// keys are of.
func (b *Book) newKey(ctx context.Context, kind devicekey.Kind, spec devicekey.Spec) (k devicekey.Key, jwk jose.JWK, err error) {
	several, ok := b.opts.Keys.(chooser)
	switch {
	case kind == "":
		k, _, err = b.opts.Keys.Create(ctx, spec)
	case ok:
		k, _, err = several.CreateIn(ctx, kind, spec)
	default:
		k, _, err = b.opts.Keys.Create(ctx, spec)
		if err == nil && k.Ref().Kind != kind {
			b.wipe(context.WithoutCancel(ctx), []devicekey.Ref{k.Ref()})
			err = devicekey.ErrUnsupported
		}
	}
	if err != nil {
		return nil, jose.JWK{}, err
	}
	jwk, err = jose.NewJWK(k.Ref().ID, k.Public(), k.Protection())
	return k, jwk, err
}

// inHardware says whether new keys are made in hardware.
func (b *Book) inHardware(ctx context.Context) bool {
	return b.opts.Keys.State(ctx).Kind != devicekey.KindSoftware
}

// keyError is nil when a key is there, as far as can be said without using it.
func (b *Book) keyError(ctx context.Context, ref devicekey.Ref) error {
	_, err := b.opts.Keys.Open(ctx, ref)
	return err
}

// outOfUse says whether a key is lost, or in a store that is not there for this
// agent, which will not change by itself.
func (b *Book) outOfUse(ctx context.Context, ref devicekey.Ref) bool {
	if several, ok := b.opts.Keys.(chooser); ok {
		switch several.StateOf(ctx, ref.Kind).State { // which looks
		case devicekey.Absent, devicekey.PermissionDenied, devicekey.TooOld:
			return true
		}
	}
	return devicekey.Lost(b.keyError(ctx, ref))
}

// KeyError says why an account cannot sign; nil when it can, as far as can be
// said without doing it. KeyLost says whether that is for good.
func (b *Book) KeyError(ctx context.Context, a *Account) error {
	var first error
	for _, m := range a.Methods {
		if !m.keyed() {
			continue // has a seed, and no key
		}
		err := b.keyError(ctx, m.ProofOfPossession)
		if devicekey.Lost(err) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// Demanding lists the keys of all accounts that demand verification in a role,
// those included that an org may not know yet. What is lost demands nothing.
func (b *Book) Demanding(ctx context.Context, role okta.KeyType) []devicekey.Ref {
	var refs []devicekey.Ref
	for _, a := range b.All() {
		for _, ref := range a.demanding(role) {
			if !slices.Contains(refs, ref) && !devicekey.Lost(b.keyError(ctx, ref)) {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// Hold keeps the keys of all accounts as they are until end is called: no key is
// made or exchanged meanwhile. It is for changing what keys demand.
func (b *Book) Hold(ctx context.Context) (end func(), err error) { return b.begin(ctx) }

// key returns the method's key of a role that demands verification; nil when it
// has none.
func (m Method) key(role okta.KeyType) *devicekey.Ref {
	switch role {
	case okta.KeyUserVerification:
		return m.UserVerification
	case okta.KeyUserVerificationBioOrPIN:
		return m.UserVerificationBioOrPIN
	}
	return nil
}

func (m *Method) setKey(role okta.KeyType, ref devicekey.Ref) {
	switch role {
	case okta.KeyProofOfPossession:
		m.ProofOfPossession = ref
	case okta.KeyUserVerification:
		m.UserVerification = &ref
	case okta.KeyUserVerificationBioOrPIN:
		m.UserVerificationBioOrPIN = &ref
	}
}

// Keys calls do for each key of the method, with its role.
func (m Method) Keys(do func(role okta.KeyType, ref devicekey.Ref)) {
	if m.keyed() {
		do(okta.KeyProofOfPossession, m.ProofOfPossession)
	}
	for _, role := range verifyingRoles {
		if ref := m.key(role); ref != nil {
			do(role, *ref)
		}
	}
}

// refs lists the keys of the method.
func (m Method) refs() []devicekey.Ref {
	var refs []devicekey.Ref
	m.Keys(func(_ okta.KeyType, ref devicekey.Ref) { refs = append(refs, ref) })
	return refs
}

// verifying lists those of them that demand verification.
func (m Method) verifying() []devicekey.Ref {
	var refs []devicekey.Ref
	m.Keys(func(role okta.KeyType, ref devicekey.Ref) {
		if role != okta.KeyProofOfPossession {
			refs = append(refs, ref)
		}
	})
	return refs
}

// Verifies says whether the account has a key that demands verification.
func (a *Account) Verifies() bool {
	return slices.ContainsFunc(a.Methods, func(m Method) bool { return len(m.verifying()) > 0 })
}

// tell writes a key into a request, in the place of its role.
func tell(keys *okta.MethodKeys, role okta.KeyType, jwk jose.JWK) error {
	if role == okta.KeyProofOfPossession {
		keys.ProofOfPossession = &jwk
		return nil
	}
	raw, err := json.Marshal(jwk)
	if err != nil {
		return err
	}
	if role == okta.KeyUserVerification {
		keys.UserVerification = raw
	} else {
		keys.UserVerificationBioOrPIN = raw
	}
	return nil
}
