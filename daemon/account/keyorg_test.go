package account

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// keyOrg is what the strict org knows of keys: it exchanges them as the extension
// has it, and can be an org that does not.
type keyOrg struct {
	keys    map[string]map[string]jose.JWK // enrolment id -> place -> key
	used    map[string]bool                // ids of agreements
	ignores bool                           // knows no exchange: says yes, and changes nothing
	deaf    bool                           // takes no requests that a key has signed
	noToken bool                           // gives no tokens
	noUV    bool                           // takes no keys that demand verification
	drop    int                            // exchanges whose request never arrives
	dropped int                            // exchanges that are done, and whose answer is lost
	refuses okta.ErrorCode                 // of exchanges
	asked   []string                       // by which place a question was signed
	agreed  []string                       // by which place a change was agreed to; "" for none
	changes []map[string]json.RawMessage   // the patches that named keys
}

// note remembers the keys of a request.
func (o *strictOrg) note(id string, methods okta.MethodRequests, device *jose.JWK) error {
	if o.keys[id] == nil {
		if o.keys == nil {
			o.keys, o.used = map[string]map[string]jose.JWK{}, map[string]bool{}
		}
		o.keys[id] = map[string]jose.JWK{}
	}
	places, err := placesOf(methods, device)
	if err != nil {
		return err
	}
	maps.Copy(o.keys[id], places)
	return nil
}

func placesOf(methods okta.MethodRequests, device *jose.JWK) (map[string]jose.JWK, error) {
	places := map[string]jose.JWK{}
	if device != nil {
		places[okta.PlaceClientInstance] = *device
	}
	for _, t := range []okta.Method{okta.MethodPush, okta.MethodSignedNonce} {
		m := *request(&methods, t)
		if m == nil || m.Keys == nil {
			continue
		}
		if m.Keys.ProofOfPossession != nil {
			places[okta.KeyPlace(t, okta.KeyProofOfPossession)] = *m.Keys.ProofOfPossession
		}
		for role, raw := range map[okta.KeyType]json.RawMessage{
			okta.KeyUserVerification: m.Keys.UserVerification, okta.KeyUserVerificationBioOrPIN: m.Keys.UserVerificationBioOrPIN,
		} {
			if len(raw) == 0 {
				continue
			}
			if string(raw) == "null" {
				places[okta.KeyPlace(t, role)] = jose.JWK{}
				continue
			}
			var jwk jose.JWK
			if err := json.Unmarshal(raw, &jwk); err != nil {
				return nil, err
			}
			places[okta.KeyPlace(t, role)] = jwk
		}
	}
	return places, nil
}

// placeOf finds the key with that id; "" for none.
func (o *strictOrg) placeOf(id, kid string) (string, jose.JWK) {
	for place, jwk := range o.keys[id] {
		if jwk.KeyID == kid {
			return place, jwk
		}
	}
	return "", jose.JWK{}
}

// signedBy says which key of an enrolment has signed a token.
func (o *strictOrg) signedBy(id, token string, use jose.Use) (place string, claims map[string]any) {
	t, err := jose.Parse(token, use)
	if err != nil {
		return "", nil
	}
	place, jwk := o.placeOf(id, t.Header.KeyID)
	if place == "" || t.Verify(jwk) != nil || t.Claims(&claims) != nil || claims["iss"] != id || claims["aud"] != o.URL {
		return "", nil
	}
	return place, claims
}

