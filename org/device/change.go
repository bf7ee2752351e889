package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/store"
)

// Field is a member of a merge patch (RFC 7396): absent leaves, null deletes,
// a value replaces. The zero value is absent.
type Field[T any] struct {
	Present bool
	Null    bool
	Value   T
}

// UnmarshalJSON is only called for members that are there.
func (f *Field[T]) UnmarshalJSON(b []byte) error {
	*f = Field[T]{Present: true}
	if string(b) == "null" {
		f.Null = true
		return nil
	}
	return json.Unmarshal(b, &f.Value)
}

// Patch changes an enrolment (devices protocol 2.5). Device and KeyChange are
// extensions, as is a new proof-of-possession key.
type Patch struct {
	Methods   Field[map[okta.Method]Field[MethodPatch]] `json:"methods"`
	Device    Field[DevicePatch]                        `json:"device"`
	KeyChange Field[string]                             `json:"keyChange"`
}

// DevicePatch changes the device of an enrolment.
type DevicePatch struct {
	ClientInstanceKey Field[jose.JWK] `json:"clientInstanceKey"`
}

// MethodPatch changes one method.
type MethodPatch struct {
	PushToken    Field[string]            `json:"pushToken"`
	Keys         Field[KeysPatch]         `json:"keys"`
	Capabilities Field[CapabilitiesPatch] `json:"capabilities"`
}

// KeysPatch changes the keys of a method.
type KeysPatch struct {
	ProofOfPossession        Field[jose.JWK] `json:"proofOfPossession"`
	UserVerification         Field[jose.JWK] `json:"userVerification"`
	UserVerificationBioOrPIN Field[jose.JWK] `json:"userVerificationBioOrPin"`
	// Capabilities stand here in the published schema, and beside the keys in
	// its example and in the SDK. They are no key: changing them takes no more
	// than maintenance.
	Capabilities Field[CapabilitiesPatch] `json:"capabilities"`
}

// roleField is the member of a patch for the key of a role.
type roleField struct {
	role okta.KeyType
	jwk  Field[jose.JWK]
}

func (k KeysPatch) byRole() [3]roleField {
	return [...]roleField{
		{okta.KeyProofOfPossession, k.ProofOfPossession},
		{okta.KeyUserVerification, k.UserVerification},
		{okta.KeyUserVerificationBioOrPIN, k.UserVerificationBioOrPIN},
	}
}

// CapabilitiesPatch changes which transactions a push method can show.
type CapabilitiesPatch struct {
	TransactionTypes Field[[]string] `json:"transactionTypes"`
}

// ChangesKeys says whether the patch names keys, which takes more than the
// right to maintain an enrolment.
func (p Patch) ChangesKeys() bool {
	for _, m := range p.Methods.Value {
		for _, k := range m.Value.Keys.Value.byRole() {
			if k.jwk.Present {
				return true
			}
		}
	}
	return p.Device.Value.ClientInstanceKey.Present
}

// Caller is who asks for a change: a user's token, or a proof signed by the
// enrolment's own key. The zero value may do nothing.
type Caller struct {
	userID   string
	proof    *Proof
	keepKeys error // why it may neither change keys nor delete; nil: it may
}

// AsUser is a caller with a user's access token.
func AsUser(id string) Caller { return Caller{userID: id} }

// KeepingKeys is the caller without the right to add or take away keys, for
// this reason.
func (by Caller) KeepingKeys(why error) Caller {
	by.keepKeys = why
	return by
}

// AsDevice is a caller with a proof, which the operation uses up. A silent key
// cannot change keys: whoever may only use the device must not make it count
// as verified. It may always end the enrolment.
func AsDevice(p Proof) Caller { return Caller{userID: p.Enrolment.UserID, proof: &p} }

func (by Caller) mayChangeKeys() error {
	if by.proof != nil && !by.proof.UserVerified() {
		return okta.NewError(okta.CodeUVRequired)
	}
	return by.keepKeys
}

// Standing is what remains of a caller that was admitted to an enrolment, for
// asking later whether it still would be. It is small, and worth nothing by
// itself: a caller comes to it through Admit only.
type Standing struct{ userID, enrolmentID, keyID, thumbprint string }

// EnrolmentID is the enrolment that the caller was admitted to.
func (s Standing) EnrolmentID() string { return s.enrolmentID }

// Recheck says whether the caller would still be admitted: the enrolment, its
// device and its user are active, and the key that proved it is still the
// enrolment's. The error is the one that Admit would give.
func Recheck(ctx context.Context, tx store.Tx, s Standing) error {
	e, err := ByID(ctx, tx, s.enrolmentID)
	if errors.Is(err, store.ErrNotFound) || err == nil && (s.userID == "" || e.UserID != s.userID) {
		return okta.NewError(okta.CodeNotFound)
	}
	if err != nil {
		return err
	}
	if s.keyID != "" {
		if key, ok := e.KeyByID(s.keyID); !ok || key.Thumbprint != s.thumbprint {
			return invalidToken("the token names no key of the enrolment")
		}
	}
	if err := activeUser(ctx, tx, e.UserID); err != nil {
		return err
	}
	return refusalOf(e)
}

// Update applies a patch. All of it happens or none.
func (r *Registry) Update(ctx context.Context, by Caller, id string, p Patch) (Enrolment, error) {
	if p.ChangesKeys() {
		if err := by.mayChangeKeys(); err != nil { // before it uses a proof up
			return Enrolment{}, err
		}
	}
	return r.update(ctx, by, id, func(Enrolment) (Patch, error) { return p, nil })
}

