package myaccount_test

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/myaccount"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/park"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

const (
	base    = "http://localhost:8080"
	enrol   = base + okta.AppAuthenticatorsPath
	agentID = "countersign-agent"
)

// tokens is the token service: a token's name says what it is good for.
type tokens struct {
	mu sync.Mutex
	of map[okta.Secret]myaccount.Access // guarded by mu
}

func (k *tokens) revoke(t okta.Secret) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, t)
}

// pin makes a token good for one enrolment alone.
func (k *tokens) pin(t okta.Secret, enrolmentID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.of[t]
	a.EnrolmentID = enrolmentID
	k.of[t] = a
}

func (k *tokens) VerifyAccessToken(_ context.Context, t okta.Secret) (myaccount.Access, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.of[t]
	switch {
	case t == "suspended":
		return myaccount.Access{}, okta.NewError(okta.CodeUserSuspended)
	case !ok:
		return myaccount.Access{}, errors.New("no such token")
	}
	return a, nil
}

type fixture struct {
	http.Handler
	t      *testing.T
	db     *store.DB
	info   directory.OrgInfo
	alice  directory.User
	now    time.Time
	tokens *tokens
	lot    *park.Lot

	mu    sync.Mutex
	queue []okta.PendingChallenge // guarded by mu
}

func setUp(t *testing.T) *fixture {
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
			directory.PutApp(ctx, tx, directory.App{ClientID: agentID, Label: "Countersign", Scopes: []string{"openid", myaccount.ScopeManage}}, f.now),
			directory.PutApp(ctx, tx, directory.App{ClientID: "web", Scopes: []string{"openid"}}, f.now),
			directory.AddTrustedOrigin(ctx, tx, "https://app.example.com", f.now))
	})
	access := func(u directory.User, age time.Duration, scopes ...string) myaccount.Access {
		return myaccount.Access{UserID: u.ID, Scopes: scopes, AuthTime: f.now.Add(-age), Strong: true}
	}
	weak := access(f.alice, time.Minute, myaccount.ScopeManage)
	weak.Strong = false
	f.tokens = &tokens{of: map[okta.Secret]myaccount.Access{
		"manage":   access(f.alice, time.Minute, "openid", myaccount.ScopeManage),
		"old":      access(f.alice, time.Hour, myaccount.ScopeManage),
		"weak":     weak,
		"maintain": access(f.alice, time.Minute, myaccount.ScopeMaintenanceManage),
		"read":     access(f.alice, time.Minute, myaccount.ScopeMaintenanceRead),
		"device":   {UserID: f.alice.ID, Scopes: []string{myaccount.ScopeMaintenanceManage, myaccount.ScopeMaintenanceRead}, EnrolmentID: "pfdother"},
		"openid":   access(f.alice, time.Minute, "openid"),
		"bob":      access(bob, time.Minute, myaccount.ScopeManage),
		"nobody":   {Scopes: []string{myaccount.ScopeManage}},
		"timeless": {UserID: f.alice.ID, Scopes: []string{myaccount.ScopeManage}},
	}}
	f.lot = park.New(park.Config{})
	t.Cleanup(f.lot.Close)
	clock := func() time.Time { return f.now }
	registry := device.NewRegistry(f.db, base, clock)
	registry.OnNotice(f.lot.Notify)
	f.Handler = myaccount.New(myaccount.Deps{
		DB: f.db, Registry: registry, Tokens: f.tokens, BaseURL: base, Now: clock,
		Pending: func(_ context.Context, _ store.Tx, id string, _ time.Time) ([]okta.PendingChallenge, error) {
			if id == "" {
				t.Error("pending of no enrolment")
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.queue, nil
		},
		Lot: f.lot,
		Log: slog.New(slog.DiscardHandler),
	})
	return f
}

// push replaces what waits for everybody.
func (f *fixture) push(challenges ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = nil
	for _, c := range challenges {
		f.queue = append(f.queue, okta.PendingChallenge{PayloadVersion: okta.PayloadVersion, Challenge: c})
	}
}

// call makes a request as a client of the protocol does.
func (f *fixture) call(method, url, authorization string, body any, header ...string) *httptest.ResponseRecorder {
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
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", okta.MergePatchVersion)
	}
	req.Header.Set("Accept", okta.AcceptVersion)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, req)
	return w
}

