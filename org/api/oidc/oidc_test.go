package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/api/httpx"
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

func TestAuthorizeServesThePage(t *testing.T) {
	for _, path := range []string{"/oauth2/v1/authorize", "/oauth2/default/v1/authorize"} {
		f := setUp(t)
		r := f.get(path + "?" + params("login_hint", "alice@example.com", "max_age", "60", "acr_values", "phr bogus").Encode())
		page := body(t, r)
		if r.StatusCode != 200 || !strings.Contains(page, `"stateToken":"state-token"`) || !strings.Contains(page, "Sign in to Web &lt;app&gt;") {
			t.Fatalf("%d %s", r.StatusCode, page)
		}
		i := f.engine.started[0]
		server := map[bool]string{true: "default"}[strings.Contains(path, "default")]
		age := 60
		want := signin.Intent{ClientID: "web", AuthorizationServer: server, Mode: signin.Redirect, RedirectURI: callback, State: "s-1", Nonce: "n-1",
			CodeChallenge: challenge, Scopes: []string{"openid", "profile"}, MaxAge: &age, LoginHint: "alice@example.com", ACRValues: []string{"phr"},
			PageOrigin: base, Browser: session.Reference(okta.Secret(f.browser.Value)), ClientIP: "192.0.2.1"}
		if d := cmp.Diff(want, i, secrets); d != "" {
			t.Error(d)
		}
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers: %v", r.Header)
		}
		if len(sids(r)) != 0 {
			t.Error("a cookie before success")
		}
	}
}

// Until client and redirect URI are proven, nothing is sent anywhere: no open redirect.
func TestUnprovenRedirectsAreShownNotFollowed(t *testing.T) {
	f := setUp(t)
	for name, v := range map[string]url.Values{
		"no client":           params("client_id", ""),
		"unknown client":      params("client_id", "nope"),
		"long client":         params("client_id", strings.Repeat("a", 5000)),
		"no redirect":         params("redirect_uri", ""),
		"foreign":             params("redirect_uri", "https://evil.example.com/callback"),
		"other client's":      params("redirect_uri", "https://other.example.com/cb"),
		"suffix":              params("redirect_uri", "http://localhost:3000/callback/../evil"),
		"longer path":         params("redirect_uri", "http://localhost:3000/callbackx"),
		"trailing slash":      params("redirect_uri", "http://localhost:3000/callback/"),
		"userinfo":            params("redirect_uri", "http://localhost:3000@evil.example.com/callback"),
		"port with userinfo":  params("redirect_uri", "http://localhost:@evil.example.com/callback"),
		"lookalike host":      params("redirect_uri", "http://localhost.evil.example.com:3000/callback"),
		"other loopback name": params("redirect_uri", "http://127.0.0.1:3000/callback"),
		"no port":             params("redirect_uri", "http://localhost/callback"),
		"https":               params("redirect_uri", "https://localhost:3000/callback"),
		"the pattern itself":  params("redirect_uri", "http://localhost:*/callback"),
		"upper case":          params("redirect_uri", "HTTP://LOCALHOST:3000/callback"),
		"query":               params("redirect_uri", callback+"?x=1"),
		"fragment":            params("redirect_uri", callback+"#x"),
		"encoded":             params("redirect_uri", "http://localhost:3000/%63allback"),
		"line break":          params("redirect_uri", callback+"\r\nSet-Cookie: sid=x"),
		"protocol-relative":   params("redirect_uri", "//evil.example.com/callback"),
		"script, registered":  params("client_id", "careless", "redirect_uri", "javascript:alert(1)"),
		"user, registered":    params("client_id", "careless", "redirect_uri", "https://user@app.example.com/"),
		"hash, registered":    params("client_id", "careless", "redirect_uri", "https://app.example.com/#x"),
	} {
		for _, as := range []string{"/oauth2/v1/authorize", "/oauth2/default/v1/authorize"} {
			for _, r := range []*http.Response{f.get(as + "?" + v.Encode()), f.post(as, v)} {
				page := body(t, r)
				if r.StatusCode != 400 || r.Header.Get("Location") != "" || !strings.Contains(page, "This sign-in link does not work") || strings.Contains(page, "evil") {
					t.Errorf("%s: %d %q", name, r.StatusCode, r.Header.Get("Location"))
				}
			}
		}
	}
	twice := params()
	twice.Add("redirect_uri", callback)
	if r := f.get("/oauth2/v1/authorize?" + twice.Encode()); r.StatusCode != 400 || r.Header.Get("Location") != "" {
		t.Error("two redirect URIs")
	}
	if len(f.engine.started) != 0 {
		t.Error("a sign-in was started")
	}
	// A native app's own scheme, properly registered, is fine.
	if r := f.get("/oauth2/v1/authorize?" + params("client_id", "careless", "redirect_uri", "com.example.app:/done").Encode()); r.StatusCode != 200 {
		t.Errorf("native scheme: %d", r.StatusCode)
	}
}

