package device_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// The places of keys in a patch.
const (
	pushPoP  = "push.proofOfPossession"
	pushUV   = "push.userVerification"
	noncePoP = "signed_nonce.proofOfPossession"
	nonceUV  = "signed_nonce.userVerification"
	noncePIN = "signed_nonce.userVerificationBioOrPin"
	client   = okta.PlaceClientInstance
)

// bring is a patch with keys by place; nil removes one.
type bring map[string]*devicetest.Key

// body writes the patch, with an agreement unless that is "".
func (b bring) body(t testing.TB, agreement string) string {
	t.Helper()
	methods, out := map[string]any{}, map[string]any{}
	for place, key := range b {
		var jwk any
		if key != nil {
			jwk = key.JWK
		}
		method, role, _ := strings.Cut(place, ".")
		if method == "device" {
			out["device"] = map[string]any{role: jwk}
			continue
		}
		if methods[method] == nil {
			methods[method] = map[string]any{"keys": map[string]any{}}
		}
		methods[method].(map[string]any)["keys"].(map[string]any)[role] = jwk
	}
	out["methods"] = methods
	if agreement != "" {
		out["keyChange"] = agreement
	}
	raw, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// thumbprints are what an agreement says of the keys.
func (b bring) thumbprints(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for place, key := range b {
		if key == nil {
			continue
		}
		var err error
		if out[place], err = key.JWK.Thumbprint(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// agreement are good claims of one about these keys.
func (h *house) agreement(e device.Enrolment, b bring) devicetest.Claims {
	return h.proofClaims(e).With("keys", b.thumbprints(h.t))
}

func agree(t testing.TB, k devicetest.Key, claims devicetest.Claims) string {
	return k.Sign(t, okta.TypeKeyChange, claims)
}

// verifying enrols an agent whose signed nonces have a key that verifies.
func (h *house) verifying(a devicetest.Agent, user directory.User) device.Enrolment {
	h.t.Helper()
	req := h.request(a)
	req.Methods.SignedNonce.Keys.UserVerificationBioOrPIN = a.UV.Raw(h.t)
	e, err := h.Create(h.t.Context(), device.ByUser(user.ID), req)
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// keys writes down an enrolment's keys by place.
func (h *house) keys(id string) string { return keysOf(h.t, h.db, id) }

func keysOf(t testing.TB, db *store.DB, id string) string {
	t.Helper()
	var out []string
	storetest.Read(t, db, func(tx store.Tx) error {
		e, err := device.ByID(t.Context(), tx, id)
		for _, m := range e.Methods {
			for _, k := range m.Keys {
				out = append(out, okta.KeyPlace(m.Type, k.Role)+"="+k.Thumbprint)
			}
		}
		own, _ := e.Device.ClientInstanceKey.Thumbprint()
		out = append(out, client+"="+own)
		return err
	})
	return strings.Join(out, " ")
}

func (h *house) signed(k devicetest.Key, e device.Enrolment) device.Caller {
	h.t.Helper()
	p, err := h.VerifyProof(h.t.Context(), k.Sign(h.t, okta.TypeEnrolmentUpdate, h.proofClaims(e)))
	if err != nil {
		h.t.Fatal(err)
	}
	return device.AsDevice(p)
}

func ptr(k devicetest.Key) *devicetest.Key { return &k }

// C2: who may change which keys, and what it takes. A sign-in alone adds the
// first key that verifies, and removes one; all else takes a key's agreement.
func TestC2WhoMayChangeKeys(t *testing.T) {
	fresh := func() *devicetest.Key { return ptr(devicetest.NewKey(t)) }
	weak := okta.NewError(okta.CodeForbidden, "a weak sign-in")
	const (
		nobody = "" // agrees
		pop    = "pop"
		uv     = "uv"
	)
	rotation := bring{noncePoP: fresh(), pushPoP: fresh(), client: fresh()}
	for _, c := range []struct {
		name     string
		verifies bool   // the enrolment has a key that does
		by       string // who asks: person, weak, pop, uv
		keys     bring
		agrees   string
		want     okta.ErrorCode
	}{
		{"first key, by a person", false, "person", bring{noncePIN: fresh()}, nobody, ""},
		{"first keys of both methods", false, "person", bring{noncePIN: fresh(), pushUV: fresh()}, nobody, ""},
		{"first key, agreed", false, "person", bring{noncePIN: fresh()}, pop, ""},
		{"first key, weakly", false, "weak", bring{noncePIN: fresh()}, nobody, okta.CodeForbidden},
		{"first key, weakly and agreed", false, "weak", bring{noncePIN: fresh()}, pop, okta.CodeForbidden},
		{"first key, by the silent one", false, "pop", bring{noncePIN: fresh()}, nobody, okta.CodeUVRequired},
		{"first key, by the silent one that agrees with itself", false, "pop", bring{noncePIN: fresh()}, pop, okta.CodeUVRequired},

		{"replaced, by a person alone", true, "person", bring{noncePIN: fresh()}, nobody, okta.CodeForbidden},
		{"replaced, agreed", true, "person", bring{noncePIN: fresh()}, uv, ""},
		{"replaced, agreed by the silent key", true, "person", bring{noncePIN: fresh()}, pop, okta.CodeUVRequired},
		{"replaced, weakly and agreed", true, "weak", bring{noncePIN: fresh()}, uv, okta.CodeForbidden},
		{"replaced, by the one before", true, "uv", bring{noncePIN: fresh()}, nobody, ""},
		{"replaced, by the one before that agrees as well", true, "uv", bring{noncePIN: fresh()}, uv, ""},
		{"replaced, by the one before, where the silent one agrees", true, "uv", bring{noncePIN: fresh()}, pop, okta.CodeUVRequired},
		{"replaced, by the silent key", true, "pop", bring{noncePIN: fresh()}, uv, okta.CodeUVRequired},
		{"another role beside it", true, "person", bring{nonceUV: fresh()}, nobody, okta.CodeForbidden},
		{"another method beside it", true, "person", bring{pushUV: fresh()}, nobody, okta.CodeForbidden},
		{"another method, agreed", true, "person", bring{pushUV: fresh()}, uv, ""},
		{"one out, another in", true, "person", bring{noncePIN: nil, pushUV: fresh()}, nobody, okta.CodeForbidden},

		{"removed, by a person", true, "person", bring{noncePIN: nil}, nobody, ""},
		{"removed, by itself", true, "uv", bring{noncePIN: nil}, nobody, ""},
		{"removed, weakly", true, "weak", bring{noncePIN: nil}, nobody, okta.CodeForbidden},
		{"removed, by the silent key", true, "pop", bring{noncePIN: nil}, nobody, okta.CodeUVRequired},

		// A stolen token alone, or the silent key alone, replaces nothing.
		{"rotation, by a person alone", false, "person", rotation, nobody, okta.CodeForbidden},
		{"rotation, agreed", false, "person", rotation, pop, ""},
		{"rotation, weakly and agreed", false, "weak", rotation, pop, okta.CodeForbidden},
		{"rotation, by the silent key", false, "pop", rotation, pop, okta.CodeUVRequired},
		{"rotation where there is one that verifies, agreed by the silent key", true, "person", rotation, pop, okta.CodeUVRequired},
		{"rotation where there is one that verifies, agreed by it", true, "person", rotation, uv, ""},
		{"rotation by the one that verifies, without a person", true, "uv", rotation, uv, okta.CodeForbidden},
		{"device key alone", false, "person", bring{client: fresh()}, nobody, okta.CodeForbidden},
		{"device key alone, agreed", false, "person", bring{client: fresh()}, pop, ""},
		{"device key by the one that verifies", true, "uv", bring{client: fresh()}, uv, okta.CodeForbidden},
		{"all", true, "person", bring{noncePoP: fresh(), pushPoP: fresh(), noncePIN: fresh(), client: fresh()}, uv, ""},
	} {
		h := newHouse(t)
		a := devicetest.New(t)
		e := h.enrol(a, h.alice)
		if c.verifies {
			a = devicetest.New(t)
			e = h.verifying(a, h.alice)
		}
		agreement := ""
		switch c.agrees {
		case pop:
			agreement = agree(t, a.PoP, h.agreement(e, c.keys))
		case uv:
			agreement = agree(t, a.UV, h.agreement(e, c.keys))
		}
		by := device.AsUser(h.alice.ID)
		switch c.by {
		case "weak":
			by = by.KeepingKeys(weak)
		case pop:
			by = h.signed(a.PoP, e)
		case uv:
			by = h.signed(a.UV, e)
		}
		before := h.keys(e.ID)
		_, err := h.Update(t.Context(), by, e.ID, patch(t, c.keys.body(t, agreement)))
		h.wantCode(c.name, err, c.want)
		after := h.keys(e.ID)
		if (before == after) != (c.want != "") {
			t.Errorf("%s: %s became %s", c.name, before, after)
		}
		for place, thumbprint := range c.keys.thumbprints(t) {
			if is := strings.Contains(after, place+"="+thumbprint); is != (c.want == "") {
				t.Errorf("%s: %s is new: %v", c.name, place, is)
			}
		}
	}
}

// C2: an agreement is for these keys of this enrolment, by its own key, now and
// once.
func TestC2AgreementRefused(t *testing.T) {
	h := newHouse(t)
	a, second, foreign := devicetest.New(t), devicetest.New(t), devicetest.New(t)
	e, other, bobs := h.enrol(a, h.alice), h.enrol(second, h.alice), h.enrol(foreign, h.bob)
	fresh := devicetest.NewKey(t)
	keys := bring{noncePoP: &fresh}
	good := h.agreement(e, keys)
	stranger := devicetest.NewKey(t)
	lying := stranger
	lying.JWK.KeyID = a.PoP.JWK.KeyID
	about := func(b bring) devicetest.Claims { return good.With("keys", b.thumbprints(t)) }
	for name, token := range map[string]string{
		"empty":                            " ",
		"not a token":                      "a.b.c",
		"huge":                             strings.Repeat("a", 20<<10),
		"by the new key":                   agree(t, fresh, good),
		"by a stranger":                    agree(t, stranger, good),
		"by a stranger under the kid":      agree(t, lying, good),
		"by the device's key":              agree(t, a.Client, good),
		"by another enrolment's key":       agree(t, second.PoP, good),
		"of another enrolment":             agree(t, second.PoP, h.agreement(other, keys)),
		"of another user":                  agree(t, foreign.PoP, h.agreement(bobs, keys)),
		"iss of another enrolment":         agree(t, a.PoP, good.With("iss", other.ID)),
		"iss missing":                      agree(t, a.PoP, good.With("iss", nil)),
		"sub of another user":              agree(t, a.PoP, good.With("sub", h.bob.ID)),
		"sub missing":                      agree(t, a.PoP, good.With("sub", nil)),
		"aud of another org":               agree(t, a.PoP, good.With("aud", "https://other.example")),
		"aud missing":                      agree(t, a.PoP, good.With("aud", nil)),
		"kid differs":                      agree(t, a.PoP, good.With("kid", "other")),
		"jti missing":                      agree(t, a.PoP, good.With("jti", nil)),
		"exp missing":                      agree(t, a.PoP, good.With("exp", nil)),
		"iat missing":                      agree(t, a.PoP, good.With("iat", nil)),
		"lives too long":                   agree(t, a.PoP, good.With("exp", h.clock().Add(6*time.Minute).Unix())),
		"not yet":                          agree(t, a.PoP, good.With("nbf", h.clock().Add(2*time.Minute).Unix())),
		"expired":                          agree(t, a.PoP, devicetest.NewClaims(e.ID, e.UserID, orgURL, h.clock().Add(-7*time.Minute)).With("keys", keys.thumbprints(t))),
		"an enrolment-update token":        a.PoP.Sign(t, okta.TypeEnrolmentUpdate, good),
		"an answer":                        a.PoP.Sign(t, okta.TypeDeviceBind, good),
		"an assertion":                     a.PoP.Sign(t, okta.TypeMaintenanceGrant, good),
		"no keys":                          agree(t, a.PoP, good.With("keys", nil)),
		"keys are a list":                  agree(t, a.PoP, good.With("keys", []string{keys.thumbprints(t)[noncePoP]})),
		"about another key":                agree(t, a.PoP, about(bring{noncePoP: &stranger})),
		"about another place":              agree(t, a.PoP, about(bring{pushPoP: &fresh})),
		"about the key as one that verify": agree(t, a.PoP, about(bring{noncePIN: &fresh})),
		"about more":                       agree(t, a.PoP, about(bring{noncePoP: &fresh, client: &stranger})),
	} {
		before := h.keys(e.ID)
		_, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, keys.body(t, token)))
		h.wantCode(name, err, okta.CodeValidation)
		if h.keys(e.ID) != before {
			t.Fatalf("%s: changed the keys", name)
		}
	}
	// The body may not bring more than was agreed to either.
	more := bring{noncePoP: &fresh, noncePIN: &stranger}
	_, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, more.body(t, agree(t, a.PoP, good))))
	h.wantCode("more keys than were agreed to", err, okta.CodeValidation)
	_, err = h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, strings.Replace(keys.body(t, "x"), `"keyChange":"x"`, `"keyChange":null`, 1)))
	h.wantCode("null", err, okta.CodeValidation)

	// None of that used the good one up, and it is good once: the second time
	// the keys are in place, and afterwards it is about no change any more.
	token := agree(t, a.PoP, good)
	for _, name := range []string{"good", "sent again"} {
		if _, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, keys.body(t, token))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	back := bring{noncePoP: ptr(a.PoP)}
	if _, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, back.body(t, agree(t, fresh, h.agreement(e, back))))); err != nil {
		t.Fatal(err)
	}
	_, err = h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, keys.body(t, token)))
	h.wantCode("replayed when the old key is back", err, okta.CodeValidation)
}