func (f *fixture) create(a devicetest.Agent) okta.Enrolment {
	f.t.Helper()
	w := f.call(http.MethodPost, enrol, "Bearer manage", a.Request(f.info.Authenticators.OktaVerify))
	if w.Code != 200 {
		f.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return decode[okta.Enrolment](f.t, w)
}

func (f *fixture) wantError(what string, w *httptest.ResponseRecorder, status int, code okta.ErrorCode) {
	f.t.Helper()
	if got := decode[okta.Error](f.t, w); w.Code != status || got.Code != code {
		f.t.Errorf("%s: %d %s, want %d %s", what, w.Code, w.Body, status, code)
	}
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%d %q: %v", w.Code, w.Body, err)
	}
	return v
}

func TestDiscovery(t *testing.T) {
	f := setUp(t)
	w := f.call(http.MethodGet, base+okta.OrganizationPath, "", nil)
	o := decode[okta.Organization](t, w)
	if w.Code != 200 || o.ID != f.info.ID || o.Pipeline != "idx" || o.Links.Organization == nil || o.Links.Organization.Href != base {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	path := base + okta.AuthenticatorConfigurationPath
	f.wantError("without client id", f.call(http.MethodGet, path, "", nil), 400, okta.CodeParameterMissing)
	f.wantError("wrong method", f.call(http.MethodPost, path, "", nil), 405, okta.CodeMethodNotAllowed)
	for _, id := range []string{"unknown", "web"} {
		if w := f.call(http.MethodGet, path+"?oauthClientId="+id, "", nil); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		}
	}
	list := decode[[]okta.AuthenticatorConfiguration](t, f.call(http.MethodGet, path+"?oauthClientId="+agentID, "Bearer whatever", nil))
	if len(list) != 1 {
		t.Fatalf("%d configurations", len(list))
	}
	c := list[0]
	if c.AuthenticatorID != f.info.Authenticators.OktaVerify || c.OrgID != f.info.ID || c.Type != "app" || c.EnrolEndpoint != enrol ||
		!slices.Equal(c.LoopbackOrigins, []string{"https://app.example.com"}) || c.Settings.OAuthClientID != agentID {
		t.Errorf("%+v", c)
	}
	var methods []string
	for _, m := range c.SupportedMethods {
		methods = append(methods, string(m.Type)+" "+m.Status)
	}
	if got := strings.Join(methods, ", "); got != "push ACTIVE, signed_nonce ACTIVE, totp ACTIVE" {
		t.Errorf("methods %s", got)
	}
	if got := c.SupportedMethods[0].Settings.TransactionTypes; !slices.Equal(got, []string{"LOGIN", "CIBA"}) {
		t.Errorf("transaction types %v", got)
	}
	if got, want := c.SupportedMethods[2].Settings, (okta.MethodSettings{TimeInterval: 30, Encoding: "Base32", HMAC: "HMACSHA1", PassCodeLength: 6}); !reflect.DeepEqual(got, want) {
		t.Errorf("totp settings %+v", got)
	}
}