func TestOtherRefusalsGoToTheApp(t *testing.T) {
	f := setUp(t)
	for name, c := range map[string]struct {
		v    url.Values
		want string
	}{
		"no response type":     {params("response_type", ""), "invalid_request"},
		"implicit":             {params("response_type", "token"), "unsupported_response_type"},
		"hybrid":               {params("response_type", "code id_token"), "unsupported_response_type"},
		"post message":         {params("response_mode", "okta_post_message"), "unsupported_response_mode"},
		"no state":             {params("state", ""), "invalid_request"},
		"odd state":            {params("state", "a b"), "invalid_request"},
		"markup in state":      {params("state", "<script>"), "invalid_request"},
		"no PKCE":              {params("code_challenge", "", "code_challenge_method", ""), "invalid_request"},
		"plain PKCE":           {params("code_challenge_method", "plain"), "invalid_request"},
		"unsaid PKCE method":   {params("code_challenge_method", ""), "invalid_request"},
		"short challenge":      {params("code_challenge", "abc"), "invalid_request"},
		"padded challenge":     {params("code_challenge", challenge+"="), "invalid_request"},
		"no scope":             {params("scope", ""), "invalid_scope"},
		"unknown scope":        {params("scope", "openid admin"), "invalid_scope"},
		"another app's scope":  {params("scope", "openid okta.myAccount.appAuthenticator.manage"), "invalid_scope"},
		"profile alone":        {params("scope", "profile"), "invalid_scope"},
		"long scope":           {params("scope", strings.Repeat("openid ", 200)), "invalid_request"},
		"prompt none and more": {params("prompt", "none login"), "invalid_request"},
		"unknown prompt":       {params("prompt", "maybe"), "invalid_request"},
		"negative age":         {params("max_age", "-1"), "invalid_request"},
		"huge age":             {params("max_age", "2147483648"), "invalid_request"},
		"age in words":         {params("max_age", "old"), "invalid_request"},
		"request object":       {params("request", "e30."), "invalid_request"},
		"request URI":          {params("request_uri", "urn:okta:x"), "invalid_request"},
		"control in nonce":     {params("nonce", "a\x00b"), "invalid_request"},
		"long nonce":           {params("nonce", strings.Repeat("n", 3000)), "invalid_request"},
		"silent, signed out":   {params("prompt", "none"), "login_required"},
	} {
		r := f.get("/oauth2/v1/authorize?" + c.v.Encode())
		u, err := r.Location()
		if err != nil || r.StatusCode != 302 {
			t.Errorf("%s: %d", name, r.StatusCode)
			continue
		}
		q := u.Query()
		if q.Get("error") != c.want || !strings.HasPrefix(u.String(), callback+"?") || q.Get("state") != c.v.Get("state") || q.Get("error_description") == "" || q.Has("code") {
			t.Errorf("%s: %s", name, u)
		}
		if r.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: the address may leak", name)
		}
	}
	twice := params()
	twice.Add("scope", "openid")
	if u, _ := f.get("/oauth2/v1/authorize?" + twice.Encode()).Location(); u == nil || u.Query().Get("error") != "invalid_request" {
		t.Errorf("two scopes: %v", u)
	}
	f.engine.err = errors.New("disk on fire")
	if u, _ := f.get("/oauth2/v1/authorize?" + params().Encode()).Location(); u == nil || u.Query().Get("error") != "server_error" || strings.Contains(u.String(), "fire") {
		t.Errorf("server error: %v", u)
	}
	// E5: scopes of the org's APIs are the org server's alone.
	v := params("client_id", "agent", "redirect_uri", "http://127.0.0.1:9/callback", "scope", "openid okta.myAccount.appAuthenticator.manage")
	f.engine.err = nil
	if r := f.get("/oauth2/v1/authorize?" + v.Encode()); r.StatusCode != 200 {
		t.Errorf("at the org: %d", r.StatusCode)
	}
	if u, _ := f.get("/oauth2/default/v1/authorize?" + v.Encode()).Location(); u == nil || u.Query().Get("error") != "invalid_scope" {
		t.Errorf("at default: %v", u)
	}
}

