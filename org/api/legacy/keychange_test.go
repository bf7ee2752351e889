package legacy_test

import (
	"slices"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// C2: a PUT that says all again with other keys obeys the rules of a patch. The
// agreement is about the keys that differ, and no others.
func TestC2KeyChange(t *testing.T) {
	f := setUp(t)
	a, renewed := devicetest.New(t), devicetest.New(t)
	e := f.create(a)
	self := enrol + "/" + e.ID
	thumbprint := func(k devicetest.Key) string {
		s, err := k.JWK.Thumbprint()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// put replaces the keys that sign silently, or what change leaves of that.
	put := func(by devicetest.Key, about map[string]string, change func(*okta.LegacyEnrolmentRequest)) okta.LegacyEnrolmentRequest {
		req := f.again(a, e)
		req.Device.ClientInstanceKey = &a.Client.JWK
		req.Methods = slices.Clone(req.Methods)
		for i, m := range req.Methods {
			if m.Keys != nil {
				keys := *m.Keys
				keys.ProofOfPossession = &renewed.PoP.JWK
				req.Methods[i].Keys = &keys
			}
		}
		if about != nil {
			req.KeyChange = by.Sign(t, okta.TypeKeyChange, devicetest.NewClaims(e.ID, f.alice.ID, base, f.now).With("keys", about))
		}
		if change != nil {
			change(&req)
		}
		return req
	}
	both := map[string]string{"push.proofOfPossession": thumbprint(renewed.PoP), "signed_nonce.proofOfPossession": thumbprint(renewed.PoP)}
	three := map[string]string{okta.PlaceClientInstance: thumbprint(renewed.Client)}
	for place, k := range both {
		three[place] = k
	}
	withClient := func(k jose.JWK) func(*okta.LegacyEnrolmentRequest) {
		return func(r *okta.LegacyEnrolmentRequest) { r.Device.ClientInstanceKey = &k }
	}
	for _, c := range []struct {
		name, authorization string
		body                okta.LegacyEnrolmentRequest
		status              int
		code                okta.ErrorCode
	}{
		{"a token alone", "Bearer manage", put(a.PoP, nil, nil), 403, okta.CodeForbidden},
		{"maintenance", "Bearer maintain", put(a.PoP, both, nil), 403, okta.CodeForbidden},
		{"an old sign-in", "Bearer old", put(a.PoP, both, nil), 403, okta.CodeForbidden},
		{"one factor", "Bearer weak", put(a.PoP, both, nil), 403, okta.CodeForbidden},
		{"the silent key", f.ssws(a.PoP, e.ID), put(a.PoP, both, nil), 400, okta.CodeUVRequired},
		{"another user", "Bearer bob", put(a.PoP, both, nil), 404, okta.CodeNotFound},
		{"the new key agrees", "Bearer manage", put(renewed.PoP, both, nil), 400, okta.CodeValidation},
		{"about a key that does not change", "Bearer manage", put(a.PoP, three, nil), 400, okta.CodeValidation},
		{"not about one that does", "Bearer manage", put(a.PoP, both, withClient(renewed.Client.JWK)), 400, okta.CodeValidation},
		{"all three", "Bearer self", put(a.PoP, three, withClient(renewed.Client.JWK)), 200, ""},
		{"all three again, by the new key", f.ssws(renewed.PoP, e.ID), put(a.PoP, three, withClient(renewed.Client.JWK)), 200, ""},
		{"the old keys, by the new one", f.ssws(renewed.PoP, e.ID), f.again(a, e), 400, okta.CodeUVRequired},
		{"by the old key", f.ssws(a.PoP, e.ID), put(a.PoP, three, withClient(renewed.Client.JWK)), 401, okta.CodeInvalidToken},
	} {
		w := f.call("PUT", self, c.authorization, c.body)
		if c.code != "" {
			f.wantError(c.name, w, c.status, c.code)
		} else if doc := decode[okta.LegacyEnrolment](t, w); w.Code != 200 || doc.ID != e.ID {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	storetest.Read(t, f.db, func(tx store.Tx) error {
		now, err := device.ByID(t.Context(), tx, e.ID)
		for _, m := range now.Methods {
			if k, ok := m.Key(okta.KeyProofOfPossession); ok && k.Thumbprint != both["push.proofOfPossession"] {
				t.Errorf("%s has %s", m.Type, k.Thumbprint)
			}
		}
		if got := now.Device.ClientInstanceKey; got.KeyID != renewed.Client.JWK.KeyID {
			t.Errorf("%+v", got)
		}
		return err
	})
}
