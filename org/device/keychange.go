package device

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/store"
)

// Changing keys is what malware would do to stay (C2): with the silent key,
// which it can use, and with a token that it found, it makes the device its
// own. So two must agree. A person signs in just now, with two factors; and
// where a key is replaced, or stands by another that verifies the user, a key
// that the enrolment has signs that it agrees (okta.KeyChange). Whoever has
// only one of the two changes nothing that is in use, and the user's other
// devices are told of what did change.

// change is one key that a patch changes.
type change struct {
	place  string // as okta.KeyChange names it
	role   okta.KeyType
	method Method // zero: the key is the device's
	had    bool   // there was another key before
	key    Key    // the new one; zero when it is removed
}

// removes says whether the key is taken away, and no other comes.
func (c change) removes() bool { return c.key.Thumbprint == "" }

// silent says whether the key is one that signs without the user.
func (c change) silent() bool { return !c.role.VerifiesUser() }

// verifiesUser says whether the enrolment has a key that does.
func (e Enrolment) verifiesUser() bool {
	return slices.ContainsFunc(e.Methods, func(m Method) bool {
		return slices.ContainsFunc(m.Keys, func(k Key) bool { return k.Role.VerifiesUser() })
	})
}

// changes lists the keys that a patch changes, in a fixed order. A key that is
// there already is not among them.
func (p Patch) changes(e Enrolment) ([]change, error) {
	var list []change
	for _, t := range slices.Sorted(maps.Keys(p.Methods.Value)) {
		m, ok := e.Method(t)
		keys := p.Methods.Value[t].Value.Keys
		switch {
		case !ok:
			return nil, invalid("methods.%.32s: not enrolled", t)
		case t == okta.MethodTOTP && keys.Present:
			return nil, invalid("methods.%s: has no keys", t)
		case keys.Null:
			return nil, invalid("methods.%s.keys: cannot be removed", t)
		}
		for _, k := range keys.Value.byRole() {
			if !k.jwk.Present || m.has(k.role, k.jwk) {
				continue
			}
			_, had := m.Key(k.role)
			c := change{place: okta.KeyPlace(t, k.role), role: k.role, method: m, had: had}
			if k.jwk.Null {
				if c.silent() {
					return nil, invalid("methods.%s.keys.%s: cannot be removed", t, k.role)
				}
				list = append(list, c)
				continue
			}
			var err error
			if c.key, err = newKey("methods."+string(t), k.role, k.jwk.Value); err != nil {
				return nil, err
			}
			if err := c.sound(e); err != nil {
				return nil, err
			}
			list = append(list, c)
		}
	}
	c, err := p.Device.Value.change(e.Device)
	if err != nil {
		return nil, err
	}
	return append(list, c...), nil
}

// sound refuses a new key that would be taken for an old one, or an old one
// for another.
func (c change) sound(e Enrolment) error {
	if other, taken := e.KeyByID(c.key.JWK.KeyID); c.silent() && taken && other.Thumbprint != c.key.Thumbprint {
		return invalid("%s: a new key has a new kid", c.place) // tokens that the old one got go by it
	}
	for _, m := range e.Methods {
		for _, k := range m.Keys {
			// C3: also while the silent key is replaced in the same request.
			if k.Thumbprint == c.key.Thumbprint && k.Role.VerifiesUser() != c.role.VerifiesUser() {
				return invalid("%s: the same key as %s", c.place, okta.KeyPlace(m.Type, k.Role))
			}
		}
	}
	return nil
}

// change is what becomes of the device's own key.
func (p DevicePatch) change(d Device) ([]change, error) {
	jwk := p.ClientInstanceKey
	switch {
	case !jwk.Present:
		return nil, nil
	case jwk.Null:
		return nil, invalid("%s: cannot be removed", okta.PlaceClientInstance)
	}
	thumbprint, err := validateKey(okta.PlaceClientInstance, jwk.Value)
	if err != nil {
		return nil, err
	}
	current, err := d.ClientInstanceKey.Thumbprint()
	if err != nil {
		return nil, fmt.Errorf("reading a stored client instance key: %w", err)
	}
	if thumbprint == current && jwk.Value.KeyID == d.ClientInstanceKey.KeyID {
		return nil, nil
	}
	return []change{{place: okta.PlaceClientInstance, had: true, key: Key{JWK: publicPart(jwk.Value), Thumbprint: thumbprint}}}, nil
}

// agreed says whether these changes may be made: the caller may make them, and
// a key of the enrolment agrees where one has to. What it signed is used up.
func (r *Registry) agreed(ctx context.Context, tx store.Tx, by Caller, e Enrolment, list []change, agreement Field[string], now time.Time) error {
	if len(list) == 0 {
		return nil // a request that is repeated needs nobody's agreement
	}
	if err := by.mayChangeKeys(); err != nil {
		return err
	}
	demanded := false
	for _, c := range list {
		if c.silent() && by.proof != nil {
			return okta.NewError(okta.CodeForbidden, c.place+": changing this key takes a person who has just signed in")
		}
		// The key that verifies the user speaks for all that verify, and has
		// spoken where it signed the request itself.
		demanded = demanded || c.silent() || !c.removes() && by.proof == nil && e.verifiesUser()
	}
	switch {
	case agreement.Present:
		return r.redeemAgreement(ctx, tx, e, list, agreement.Value, now)
	case demanded:
		return okta.NewError(okta.CodeForbidden, "keyChange: a key of the enrolment has to agree to this change")
	}
	return nil
}

// agreementClaims are okta.KeyChange, as somebody wrote them.
type agreementClaims struct {
	proofClaims
	Keys map[string]string `json:"keys"`
}