func TestResponseModes(t *testing.T) {
	f := setUp(t)
	f.engine.satisfied = true
	r := f.get("/oauth2/v1/authorize?" + params("response_mode", "fragment").Encode())
	if l := r.Header.Get("Location"); !strings.HasPrefix(l, callback+"#code=") {
		t.Errorf("fragment: %s", l)
	}
	r = f.get("/oauth2/v1/authorize?" + params("redirect_uri", "https://app.example.com/cb?x=1").Encode())
	if l := r.Header.Get("Location"); !strings.HasPrefix(l, "https://app.example.com/cb?x=1&code=") {
		t.Errorf("existing query: %s", l)
	}
	r = f.post("/oauth2/v1/authorize", params())
	if r.StatusCode != 303 {
		t.Errorf("after a POST: %d", r.StatusCode)
	}
	r = f.get("/oauth2/v1/authorize?" + params("response_mode", "form_post").Encode())
	page := body(t, r)
	if r.StatusCode != 200 || !strings.Contains(page, `action="http://localhost:3000/callback"`) || !strings.Contains(page, `name="code"`) || !strings.Contains(page, `name="state" value="s-1"`) {
		t.Errorf("form_post: %d %s", r.StatusCode, page)
	}
	if csp := r.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action http://localhost:3000;") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("form_post: %s", csp)
	}
}

// The whole way of a browser: page, success, session, code, tokens, userinfo, revoke.
func TestSignInToTokens(t *testing.T) {
	for server, path := range map[string]string{"": "/oauth2/v1", "default": "/oauth2/default/v1"} {
		f := setUp(t)
		f.get(path + "/authorize?" + params("scope", "openid profile email offline_access").Encode())
		r := f.get("/login/token/redirect?stateToken=state-token")
		u, err := r.Location()
		if err != nil || u.Query().Get("state") != "s-1" || u.Query().Get("code") == "" {
			t.Fatalf("%q: %d %v", server, r.StatusCode, u)
		}
		if len(r.Cookies()) != 1 || r.Cookies()[0].Name != "sid" || !r.Cookies()[0].Secure {
			t.Fatalf("cookies: %v", r.Cookies())
		}
		if again := f.get("/login/token/redirect?stateToken=state-token"); again.StatusCode != 400 || len(again.Cookies()) != 0 {
			t.Errorf("a state token worked twice: %d", again.StatusCode)
		}
		redeem := url.Values{"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")}, "client_id": {"web"}, "redirect_uri": {callback}, "code_verifier": {verifier}}
		r = f.post(path+"/token", redeem, "Origin", "http://localhost:3000")
		if r.StatusCode != 200 || !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
			t.Fatalf("token: %d %s", r.StatusCode, body(t, r))
		}
		var tokens token.Tokens
		if err := json.Unmarshal([]byte(body(t, r)), &tokens); err != nil {
			t.Fatal(err)
		}
		ask := func(path, bearer string) *http.Response {
			req := httptest.NewRequest(http.MethodGet, base+path, nil)
			req.Header.Set("Authorization", "Bearer "+bearer)
			return f.do(req)
		}
		if r := ask(path+"/userinfo", tokens.AccessToken); r.StatusCode != 200 || !strings.Contains(body(t, r), "alice@example.com") {
			t.Errorf("userinfo: %d", r.StatusCode)
		}
		// E5: the other server does not know the token.
		other := "/oauth2/v1"
		if server == "" {
			other = "/oauth2/default/v1"
		}
		if r := ask(other+"/userinfo", tokens.AccessToken); r.StatusCode != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("userinfo at the other server: %d", r.StatusCode)
		}
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}, "client_id": {"web"}}
		if r := f.post(other+"/token", refresh); oauthError(t, r) != "invalid_grant" {
			t.Error("the other server refreshed the token")
		}
		if r := f.post(path+"/token", refresh); r.StatusCode != 200 {
			t.Errorf("refresh: %d", r.StatusCode)
		}
		if r := f.post(path+"/revoke", url.Values{"token": {tokens.RefreshToken}, "client_id": {"web"}}); r.StatusCode != 200 || body(t, r) != "" {
			t.Errorf("revoke: %d", r.StatusCode)
		}
		if r := ask(path+"/userinfo", tokens.AccessToken); r.StatusCode != 401 {
			t.Errorf("userinfo after revoke: %d", r.StatusCode)
		}
	}
}

