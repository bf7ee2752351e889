package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

// Action is a way to change the keys of an account.
type Action string

// The actions.
const (
	AddVerification Action = "verify"  // keys that demand verification, in addition or anew
	Rotate          Action = "rotate"  // new keys for everything, in the same stores
	Migrate         Action = "migrate" // new keys for everything, in another store
	// The latter two add keys that demand verification where there are none, if
	// the person was verified.
)

// Errors of a change of keys, for callers to branch on.
var (
	ErrAction      = errors.New("there is no such change of keys")
	ErrKind        = errors.New("there is no such key store")
	ErrKeysLost    = errors.New("the keys of this account are lost")
	ErrNotUsable   = errors.New("the account is not in use")
	ErrNothingToDo = errors.New("the keys are there already")
	ErrNotVerified = errors.New("the change takes your verification")
	ErrNoExchange  = errors.New("the org does not let the keys of an enrolment be exchanged")
	ErrUnsettled   = errors.New("whether the org has the new keys is not known yet")
)

// Change says how the keys of an account are to change.
type Change struct {
	Action Action
	To     devicekey.Kind // of Migrate: the store to make the keys in; "" for the other one
}

// Rekeying is a change of keys under way: the new ones take the place of the old
// when the org has them. Until that is known both are kept, and the old sign.
type Rekeying struct {
	Action Action         `json:"action"`
	To     devicekey.Kind `json:"to,omitempty"`
	New    []NewKey       `json:"new,omitempty"`
	// Sent says that the org may have heard of the new keys: they must not be
	// deleted before it is known whether it took them.
	Sent bool `json:"sent,omitempty"`
}

// NewKey is one key that is to take another's place.
type NewKey struct {
	Method okta.Method   `json:"method,omitempty"` // "" for the client instance key
	Role   okta.KeyType  `json:"role,omitempty"`
	Ref    devicekey.Ref `json:"ref"`
	JWK    jose.JWK      `json:"jwk"` // what the org is told
}

func (k NewKey) place() string {
	if k.Method == "" {
		return okta.PlaceClientInstance
	}
	return okta.KeyPlace(k.Method, k.Role)
}

func (k NewKey) silent() bool { return k.Method == "" || k.Role == okta.KeyProofOfPossession }

func (r *Rekeying) refs() []devicekey.Ref {
	var refs []devicekey.Ref
	for _, k := range r.New {
		refs = append(refs, k.Ref)
	}
	return refs
}

// Return asks the org of an account how its person signs in there once more.
func (b *Book) Return(ctx context.Context, a *Account) (Prospect, error) {
	org, err := b.plainOrg(a.OrgURL)
	if err != nil {
		return Prospect{}, err
	}
	who, err := org.Organization(ctx)
	if err != nil {
		return Prospect{}, fmt.Errorf("ask %s who it is: %w", org.URL(), err)
	}
	if who.ID != a.OrgID {
		return Prospect{}, ErrOtherOrg
	}
	p := Prospect{Org: org}
	if p.Metadata, err = org.Metadata(ctx); err != nil {
		return Prospect{}, fmt.Errorf("ask %s how to sign in: %w", org.URL(), err)
	}
	p.Scopes = scopes(a.Dialect, p.Metadata)
	p.Proof, err = b.Proof(org.URL(), p.Metadata)
	return p, err
}

// CheckChange says whether a change of keys can be begun, before anybody is
// verified, or signs in, for nothing.
func (b *Book) CheckChange(ctx context.Context, id string, c Change) (*Account, error) {
	a, err := b.Get(id)
	if err != nil {
		return nil, err
	}
	_, err = b.plan(ctx, a, c)
	return a, err
}

// Allows says whether these verifications are enough for a change.
func (a *Account) Allows(c Change, by []verification.Verified) error { return a.allows(c, by) }

// planned is a key to be made.
type planned struct {
	method okta.Method
	role   okta.KeyType
	kind   devicekey.Kind
}

// plan lists the keys that a change makes, those that demand verification for
// both roles: which of them are made, allows and the verification say.
func (b *Book) plan(ctx context.Context, a *Account, c Change) ([]planned, error) {
	signer, ok := a.signer()
	switch {
	case !slices.Contains([]Action{AddVerification, Rotate, Migrate}, c.Action):
		return nil, ErrAction
	case c.To != "" && (c.Action != Migrate || c.To != devicekey.KindTPM && c.To != devicekey.KindSoftware):
		return nil, ErrKind
	case !a.Usable() || !ok:
		return nil, ErrNotUsable
	}
	if err := b.KeyError(ctx, a); devicekey.Lost(err) {
		return nil, fmt.Errorf("%w: %w", ErrKeysLost, err)
	}
	to := c.target(signer)
	var list []planned
	moves := false
	add := func(method okta.Method, role okta.KeyType, old devicekey.Ref) {
		kind := old.Kind
		if c.Action == Migrate {
			kind = to
		}
		moves = moves || kind != old.Kind
		list = append(list, planned{method, role, kind})
	}
	for _, m := range a.Methods {
		switch {
		case !m.keyed() || m.ID == "":
		case c.Action == AddVerification:
			for _, role := range verifyingRoles {
				add(m.Type, role, m.ProofOfPossession)
			}
		default:
			add(m.Type, okta.KeyProofOfPossession, m.ProofOfPossession)
			for _, role := range verifyingRoles {
				old := m.ProofOfPossession // decides where a key is made that there was none of
				if ref := m.key(role); ref != nil {
					old = *ref
				}
				add(m.Type, role, old)
			}
		}
	}
	if c.Action != AddVerification && a.Device.Key.ID != "" && !b.sharesDevice(a) {
		add("", "", a.Device.Key)
	}
	if c.Action == Migrate && !moves && a.Rekeying == nil {
		return nil, fmt.Errorf("%w: %s", ErrNothingToDo, to)
	}
	return list, nil
}

