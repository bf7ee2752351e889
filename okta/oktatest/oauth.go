package oktatest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	gojose "github.com/go-jose/go-jose/v4"

	"countersign.dev/okta"
)

// SignIn is the person at the browser of the fake org: whoever opens the
// authorization address is sent back at once, as this says.
type SignIn struct {
	Login  string // "": Login of the package
	UserID string // "": UserID of the package
	Error  string // the org's refusal, e.g. access_denied
	Detail string // error_description of it
	Claims func(map[string]any)
}

// grant is an authorization code that was given out.
type grant struct {
	request url.Values
	who     SignIn
}

// oauth is the state of the authorization server; Org.mu guards it.
type oauth struct {
	bind    bool
	nonce   string
	who     SignIn
	codes   map[string]grant
	asked   []url.Values // authorization requests
	forms   []url.Values // token requests
	revoked []string
	bound   map[string]string // access token -> thumbprint of its key
}

// BindTokens makes the org bind tokens to keys (DPoP), and want the nonce in
// each proof at the token endpoint.
func (o *Org) BindTokens(nonce string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.oauth.bind, o.oauth.nonce = true, nonce
}

// SignsIn says how the next sign-ins at the authorization address end.
func (o *Org) SignsIn(who SignIn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.oauth.who = who
}

// Authorizations returns the authorization requests, in order.
func (o *Org) Authorizations() []url.Values {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]url.Values(nil), o.oauth.asked...)
}

// TokenRequests returns the forms that came to the token endpoint, in order.
func (o *Org) TokenRequests() []url.Values {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]url.Values(nil), o.oauth.forms...)
}

// Revoked returns the tokens that were revoked.
func (o *Org) Revoked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.oauth.revoked...)
}

func (o *Org) discovery(w http.ResponseWriter, _ *http.Request) {
	doc := map[string]any{
		"issuer": o.URL, "jwks_uri": o.URL + "/oauth2/v1/keys", "token_endpoint": o.URL + "/oauth2/v1/token",
		"authorization_endpoint": o.URL + "/oauth2/v1/authorize", "revocation_endpoint": o.URL + "/oauth2/v1/revoke",
		"code_challenge_methods_supported": []string{"S256"},
	}
	o.mu.Lock()
	if o.oauth.bind {
		doc["dpop_signing_alg_values_supported"] = []string{"RS256", "ES256"}
	}
	o.mu.Unlock()
	reply(w, doc)
}

