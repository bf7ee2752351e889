package account

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/vault"
	"countersign.dev/okta"
)

// strictOrg is a fake org with one-time links: a used token enrols the same
// proof-of-possession key again, to the same effect, and no other.
type strictOrg struct {
	*httptest.Server
	keyOrg
	mu       sync.Mutex
	owner    map[string]string // token -> kid that used it
	enrolled map[string]string // kid -> enrolment id
	deleted  map[string]bool   // enrolment id
	posts    []okta.EnrolmentRequest
	expired  bool // refuses tokens that were not used
	forgot   bool // no longer knows devices
	down     int  // answers this status to create and delete calls
	busy     int  // create calls during which another registration is under way
	lose     int  // create calls that do their work and are cut off before the answer
	config   func(*okta.AuthenticatorConfiguration)
	makes    func(*okta.Enrolment) // of what was enrolled
	says     func(*okta.Organization)
	updates  []string                      // authorisation scheme and body of each
	refusals []okta.ErrorCode              // of the next updates
	legacy   []okta.LegacyAuthenticator    // set: only the older shape is spoken
	old      []okta.LegacyEnrolmentRequest // in that shape, as it came
}

func newStrictOrg(t *testing.T) *strictOrg {
	o := &strictOrg{owner: map[string]string{}, enrolled: map[string]string{}, deleted: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+okta.OrganizationPath, func(w http.ResponseWriter, _ *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		who := okta.Organization{ID: "00oStrict"}
		if o.says != nil {
			o.says(&who)
		}
		answer(w, 200, who)
	})
	mux.HandleFunc("GET "+okta.LegacyAuthenticatorsPath, o.legacyListing)
	mux.HandleFunc("POST "+okta.LegacyEnrolmentsPath, o.legacyCreate)
	mux.HandleFunc("PUT "+okta.LegacyEnrolmentsPath+"/{id}", o.legacyReplace)
	mux.HandleFunc("DELETE "+okta.LegacyEnrolmentsPath+"/{id}", o.remove)
	mux.HandleFunc("GET "+okta.AuthenticatorConfigurationPath, func(w http.ResponseWriter, _ *http.Request) {
		if o.legacy != nil {
			refuse(w, okta.CodePathNotFound)
			return
		}
		c := okta.AuthenticatorConfiguration{
			AuthenticatorID: "autStrict", OrgID: "00oStrict", EnrolEndpoint: o.URL + okta.AppAuthenticatorsPath,
			SupportedMethods: []okta.SupportedMethod{
				{Type: okta.MethodTOTP, Status: "ACTIVE"},
				{Type: okta.MethodPush, Status: "ACTIVE", Settings: okta.MethodSettings{TransactionTypes: []string{okta.TransactionCIBA, okta.TransactionLogin}}},
				{Type: okta.MethodSignedNonce, Status: "ACTIVE"},
			},
		}
		if o.config != nil {
			o.config(&c)
		}
		answer(w, 200, []okta.AuthenticatorConfiguration{c})
	})
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"issuer": o.URL, "authorization_endpoint": o.URL + "/authorize", "token_endpoint": o.URL + "/token",
			"scopes_supported": []string{"openid", okta.ScopeAuthenticatorsRead, okta.ScopeAuthenticatorsManageSelf}})
	})
	mux.HandleFunc("POST /oauth2/v1/token", func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if _ = r.ParseForm(); !o.grants(r.PostForm.Get("assertion")) {
			answer(w, 400, okta.TokenError{Code: "invalid_grant"})
			return
		}
		answer(w, 200, map[string]any{"access_token": "maintenance", "token_type": "Bearer", "expires_in": 3600})
	})
	mux.HandleFunc("POST "+okta.AppAuthenticatorsPath, o.create)
	mux.HandleFunc("PATCH "+okta.AppAuthenticatorsPath+"/{id}", o.patch)
	mux.HandleFunc("DELETE "+okta.AppAuthenticatorsPath+"/{id}", o.remove)
	o.Server = httptest.NewUnstartedServer(mux)
	o.Start()
	t.Cleanup(o.Close)
	return o
}

func (o *strictOrg) remove(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "SSWS ey") && auth != "Bearer "+aliceToken {
		refuse(w, okta.CodeInvalidToken)
		return
	}
	if o.down != 0 {
		answer(w, o.down, okta.NewError(okta.CodeInternal))
		return
	}
	if o.deleted[r.PathValue("id")] {
		refuse(w, okta.CodeEnrolmentDeleted)
		return
	}
	o.deleted[r.PathValue("id")] = true
	w.WriteHeader(http.StatusNoContent)
}

// patch records updates and answers with what updates says, or well.
func (o *strictOrg) patch(w http.ResponseWriter, r *http.Request) {
	if o.exchange(w, r) {
		return
	}
	body, _ := io.ReadAll(r.Body)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.updates = append(o.updates, strings.Fields(r.Header.Get("Authorization"))[0]+" "+string(body))
	if len(o.refusals) > 0 {
		code := o.refusals[0]
		o.refusals = o.refusals[1:]
		refuse(w, code)
		return
	}
	answer(w, 200, o.document(r.PathValue("id")))
}

// set changes how the org behaves from now on.
func (o *strictOrg) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code okta.ErrorCode) {
	e := okta.NewError(code)
	answer(w, e.HTTPStatus, e)
}