// target is the store that a migration goes to.
func (c Change) target(signer Method) devicekey.Kind {
	switch {
	case c.To != "":
		return c.To
	case signer.ProofOfPossession.Kind == devicekey.KindTPM:
		return devicekey.KindSoftware
	}
	return devicekey.KindTPM
}

// sharesDevice says whether another account is enrolled by the same client
// instance key, which then is not one account's to change.
func (b *Book) sharesDevice(a *Account) bool {
	return slices.ContainsFunc(b.All(), func(other *Account) bool { return other.ID != a.ID && other.Device.Key == a.Device.Key })
}

// allows says whether a verification is enough for a change: for a key that
// demands it to agree, and for each such key that is to be replaced.
func (a *Account) allows(c Change, by verified) error {
	var missing []string
	any := false
	for _, role := range verifyingRoles {
		_, ok := by.authorise(role)
		any = any || ok
		has := slices.ContainsFunc(a.Methods, func(m Method) bool { return m.key(role) != nil })
		if has && !ok && c.Action != AddVerification {
			missing = append(missing, string(role))
		}
	}
	if _, _, ok := a.agreeing(by); a.Verifies() && !ok || c.Action == AddVerification && !any {
		return ErrNotVerified
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w, for: %s", ErrNotVerified, strings.Join(missing, ", "))
	}
	return nil
}

// agreeing returns the key that agrees to a change of keys: one that demands
// verification where there is any, else the one that speaks for the enrolment.
func (a *Account) agreeing(by verified) (devicekey.Ref, devicekey.Authorisation, bool) {
	if !a.Verifies() {
		m, ok := a.signer()
		return m.ProofOfPossession, devicekey.Authorisation{}, ok
	}
	for _, role := range verifyingRoles {
		auth, ok := by.authorise(role)
		if !ok {
			continue
		}
		for _, m := range a.Methods {
			if ref := m.key(role); ref != nil {
				return *ref, auth, true
			}
		}
	}
	return devicekey.Ref{}, devicekey.Authorisation{}, false
}

// Rekey gives an account new keys, with the word of the person who has signed in
// at its org and, where it has keys that demand that, with their verification.
// The old keys sign until the org is known to have the new ones. After
// ErrUnsettled both are kept; the next token that the account needs, the next
// start or the next Rekey finds out.
func (b *Book) Rekey(ctx context.Context, id string, c Change, who Person) (*Account, error) {
	if who.UserID == "" || who.Authorization == (client.Authorization{}) {
		return nil, errors.New("change the keys: nobody has signed in")
	}
	end, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	a, err := b.Get(id)
	if err != nil {
		return nil, err
	}
	if who.UserID != a.UserID {
		return nil, ErrOtherUser
	}
	if a.Rekeying != nil && !a.Rekeying.Sent {
		if a, err = b.undo(ctx, a); err != nil {
			return nil, err
		}
	}
	if a, err = b.dropVerification(ctx, a, who.Authorization); err != nil {
		return nil, err
	}
	if signer, ok := a.signer(); ok && c.Action == Migrate {
		c.To = c.target(signer) // which what comes first may change
	}
	list, err := b.plan(ctx, a, c)
	if err != nil {
		return nil, err
	}
	by, err := who.Presence.verify(ctx)
	if err != nil {
		return nil, err
	}
	defer by.wipe()
	if err := a.allows(c, by); err != nil {
		return nil, err
	}
	if before := a.Rekeying; before != nil {
		// What was under way comes first: the same keys again, which the org takes
		// once, and acknowledges twice.
		if a, err = b.exchange(ctx, a, who.Authorization, by); err != nil {
			return nil, err
		}
		if before.Action == c.Action && before.To == c.To {
			return a, nil
		}
		// The keys are where that has put them, and others than those of before.
		if list, err = b.plan(ctx, a, c); errors.Is(err, ErrNothingToDo) {
			return a, nil
		}
		if err == nil {
			err = a.allows(c, by)
		}
		if err != nil {
			return nil, err
		}
	}
	if a, err = b.makeNew(ctx, a, c, list, by); err != nil {
		return nil, fmt.Errorf("make the new keys: %w", err)
	}
	return b.exchange(ctx, a, who.Authorization, by)
}

// makeNew makes the new keys, each written down before the next. After an error
// none is left.
func (b *Book) makeNew(ctx context.Context, a *Account, c Change, list []planned, by verified) (*Account, error) {
	a, err := b.update(a.ID, func(a *Account) { a.Rekeying = &Rekeying{Action: c.Action, To: c.To} })
	if err != nil {
		return nil, err
	}
	b.step("rekeying")
	for _, p := range list {
		spec := devicekey.Spec{Role: p.role}
		if p.method != "" && p.role != okta.KeyProofOfPossession {
			auth, ok := by.authorise(p.role)
			if !ok {
				continue // allows has seen to it that none is missed
			}
			spec.UserVerification, spec.Authorisation = true, auth
		}
		k, jwk, err := b.newKey(ctx, p.kind, spec)
		if err == nil {
			a, err = b.update(a.ID, func(a *Account) {
				a.Rekeying.New = append(a.Rekeying.New, NewKey{Method: p.method, Role: p.role, Ref: k.Ref(), JWK: jwk})
			})
		}
		if err != nil {
			if now, gone := b.Get(a.ID); gone == nil {
				_, _ = b.undo(ctx, now)
			}
			return nil, err
		}
		b.step("new " + a.Rekeying.New[len(a.Rekeying.New)-1].place())
	}
	return a, nil
}