func (o *Org) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o.mu.Lock()
	o.oauth.asked = append(o.oauth.asked, q)
	who, code := o.oauth.who, "code-"+rand.Text()
	if o.oauth.codes == nil {
		o.oauth.codes = map[string]grant{}
	}
	o.oauth.codes[code] = grant{q, who}
	o.mu.Unlock()
	back := url.Values{"state": {q.Get("state")}}
	if who.Error != "" {
		back.Set("error", who.Error)
		back.Set("error_description", who.Detail)
	} else {
		back.Set("code", code)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func tokenError(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(okta.TokenError{Code: code, Description: detail})
}

func (o *Org) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("client_id") != o.ClientID {
		tokenError(w, http.StatusUnauthorized, "invalid_client", "unknown client")
		return
	}
	o.mu.Lock()
	bind, nonce := o.oauth.bind, o.oauth.nonce
	o.oauth.forms = append(o.oauth.forms, r.PostForm)
	o.mu.Unlock()
	doc := map[string]any{"access_token": "fake-access-token", "token_type": "Bearer", "expires_in": 3600, "scope": r.PostForm.Get("scope")}
	if bind && r.Header.Get("DPoP") != "" {
		key, given, err := CheckProof(r, "")
		switch {
		case err != nil:
			tokenError(w, http.StatusBadRequest, "invalid_dpop_proof", err.Error())
			return
		case given != nonce:
			w.Header().Set("DPoP-Nonce", nonce)
			tokenError(w, http.StatusBadRequest, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof.")
			return
		}
		doc["token_type"], doc["access_token"] = "DPoP", "bound-"+rand.Text()
		o.mu.Lock()
		if o.oauth.bound == nil {
			o.oauth.bound = map[string]string{}
		}
		o.oauth.bound[doc["access_token"].(string)] = key
		o.mu.Unlock()
	}
	if t := r.PostForm.Get("grant_type"); t == "authorization_code" || t == "interaction_code" {
		idToken, err := o.redeem(r.PostForm)
		if err != nil {
			tokenError(w, http.StatusBadRequest, "invalid_grant", err.Error())
			return
		}
		doc["id_token"] = idToken
	}
	reply(w, doc)
}

// redeem takes a code once, with the verifier of who asked for it.
func (o *Org) redeem(form url.Values) (idToken string, err error) {
	code := form.Get("code")
	if form.Get("grant_type") == "interaction_code" {
		code = form.Get("interaction_code")
	}
	o.mu.Lock()
	g, ok := o.oauth.codes[code]
	delete(o.oauth.codes, code)
	o.mu.Unlock()
	digest := sha256.Sum256([]byte(form.Get("code_verifier")))
	switch {
	case !ok:
		return "", errors.New("the code is not known, or used")
	case g.request.Get("redirect_uri") != form.Get("redirect_uri"):
		return "", errors.New("another redirect_uri")
	case g.request.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(digest[:]) || g.request.Get("code_challenge_method") != "S256":
		return "", errors.New("PKCE verification failed")
	}
	login, user, now := Login, UserID, time.Now().Unix()
	if g.who.Login != "" {
		login = g.who.Login
	}
	if g.who.UserID != "" {
		user = g.who.UserID
	}
	claims := map[string]any{
		"iss": o.URL, "aud": o.ClientID, "sub": user, "nonce": g.request.Get("nonce"),
		"iat": now, "exp": now + 3600, "auth_time": now, "preferred_username": login,
	}
	if g.who.Claims != nil {
		g.who.Claims(claims)
	}
	return o.Sign("JWT", claims), nil
}

func (o *Org) revoke(w http.ResponseWriter, r *http.Request) {
	if r.ParseForm() == nil {
		o.mu.Lock()
		o.oauth.revoked = append(o.oauth.revoked, r.PostForm.Get("token"))
		o.mu.Unlock()
	}
	w.WriteHeader(http.StatusOK)
}

// admits says whether a request is authorised as its scheme demands: any
// credential will do, but a bound token needs the proof of its own key.
func (o *Org) admits(r *http.Request) bool {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if credential == "" {
		return false
	}
	o.mu.Lock()
	owner, bound := o.oauth.bound[credential]
	o.mu.Unlock()
	if !bound {
		return scheme != "DPoP"
	}
	key, _, err := CheckProof(r, credential)
	return scheme == "DPoP" && err == nil && key == owner
}

// CheckProof verifies the DPoP proof of a request and returns the thumbprint of
// its key and its nonce. token is the access token that goes with it, if any.
func CheckProof(r *http.Request, token string) (thumbprint, nonce string, err error) {
	headers := r.Header.Values("DPoP")
	if len(headers) != 1 {
		return "", "", errors.New("not one proof")
	}
	proof, err := gojose.ParseSignedCompact(headers[0], []gojose.SignatureAlgorithm{gojose.ES256})
	if err != nil {
		return "", "", err
	}
	header := proof.Signatures[0].Protected
	if header.JSONWebKey == nil || !header.JSONWebKey.IsPublic() || header.ExtraHeaders[gojose.HeaderType] != "dpop+jwt" {
		return "", "", errors.New("no public key in the header, or another type")
	}
	payload, err := proof.Verify(header.JSONWebKey)
	if err != nil {
		return "", "", err
	}
	var c struct {
		ID, HTM, HTU, Nonce, ATH string
		IssuedAt                 int64 `json:"iat"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return "", "", err
	}
	ath := ""
	if token != "" {
		digest := sha256.Sum256([]byte(token))
		ath = base64.RawURLEncoding.EncodeToString(digest[:])
	}
	age := time.Now().Unix() - c.IssuedAt
	if c.HTM != r.Method || c.HTU != "http://"+r.Host+r.URL.Path || c.ATH != ath || age < -5 || age > 300 {
		return "", "", errors.New("the proof is for another request")
	}
	sum, err := header.JSONWebKey.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), c.Nonce, err
}