// Of parallel changes with one agreement, or with several by the same key, one
// happens; what is sent again meanwhile is answered.
func TestC2ParallelKeyChanges(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	var bodies []device.Patch
	for range 4 {
		keys := bring{noncePoP: ptr(devicetest.NewKey(t)), pushPoP: ptr(devicetest.NewKey(t))}
		p := patch(t, keys.body(t, agree(t, a.PoP, h.agreement(e, keys))))
		bodies = append(bodies, p, p, p)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for _, p := range bodies {
		wg.Go(func() {
			e, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				h.wantCode("the others", err, okta.CodeValidation)
				return
			}
			m, _ := e.Method(okta.MethodSignedNonce)
			k, _ := m.Key(okta.KeyProofOfPossession)
			won[k.Thumbprint]++
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d changes happened", len(won))
	}
	for thumbprint, n := range won {
		if n != 3 || !strings.Contains(h.keys(e.ID), noncePoP+"="+thumbprint) {
			t.Errorf("%d times %s: %s", n, thumbprint, h.keys(e.ID))
		}
	}
}

// New keys are nobody's, have names of their own, and no old key comes back in
// another role (C3).
func TestKeyChangeIsSound(t *testing.T) {
	h := newHouse(t)
	a, b, second := devicetest.New(t), devicetest.New(t), devicetest.New(t)
	e := h.verifying(a, h.alice)
	h.verifying(b, h.bob)
	h.verifying(second, h.alice)
	fresh := devicetest.NewKey(t)
	sameKid := fresh
	sameKid.JWK.KeyID = a.PoP.JWK.KeyID
	kidOfUV := fresh
	kidOfUV.JWK.KeyID = a.UV.JWK.KeyID
	claimless := fresh
	claimless.JWK.KPR = ""
	before := h.keys(e.ID)
	for name, keys := range map[string]bring{
		"another user's key":                             {noncePoP: ptr(b.PoP)},
		"another user's key that verifies":               {noncePoP: ptr(b.UV)},
		"another enrolment's key":                        {noncePoP: ptr(second.PoP)},
		"another user's key as the device's":             {client: ptr(b.PoP)},
		"own verifying key":                              {noncePoP: ptr(a.UV)},
		"own verifying key as the device's":              {client: ptr(a.UV)},
		"own silent key as the device's":                 {client: ptr(a.PoP)},
		"the device's key":                               {noncePoP: ptr(a.Client)},
		"the device's key as one that verifies":          {noncePIN: ptr(a.Client)},
		"old silent key as one that verifies":            {noncePoP: &fresh, pushPoP: &fresh, noncePIN: ptr(a.PoP)},
		"old verifying key as the silent one":            {noncePoP: ptr(a.UV), pushPoP: ptr(a.UV), noncePIN: &fresh},
		"one new key for two roles":                      {noncePoP: &fresh, noncePIN: &fresh},
		"one new key for method and device":              {noncePoP: &fresh, client: &fresh},
		"kid of the old key":                             {noncePoP: &sameKid, pushPoP: &sameKid},
		"kid of another key":                             {noncePoP: &kidOfUV},
		"says nothing of its protection":                 {noncePoP: &claimless},
		"proof of possession removed":                    {noncePoP: nil},
		"device key removed":                             {client: nil},
		"a method that is not enrolled":                  {"totp.proofOfPossession": &fresh},
		"a method that does not exist":                   {"magic.proofOfPossession": &fresh},
		"another's new key among good ones, half of all": {noncePoP: &fresh, pushPoP: ptr(b.PoP)},
	} {
		body := keys.body(t, agree(t, a.UV, h.agreement(e, keys)))
		_, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, body))
		h.wantCode(name, err, okta.CodeValidation)
		if after := h.keys(e.ID); after != before {
			t.Fatalf("%s: %s became %s", name, before, after)
		}
	}
	// What other people rest on is not one person's to change.
	shared := b.OnDevice(h.request(devicetest.New(t)), e.Device.ID, e.Device.ClientInstanceID, a.Client.Sign(t, "JWT", h.attestation(a, e)))
	if _, err := h.Create(t.Context(), device.ByUser(h.bob.ID), shared); err != nil {
		t.Fatal(err)
	}
	keys := bring{client: &fresh}
	_, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, keys.body(t, agree(t, a.UV, h.agreement(e, keys)))))
	h.wantCode("a device with others on it", err, okta.CodeValidation)
}

// C3: the own key of a device that is known already, which signs silently, does
// not come back as one that verifies.
func TestC3KnownDevicesOwnKey(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	create := func(uv devicetest.Key) error {
		b := devicetest.New(t)
		req := b.OnDevice(h.request(b), e.Device.ID, e.Device.ClientInstanceID, a.Client.Sign(t, "JWT", h.attestation(a, e)))
		req.Methods.SignedNonce.Keys.UserVerificationBioOrPIN = uv.Raw(t)
		_, err := h.Create(t.Context(), device.ByUser(h.bob.ID), req)
		return err
	}
	h.wantCode("the device's own key", create(a.Client), okta.CodeValidation)
	if err := create(devicetest.NewKey(t)); err != nil {
		t.Error(err)
	}
}