// Login CSRF: who finishes a sign-in of their own cannot have it completed in
// somebody else's browser, which would then be signed in as them.
func TestSignInEndsWhereItStarted(t *testing.T) {
	for name, victim := range map[string]*http.Cookie{
		"never here before": {Name: "x", Value: "y"},
		"another browser":   {Name: "__Host-browser", Value: strings.Repeat("A", 43)},
		"malformed":         {Name: "__Host-browser", Value: ""},
		"unprefixed name":   {Name: "browser", Value: ""}, // a sibling domain could have planted it
	} {
		f := setUp(t)
		f.get("/oauth2/v1/authorize?" + params().Encode())
		if c := f.browser; c == nil || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Fatalf("cookie: %+v", c)
		}
		if name == "unprefixed name" {
			victim.Value = f.browser.Value
		}
		if want := session.Reference(okta.Secret(f.browser.Value)); f.engine.started[0].Browser != want {
			t.Fatalf("the sign-in belongs to %q", f.engine.started[0].Browser)
		}
		attacker := f.browser
		f.browser = nil
		r := f.follow("none", "", victim)
		if r.StatusCode != 400 || len(sids(r)) != 0 || r.Header.Get("Location") != "" {
			t.Errorf("%s: %d, %v", name, r.StatusCode, r.Header)
		}
		// And it is used up.
		if r := f.get("/login/token/redirect?stateToken=state-token", attacker); r.StatusCode != 400 || len(sids(r)) != 0 {
			t.Errorf("%s: it could be tried again: %d", name, r.StatusCode)
		}
	}
	// An intent without a browser (an older version's) completes nowhere.
	f := setUp(t)
	f.engine.started = []signin.Intent{{ClientID: web.HomeClientID, Mode: signin.Redirect, RedirectURI: base + web.HomePath}}
	if r := f.follow("none", "", &http.Cookie{Name: "__Host-browser", Value: ""}); r.StatusCode != 400 {
		t.Errorf("no browser: %d", r.StatusCode)
	}
}

// The state token is bound to nothing but its transaction until success: a
// sign-in page may show it in another browser than the one that asked for it,
// and end it there. A link from anywhere else may not.
func TestSignInEndsFromASignInPage(t *testing.T) {
	for _, c := range []struct {
		site, referrer string
		ends           bool
	}{
		{"same-origin", base + "/oauth2/v1/authorize", true},
		{"same-site", "http://localhost:3000/sign-in", true},
		{"cross-site", "http://localhost:3000/", true},
		{"", "", true}, // no browser
		{"none", "", false},
		{"none", "http://localhost:3000/", false},
		{"same-site", "", false},
		{"cross-site", "", false},
		{"cross-site", "https://evil.example/", false},
		{"cross-site", "https://localhost:3000@evil.example/", false},
		{"same-site", "https://evil.example.com/", false},
		{"cross-site", "http://localhost.evil.example:3000/", false},
	} {
		f := setUp(t)
		f.write(func(ctx context.Context, tx store.Tx) error {
			return directory.AddTrustedOrigin(ctx, tx, "http://localhost:*", f.now)
		})
		f.get("/oauth2/v1/authorize?" + params().Encode())
		f.browser = nil
		r := f.follow(c.site, c.referrer)
		if ended := r.StatusCode/100 == 3 && len(sids(r)) == 1; ended != c.ends {
			t.Errorf("%q from %q: %d, cookies %v", c.site, c.referrer, r.StatusCode, sids(r))
		}
	}
}

// follow completes a sign-in the way a browser navigates there.
func (f *fixture) follow(site, referrer string, cookies ...*http.Cookie) *http.Response {
	r := httptest.NewRequest(http.MethodGet, base+"/login/token/redirect?stateToken=state-token", nil)
	for name, value := range map[string]string{"Sec-Fetch-Site": site, "Referer": referrer} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return f.do(r)
}

// A3: a page that may call the APIs cannot read what a navigation would carry,
// above all not a code that the browser's session gets for another app.
func TestNavigationIsNotForScripts(t *testing.T) {
	f := setUp(t)
	f.h = httpx.CORS(func(context.Context) []string { return []string{"https://wiki.example.com"} }, base)(f.h)
	f.engine.satisfied = true
	for _, mode := range []string{"query", "form_post"} {
		r := httptest.NewRequest(http.MethodGet, base+"/oauth2/v1/authorize?"+params("prompt", "none", "response_mode", mode).Encode(), nil)
		r.Header.Set("Origin", "https://wiki.example.com")
		w := f.do(r)
		if text := w.Header.Get("Location") + body(t, w); !strings.Contains(text, "code") {
			t.Fatalf("%s: no code in %q", mode, text)
		}
		if w.Header.Get("Access-Control-Allow-Origin") != "" || w.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %v", mode, w.Header)
		}
	}
	if r := f.post("/oauth2/v1/interact", params(), "Origin", "https://wiki.example.com"); r.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Error("the APIs are for them")
	}
}