// exchange is a patch that names keys, or one of a key that asks. It says
// whether the request was one of these.
func (o *strictOrg) exchange(w http.ResponseWriter, r *http.Request) bool {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	var patch struct {
		Methods   okta.MethodRequests `json:"methods"`
		KeyChange string              `json:"keyChange"`
		Device    struct {
			Key *jose.JWK `json:"clientInstanceKey"`
		} `json:"device"`
	}
	if json.Unmarshal(body, &patch) != nil {
		return false
	}
	id, auth := r.PathValue("id"), r.Header.Get("Authorization")
	scheme, credential, _ := strings.Cut(auth, " ")
	places, err := placesOf(patch.Methods, patch.Device.Key)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case scheme == "SSWS" && string(body) == "{}":
		place, _ := o.signedBy(id, credential, jose.EnrolmentUpdate)
		o.asked = append(o.asked, place)
		switch {
		case o.down != 0:
			answer(w, o.down, okta.NewError(okta.CodeInternal))
		case place == "" || o.deaf:
			refuse(w, okta.CodeInvalidToken)
		default:
			answer(w, 200, o.document(id))
		}
		return true
	case err != nil || len(places) == 0:
		return false
	}
	var whole map[string]json.RawMessage
	_ = json.Unmarshal(body, &whole)
	o.changes = append(o.changes, whole)
	if o.drop > 0 {
		o.drop--
		panic(http.ErrAbortHandler)
	}
	if o.down != 0 {
		answer(w, o.down, okta.NewError(okta.CodeInternal))
		return true
	}
	if auth != "Bearer "+aliceToken {
		refuse(w, okta.CodeInvalidToken)
		return true
	}
	if o.refuses != "" {
		refuse(w, o.refuses)
		return true
	}
	if code := o.apply(id, places, patch.KeyChange); code != "" {
		refuse(w, code)
		return true
	}
	if o.dropped > 0 {
		o.dropped--
		panic(http.ErrAbortHandler)
	}
	answer(w, 200, o.document(id))
	return true
}

// apply exchanges keys by the rules of the extension (org/device).
func (o *strictOrg) apply(id string, places map[string]jose.JWK, agreement string) okta.ErrorCode {
	if o.ignores {
		return ""
	}
	changed, demanded := map[string]any{}, false
	verifies := slices.ContainsFunc(slices.Collect(maps.Keys(o.keys[id])), func(p string) bool { return strings.Contains(p, ".userVerification") })
	for place, jwk := range places {
		if now := o.keys[id][place]; now.KeyID == jwk.KeyID {
			continue
		}
		if jwk.KeyID == "" {
			delete(o.keys[id], place) // whoever signs in may remove it
			delete(places, place)
			continue
		}
		thumbprint, err := jwk.Thumbprint()
		if err != nil {
			return okta.CodeValidation
		}
		changed[place] = thumbprint
		demanded = demanded || verifies || !strings.Contains(place, ".userVerification")
	}
	if len(changed) == 0 {
		return "" // done before
	}
	signed := ""
	if agreement != "" {
		var claims map[string]any
		if signed, claims = o.signedBy(id, agreement, jose.KeyChange); signed == "" {
			return okta.CodeValidation
		}
		if verifies && !strings.Contains(signed, ".userVerification") {
			return okta.CodeUVRequired
		}
		jti, _ := claims["jti"].(string)
		if keys, _ := claims["keys"].(map[string]any); o.used[jti] || !maps.Equal(keys, changed) {
			return okta.CodeValidation
		}
		o.used[jti] = true
	} else if demanded {
		return okta.CodeForbidden
	}
	o.agreed = append(o.agreed, signed)
	maps.Copy(o.keys[id], places)
	return ""
}

func (o *strictOrg) document(id string) okta.Enrolment {
	return okta.Enrolment{ID: id, User: okta.EnrolmentUser{ID: "00uAlice"},
		Device: okta.EnrolmentDevice{ID: "guo1", ClientInstanceID: "cli1"}, Methods: map[okta.Method]okta.EnrolledMethod{okta.MethodPush: {ID: "opp"}}}
}

// grants says whether a key of any enrolment has signed an assertion.
func (o *strictOrg) grants(assertion string) bool {
	t, err := jose.Parse(assertion, jose.MaintenanceAssertion)
	if err != nil || o.noToken {
		return false
	}
	for id := range o.keys {
		if place, jwk := o.placeOf(id, t.Header.KeyID); strings.HasSuffix(place, ".proofOfPossession") && t.Verify(jwk) == nil {
			return true
		}
	}
	return false
}
