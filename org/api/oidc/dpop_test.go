package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
)

type holder struct {
	f   *fixture
	key *ecdsa.PrivateKey
}

func (f *fixture) holder() holder {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	return holder{f, key}
}

func (h holder) proof(method, path, nonce, accessToken string) string {
	h.f.t.Helper()
	claims := map[string]any{"jti": ids.Secret(), "htm": method, "htu": base + path, "iat": h.f.now.Unix()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	proof, err := jose.SignEmbedded(h.key, "dpop+jwt", claims)
	if err != nil {
		h.f.t.Fatal(err)
	}
	return proof
}

// nonce is what the token endpoint asks for.
func (h holder) nonce(path string) string {
	h.f.t.Helper()
	r := h.f.post(path, url.Values{"client_id": {"web"}, "grant_type": {"authorization_code"}}, "DPoP", h.proof("POST", path, "", ""))
	if r.StatusCode != 400 || oauthError(h.f.t, r) != "use_dpop_nonce" || r.Header.Get("DPoP-Nonce") == "" {
		h.f.t.Fatalf("%d %v", r.StatusCode, r.Header)
	}
	return r.Header.Get("DPoP-Nonce")
}

type tokenAnswer struct {
	TokenType    string `json:"token_type"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
}

// code signs the fixture's user in and returns the app's code.
func (f *fixture) code(server, scope string) string {
	f.t.Helper()
	f.engine.satisfied = true
	r := f.get(server + "/authorize?" + params("scope", scope).Encode())
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil || to.Query().Get("code") == "" {
		f.t.Fatalf("%d %s", r.StatusCode, r.Header.Get("Location"))
	}
	return to.Query().Get("code")
}

func codeForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {"web"}, "code": {code},
		"redirect_uri": {callback}, "code_verifier": {verifier}}
}

// From the first refusal for want of a nonce to the user's claims, and the
// refusals of everybody who has the tokens without the key.
func TestDPoP(t *testing.T) {
	for _, server := range []string{"/oauth2/v1", "/oauth2/default/v1"} {
		f := setUp(t)
		h, thief := f.holder(), f.holder()
		path := server + "/token"
		nonce := h.nonce(path)
		code := f.code(server, "openid offline_access")
		ask := func(v url.Values, proof ...string) (*http.Response, tokenAnswer) {
			t.Helper()
			var headers []string
			if len(proof) > 0 {
				headers = []string{"DPoP", proof[0]}
			}
			r := f.post(path, v, headers...)
			text := body(t, r)
			var a tokenAnswer
			_ = json.Unmarshal([]byte(text), &a)
			r.Body = http.NoBody
			return r, a
		}
		r, got := ask(codeForm(code), h.proof("POST", path, nonce, ""))
		if r.StatusCode != 200 || got.TokenType != "DPoP" || got.RefreshToken == "" || got.IDToken == "" {
			t.Fatalf("%d %+v", r.StatusCode, got)
		}
		refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {"web"}, "refresh_token": {got.RefreshToken}}
		if r, _ := ask(refresh); r.StatusCode != 400 {
			t.Errorf("refresh without a proof: %d", r.StatusCode)
		}
		if r, _ := ask(refresh, thief.proof("POST", path, nonce, "")); r.StatusCode != 400 {
			t.Errorf("refresh by another key: %d", r.StatusCode)
		}
		if r, again := ask(refresh, h.proof("POST", path, nonce, "")); r.StatusCode != 200 || again.TokenType != "DPoP" {
			t.Errorf("refresh: %d %+v", r.StatusCode, again)
		}

		info := server + "/userinfo"
		userinfo := func(authorization string, proofs ...string) *http.Response {
			req := httptest.NewRequest(http.MethodGet, base+info, nil)
			req.Header.Set("Authorization", authorization)
			req.Header["Dpop"] = proofs
			return f.do(req)
		}
		at := got.AccessToken
		good := h.proof("GET", info, "", at)
		if r := userinfo("DPoP "+at, good); r.StatusCode != 200 {
			t.Errorf("userinfo: %d %s", r.StatusCode, body(t, r))
		}
		plain := func() string { _, a := ask(codeForm(f.code(server, "openid"))); return a.AccessToken }()
		for name, c := range map[string]struct {
			r      *http.Response
			status int
			code   string
		}{
			"bound, as bearer":     {userinfo("Bearer " + at), 401, "invalid_token"},
			"bearer, with a proof": {userinfo("Bearer "+at, h.proof("GET", info, "", at)), 401, "invalid_token"},
			"no proof":             {userinfo("DPoP " + at), 400, "invalid_request"},
			"two proofs":           {userinfo("DPoP "+at, h.proof("GET", info, "", at), h.proof("GET", info, "", at)), 400, "invalid_dpop_proof"},
			"used proof":           {userinfo("DPoP "+at, good), 400, "invalid_dpop_proof"},
			"another key":          {userinfo("DPoP "+at, thief.proof("GET", info, "", at)), 401, "invalid_token"},
			"no digest":            {userinfo("DPoP "+at, h.proof("GET", info, "", "")), 400, "invalid_dpop_proof"},
			"another method":       {userinfo("DPoP "+at, h.proof("POST", info, "", at)), 400, "invalid_dpop_proof"},
			"another place":        {userinfo("DPoP "+at, h.proof("GET", path, "", at)), 400, "invalid_dpop_proof"},
			"bearer's, as bound":   {userinfo("DPoP "+plain, h.proof("GET", info, "", plain)), 401, "invalid_token"},
		} {
			challenge := c.r.Header.Get("WWW-Authenticate")
			if c.r.StatusCode != c.status || oauthError(t, c.r) != c.code || (c.status == 401) != (challenge != "") {
				t.Errorf("%s: %d %q, want %d %s", name, c.r.StatusCode, challenge, c.status, c.code)
			}
			if strings.HasPrefix(name, "another key") && !strings.HasPrefix(challenge, `DPoP algs="ES256 RS256", error="invalid_token"`) {
				t.Errorf("%s: %s", name, challenge)
			}
		}
		// The other server takes none of it, proof or not.
		other := map[string]string{"/oauth2/v1": "/oauth2/default/v1", "/oauth2/default/v1": "/oauth2/v1"}[server] + "/userinfo"
		req := httptest.NewRequest(http.MethodGet, base+other, nil)
		req.Header.Set("Authorization", "DPoP "+at)
		req.Header.Set("DPoP", h.proof("GET", other, "", at))
		if r := f.do(req); r.StatusCode != 401 {
			t.Errorf("the other server: %d", r.StatusCode)
		}
	}
}

// A refused proof leaves the code alone: it is the client's one try.
func TestRefusedProofDoesNotConsumeTheCode(t *testing.T) {
	f := setUp(t)
	h := f.holder()
	const path = "/oauth2/v1/token"
	nonce := h.nonce(path)
	code := f.code("/oauth2/v1", "openid")
	for name, proof := range map[string]string{
		"no nonce":       h.proof("POST", path, "", ""),
		"another method": h.proof("GET", path, nonce, ""),
		"the other one":  h.proof("POST", "/oauth2/default/v1/token", nonce, ""),
		"rubbish":        "a.b.c",
	} {
		if r := f.post(path, codeForm(code), "DPoP", proof); r.StatusCode != 400 {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
	if r := f.post(path, codeForm(code), "DPoP", h.proof("POST", path, nonce, "")); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, body(t, r))
	}
}
