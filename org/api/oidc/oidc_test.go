package oidc

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/signin"
	"countersign.dev/org/token"
)

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