// update applies the patch that comes of what the enrolment is now.
func (r *Registry) update(ctx context.Context, by Caller, id string, change func(Enrolment) (Patch, error)) (Enrolment, error) {
	var out Enrolment
	var told []string
	err := r.db.Write(ctx, func(tx store.Tx) error {
		now := r.now()
		e, err := r.admit(ctx, tx, by, id, now)
		if err != nil {
			return err
		}
		p, err := change(e)
		if err != nil {
			return err
		}
		changed, err := p.changes(e)
		if err != nil {
			return err
		}
		if err := r.agreed(ctx, tx, by, e, changed, p.KeyChange, now); err != nil {
			return err
		}
		if err := apply(ctx, tx, e, p, now); err != nil {
			return err
		}
		if err := applyKeys(ctx, tx, e, changed, now); err != nil {
			return err
		}
		if told, err = announce(ctx, tx, e, events(changed), now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE enrolments SET updated_at = ? WHERE id = ?`, store.Millis(now), id); err != nil {
			return fmt.Errorf("updating an enrolment: %w", err)
		}
		out, err = ByID(ctx, tx, id)
		return err
	})
	if err != nil {
		return Enrolment{}, err
	}
	r.tell(told)
	return out, nil
}

// Delete ends an enrolment, which takes keys away.
func (r *Registry) Delete(ctx context.Context, by Caller, id string) error {
	if by.keepKeys != nil {
		return by.keepKeys
	}
	return r.db.Write(ctx, func(tx store.Tx) error {
		now := r.now()
		if _, err := r.admit(ctx, tx, by, id, now); err != nil {
			return err
		}
		return SetStatus(ctx, tx, id, StatusDeleted, now)
	})
}

// Admit checks that the caller may use the enrolment now, and uses up its
// proof.
func (r *Registry) Admit(ctx context.Context, by Caller, id string) (Standing, error) {
	inTx := func(tx store.Tx) error {
		_, err := r.admit(ctx, tx, by, id, r.now())
		return err
	}
	run := r.db.Read
	if by.proof != nil {
		run = r.db.Write
	}
	if err := run(ctx, inTx); err != nil {
		return Standing{}, err
	}
	s := Standing{userID: by.userID, enrolmentID: id}
	if by.proof != nil {
		s.keyID, s.thumbprint = by.proof.keyID, by.proof.thumbprint
	}
	return s, nil
}

// admit finds the enrolment for a caller. Another user's enrolment is not
// found, as if it did not exist; an own one that may not be used is refused
// with the code that says why.
func (r *Registry) admit(ctx context.Context, tx store.Tx, by Caller, id string, now time.Time) (Enrolment, error) {
	e, err := ByID(ctx, tx, id)
	if errors.Is(err, store.ErrNotFound) {
		return Enrolment{}, okta.NewError(okta.CodeNotFound)
	}
	if err != nil {
		return Enrolment{}, err
	}
	if by.userID == "" || by.userID != e.UserID || by.proof != nil && by.proof.Enrolment.ID != e.ID {
		return Enrolment{}, okta.NewError(okta.CodeNotFound)
	}
	if by.proof != nil {
		if err := by.proof.redeem(ctx, tx, e, now); err != nil {
			return Enrolment{}, err
		}
	}
	if err := activeUser(ctx, tx, e.UserID); err != nil {
		return Enrolment{}, err
	}
	return e, refusalOf(e)
}

// apply changes what a patch says of methods, but for their keys.
func apply(ctx context.Context, tx store.Tx, e Enrolment, p Patch, now time.Time) error {
	if p.Methods.Null {
		return invalid("methods: cannot be deleted")
	}
	for t, f := range p.Methods.Value {
		m, ok := e.Method(t)
		switch {
		case !ok:
			return invalid("methods.%.32s: not enrolled", t)
		case f.Null:
			return invalid("methods.%s: cannot be deleted", t)
		}
		if err := applyMethod(ctx, tx, m, f.Value, now); err != nil {
			return err
		}
	}
	return nil
}

func applyMethod(ctx context.Context, tx store.Tx, m Method, p MethodPatch, now time.Time) error {
	path := "methods." + string(m.Type)
	capabilities := p.Capabilities
	if !capabilities.Present {
		capabilities = p.Keys.Value.Capabilities
	}
	if m.Type != okta.MethodPush && (p.PushToken.Present || capabilities.Present) {
		return invalid("%s: only push has a token and capabilities", path)
	}
	if p.PushToken.Present {
		m.PushToken = p.PushToken.Value // "" when null
		if err := validatePushToken(m.PushToken); err != nil {
			return err
		}
	}
	if types := capabilities.Value.TransactionTypes; types.Present || capabilities.Null {
		var err error
		if m.TransactionTypes, err = validateTransactionTypes(types.Value); err != nil {
			return err
		}
	}
	types, err := json.Marshal(m.TransactionTypes)
	if err != nil {
		return fmt.Errorf("encoding transaction types: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE enrolment_methods SET push_token = ?, transaction_types = ?, updated_at = ? WHERE id = ?`,
		m.PushToken, string(types), store.Millis(now), m.ID); err != nil {
		return fmt.Errorf("updating a method: %w", err)
	}
	return nil
}
