package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/signingkey"
	"countersign.dev/org/store"
	"countersign.dev/org/token"
	"countersign.dev/org/web"
)

const (
	base     = "https://id.example.com"
	callback = "http://localhost:3000/callback"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

var challenge = func() string {
	h := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(h[:])
}()

var secrets = cmp.Comparer(func(a, b okta.Secret) bool { return a.Reveal() == b.Reveal() })

// engine stands in for the sign-in engine: Start remembers the intent, Complete
// gives it back once, as if alice had signed in.
type engine struct {
	started   []signin.Intent
	satisfied bool
	err       error
	userID    string
	amr       []string
	now       func() time.Time
}

func (e *engine) Start(_ context.Context, i signin.Intent) (signin.Handle, error) {
	if e.err != nil {
		return signin.Handle{}, e.err
	}
	e.started = append(e.started, i)
	return signin.Handle{StateToken: "state-token", InteractionHandle: "interaction-handle", Satisfied: e.satisfied}, nil
}

func (e *engine) Complete(_ context.Context, stateToken string) (signin.Completed, error) {
	if stateToken != "state-token" || len(e.started) == 0 {
		return signin.Completed{}, signin.ErrSessionExpired
	}
	i := e.started[len(e.started)-1]
	e.started = nil
	return signin.Completed{Intent: i, UserID: e.userID, AMR: e.amr, AuthTime: e.now().Add(-time.Second),
		EnrolmentID: "pfd1", DeviceID: "guo1", KeyID: "KEY", KeyProtection: "SOFTWARE"}, nil
}

type fixture struct {
	t       *testing.T
	h       http.Handler
	db      *store.DB
	engine  *engine
	back    *devices
	devices *device.Registry
	org     directory.OrgInfo
	user    directory.User
	now     time.Time

	browser *http.Cookie // kept as a browser keeps it; the session is the tests' business
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f := &fixture{t: t, db: db, now: time.Now().Truncate(time.Second)}
	now := func() time.Time { return f.now }
	f.write(func(ctx context.Context, tx store.Tx) error {
		if f.org, err = directory.EnsureOrg(ctx, tx, f.now); err != nil {
			return err
		}
		f.user, err = directory.CreateUser(ctx, tx, directory.User{Login: "alice@example.com", Email: "alice@example.com", FirstName: "Alice", LastName: "Example"}, f.now)
		if err != nil {
			return err
		}
		everyone, err := directory.EnsureGroup(ctx, tx, directory.EveryoneGroup, f.now)
		if err != nil {
			return err
		}
		all := []string{"authorization_code", "interaction_code", "refresh_token"}
		scopes := []string{"openid", "profile", "email", "offline_access"}
		for _, app := range []directory.App{
			{ClientID: "web", Label: "Web <app>", RedirectURIs: []string{"http://localhost:*/callback", "https://app.example.com/cb?x=1"}, GrantTypes: all, Scopes: scopes},
			{ClientID: "other", Label: "Other", RedirectURIs: []string{"https://other.example.com/cb"}, GrantTypes: all, Scopes: scopes},
			{ClientID: "agent", Label: "Agent", RedirectURIs: []string{"http://127.0.0.1:*/callback"}, GrantTypes: []string{"authorization_code"}, Scopes: []string{"openid", "okta.myAccount.appAuthenticator.manage"}},
			{ClientID: "countersign-agent", Label: "Countersign", GrantTypes: []string{okta.GrantJWTBearer},
				Scopes: []string{"openid", "offline_access", okta.ScopeManage, okta.ScopeMaintenanceManage, okta.ScopeMaintenanceRead}},
			{ClientID: "reader", Label: "Reader", GrantTypes: []string{okta.GrantJWTBearer}, Scopes: []string{okta.ScopeMaintenanceRead}},
			{ClientID: "careless", Label: "Careless", RedirectURIs: []string{"javascript:alert(1)", "https://user@app.example.com/", "https://app.example.com/#x", "com.example.app:/done"}, GrantTypes: all, Scopes: scopes},
			{ClientID: web.HomeClientID, Label: "Home", RedirectURIs: []string{base + web.HomePath}, GrantTypes: []string{"authorization_code"}, Scopes: scopes},
		} {
			if err := directory.PutApp(ctx, tx, app, f.now); err != nil {
				return err
			}
			if err := directory.AssignGroup(ctx, tx, app.ClientID, everyone.ID); err != nil {
				return err
			}
		}
		return nil
	})
	ring, err := signingkey.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	f.engine = &engine{userID: f.user.ID, amr: []string{"pwd", "okta_verify", "phr", "swk", "mfa"}, now: now}
	f.back = &devices{f: f}
	f.devices = device.NewRegistry(db, base, now)
	pages := web.New(web.Deps{DB: db, Engine: f.engine, BaseURL: base, LoopbackPorts: []int{8769}, Now: now})
	f.h = New(Deps{
		DB: db, Tokens: token.New(token.Deps{DB: db, Signing: ring, BaseURL: base, Now: now}), Engine: f.engine, Back: f.back, Devices: f.devices, Keys: ring,
		Pages: pages, BaseURL: base, Now: now,
		Trusted: func(_ context.Context, origin string) bool {
			return directory.OriginTrusted([]string{"http://localhost:*"}, origin)
		},
	})
	return f
}

func (f *fixture) write(fn func(context.Context, store.Tx) error) {
	f.t.Helper()
	if err := f.db.Write(f.t.Context(), func(tx store.Tx) error { return fn(f.t.Context(), tx) }); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) get(path string, cookies ...*http.Cookie) *http.Response {
	r := httptest.NewRequest(http.MethodGet, base+path, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return f.do(r)
}

func (f *fixture) post(path string, v url.Values, headers ...string) *http.Response {
	r := httptest.NewRequest(http.MethodPost, base+path, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return f.do(r)
}

func (f *fixture) do(r *http.Request) *http.Response {
	const name = "__Host-browser"
	if _, err := r.Cookie(name); err != nil && f.browser != nil {
		r.AddCookie(f.browser)
	}
	w := httptest.NewRecorder()
	f.h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.Name == name {
			f.browser = c
		}
	}
	return w.Result()
}

// sids are the session cookies of an answer.
func sids(r *http.Response) []*http.Cookie {
	return slices.DeleteFunc(r.Cookies(), func(c *http.Cookie) bool { return c.Name != session.CookieName })
}

func params(changes ...string) url.Values {
	v := url.Values{"client_id": {"web"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid profile"},
		"state": {"s-1"}, "nonce": {"n-1"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			v.Del(changes[i])
		} else {
			v.Set(changes[i], changes[i+1])
		}
	}
	return v
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func oauthError(t *testing.T, r *http.Response) string {
	t.Helper()
	var e okta.TokenError
	if err := json.Unmarshal([]byte(body(t, r)), &e); err != nil {
		t.Fatal(err)
	}
	return e.Code
}