// The published shape of 2.4, member by member.
func TestEnrolmentDocument(t *testing.T) {
	f := setUp(t)
	a := devicetest.New(t)
	w := f.call(http.MethodPost, enrol, "Bearer manage", a.Request(f.info.Authenticators.OktaVerify))
	if got := w.Header().Get("Content-Type"); w.Code != 200 || got != "application/json;okta-version=1.0.0" {
		t.Fatalf("%d %q %s", w.Code, got, w.Body)
	}
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	id, _ := doc["id"].(string)
	date := okta.Timestamp(f.now)
	for path, want := range map[string]any{
		"authenticatorId": f.info.Authenticators.OktaVerify, "createdDate": date, "lastUpdated": date,
		"user.id": f.alice.ID, "user.username": "alice@example.com",
		"device.status": "ACTIVE", "device.createdDate": date, "device.profile.displayName": "workshop", "device.profile.platform": "LINUX",
		"methods.push.createdDate":                date,
		"methods.push.links.pending.href":         enrol + "/" + id + "/push/notifications",
		"methods.push.links.pending.hints.allow.": "GET",
		"links.self.href":                         enrol + "/" + id,
		"links.self.hints.allow.":                 "PATCH DELETE",
	} {
		if got := at(doc, path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for path, prefix := range map[string]string{
		"id": "pfd", "device.id": "guo", "device.clientInstanceId": "cli", "methods.push.id": "opf", "methods.signed_nonce.id": "opf",
	} {
		if s, _ := at(doc, path).(string); !strings.HasPrefix(s, prefix) {
			t.Errorf("%s: %q", path, s)
		}
	}
	if doc["_links"] != nil || at(doc, "device.profile.clientInstanceKey") != nil {
		t.Errorf("members that do not belong: %s", w.Body)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", at(doc, "createdDate").(string)); err != nil {
		t.Error(err)
	}
	again := f.create(a)
	if again.ID != id {
		t.Errorf("repeated: %s, want %s", again.ID, id)
	}
}

// at follows a dotted path; a trailing dot joins a list.
func at(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		if list, ok := v.([]any); ok && name == "" {
			var parts []string
			for _, e := range list {
				parts = append(parts, e.(string))
			}
			return strings.Join(parts, " ")
		}
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func TestWhoMayDoWhat(t *testing.T) {
	f := setUp(t)
	a := devicetest.New(t)
	e := f.create(a)
	self, pending := e.Links["self"].Href, e.Methods[okta.MethodPush].Links["pending"].Href
	uv := `{"methods":{"push":{"keys":{"userVerification":` + string(a.UV.Raw(t)) + `}}}}`
	token := `{"methods":{"push":{"pushToken":"new"}}}`
	types := `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN","CIBA"]}}}}`
	typesUnderKeys := `{"methods":{"push":{"keys":{"capabilities":{"transactionTypes":["LOGIN"]}}}}}`
	tokenAndKey := `{"methods":{"push":{"pushToken":"new","keys":{"userVerification":` + string(a.UV.Raw(t)) + `}}}}`
	request := devicetest.New(t).Request(f.info.Authenticators.OktaVerify)
	for _, c := range []struct {
		name, method, url, authorization string
		body                             any
		status                           int
		code                             okta.ErrorCode
	}{
		{"create: nobody", "POST", enrol, "", request, 401, okta.CodeInvalidToken},
		{"create: empty bearer", "POST", enrol, "Bearer", request, 401, okta.CodeInvalidToken},
		{"create: bad bearer", "POST", enrol, "Bearer forged", request, 401, okta.CodeInvalidToken},
		{"create: bearer of nobody", "POST", enrol, "Bearer nobody", request, 401, okta.CodeInvalidToken},
		{"create: basic", "POST", enrol, "Basic manage", request, 401, okta.CodeInvalidToken},
		{"create: scope", "POST", enrol, "Bearer openid", request, 403, okta.CodeForbidden},
		{"create: maintenance scope", "POST", enrol, "Bearer maintain", request, 403, okta.CodeForbidden},
		// C2: a whole new device is more than a verifying key. An access token
		// lying about, or a refreshed one, must not enrol whoever finds it.
		{"create: old sign-in", "POST", enrol, "Bearer old", request, 403, okta.CodeForbidden},
		// A password alone must not add a second factor.
		{"create: a second one, by one factor", "POST", enrol, "Bearer weak", request, 403, okta.CodeForbidden},
		{"create: the same again, by one factor", "POST", enrol, "Bearer weak", a.Request(f.info.Authenticators.OktaVerify), 200, ""},
		{"update: key, by one factor", "PATCH", self, "Bearer weak", uv, 403, okta.CodeForbidden},
		{"update: token, by one factor", "PATCH", self, "Bearer weak", token, 200, ""},
		{"delete: by one factor", "DELETE", self, "Bearer weak", nil, 403, okta.CodeForbidden},
		{"create: sign-in at no time", "POST", enrol, "Bearer timeless", request, 403, okta.CodeForbidden},
		{"create: bad link", "POST", enrol, "OTDT forged", request, 401, okta.CodeInvalidToken},
		{"create: suspended user", "POST", enrol, "Bearer suspended", request, 423, okta.CodeUserSuspended},
		{"create: admin token", "POST", enrol, "SSWS manage", request, 401, okta.CodeInvalidToken},
		{"update: nobody", "PATCH", self, "", token, 401, okta.CodeInvalidToken},
		{"update: link", "PATCH", self, "OTDT x", token, 401, okta.CodeInvalidToken},
		{"update: read scope", "PATCH", self, "Bearer read", token, 403, okta.CodeForbidden},
		{"update: another user", "PATCH", self, "Bearer bob", token, 404, okta.CodeNotFound},
		{"update: unknown", "PATCH", enrol + "/pfdunknown", "Bearer manage", token, 404, okta.CodeNotFound},
		{"update: token, maintenance", "PATCH", self, "Bearer maintain", token, 200, ""},
		{"update: token, manage", "PATCH", self, "Bearer old", token, 200, ""},
		{"update: types, maintenance", "PATCH", self, "Bearer maintain", types, 200, ""},
		{"update: types, read scope", "PATCH", self, "Bearer read", types, 403, okta.CodeForbidden},
		{"update: types under keys, maintenance", "PATCH", self, "Bearer maintain", typesUnderKeys, 200, ""},
		{"update: token and key, maintenance", "PATCH", self, "Bearer maintain", tokenAndKey, 403, okta.CodeForbidden},
		{"update: token and key, old sign-in", "PATCH", self, "Bearer old", tokenAndKey, 403, okta.CodeForbidden},
		{"update: token and key", "PATCH", self, "Bearer manage", tokenAndKey, 200, ""},
		// C2: a verifying key takes the full scope and a fresh sign-in.
		{"update: key, maintenance", "PATCH", self, "Bearer maintain", uv, 403, okta.CodeForbidden},
		{"update: key, old sign-in", "PATCH", self, "Bearer old", uv, 403, okta.CodeForbidden},
		{"update: key, sign-in at no time", "PATCH", self, "Bearer timeless", uv, 403, okta.CodeForbidden},
		{"update: key", "PATCH", self, "Bearer manage", uv, 200, ""},
		{"pending: nobody", "GET", pending, "", nil, 401, okta.CodeInvalidToken},
		{"pending: openid", "GET", pending, "Bearer openid", nil, 403, okta.CodeForbidden},
		{"pending: another user", "GET", pending, "Bearer bob", nil, 404, okta.CodeNotFound},
		{"delete: maintenance", "DELETE", self, "Bearer maintain", nil, 403, okta.CodeForbidden},
		// A policy may ask for a possession factor only while there is one: taking
		// it away with a token that lies about must not leave the password alone.
		{"delete: old sign-in", "DELETE", self, "Bearer old", nil, 403, okta.CodeForbidden},
		{"delete: another user", "DELETE", self, "Bearer bob", nil, 404, okta.CodeNotFound},
		{"get", "GET", self, "Bearer manage", nil, 405, okta.CodeMethodNotAllowed},
		{"unknown path", "GET", self + "/x", "Bearer manage", nil, 404, okta.CodePathNotFound},
	} {
		w := f.call(c.method, c.url, c.authorization, c.body)
		if c.code == "" {
			if w.Code != c.status {
				t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
			}
			continue
		}
		f.wantError(c.name, w, c.status, c.code)
	}
	for _, scope := range []string{"read", "maintain", "manage"} {
		w := f.call("GET", pending, "Bearer "+scope, nil)
		if w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("pending with %s: %d %s", scope, w.Code, w.Body)
		}
	}
	f.push("a.b.c")
	if list := decode[[]okta.PendingChallenge](t, f.call("GET", pending, "Bearer read", nil)); len(list) != 1 || list[0] != f.queue[0] {
		t.Errorf("pending: %v", list)
	}
	if w := f.call("DELETE", self, "Bearer manage", nil); w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("delete: %d %s", w.Code, w.Body)
	}
	f.wantError("delete twice", f.call("DELETE", self, "Bearer manage", nil), 410, okta.CodeEnrolmentDeleted)
	f.wantError("pending of a deleted one", f.call("GET", pending, "Bearer read", nil), 410, okta.CodeEnrolmentDeleted)
}

// A maintenance token is for the enrolment whose key asked for it; another of
// the same user's is not even there.
func TestMaintenanceTokenIsForItsEnrolment(t *testing.T) {
	f := setUp(t)
	e := f.create(devicetest.New(t))
	self, pending := e.Links["self"].Href, e.Methods[okta.MethodPush].Links["pending"].Href
	token := `{"methods":{"push":{"pushToken":"new"}}}`
	f.wantError("pending of another", f.call("GET", pending, "Bearer device", nil), 404, okta.CodeNotFound)
	f.wantError("update of another", f.call("PATCH", self, "Bearer device", token), 404, okta.CodeNotFound)
	f.tokens.pin("device", e.ID)
	if w := f.call("GET", pending, "Bearer device", nil); w.Code != 200 {
		t.Errorf("pending: %d %s", w.Code, w.Body)
	}
	if w := f.call("PATCH", self, "Bearer device", token); w.Code != 200 {
		t.Errorf("update: %d %s", w.Code, w.Body)
	}
	f.wantError("delete", f.call("DELETE", self, "Bearer device", nil), 403, okta.CodeForbidden)
}

// The shared secret of one-time codes is in the answer to create, repeated or
// not, and in no other.
func TestSharedSecret(t *testing.T) {
	f := setUp(t)
	a := devicetest.New(t)
	req := a.Request(f.info.Authenticators.OktaVerify)
	req.Methods.TOTP = &okta.MethodRequest{}
	secret := func(w *httptest.ResponseRecorder) string {
		t.Helper()
		doc := decode[okta.Enrolment](t, w)
		m, ok := doc.Methods[okta.MethodTOTP]
		if !ok || m.ID == "" || m.Links != nil {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return m.SharedSecret.Reveal()
	}
	first := f.call("POST", enrol, "Bearer manage", req)
	if raw, err := base32.StdEncoding.DecodeString(secret(first)); err != nil || len(raw) != 20 {
		t.Errorf("%s: %v", first.Body, err)
	}
	if again := f.call("POST", enrol, "Bearer manage", req); secret(again) != secret(first) {
		t.Errorf("repeated: %s", again.Body)
	}
	self := decode[okta.Enrolment](t, first).Links["self"].Href
	for _, body := range []string{`{}`, `{"methods":{"push":{"pushToken":"new"},"totp":{}}}`} {
		if w := f.call("PATCH", self, "Bearer manage", body); secret(w) != "" || strings.Contains(w.Body.String(), "sharedSecret") {
			t.Errorf("%s: %s", body, w.Body)
		}
	}
}

func TestByOwnKey(t *testing.T) {
	f := setUp(t)
	a := devicetest.New(t)
	e := f.create(a)
	self := e.Links["self"].Href
	ssws := func() string {
		return "SSWS " + a.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(e.ID, f.alice.ID, base, f.now))
	}
	once := ssws()
	if w := f.call("PATCH", self, once, `{"methods":{"push":{"pushToken":"new"}}}`); w.Code != 200 || decode[okta.Enrolment](t, w).Methods[okta.MethodPush].ID == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.wantError("replayed", f.call("PATCH", self, once, `{}`), 401, okta.CodeInvalidToken)
	f.wantError("a verifying key", f.call("PATCH", self, ssws(), `{"methods":{"push":{"keys":{"userVerification":null}}}}`), 400, okta.CodeUVRequired)
	if w := f.call("GET", self+"/push/notifications", ssws(), nil); w.Code != 200 {
		t.Errorf("pending: %d %s", w.Code, w.Body)
	}
	if w := f.call("DELETE", self, ssws(), nil); w.Code != 204 {
		t.Errorf("delete: %d %s", w.Code, w.Body)
	}
	f.wantError("gone", f.call("DELETE", self, ssws(), nil), 410, okta.CodeEnrolmentDeleted)
}

func TestByLink(t *testing.T) {
	f := setUp(t)
	var l device.Link
	storetest.Write(t, f.db, func(tx store.Tx) (err error) {
		l, err = device.IssueLink(t.Context(), tx, f.alice.ID, f.now)
		return err
	})
	a := devicetest.New(t)
	req := a.Request(f.info.Authenticators.OktaVerify)
	auth := "OTDT " + l.Token.Reveal()
	first := f.call("POST", enrol, auth, req)
	again := f.call("POST", enrol, auth, req)
	if first.Code != 200 || again.Code != 200 || first.Body.String() != again.Body.String() {
		t.Errorf("%d %s\n%d %s", first.Code, first.Body, again.Code, again.Body)
	}
	f.wantError("another device", f.call("POST", enrol, auth, devicetest.New(t).Request(f.info.Authenticators.OktaVerify)), 401, okta.CodeInvalidToken)
}

func TestMediaTypes(t *testing.T) {
	f := setUp(t)
	for _, c := range []struct {
		name, contentType, accept string
		status                    int
		code                      okta.ErrorCode
	}{
		{"as the SDK sends it", "application/json", "application/json; okta-version=1.0.0", 200, ""},
		{"as the published example has it", "application/json, okta-version=1.0.0", "application/json;okta-version=1.0.0", 200, ""},
		{"without version", "application/json", "application/json", 200, ""},
		{"another version", "application/json", "application/json; okta-version=2.0.0", 406, okta.CodeNotAcceptable},
		{"html", "application/json", "text/html", 406, okta.CodeNotAcceptable},
		{"form", "application/x-www-form-urlencoded", "*/*", 415, okta.CodeUnsupportedMediaType},
	} {
		w := f.call("POST", enrol, "Bearer manage", devicetest.New(t).Request(f.info.Authenticators.OktaVerify), "Content-Type", c.contentType, "Accept", c.accept)
		if c.code != "" {
			f.wantError(c.name, w, c.status, c.code)
		} else if w.Code != c.status {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	for name, body := range map[string]string{
		"not JSON": "x", "empty": "", "list": "[]", "duplicate": `{"authenticatorId":"a","authenticatorId":"b"}`,
		"large": `{"authenticatorId":"` + strings.Repeat("x", 40<<10) + `"}`,
	} {
		if w := f.call("POST", enrol, "Bearer manage", body); w.Code != 400 && w.Code != 413 || decode[okta.Error](t, w).Code != okta.CodeValidation {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
