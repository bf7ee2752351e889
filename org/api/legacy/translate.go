package legacy

import (
	"encoding/json"
	"fmt"
	"net/http"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
)

func invalid(format string, args ...any) *okta.Error {
	return okta.NewError(okta.CodeValidation, fmt.Sprintf(format, args...))
}

// byType checks that each method is named once.
func byType(methods []okta.LegacyMethodRequest) (map[okta.Method]*okta.LegacyMethodRequest, error) {
	out := map[okta.Method]*okta.LegacyMethodRequest{}
	for i := range methods {
		m := &methods[i]
		switch m.Type {
		case okta.MethodPush, okta.MethodSignedNonce, okta.MethodTOTP:
		default:
			return nil, invalid("methods[%d].type: %.32q is not offered by this org", i, m.Type)
		}
		if out[m.Type] != nil {
			return nil, invalid("methods[%d].type: %s is there twice", i, m.Type)
		}
		out[m.Type] = m
	}
	return out, nil
}

// creation is a request in the newer shape.
func creation(req okta.LegacyEnrolmentRequest) (okta.EnrolmentRequest, error) {
	methods, err := byType(req.Methods)
	if err != nil {
		return okta.EnrolmentRequest{}, err
	}
	method := func(t okta.Method) *okta.MethodRequest {
		m := methods[t]
		if m == nil {
			return nil
		}
		return &okta.MethodRequest{PushToken: m.PushToken, APSEnvironment: m.APSEnvironment, Keys: m.Keys, Capabilities: m.Capabilities}
	}
	return okta.EnrolmentRequest{
		AuthenticatorID: req.AuthenticatorID, Device: req.Device, AppSignals: req.AppSignals,
		Methods: okta.MethodRequests{Push: method(okta.MethodPush), SignedNonce: method(okta.MethodSignedNonce), TOTP: method(okta.MethodTOTP)},
	}, nil
}

// replacement is a PUT as what it changes.
func replacement(req okta.LegacyEnrolmentRequest) (device.Replacement, error) {
	methods, err := byType(req.Methods)
	if err != nil {
		return device.Replacement{}, err
	}
	out := device.Replacement{AuthenticatorID: req.AuthenticatorID, Device: req.Device}
	patch := map[okta.Method]device.Field[device.MethodPatch]{}
	for t, m := range methods {
		var p device.MethodPatch
		if m.PushToken != nil {
			p.PushToken = set(*m.PushToken)
		}
		capabilities := m.Capabilities
		if k := m.Keys; k != nil {
			p.Keys.Present = true
			if capabilities == nil {
				capabilities = k.Capabilities
			}
			if k.ProofOfPossession != nil {
				p.Keys.Value.ProofOfPossession = set(*k.ProofOfPossession)
			}
			for _, uv := range [...]struct {
				name string
				raw  json.RawMessage
				dst  *device.Field[jose.JWK]
			}{
				{"userVerification", k.UserVerification, &p.Keys.Value.UserVerification},
				{"userVerificationBioOrPin", k.UserVerificationBioOrPIN, &p.Keys.Value.UserVerificationBioOrPIN},
			} {
				if len(uv.raw) == 0 {
					continue
				}
				if err := uv.dst.UnmarshalJSON(uv.raw); err != nil {
					return device.Replacement{}, invalid("methods: keys.%s of %s is not a JWK", uv.name, t)
				}
			}
		}
		if capabilities != nil && capabilities.TransactionTypes != nil {
			p.Capabilities = set(device.CapabilitiesPatch{TransactionTypes: set(capabilities.TransactionTypes)})
		}
		patch[t] = set(p)
	}
	out.Patch.Methods = set(patch)
	if k := req.Device.ClientInstanceKey; k != nil {
		out.Patch.Device = set(device.DevicePatch{ClientInstanceKey: set(*k)})
	}
	if req.KeyChange != "" {
		out.Patch.KeyChange = set(req.KeyChange)
	}
	return out, nil
}

func set[T any](v T) device.Field[T] { return device.Field[T]{Present: true, Value: v} }

// document is an enrolment as the wire shows it.
func document(base string, e device.Enrolment, user directory.User, key string) okta.LegacyEnrolment {
	profile := e.Device.Profile
	doc := okta.LegacyEnrolment{
		ID: e.ID, AuthenticatorID: e.AuthenticatorID, Key: key, Status: e.Status, Type: "app",
		CreatedDate: okta.Timestamp(e.CreatedAt), LastUpdated: okta.Timestamp(e.UpdatedAt),
		User: okta.EnrolmentUser{ID: user.ID, Username: user.Login},
		Device: okta.EnrolmentDevice{
			ID: e.Device.ID, Status: e.Device.Status, ClientInstanceID: e.Device.ClientInstanceID,
			CreatedDate: okta.Timestamp(e.Device.CreatedAt), LastUpdated: okta.Timestamp(e.Device.UpdatedAt), Profile: &profile,
		},
		Links: map[string]okta.Link{"self": {
			Href:  base + okta.LegacyEnrolmentsPath + "/" + e.ID,
			Hints: &okta.LinkHints{Allow: []string{http.MethodPut, http.MethodDelete}},
		}},
	}
	for _, m := range e.Methods {
		lm := okta.LegacyMethod{
			ID: m.ID, Type: m.Type, Status: m.Status, CreatedDate: okta.Timestamp(m.CreatedAt), LastUpdated: okta.Timestamp(m.UpdatedAt),
			SharedSecret: m.SharedSecret, // of totp, when it was just enrolled
		}
		if m.Type == okta.MethodPush {
			// The list is one and the same for both shapes.
			lm.Links = map[string]okta.Link{"pending": {
				Href:  base + okta.AppAuthenticatorsPath + "/" + e.ID + "/push/notifications",
				Hints: &okta.LinkHints{Allow: []string{http.MethodGet}},
			}}
		}
		doc.Methods = append(doc.Methods, lm)
	}
	return doc
}
