package signin

import (
	"slices"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/factor"
	"countersign.dev/org/policy"
)

// candidates lists what the user could prove here, and says whether there is
// any possession factor, usable or not. While the user is unknown everything is
// possible: the policy will be asked again when it is known.
func (t *transaction) candidates() (list []policy.Candidate, enrolled bool) {
	if t.state.UserID == "" {
		return []policy.Candidate{{Method: policy.Password}, {Method: policy.SignedNonce, Traits: ^policy.Traits(0)}}, true
	}
	if t.user.PasswordHash != "" && t.intent.Mode != backchannel {
		list = append(list, policy.Candidate{Method: policy.Password})
	}
	for _, en := range t.enrolments {
		enrolled = enrolled || len(en.Methods) > 0
		list = append(list, t.candidatesOf(en)...)
	}
	for _, k := range t.usableKeys() {
		list = append(list, policy.Candidate{Method: policy.WebAuthn, Traits: k.Traits()})
	}
	return list, enrolled || len(t.keys) > 0
}

// candidatesOf lists what one enrolment could prove.
//
// A push and a code take a user who has proven something on this page. Before
// that a name is only what somebody typed, and typing it must not ring anybody's
// devices (B1), nor tell what that person has enrolled. Over the back channel
// there is no page; there it takes an authenticated client.
func (t *transaction) candidatesOf(en device.Enrolment) (list []policy.Candidate) {
	if !en.Active() {
		return nil
	}
	for _, m := range en.Methods {
		if m.Status != device.StatusActive {
			continue
		}
		var c policy.Candidate
		switch m.Type {
		case okta.MethodSignedNonce:
			c = policy.Candidate{Method: policy.SignedNonce, Traits: policy.DeviceBound | policy.PhishingResistant | policy.UserPresence}
		case okta.MethodPush:
			c = policy.Candidate{Method: policy.Push, Traits: policy.DeviceBound | policy.UserPresence}
		case okta.MethodTOTP:
			c = policy.Candidate{Method: policy.TOTP, Traits: policy.UserPresence}
		}
		switch {
		case t.intent.Mode == backchannel && (c.Method != policy.Push || !slices.Contains(m.TransactionTypes, okta.TransactionCIBA)),
			t.intent.Mode != backchannel && c.Method != policy.SignedNonce && len(t.state.Proofs) == 0:
			continue
		case c.Method == policy.TOTP:
			list = append(list, c)
			continue
		}
		for _, k := range m.Keys {
			able := c
			if k.Protection == jose.ProtectionHardware && k.Attested {
				able.Traits |= policy.Hardware
			}
			if k.Role.VerifiesUser() {
				able.Traits |= policy.UserVerification
			}
			list = append(list, able)
		}
	}
	return list
}

// methods are the possession methods by their names on the wire, in the order
// in which they are offered.
var methods = []struct {
	name okta.Method
	is   policy.Methods
}{{okta.MethodSignedNonce, policy.SignedNonce}, {okta.MethodPush, policy.Push}, {okta.MethodTOTP, policy.TOTP}}

// choices lists the authenticators behind a set of methods. It names one
// enrolment for okta_verify, since any of the user's devices may answer.
func (t *transaction) choices(m policy.Methods) []Choice {
	var list []Choice
	verify := Choice{AuthenticatorID: t.org.Authenticators.OktaVerify, Key: KeyVerify}
	for _, method := range methods {
		if m.Has(method.is) {
			verify.Methods = append(verify.Methods, string(method.name))
		}
	}
	switch {
	case len(verify.Methods) == 0:
	case len(t.state.Proofs) == 0: // which devices a typed name has is nobody's business
		verify.EnrolmentID = t.org.Authenticators.OktaVerify
		list = append(list, verify)
	default:
		able := slices.IndexFunc(t.enrolments, func(en device.Enrolment) bool {
			return slices.ContainsFunc(t.candidatesOf(en), func(c policy.Candidate) bool { return m.Has(c.Method) })
		})
		if able >= 0 {
			verify.EnrolmentID, verify.DeviceName = t.enrolments[able].ID, t.enrolments[able].Device.Profile.DisplayName
			list = append(list, verify)
		}
	}
	if m.Has(policy.WebAuthn) {
		first := keyOfUser(t.usableKeys()[0])
		list = append(list, Choice{
			AuthenticatorID: t.org.Authenticators.WebAuthn, Key: KeyWebAuthn,
			EnrolmentID: first.ID, SecurityKey: &first, Methods: []string{string(factor.MethodWebAuthn)},
		})
	}
	if m.Has(policy.Password) {
		list = append(list, Choice{
			AuthenticatorID: t.org.Authenticators.Password, Key: KeyPassword,
			EnrolmentID: t.org.Authenticators.Password, Methods: []string{"password"},
		})
	}
	return list
}