// Session fixation: the value that the browser brought is never the one it leaves with.
func TestSessionFixation(t *testing.T) {
	f := setUp(t)
	var planted okta.Secret
	f.write(func(ctx context.Context, tx store.Tx) (err error) {
		planted, err = session.Create(ctx, tx, session.Session{UserID: f.user.ID, AuthTime: f.now}, f.now)
		return err
	})
	for _, value := range []string{planted.Reveal(), strings.Repeat("A", 43), "x"} {
		f.get("/oauth2/v1/authorize?" + params().Encode())
		r := f.get("/login/token/redirect?stateToken=state-token", &http.Cookie{Name: "sid", Value: value})
		if len(r.Cookies()) != 1 || r.Cookies()[0].Value == value {
			t.Fatalf("cookies: %v", r.Cookies())
		}
	}
	err := f.db.Read(t.Context(), func(tx store.Tx) error {
		_, err := session.Lookup(t.Context(), tx, planted, f.now)
		return err
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the planted session lives on: %v", err)
	}
}

func TestSatisfiedSessionGetsACodeAtOnce(t *testing.T) {
	f := setUp(t)
	f.engine.satisfied = true
	r := f.get("/oauth2/v1/authorize?" + params("prompt", "none").Encode())
	if u, err := r.Location(); err != nil || u.Query().Get("code") == "" || u.Query().Get("state") != "s-1" {
		t.Errorf("%d %v", r.StatusCode, u)
	}
	if len(sids(r)) != 0 {
		t.Error("the session changed without a sign-in")
	}
}

func TestAssuranceAsked(t *testing.T) {
	f := setUp(t)
	f.engine.satisfied = true
	code := func(acr string, amr ...string) url.Values {
		f.engine.amr = amr
		u, err := f.get("/oauth2/v1/authorize?" + params("acr_values", acr).Encode()).Location()
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	for _, c := range []struct {
		acr  string
		amr  []string
		fits bool
	}{
		{"phr", []string{"pwd", "okta_verify", "phr", "mfa"}, true},
		{"phr", []string{"pwd"}, false},
		{"phrh", []string{"okta_verify", "phr", "swk"}, false},
		{"phrh", []string{"okta_verify", "phr", "hwk"}, true},
		{"urn:okta:loa:2fa:any", []string{"pwd", "okta_verify", "mfa"}, true},
		{"urn:okta:loa:2fa:any", []string{"pwd"}, false},
		{"phr urn:okta:loa:1fa:pwd", []string{"pwd"}, true},
		{"unheard:of", []string{"pwd"}, true},
	} {
		q := code(c.acr, c.amr...)
		if q.Has("code") != c.fits || !c.fits && q.Get("error") != "unmet_authentication_requirements" {
			t.Errorf("%s by %v: %v", c.acr, c.amr, q)
		}
	}
}

// A2: another site can neither end the session nor take its cookie away. It can
// send the browser to the page that has the button.
func TestForeignSitesDoNotSignOut(t *testing.T) {
	f := setUp(t)
	var sid okta.Secret
	f.write(func(ctx context.Context, tx store.Tx) (err error) {
		sid, err = session.Create(ctx, tx, session.Session{UserID: f.user.ID, AuthTime: f.now}, f.now)
		return err
	})
	ask := func(method, site string, cookie bool) *http.Response {
		r := httptest.NewRequest(method, base+"/login/signout", nil)
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		if cookie {
			r.AddCookie(&http.Cookie{Name: "sid", Value: sid.Reveal()})
		}
		return f.do(r)
	}
	// A form elsewhere: the browser keeps the cookie back (SameSite=Lax).
	if r := ask(http.MethodPost, "cross-site", false); len(r.Cookies()) != 0 {
		t.Errorf("a foreign form: %v", r.Cookies())
	}
	// A link elsewhere carries it.
	if r := ask(http.MethodGet, "cross-site", true); r.StatusCode != 303 || r.Header.Get("Location") != web.HomePath || len(r.Cookies()) != 0 {
		t.Errorf("a foreign link: %d %v", r.StatusCode, r.Header)
	}
	alive := func() bool {
		return f.db.Read(t.Context(), func(tx store.Tx) error {
			_, err := session.Lookup(t.Context(), tx, sid, f.now)
			return err
		}) == nil
	}
	if !alive() {
		t.Fatal("signed out by another site")
	}
	for _, site := range []string{"", "none", "same-origin"} { // typed, or our own button
		if r := ask(http.MethodGet, site, true); len(r.Cookies()) != 1 || r.Cookies()[0].MaxAge >= 0 {
			t.Errorf("%q: %v", site, r.Cookies())
		}
	}
	if alive() {
		t.Error("not signed out")
	}
}

func TestUnassignedUserGetsNoCode(t *testing.T) {
	f := setUp(t)
	f.engine.userID, f.engine.satisfied = "00unobody", true
	u, err := f.get("/oauth2/v1/authorize?" + params().Encode()).Location()
	if err != nil || u.Query().Get("error") != "access_denied" {
		t.Errorf("%v %v", u, err)
	}
}

func TestHomeSignInLandsAtHome(t *testing.T) {
	f := setUp(t)
	f.get("/oauth2/v1/authorize?" + params().Encode()) // for the cookie
	f.engine.started = []signin.Intent{{ClientID: web.HomeClientID, Mode: signin.Redirect, RedirectURI: base + web.HomePath,
		Browser: session.Reference(okta.Secret(f.browser.Value))}}
	r := f.get("/login/token/redirect?stateToken=state-token")
	if r.StatusCode != 303 || r.Header.Get("Location") != web.HomePath || len(r.Cookies()) != 1 {
		t.Fatalf("%d %s", r.StatusCode, r.Header.Get("Location"))
	}
	out := f.post("/login/signout", nil, "Cookie", "sid=whatever")
	if out.StatusCode != 303 || out.Header.Get("Location") != "/login" || out.Cookies()[0].MaxAge >= 0 {
		t.Errorf("sign-out: %d %v", out.StatusCode, out.Cookies())
	}
	sid := r.Cookies()[0]
	req := httptest.NewRequest(http.MethodGet, base+"/login/signout", nil)
	req.AddCookie(sid)
	f.do(req)
	err := f.db.Read(t.Context(), func(tx store.Tx) error {
		_, err := session.Lookup(t.Context(), tx, okta.Secret(sid.Value), f.now)
		return err
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("signed out, but the session lives: %v", err)
	}
}

// A5: the page that started an embedded sign-in is named by its Origin, and
// only trusted ones may start one.
func TestInteract(t *testing.T) {
	f := setUp(t)
	r := f.post("/oauth2/default/v1/interact", params(), "Origin", "http://localhost:3000")
	if got := body(t, r); r.StatusCode != 200 || got != `{"interaction_handle":"interaction-handle"}` || !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
		t.Fatalf("%d %s", r.StatusCode, got)
	}
	if i := f.engine.started[0]; i.PageOrigin != "http://localhost:3000" || i.Mode != signin.InteractionCode || i.AuthorizationServer != "default" {
		t.Errorf("intent: %+v", i)
	}
	f.engine.started = nil
	for name, c := range map[string]struct {
		v      url.Values
		origin string
		want   string
	}{
		"foreign page":      {params(), "https://evil.example.com", "access_denied"},
		"null":              {params(), "null", "access_denied"},
		"lookalike":         {params(), "http://localhost.evil.example.com", "access_denied"},
		"no client":         {params("client_id", ""), "http://localhost:3000", "invalid_client"},
		"foreign redirect":  {params("redirect_uri", "https://evil.example.com/"), "http://localhost:3000", "invalid_request"},
		"no PKCE":           {params("code_challenge", ""), "http://localhost:3000", "invalid_request"},
		"grant not allowed": {params("client_id", "agent", "redirect_uri", "http://127.0.0.1:1/callback"), "http://localhost:3000", "unauthorized_client"},
	} {
		r := f.post("/oauth2/v1/interact", c.v, "Origin", c.origin)
		if got := oauthError(t, r); got != c.want || r.StatusCode < 400 {
			t.Errorf("%s: %d %s", name, r.StatusCode, got)
		}
	}
	if len(f.engine.started) != 0 {
		t.Error("a sign-in was started")
	}
	// Without an Origin no page started it: only the org's own may carry its challenges.
	f.post("/oauth2/v1/interact", params("state", ""))
	if len(f.engine.started) != 1 || f.engine.started[0].PageOrigin != base {
		t.Errorf("without origin: %+v", f.engine.started)
	}
}

func TestTokenEndpointErrors(t *testing.T) {
	f := setUp(t)
	for name, c := range map[string]struct {
		v       url.Values
		headers []string
		status  int
		want    string
	}{
		"nothing":          {url.Values{}, nil, 401, "invalid_client"},
		"unknown client":   {url.Values{"client_id": {"nope"}}, nil, 401, "invalid_client"},
		"with a secret":    {url.Values{"client_id": {"web"}, "client_secret": {"x"}}, nil, 401, "invalid_client"},
		"basic":            {url.Values{"client_id": {"web"}}, []string{"Authorization", "Basic d2ViOg=="}, 401, "invalid_client"},
		"no grant type":    {url.Values{"client_id": {"web"}}, nil, 400, "invalid_request"},
		"password grant":   {url.Values{"client_id": {"web"}, "grant_type": {"password"}}, nil, 400, "unsupported_grant_type"},
		"not allowed":      {url.Values{"client_id": {"agent"}, "grant_type": {"refresh_token"}}, nil, 400, "unauthorized_client"},
		"no code":          {url.Values{"client_id": {"web"}, "grant_type": {"authorization_code"}}, nil, 400, "invalid_request"},
		"no verifier":      {url.Values{"client_id": {"web"}, "grant_type": {"authorization_code"}, "code": {"x"}}, nil, 400, "invalid_request"},
		"no redirect":      {url.Values{"client_id": {"web"}, "grant_type": {"authorization_code"}, "code": {"x"}, "code_verifier": {verifier}}, nil, 400, "invalid_request"},
		"bad code":         {url.Values{"client_id": {"web"}, "grant_type": {"authorization_code"}, "code": {"x"}, "code_verifier": {verifier}, "redirect_uri": {callback}}, nil, 400, "invalid_grant"},
		"bad interaction":  {url.Values{"client_id": {"web"}, "grant_type": {"interaction_code"}, "interaction_code": {"x"}, "code_verifier": {verifier}}, nil, 400, "invalid_grant"},
		"no refresh token": {url.Values{"client_id": {"web"}, "grant_type": {"refresh_token"}}, nil, 400, "invalid_request"},
		"bad refresh":      {url.Values{"client_id": {"web"}, "grant_type": {"refresh_token"}, "refresh_token": {"x"}}, nil, 400, "invalid_grant"},
		"JSON":             {url.Values{"client_id": {"web"}}, []string{"Content-Type", "application/json"}, 400, "invalid_request"},
		"twice":            {url.Values{"client_id": {"web", "web"}}, nil, 400, "invalid_request"},
		"too large":        {url.Values{"client_id": {strings.Repeat("a", 1<<17)}}, nil, 400, "invalid_request"},
		"foreign page":     {url.Values{"client_id": {"web"}}, []string{"Origin", "https://evil.example.com"}, 400, "access_denied"},
	} {
		r := f.post("/oauth2/v1/token", c.v, c.headers...)
		if got := oauthError(t, r); got != c.want || r.StatusCode != c.status || !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: %d %s", name, r.StatusCode, got)
		}
	}
	// Credentials in the address are not read.
	q := url.Values{"client_id": {"web"}, "grant_type": {"refresh_token"}, "refresh_token": {"x"}}
	if r := f.post("/oauth2/v1/token?"+q.Encode(), nil); oauthError(t, r) != "invalid_client" {
		t.Error("parameters of the address were read")
	}
	for _, h := range []string{"", "Bearer ", "Bearer nonsense", "Basic x", "DPoP", "DPoP "} {
		req := httptest.NewRequest(http.MethodGet, base+"/oauth2/v1/userinfo?access_token=x", nil)
		req.Header.Set("Authorization", h)
		if r := f.do(req); r.StatusCode != 401 || r.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("userinfo with %q: %d", h, r.StatusCode)
		}
	}
}