// redeemAgreement checks the token by which a key of the enrolment agrees to
// exactly these changes, and uses it up.
func (r *Registry) redeemAgreement(ctx context.Context, tx store.Tx, e Enrolment, list []change, token string, now time.Time) error {
	bad := func(why string) error { return invalid("keyChange: %s", why) }
	t, err := jose.Parse(token, jose.KeyChange)
	if err != nil {
		return bad("malformed")
	}
	var c agreementClaims
	if err := t.Claims(&c); err != nil {
		return bad("malformed")
	}
	key, ok := e.KeyByID(t.Header.KeyID)
	if !ok || t.Header.KeyID == "" || c.Issuer != e.ID {
		return bad("signed by no key of the enrolment")
	}
	if err := t.Verify(key.JWK); err != nil {
		return bad("the signature does not verify")
	}
	if e.verifiesUser() && !key.Role.VerifiesUser() {
		return okta.NewError(okta.CodeUVRequired, "keyChange: the key that verifies the user has to agree")
	}
	if err := c.check(e.UserID, r.orgURL, t.Header.KeyID, now); err != nil {
		return bad(err.Error())
	}
	want := map[string]string{}
	for _, c := range list {
		if !c.removes() {
			want[c.place] = c.key.Thumbprint
		}
	}
	if !maps.Equal(c.Keys, want) {
		return bad("it is about other keys")
	}
	first, err := c.first(ctx, tx, now)
	if err != nil {
		return err
	}
	if !first {
		return bad("it was used before")
	}
	return nil
}

// applyKeys stores the keys that change. What the enrolment became must be as
// sound as a new one.
func applyKeys(ctx context.Context, tx store.Tx, e Enrolment, list []change, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	for _, c := range list {
		if err := c.apply(ctx, tx, e, now); err != nil {
			return err
		}
	}
	after, err := ByID(ctx, tx, e.ID)
	if err != nil {
		return err
	}
	if err := distinctKeys(after.Methods); err != nil {
		return err
	}
	if err := apart(list, after.Device); err != nil {
		return err
	}
	return settle(ctx, tx, after)
}

func (c change) apply(ctx context.Context, tx store.Tx, e Enrolment, now time.Time) error {
	switch {
	case c.removes():
		if _, err := tx.ExecContext(ctx, `DELETE FROM method_keys WHERE method_id = ? AND role = ?`, c.method.ID, string(c.role)); err != nil {
			return fmt.Errorf("removing a key: %w", err)
		}
		return nil
	case c.role == "":
		return putDeviceKey(ctx, tx, e, c.key, now)
	}
	if err := unusedKeys(ctx, tx, []Key{c.key}, e.ID); err != nil {
		return err
	}
	return putKey(ctx, tx, c.method.ID, c.key, now)
}

// apart refuses new keys of methods that are the device's own.
func apart(list []change, d Device) error {
	own, err := d.ClientInstanceKey.Thumbprint()
	if err != nil {
		return fmt.Errorf("reading a stored client instance key: %w", err)
	}
	for _, c := range list {
		if c.role != "" && c.key.Thumbprint == own {
			return invalid("%s: the same key as %s", c.place, okta.PlaceClientInstance)
		}
	}
	return nil
}

// settle makes what an enrolment is found by agree with its keys.
func settle(ctx context.Context, tx store.Tx, e Enrolment) error {
	for _, t := range offered {
		m, _ := e.Method(t)
		pop, ok := m.Key(okta.KeyProofOfPossession)
		if !ok {
			continue
		}
		if _, err := tx.ExecContext(ctx, `UPDATE enrolments SET pop_thumbprint = ? WHERE id = ?`, pop.Thumbprint, e.ID); err != nil {
			return fmt.Errorf("noting the key of an enrolment: %w", err)
		}
		break
	}
	return nil
}

// putDeviceKey replaces the device's own key, by which further enrolments on it
// are made. Where other people have some it is not one person's to change.
func putDeviceKey(ctx context.Context, tx store.Tx, e Enrolment, k Key, now time.Time) error {
	var others int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM enrolments WHERE device_id = ? AND user_id <> ? AND status <> 'DELETED'`,
		e.Device.ID, e.UserID).Scan(&others); err != nil {
		return fmt.Errorf("looking for other people on a device: %w", err)
	}
	if others > 0 {
		return invalid("%s: other people are enrolled on the device", okta.PlaceClientInstance)
	}
	if err := unusedKeys(ctx, tx, []Key{k}, ""); err != nil {
		return err
	}
	jwk, err := json.Marshal(k.JWK)
	if err != nil {
		return fmt.Errorf("encoding a client instance key: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE devices SET client_instance_key = ?, updated_at = ? WHERE id = ?`,
		string(jwk), store.Millis(now), e.Device.ID); err != nil {
		return fmt.Errorf("storing a client instance key: %w", err)
	}
	return nil
}

// events names what a change of keys is to the user's other devices.
func events(list []change) []string {
	var out []string
	add := func(event string) {
		if !slices.Contains(out, event) {
			out = append(out, event)
		}
	}
	for _, c := range list {
		if c.silent() {
			add(okta.NoticeKeysReplaced)
		}
	}
	for _, c := range list {
		switch {
		case c.silent():
		case c.removes():
			add(okta.NoticeVerificationRemoved)
		case !c.had:
			add(okta.NoticeVerificationAdded)
		case !slices.Contains(out, okta.NoticeKeysReplaced): // which says it for all keys
			add(okta.NoticeVerificationReplaced)
		}
	}
	return out
}
