package oidc

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/token"
)

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

func TestUnassignedUserGetsNoCode(t *testing.T) {
	f := setUp(t)
	f.engine.userID, f.engine.satisfied = "00unobody", true
	u, err := f.get("/oauth2/v1/authorize?" + params().Encode()).Location()
	if err != nil || u.Query().Get("error") != "access_denied" {
		t.Errorf("%v %v", u, err)
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
