package legacy_test

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/gate"
	"countersign.dev/org/api/legacy"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

const (
	base    = "http://localhost:8080"
	listing = base + okta.LegacyAuthenticatorsPath
	enrol   = base + okta.LegacyEnrolmentsPath
	agentID = "countersign-agent"
	admin   = okta.Secret("the-admin-token")
)

// tokens is the token service: a token's name says what it is good for.
type tokens map[okta.Secret]gate.Access

func (k tokens) VerifyAccessToken(_ context.Context, t okta.Secret) (gate.Access, error) {
	a, ok := k[t]
	if !ok {
		return gate.Access{}, errors.New("no such token")
	}
	return a, nil
}

type fixture struct {
	http.Handler
	t        testing.TB
	db       *store.DB
	registry *device.Registry
	info     directory.OrgInfo
	alice    directory.User
	now      time.Time
	tokens   tokens
	notified []string
}

func setUp(t testing.TB) *fixture {
	f := &fixture{t: t, db: storetest.Open(t), now: time.Now().UTC().Truncate(time.Millisecond)}
	ctx := t.Context()
	var bob directory.User
	storetest.Write(t, f.db, func(tx store.Tx) (err error) {
		if f.info, err = directory.EnsureOrg(ctx, tx, f.now); err != nil {
			return err
		}
		if f.alice, err = directory.CreateUser(ctx, tx, directory.User{Login: "alice@example.com"}, f.now); err != nil {
			return err
		}
		if bob, err = directory.CreateUser(ctx, tx, directory.User{Login: "bob@example.com"}, f.now); err != nil {
			return err
		}
		return errors.Join(
			directory.PutApp(ctx, tx, directory.App{ClientID: agentID, Label: "Countersign", Scopes: []string{okta.ScopeManage}}, f.now),
			directory.PutApp(ctx, tx, directory.App{ClientID: "web", Scopes: []string{"openid"}}, f.now),
			directory.AddTrustedOrigin(ctx, tx, "https://app.example.com", f.now))
	})
	access := func(u directory.User, age time.Duration, scopes ...string) gate.Access {
		return gate.Access{UserID: u.ID, Scopes: scopes, AuthTime: f.now.Add(-age), Strong: true}
	}
	weak := access(f.alice, time.Minute, okta.ScopeManage)
	weak.Strong = false
	f.tokens = tokens{
		"manage":   access(f.alice, time.Minute, okta.ScopeManage),
		"self":     access(f.alice, time.Minute, okta.ScopeAuthenticatorsManageSelf),
		"old":      access(f.alice, time.Hour, okta.ScopeManage),
		"weak":     weak,
		"read":     access(f.alice, time.Minute, okta.ScopeAuthenticatorsRead),
		"others":   access(f.alice, time.Minute, okta.ScopeAuthenticatorsManage),
		"maintain": access(f.alice, time.Minute, okta.ScopeMaintenanceManage),
		"openid":   access(f.alice, time.Minute, "openid"),
		"bob":      access(bob, time.Minute, okta.ScopeManage),
		"pinned":   {UserID: f.alice.ID, Scopes: []string{okta.ScopeMaintenanceManage}, EnrolmentID: "pfdother"},
	}
	clock := func() time.Time { return f.now }
	f.registry = device.NewRegistry(f.db, base, clock)
	f.Handler = legacy.New(legacy.Deps{
		DB: f.db, Registry: f.registry, Tokens: f.tokens, AdminToken: admin, BaseURL: base,
		Notify: func(ids []string) { f.notified = append(f.notified, ids...) }, Now: clock, Log: slog.New(slog.DiscardHandler),
	})
	return f
}

func (f *fixture) call(method, url, authorization string, body any) *httptest.ResponseRecorder {
	f.t.Helper()
	var r io.Reader
	if s, ok := body.(string); ok {
		r = strings.NewReader(s)
	} else if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			f.t.Fatal(err)
		}
		r = strings.NewReader(string(b))
	}
	req := httptest.NewRequest(method, url, r)
	req.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, req)
	return w
}

func (f *fixture) wantError(what string, w *httptest.ResponseRecorder, status int, code okta.ErrorCode) {
	f.t.Helper()
	var e okta.Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != status || e.Code != code {
		f.t.Errorf("%s: %d %s, want %d %s", what, w.Code, w.Body, status, code)
	}
}