func TestDiscovery(t *testing.T) {
	f := setUp(t)
	grants := []any{"authorization_code", "interaction_code", "refresh_token", "urn:openid:params:grant-type:ciba"}
	methods := []any{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"}
	orgGrants := append(slices.Clone(grants), "urn:ietf:params:oauth:grant-type:jwt-bearer")
	for path, want := range map[string]struct {
		issuer, base string
		grants       []any
	}{
		"/.well-known/openid-configuration":                      {base, base + "/oauth2/v1", orgGrants},
		"/oauth2/default/.well-known/openid-configuration":       {base + "/oauth2/default", base + "/oauth2/default/v1", grants},
		"/oauth2/default/.well-known/oauth-authorization-server": {base + "/oauth2/default", base + "/oauth2/default/v1", grants},
	} {
		r := f.get(path)
		var got map[string]any
		if err := json.Unmarshal([]byte(body(t, r)), &got); err != nil || r.StatusCode != 200 {
			t.Fatalf("%s: %d %v", path, r.StatusCode, err)
		}
		golden := map[string]any{
			"issuer":                                want.issuer,
			"authorization_endpoint":                want.base + "/authorize",
			"token_endpoint":                        want.base + "/token",
			"userinfo_endpoint":                     want.base + "/userinfo",
			"jwks_uri":                              want.base + "/keys",
			"revocation_endpoint":                   want.base + "/revoke",
			"response_types_supported":              []any{"code"},
			"response_modes_supported":              []any{"query", "fragment", "form_post"},
			"grant_types_supported":                 want.grants,
			"subject_types_supported":               []any{"public"},
			"id_token_signing_alg_values_supported": []any{"RS256"},
			"scopes_supported":                      []any{"openid", "profile", "email", "offline_access"},
			"token_endpoint_auth_methods_supported": methods,
			"claims_supported": []any{"ver", "jti", "iss", "sub", "aud", "iat", "exp", "auth_time", "amr", "acr", "idp", "nonce", "at_hash",
				"name", "preferred_username", "given_name", "family_name", "locale", "updated_at", "email", "email_verified"},
			"acr_values_supported":                             []any{"urn:okta:loa:1fa:any", "urn:okta:loa:1fa:pwd", "urn:okta:loa:2fa:any", "urn:okta:loa:2fa:any:ifpossible", "phr", "phrh"},
			"code_challenge_methods_supported":                 []any{"S256"},
			"revocation_endpoint_auth_methods_supported":       methods,
			"token_endpoint_auth_signing_alg_values_supported": []any{"RS256", "RS384", "RS512", "ES256"},
			"backchannel_authentication_endpoint":              want.base + "/bc/authorize",
			"backchannel_token_delivery_modes_supported":       []any{"poll"},
			"backchannel_user_code_parameter_supported":        false,
			"dpop_signing_alg_values_supported":                []any{"ES256", "RS256"},
			"request_parameter_supported":                      false,
			"request_uri_parameter_supported":                  false,
		}
		if d := cmp.Diff(golden, got); d != "" {
			t.Errorf("%s:\n%s", path, d)
		}
	}
	r := f.get("/oauth2/default/v1/keys")
	var set struct{ Keys []jose.JWK }
	if err := json.Unmarshal([]byte(body(t, r)), &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("keys: %v", err)
	}
	if cc := r.Header.Get("Cache-Control"); !regexp.MustCompile(`^max-age=\d+, must-revalidate$`).MatchString(cc) {
		t.Errorf("keys: %s", cc)
	}
	for _, k := range set.Keys {
		if k.Algorithm != "RS256" || k.Use != "sig" || k.KeyID == "" || k.KeyType != "RSA" {
			t.Errorf("key %+v", k)
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	f := setUp(t)
	for _, path := range []string{"/oauth2/nope/.well-known/openid-configuration", "/oauth2/nope/v1/authorize", "/oauth2/", "/oauth2/v1/", "/.well-known/oauth-authorization-server"} {
		r := f.get(path)
		var e okta.Error
		if err := json.Unmarshal([]byte(body(t, r)), &e); err != nil || r.StatusCode != 404 || e.Code != okta.CodeNotFound {
			t.Errorf("%s: %d %v", path, r.StatusCode, e.Code)
		}
	}
	for _, path := range []string{"/oauth2/v1/token", "/oauth2/default/v1/interact", "/oauth2/v1/revoke"} {
		if r := f.get(path + "?client_id=web"); r.StatusCode != 405 {
			t.Errorf("GET %s: %d", path, r.StatusCode)
		}
	}
}

func FuzzAuthorizeParameters(f *testing.F) {
	f.Add(params().Encode(), callback)
	f.Add(params("prompt", "none", "max_age", "0").Encode(), callback)
	f.Add("client_id=web&client_id=x", "http://localhost:1/callback")
	f.Add(params("scope", "openid\x00").Encode(), "http://localhost:65536/callback")
	f.Add("%zz", "javascript:alert(1)")
	app := directory.App{ClientID: "web", RedirectURIs: []string{"http://localhost:*/callback", "https://app.example.com/cb"}, Scopes: []string{"openid", "email"}}
	f.Fuzz(func(t *testing.T, query, uri string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		v.Set("redirect_uri", uri)
		if target(v, app) != nil {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.Host != "app.example.com" && u.Hostname() != "localhost" || u.User != nil || u.Fragment != "" {
			t.Fatalf("answers would be sent to %q", uri)
		}
		i, err := parse(v, token.ServerDefault, app, true)
		if err != nil {
			if e := token.OAuthError(err); e.HTTPStatus >= 500 {
				t.Errorf("a bad request counts as the server's fault: %v", err)
			}
			return
		}
		ok := i.State != "" && token.ValidChallenge(i.CodeChallenge) && len(i.Scopes) > 0 && i.RedirectURI == uri &&
			!strings.ContainsAny(i.State, "<>\"' \r\n") && (i.MaxAge == nil || *i.MaxAge >= 0)
		for _, s := range i.Scopes {
			ok = ok && slices.Contains(app.Scopes, s)
		}
		if !ok {
			t.Errorf("accepted %+v", i)
		}
	})
}