func (o *strictOrg) create(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var req okta.EnrolmentRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		refuse(w, okta.CodeValidation)
		return
	}
	o.posts = append(o.posts, req)
	if o.down != 0 {
		answer(w, o.down, okta.NewError(okta.CodeInternal))
		return
	}
	if o.busy > 0 {
		o.busy--
		refuse(w, okta.CodeRegistrationPending)
		return
	}
	token, kid := r.Header.Get("Authorization"), kidOf(req)
	owner, used := o.owner[token]
	// A person's own token is good for any key.
	switch person := token == "Bearer "+aliceToken; {
	case !person && (!strings.HasPrefix(token, "OTDT ") || used && owner != kid || !used && o.expired):
		refuse(w, okta.CodeInvalidToken)
		return
	case o.forgot && req.Device.ID != "":
		refuse(w, okta.CodeDeviceDeleted)
		return
	case req.Device.ID == "" && req.Device.ClientInstanceKey == nil,
		req.Device.ID != "" && (req.Device.ClientInstanceKey != nil || req.Device.Attestation == nil):
		refuse(w, okta.CodeValidation)
		return
	}
	if o.noUV {
		for _, m := range []*okta.MethodRequest{req.Methods.Push, req.Methods.SignedNonce} {
			if m != nil && len(m.Keys.UserVerification)+len(m.Keys.UserVerificationBioOrPIN) > 0 {
				refuse(w, okta.CodeValidation)
				return
			}
		}
	}
	o.owner[token] = kid
	if o.enrolled[kid] == "" {
		o.enrolled[kid] = fmt.Sprintf("pfd%d", len(o.enrolled))
	}
	if err := o.note(o.enrolled[kid], req.Methods, req.Device.ClientInstanceKey); err != nil {
		refuse(w, okta.CodeValidation)
		return
	}
	e := okta.Enrolment{
		ID: o.enrolled[kid], User: okta.EnrolmentUser{ID: "00uAlice", Username: "alice@example.com"},
		Device:  okta.EnrolmentDevice{ID: "guo1", Status: "ACTIVE", ClientInstanceID: "cli1"},
		Methods: map[okta.Method]okta.EnrolledMethod{},
	}
	if req.Methods.SignedNonce != nil {
		e.Methods[okta.MethodSignedNonce] = okta.EnrolledMethod{ID: "opf-" + e.ID}
	}
	if req.Methods.Push != nil {
		e.Methods[okta.MethodPush] = okta.EnrolledMethod{ID: "opp-" + e.ID, Links: map[string]okta.Link{
			"pending": {Href: o.URL + okta.AppAuthenticatorsPath + "/" + e.ID + "/push/notifications"}}}
	}
	if req.Methods.TOTP != nil {
		e.Methods[okta.MethodTOTP] = okta.EnrolledMethod{ID: "opt-" + e.ID, SharedSecret: theSeed}
	}
	if o.makes != nil {
		o.makes(&e)
	}
	if o.lose > 0 {
		o.lose--
		panic(http.ErrAbortHandler)
	}
	answer(w, 200, e)
}

const theSeed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

// kidOf names the enrolment by the key that every request here has.
func kidOf(req okta.EnrolmentRequest) string {
	for _, m := range []*okta.MethodRequest{req.Methods.Push, req.Methods.SignedNonce} {
		if m != nil {
			return m.Keys.ProofOfPossession.KeyID
		}
	}
	return ""
}

func (o *strictOrg) link(token string) okta.EnrolmentLink {
	return okta.EnrolmentLink{Login: "alice@example.com", Token: okta.Secret(token), AuthenticatorID: "autStrict", OrgURL: o.URL}
}

// machine is a book on a real vault and a real key store.
type machine struct {
	*Book
	vault *vault.Vault
	keys  *stores
}

func boot(t testing.TB, dir string) *machine {
	t.Helper()
	v, err := vault.Open(t.Context(), dir, vault.Options{Key: "file"})
	if err != nil {
		t.Fatal(err)
	}
	keys := newStores(v)
	b, err := Open(Options{Vault: v, Keys: keys, Device: testDevice})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{b, v, keys}
	t.Cleanup(func() { v.Close() })
	return m
}

// settled checks that book, key store and org tell the same story.
func (m *machine) settled(t *testing.T, org *strictOrg) {
	t.Helper()
	org.mu.Lock()
	defer org.mu.Unlock()
	known, refs := map[string]bool{}, map[devicekey.Ref]bool{}
	for _, a := range m.All() {
		if a.State != Active || a.Pending != nil || a.Rekeying != nil || a.Replaces != nil || a.Unused != nil {
			t.Fatalf("account %+v", a)
		}
		known[a.EnrolmentID] = true
		for _, ref := range append(a.refs(), a.Device.Key) {
			refs[ref] = true
			if _, err := m.keys.Open(t.Context(), ref); err != nil {
				t.Fatalf("key of an active account: %v", err)
			}
		}
		for place, ref := range a.byPlace() {
			if shared := place == okta.PlaceClientInstance && org.keys[a.EnrolmentID][place].KeyID == ""; org.keys[a.EnrolmentID][place].KeyID != ref.ID && !shared {
				t.Fatalf("%s: the org has %s, the account %s", place, org.keys[a.EnrolmentID][place].KeyID, ref.ID)
			}
		}
	}
	for _, id := range org.enrolled {
		if !known[id] {
			t.Fatalf("the org has enrolment %s, which no account knows", id)
		}
	}
	if got := m.storedKeys(t); got != len(refs) {
		t.Fatalf("%d keys in the store, %d in use", got, len(refs))
	}
}

// testDevice is what the orgs of these tests are told.
func testDevice(context.Context) okta.Device {
	return okta.Device{Platform: "LINUX", OSVersion: "1", DisplayName: "test", BundleID: "test", Version: "1", SDKVersion: okta.DeviceSDK}
}