func decode[T any](t testing.TB, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 200 {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return v
}

// request is what an agent of the older shape sends, with all methods.
func (f *fixture) request(a devicetest.Agent) okta.LegacyEnrolmentRequest {
	newer := a.Request(f.info.Authenticators.OktaVerify)
	return okta.LegacyEnrolmentRequest{
		AuthenticatorID: newer.AuthenticatorID, Key: okta.AuthenticatorKeyOktaVerify, Device: newer.Device,
		Methods: []okta.LegacyMethodRequest{
			{Type: okta.MethodPush, PushToken: new(string), Keys: newer.Methods.Push.Keys},
			{Type: okta.MethodSignedNonce, Keys: newer.Methods.SignedNonce.Keys},
			{Type: okta.MethodTOTP},
		},
	}
}

// again is the same for an enrolment that exists.
func (f *fixture) again(a devicetest.Agent, e okta.LegacyEnrolment) okta.LegacyEnrolmentRequest {
	req := f.request(a)
	req.Device.ID, req.Device.ClientInstanceID, req.Device.ClientInstanceKey = e.Device.ID, e.Device.ClientInstanceID, nil
	return req
}

func (f *fixture) create(a devicetest.Agent) okta.LegacyEnrolment {
	f.t.Helper()
	return decode[okta.LegacyEnrolment](f.t, f.call("POST", enrol, "Bearer manage", f.request(a)))
}

func (f *fixture) link() okta.Secret {
	var l device.Link
	storetest.Write(f.t, f.db, func(tx store.Tx) (err error) {
		l, err = device.IssueLink(f.t.Context(), tx, f.alice.ID, f.now)
		return err
	})
	return l.Token
}

func (f *fixture) ssws(k devicetest.Key, enrolmentID string) string {
	return "SSWS " + k.Sign(f.t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(enrolmentID, f.alice.ID, base, f.now))
}

func method(e okta.LegacyEnrolment, t okta.Method) (m okta.LegacyMethod) {
	for _, m := range e.Methods {
		if m.Type == t {
			return m
		}
	}
	return m
}

func TestListing(t *testing.T) {
	f := setUp(t)
	for query, want := range map[string]int{
		"?key=okta_verify": 1, "?key=okta_verify&oauthClientId=" + agentID: 1, "": 1,
		"?key=okta_verify&oauthClientId=web": 0, "?key=okta_verify&oauthClientId=unknown": 0,
		"?key=custom_app&oauthClientId=" + agentID: 1, "?key=custom_app&oauthClientId=web": 0,
		"?key=webauthn": 0, "?key=okta_verify'": 0,
	} {
		list := decode[[]okta.LegacyAuthenticator](t, f.call("GET", listing+query, "Bearer read", nil))
		if len(list) != want {
			t.Errorf("%q: %d entries", query, len(list))
		}
	}
	f.wantError("custom_app of no client", f.call("GET", listing+"?key=custom_app", "Bearer read", nil), 400, okta.CodeParameterMissing)
	f.wantError("POST", f.call("POST", listing, "Bearer read", nil), 405, okta.CodeMethodNotAllowed)

	w := f.call("GET", listing+"?key=okta_verify&expand=methods&oauthClientId="+agentID, "Bearer read", nil)
	a := decode[[]okta.LegacyAuthenticator](t, w)[0]
	if a.ID != f.info.Authenticators.OktaVerify || a.Key != "okta_verify" || a.Status != "ACTIVE" || a.Type != "app" || a.Settings == nil ||
		a.Settings.OAuthClientID != agentID || a.Settings.UserVerification != okta.NeedPreferred || a.Links.Enrol == nil || a.Links.Enrol.Href != enrol ||
		strings.Join(a.LoopbackOrigins, " ") != "https://app.example.com" {
		t.Errorf("%s", w.Body)
	}
	var methods []string
	for _, m := range a.Embedded.Methods {
		methods = append(methods, string(m.Type)+" "+m.Status)
	}
	if got := strings.Join(methods, ", "); got != "push ACTIVE, signed_nonce ACTIVE, totp ACTIVE" {
		t.Errorf("methods %s", got)
	}
	if !strings.Contains(w.Body.String(), `"_links":{"enroll":`) || !strings.Contains(w.Body.String(), `"_embedded":{"methods":[`) {
		t.Errorf("%s", w.Body)
	}
	if a := decode[[]okta.LegacyAuthenticator](t, f.call("GET", listing+"?key=okta_verify", "Bearer read", nil))[0]; a.Embedded.Methods != nil {
		t.Error("methods that nobody asked for")
	}
}

func TestWhoMayList(t *testing.T) {
	f := setUp(t)
	a := devicetest.New(t)
	e := f.create(a)
	link := f.link()
	once := f.ssws(a.PoP, e.ID)
	old := f.link()
	for _, c := range []struct {
		name, authorization string
		status              int
		code                okta.ErrorCode
	}{
		{"nobody", "", 401, okta.CodeInvalidToken},
		{"basic", "Basic read", 401, okta.CodeInvalidToken},
		{"bad bearer", "Bearer forged", 401, okta.CodeInvalidToken},
		{"other scope", "Bearer openid", 403, okta.CodeForbidden},
		{"maintenance", "Bearer maintain", 403, okta.CodeForbidden},
		{"read", "Bearer read", 200, ""},
		{"manage", "Bearer manage", 200, ""},
		{"manage others", "Bearer others", 200, ""},
		{"manage self", "Bearer self", 200, ""},
		{"admin", "SSWS " + admin.Reveal(), 200, ""},
		{"not the admin", "SSWS " + admin.Reveal() + "x", 401, okta.CodeInvalidToken},
		{"admin as bearer", "Bearer " + admin.Reveal(), 401, okta.CodeInvalidToken},
		{"own key", once, 200, ""},
		{"own key, replayed", once, 401, okta.CodeInvalidToken},
		{"strange key", f.ssws(devicetest.NewKey(t), e.ID), 401, okta.CodeInvalidToken},
		{"link", "OTDT " + link.Reveal(), 200, ""},
		{"link again", "OTDT " + link.Reveal(), 200, ""},
		{"bad link", "OTDT forged", 401, okta.CodeInvalidToken},
		{"empty link", "OTDT", 401, okta.CodeInvalidToken},
	} {
		w := f.call("GET", listing+"?key=okta_verify", c.authorization, nil)
		if c.code == "" {
			if w.Code != c.status {
				t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
			}
			continue
		}
		f.wantError(c.name, w, c.status, c.code)
	}
	// Looking has not used the link up; what it enrols may be looked at again.
	auth := "OTDT " + link.Reveal()
	if w := f.call("POST", enrol, auth, f.request(devicetest.New(t))); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := f.call("GET", listing+"?key=okta_verify", auth, nil); w.Code != 200 {
		t.Errorf("used: %d", w.Code)
	}
	f.now = f.now.Add(device.LinkLifetime)
	f.wantError("expired", f.call("GET", listing, "OTDT "+old.Reveal(), nil), 401, okta.CodeInvalidToken)
	f.wantError("used and expired", f.call("GET", listing, auth, nil), 401, okta.CodeInvalidToken)
	fresh := f.link()
	storetest.Write(t, f.db, func(tx store.Tx) error {
		return directory.SetUserStatus(t.Context(), tx, f.alice.ID, directory.StatusSuspended, f.now)
	})
	f.wantError("of a suspended user", f.call("GET", listing, "OTDT "+fresh.Reveal(), nil), 423, okta.CodeUserSuspended)
}

// The shape of 2.8, member by member.
func TestCreate(t *testing.T) {
	f := setUp(t)
	a := devicetest.New(t)
	w := f.call("POST", enrol, "Bearer manage", f.request(a))
	e := decode[okta.LegacyEnrolment](t, w)
	date := okta.Timestamp(f.now)
	if !strings.HasPrefix(e.ID, "pfd") || e.AuthenticatorID != f.info.Authenticators.OktaVerify || e.Key != "okta_verify" || e.Status != "ACTIVE" ||
		e.Type != "app" || e.CreatedDate != date || e.User.ID != f.alice.ID || e.User.Username != "alice@example.com" ||
		e.Device.Status != "ACTIVE" || e.Device.ID == "" || e.Device.ClientInstanceID == "" || e.Device.Profile.DisplayName != "workshop" {
		t.Errorf("%s", w.Body)
	}
	if self := e.Links["self"]; self.Href != enrol+"/"+e.ID || strings.Join(self.Hints.Allow, " ") != "PUT DELETE" {
		t.Errorf("%+v", self)
	}
	push, nonce, totp := method(e, okta.MethodPush), method(e, okta.MethodSignedNonce), method(e, okta.MethodTOTP)
	if len(e.Methods) != 3 || push.ID == "" || nonce.ID == "" || totp.ID == "" || push.Status != "ACTIVE" ||
		push.Links["pending"].Href != base+okta.AppAuthenticatorsPath+"/"+e.ID+"/push/notifications" || nonce.Links != nil {
		t.Errorf("%s", w.Body)
	}
	if raw, err := base32.StdEncoding.DecodeString(totp.SharedSecret.Reveal()); err != nil || len(raw) != 20 || strings.Count(w.Body.String(), "sharedSecret") != 1 {
		t.Errorf("%s: %v", w.Body, err)
	}
	if again := f.call("POST", enrol, "Bearer manage", f.request(a)); again.Body.String() != w.Body.String() {
		t.Errorf("repeated: %s", again.Body)
	}
	// One registry, two shapes: the newer asks for the same and gets the same.
	same, err := f.registry.Create(t.Context(), device.ByUser(f.alice.ID), a.Request(f.info.Authenticators.OktaVerify))
	if err != nil || same.ID != e.ID {
		t.Errorf("%v", err)
	}
}

func TestCreateRefused(t *testing.T) {
	f := setUp(t)
	link := "OTDT " + f.link().Reveal()
	for _, c := range []struct {
		name, authorization string
		change              func(*okta.LegacyEnrolmentRequest)
		status              int
		code                okta.ErrorCode
	}{
		{"nobody", "", nil, 401, okta.CodeInvalidToken},
		{"scope", "Bearer read", nil, 403, okta.CodeForbidden},
		{"others' scope", "Bearer others", nil, 403, okta.CodeForbidden},
		{"maintenance", "Bearer maintain", nil, 403, okta.CodeForbidden},
		// C2: a new device is more than a verifying key.
		{"old sign-in", "Bearer old", nil, 403, okta.CodeForbidden},
		{"admin", "SSWS " + admin.Reveal(), nil, 401, okta.CodeInvalidToken},
		{"bad link", "OTDT x", nil, 401, okta.CodeInvalidToken},
		{"key", link, func(r *okta.LegacyEnrolmentRequest) { r.Key = "webauthn" }, 400, okta.CodeValidation},
		{"no key", link, func(r *okta.LegacyEnrolmentRequest) { r.Key = "" }, 400, okta.CodeValidation},
		{"authenticator", link, func(r *okta.LegacyEnrolmentRequest) { r.AuthenticatorID = "autother" }, 400, okta.CodeValidation},
		{"no methods", link, func(r *okta.LegacyEnrolmentRequest) { r.Methods = nil }, 400, okta.CodeValidation},
		{"codes alone", link, func(r *okta.LegacyEnrolmentRequest) { r.Methods = r.Methods[2:] }, 400, okta.CodeValidation},
		{"a method twice", link, func(r *okta.LegacyEnrolmentRequest) { r.Methods = append(r.Methods, r.Methods[0]) }, 400, okta.CodeValidation},
		{"unknown method", link, func(r *okta.LegacyEnrolmentRequest) { r.Methods[2].Type = "sms" }, 400, okta.CodeValidation},
		{"method of no type", link, func(r *okta.LegacyEnrolmentRequest) { r.Methods[2].Type = "" }, 400, okta.CodeValidation},
		{"no device", link, func(r *okta.LegacyEnrolmentRequest) { r.Device = okta.Device{} }, 400, okta.CodeValidation},
		{"codes with keys", link, func(r *okta.LegacyEnrolmentRequest) { r.Methods[2].Keys = r.Methods[0].Keys }, 400, okta.CodeValidation},
		{"one key in two roles", link, func(r *okta.LegacyEnrolmentRequest) {
			k := *r.Methods[0].Keys
			k.UserVerification, _ = json.Marshal(k.ProofOfPossession)
			r.Methods[0].Keys = &k
		}, 400, okta.CodeValidation},
	} {
		req := f.request(devicetest.New(t))
		if c.change != nil {
			c.change(&req)
		}
		f.wantError(c.name, f.call("POST", enrol, c.authorization, req), c.status, c.code)
	}
	// None of that used the link up; E7: once it is, it serves nobody else.
	a := devicetest.New(t)
	if w := f.call("POST", enrol, link, f.request(a)); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := f.call("POST", enrol, link, f.request(a)); w.Code != 200 {
		t.Errorf("repeated: %d %s", w.Code, w.Body)
	}
	f.wantError("another device", f.call("POST", enrol, link, f.request(devicetest.New(t))), 401, okta.CodeInvalidToken)
	for name, body := range map[string]string{"not JSON": "x", "empty": "", "list": "[]", "duplicate": `{"key":"okta_verify","key":"custom_app"}`} {
		f.wantError(name, f.call("POST", enrol, "Bearer manage", body), 400, okta.CodeValidation)
	}
}

// PUT says everything again; what differs is what changes.
func TestReplace(t *testing.T) {
	f := setUp(t)
	a, other := devicetest.New(t), devicetest.NewKey(t)
	e := f.create(a)
	self := enrol + "/" + e.ID
	push := func(change func(*okta.LegacyMethodRequest)) okta.LegacyEnrolmentRequest {
		req := f.again(a, e)
		keys := *req.Methods[0].Keys
		req.Methods[0].Keys = &keys
		change(&req.Methods[0])
		return req
	}
	uv := func(raw json.RawMessage) okta.LegacyEnrolmentRequest {
		return push(func(m *okta.LegacyMethodRequest) { m.Keys.UserVerification = raw })
	}
	token := push(func(m *okta.LegacyMethodRequest) { s := "new"; m.PushToken = &s })
	state := func() string {
		var out string
		storetest.Read(t, f.db, func(tx store.Tx) error {
			e, err := device.ByID(t.Context(), tx, e.ID)
			m, _ := e.Method(okta.MethodPush)
			out = m.PushToken + "/" + strings.Join(m.TransactionTypes, ",")
			if k, ok := m.Key(okta.KeyUserVerification); ok {
				out += "/" + map[string]string{a.UV.JWK.KeyID: "uv", other.JWK.KeyID: "other"}[k.JWK.KeyID]
			}
			return err
		})
		return out
	}
	types := push(func(m *okta.LegacyMethodRequest) {
		m.Capabilities = &okta.Capabilities{TransactionTypes: []string{"LOGIN", "CIBA"}}
	})
	typesUnderKeys := push(func(m *okta.LegacyMethodRequest) {
		m.Keys.Capabilities = &okta.Capabilities{TransactionTypes: []string{"LOGIN"}}
	})
	partial := f.again(a, e)
	partial.Methods = partial.Methods[1:2]
	wrongPoP := push(func(m *okta.LegacyMethodRequest) { m.Keys.ProofOfPossession = &other.JWK })
	wrongClient := f.again(a, e)
	wrongClient.Device.ClientInstanceKey = &other.JWK
	wrongDevice := f.again(a, e)
	wrongDevice.Device.ID = "guoother"
	wrongInstance := f.again(a, e)
	wrongInstance.Device.ClientInstanceID = ""
	wrongAuthenticator := f.again(a, e)
	wrongAuthenticator.AuthenticatorID = "autother"
	renamed := f.again(a, e)
	renamed.Device.DisplayName = "renamed"
	tokenKept := push(func(m *okta.LegacyMethodRequest) { m.PushToken = nil })
	for _, c := range []struct {
		name, authorization string
		body                okta.LegacyEnrolmentRequest
		status              int
		code                okta.ErrorCode
		want                string // afterwards
	}{
		{"nobody", "", token, 401, okta.CodeInvalidToken, "/LOGIN"},
		{"link", "OTDT " + f.link().Reveal(), token, 401, okta.CodeInvalidToken, "/LOGIN"},
		{"admin", "SSWS " + admin.Reveal(), token, 401, okta.CodeInvalidToken, "/LOGIN"},
		{"read", "Bearer read", token, 403, okta.CodeForbidden, "/LOGIN"},
		{"bob", "Bearer bob", token, 404, okta.CodeNotFound, "/LOGIN"},
		{"maintenance of another enrolment", "Bearer pinned", token, 404, okta.CodeNotFound, "/LOGIN"},
		{"another proof-of-possession key", "Bearer manage", wrongPoP, 403, okta.CodeForbidden, "/LOGIN"},
		{"another device key", "Bearer manage", wrongClient, 403, okta.CodeForbidden, "/LOGIN"},
		{"wrong device", "Bearer manage", wrongDevice, 400, okta.CodeValidation, "/LOGIN"},
		{"no client instance", "Bearer manage", wrongInstance, 400, okta.CodeValidation, "/LOGIN"},
		{"wrong authenticator", "Bearer manage", wrongAuthenticator, 400, okta.CodeValidation, "/LOGIN"},
		{"nothing new", "Bearer old", f.again(a, e), 200, "", "/LOGIN"},
		{"a new name", "Bearer old", renamed, 200, "", "/LOGIN"},
		{"push token", "Bearer maintain", token, 200, "", "new/LOGIN"},
		{"push token stays", "Bearer maintain", tokenKept, 200, "", "new/LOGIN"},
		{"part of it", "Bearer maintain", partial, 200, "", "new/LOGIN"},
		{"types", "Bearer maintain", types, 200, "", "/LOGIN,CIBA"},
		{"types under keys", f.ssws(a.PoP, e.ID), typesUnderKeys, 200, "", "/LOGIN"},
		{"push token by own key", f.ssws(a.PoP, e.ID), token, 200, "", "new/LOGIN"},
		// C2, C3: what makes a key count as verified.
		{"key by maintenance", "Bearer maintain", uv(a.UV.Raw(t)), 403, okta.CodeForbidden, "new/LOGIN"},
		{"key by an old sign-in", "Bearer old", uv(a.UV.Raw(t)), 403, okta.CodeForbidden, "new/LOGIN"},
		{"key by a sign-in with one factor", "Bearer weak", uv(a.UV.Raw(t)), 403, okta.CodeForbidden, "new/LOGIN"},
		{"key by the silent key", f.ssws(a.PoP, e.ID), uv(a.UV.Raw(t)), 400, okta.CodeUVRequired, "new/LOGIN"},
		{"the silent key as the other", "Bearer manage", uv(a.PoP.Raw(t)), 400, okta.CodeValidation, "new/LOGIN"},
		{"not a key", "Bearer manage", uv(json.RawMessage(`"x"`)), 400, okta.CodeValidation, "new/LOGIN"},
		{"removing none, by the silent key", f.ssws(a.PoP, e.ID), uv(json.RawMessage("null")), 200, "", "/LOGIN"},
		{"key", "Bearer self", uv(a.UV.Raw(t)), 200, "", "/LOGIN/uv"},
		{"the same key, by the silent one", f.ssws(a.PoP, e.ID), uv(a.UV.Raw(t)), 200, "", "/LOGIN/uv"},
		{"keys that are not mentioned", f.ssws(a.PoP, e.ID), token, 200, "", "new/LOGIN/uv"},
		{"another key, by the silent one", f.ssws(a.PoP, e.ID), uv(other.Raw(t)), 400, okta.CodeUVRequired, "new/LOGIN/uv"},
		{"removing it, by the silent one", f.ssws(a.PoP, e.ID), uv(json.RawMessage("null")), 400, okta.CodeUVRequired, "new/LOGIN/uv"},
		{"another key, by a sign-in alone", "Bearer manage", uv(other.Raw(t)), 403, okta.CodeForbidden, "new/LOGIN/uv"},
		{"another key, by the one it replaces", f.ssws(a.UV, e.ID), uv(other.Raw(t)), 200, "", "/LOGIN/other"},
		{"removing it", "Bearer manage", uv(json.RawMessage("null")), 200, "", "/LOGIN"},
	} {
		w := f.call("PUT", self, c.authorization, c.body)
		if c.code != "" {
			f.wantError(c.name, w, c.status, c.code)
		} else if doc := decode[okta.LegacyEnrolment](t, w); doc.ID != e.ID || strings.Contains(w.Body.String(), "sharedSecret") ||
			doc.Device.Profile.DisplayName != "workshop" {
			t.Errorf("%s: %s", c.name, w.Body)
		}
		if got := state(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	f.wantError("unknown", f.call("PUT", enrol+"/pfdunknown", "Bearer manage", token), 404, okta.CodeNotFound)
	f.wantError("PATCH", f.call("PATCH", self, "Bearer manage", token), 405, okta.CodeMethodNotAllowed)
	more := f.request(devicetest.New(t))
	more.Methods = more.Methods[:2]
	without := decode[okta.LegacyEnrolment](t, f.call("POST", enrol, "Bearer manage", more))
	more.Device.ID, more.Device.ClientInstanceID = without.Device.ID, without.Device.ClientInstanceID
	more.Methods = append(more.Methods, okta.LegacyMethodRequest{Type: okta.MethodTOTP})
	f.wantError("a method that is not enrolled", f.call("PUT", enrol+"/"+without.ID, "Bearer manage", more), 400, okta.CodeValidation)
	if len(f.notified) == 0 || f.notified[0] != e.ID {
		t.Errorf("notified %v", f.notified)
	}
}

func TestDelete(t *testing.T) {
	f := setUp(t)
	a, b := devicetest.New(t), devicetest.New(t)
	e, own := f.create(a), f.create(b)
	self := enrol + "/" + e.ID
	for _, c := range []struct {
		name, authorization string
		status              int
		code                okta.ErrorCode
	}{
		{"nobody", "", 401, okta.CodeInvalidToken},
		{"maintenance", "Bearer maintain", 403, okta.CodeForbidden},
		{"old sign-in", "Bearer old", 403, okta.CodeForbidden},
		{"bob", "Bearer bob", 404, okta.CodeNotFound},
		{"another's key", f.ssws(b.PoP, own.ID), 404, okta.CodeNotFound},
	} {
		f.wantError(c.name, f.call("DELETE", self, c.authorization, nil), c.status, c.code)
	}
	f.notified = nil
	if w := f.call("DELETE", self, "Bearer manage", nil); w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.wantError("again", f.call("DELETE", self, "Bearer manage", nil), 410, okta.CodeEnrolmentDeleted)
	if w := f.call("DELETE", enrol+"/"+own.ID, f.ssws(b.PoP, own.ID), nil); w.Code != 204 {
		t.Errorf("by its own key: %d %s", w.Code, w.Body)
	}
	f.wantError("gone", f.call("PUT", enrol+"/"+own.ID, f.ssws(b.PoP, own.ID), f.again(b, own)), 410, okta.CodeEnrolmentDeleted)
	if strings.Join(f.notified, " ") != e.ID+" "+own.ID {
		t.Errorf("notified %v", f.notified)
	}
}

// Whatever a body says, the answer is a document or an error object, and
// never the org's fault.
func FuzzBodies(f *testing.F) {
	h := setUp(f)
	a := devicetest.New(f)
	e := h.create(a)
	for _, req := range []any{h.request(devicetest.New(f)), h.again(a, e), map[string]any{}, []int{1}} {
		b, err := json.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(`{"key":"okta_verify","methods":[{"type":"push","keys":{"userVerification":null}},null,{}]}`)
	f.Add(`{"key":"custom_app","device":{"id":1},"methods":[{"type":"totp","keys":{"proofOfPossession":{"kty":"oct"}}}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		h.t = t
		for _, c := range [][2]string{{"POST", enrol}, {"PUT", enrol + "/" + e.ID}} {
			w := h.call(c[0], c[1], "Bearer manage", body)
			switch w.Code {
			case 200:
				decode[okta.LegacyEnrolment](t, w)
			case 400, 413:
				h.wantError(c[0], w, w.Code, okta.CodeValidation)
			case 401: // a device that it does not prove to be
				h.wantError(c[0], w, w.Code, okta.CodeInvalidToken)
			default:
				t.Errorf("%s: %d %s", c[0], w.Code, w.Body)
			}
		}
	})
}
