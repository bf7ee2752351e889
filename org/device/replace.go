package device

import (
	"context"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Replacement changes an enrolment by saying all of it again, as the older API
// does. What cannot be changed must be repeated as it is; a key that is
// repeated is none that changes. As in a patch, a verification key that is not
// mentioned stays and null removes it; so does a method that is not mentioned.
type Replacement struct {
	AuthenticatorID string
	Device          okta.Device // its ids count; a new description needs a new enrolment
	Patch           Patch       // its key, too
}

// Replace applies a replacement. All of it happens or none.
func (r *Registry) Replace(ctx context.Context, by Caller, id string, w Replacement) (Enrolment, error) {
	return r.update(ctx, by, id, func(e Enrolment) (Patch, error) {
		switch {
		case w.AuthenticatorID != e.AuthenticatorID:
			return Patch{}, invalid("authenticatorId: not that of the enrolment")
		case w.Device.ID != e.Device.ID || w.Device.ClientInstanceID != e.Device.ClientInstanceID:
			return Patch{}, invalid("device: id and clientInstanceId are not those of the enrolment")
		}
		return w.Patch, nil
	})
}

// has says whether a member of a patch leaves the method's key as it is.
func (m Method) has(role okta.KeyType, jwk Field[jose.JWK]) bool {
	current, ok := m.Key(role)
	if !jwk.Present || jwk.Null {
		return jwk.Null && !ok
	}
	thumbprint, err := jwk.Value.Thumbprint()
	return ok && err == nil && thumbprint == current.Thumbprint && jwk.Value.KeyID == current.JWK.KeyID
}
