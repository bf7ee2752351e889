package harness

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// client is used for everything the harness asks an org for by itself. It
// follows no redirect, so that callers see them.
var client = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

const maxBody = 1 << 20

// SignIn is one authorization code flow with PKCE, seen from the app.
type SignIn struct {
	Issuer, Client, Redirect string
	State, Nonce, Verifier   string
}

// NewSignIn prepares a flow for an app of the org. The authorization server is
// "" for the org itself, or "default".
func (o *Org) NewSignIn(client, authorizationServer, redirect string) *SignIn {
	return &SignIn{
		Issuer: o.URL + serverPath(authorizationServer), Client: client, Redirect: redirect,
		State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
	}
}

// endpoint is the address of an OAuth endpoint of the issuer.
func (s *SignIn) endpoint(name string) string {
	if strings.Contains(s.Issuer, "/oauth2/") {
		return s.Issuer + "/v1/" + name
	}
	return s.Issuer + "/oauth2/v1/" + name
}

// AuthorizeURL is where the app sends the browser.
func (s *SignIn) AuthorizeURL() string {
	sum := sha256.Sum256([]byte(s.Verifier))
	q := url.Values{
		"client_id": {s.Client}, "redirect_uri": {s.Redirect}, "response_type": {"code"},
		"scope": {"openid profile email"}, "state": {s.State}, "nonce": {s.Nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	return s.endpoint("authorize") + "?" + q.Encode()
}

// TokenSet is what a flow ends with.
type TokenSet struct {
	IDToken      string `json:"id_token"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// StateToken asks the org for the sign-in page, as a program and not in the
// browser, and takes the state token out of it.
func (s *SignIn) StateToken(ctx context.Context) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AuthorizeURL(), nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	page, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	found := stateToken.FindSubmatch(page)
	if found == nil {
		return "", errNoStateToken
	}
	var token string
	err = json.Unmarshal(found[1], &token)
	return token, err
}

// Redeem exchanges the code that arrived at the redirect address.
func (s *SignIn) Redeem(ctx context.Context, code string) (TokenSet, error) {
	return s.redeem(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {s.Redirect}})
}

// RedeemInteraction exchanges the interaction code that arrived there.
func (s *SignIn) RedeemInteraction(ctx context.Context, code string) (TokenSet, error) {
	return s.redeem(ctx, url.Values{"grant_type": {"interaction_code"}, "interaction_code": {code}})
}

func (s *SignIn) redeem(ctx context.Context, form url.Values) (TokenSet, error) {
	form.Set("client_id", s.Client)
	form.Set("code_verifier", s.Verifier)
	var tokens TokenSet
	err := call(ctx, http.MethodPost, s.endpoint("token"), "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), &tokens)
	return tokens, err
}

// Identity is what an id token says about who signed in, and how.
type Identity struct {
	Subject  string   `json:"sub"`
	Username string   `json:"preferred_username"`
	Name     string   `json:"name"`
	AMR      []string `json:"amr"`
	Nonce    string   `json:"nonce"`
	AuthTime int64    `json:"auth_time"`
}

// VerifyIDToken checks the token the way an app has to: against the keys the
// issuer publishes, and for the right issuer, audience and time. It uses
// another library than the product does.
func VerifyIDToken(ctx context.Context, issuer, clientID, token string) (Identity, error) {
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := call(ctx, http.MethodGet, issuer+"/.well-known/openid-configuration", "", nil, &discovery); err != nil {
		return Identity{}, err
	}
	if discovery.Issuer != issuer {
		return Identity{}, fmt.Errorf("the discovery document of %s names the issuer %s", issuer, discovery.Issuer)
	}
	var keys jose.JSONWebKeySet
	if err := call(ctx, http.MethodGet, discovery.Keys, "", nil, &keys); err != nil {
		return Identity{}, err
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return Identity{}, fmt.Errorf("reading the id token: %w", err)
	}
	payload, err := jws.Verify(keys)
	if err != nil {
		return Identity{}, fmt.Errorf("verifying the id token: %w", err)
	}
	var claims struct {
		Identity
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
		Issued   int64  `json:"iat"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return Identity{}, fmt.Errorf("reading the id token: %w", err)
	}
	const leeway = 60
	now := time.Now().Unix()
	switch {
	case claims.Issuer != issuer:
		err = fmt.Errorf("it is from %s, not %s", claims.Issuer, issuer)
	case claims.Audience != clientID:
		err = fmt.Errorf("it is for %s, not %s", claims.Audience, clientID)
	case claims.Expires <= now || claims.Issued > now+leeway || claims.AuthTime > now+leeway || claims.AuthTime < now-600:
		err = errors.New("its times are wrong")
	case claims.Subject == "":
		err = errors.New("it names nobody")
	}
	if err != nil {
		return Identity{}, fmt.Errorf("checking the id token: %w", err)
	}
	return claims.Identity, nil
}

// ByPasswordAndKey says whether the person proved both the password and the
// possession of a key.
func (i Identity) ByPasswordAndKey() bool {
	return slices.Contains(i.AMR, "pwd") && slices.ContainsFunc(i.AMR, func(m string) bool { return m == "swk" || m == "hwk" || m == "pop" })
}

// StatusError is an answer with another status than 200.
type StatusError struct {
	Status int
	Body   []byte
	what   string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: status %d: %.400s", e.what, e.Status, e.Body)
}

// call makes one request and decodes the JSON of a 200 into dst.
func call(ctx context.Context, method, address, contentType string, body io.Reader, dst any) error {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, address, err)
	}
	if res.StatusCode != http.StatusOK {
		return &StatusError{res.StatusCode, answer, method + " " + address}
	}
	if err := json.Unmarshal(answer, dst); err != nil {
		return fmt.Errorf("%s %s: reading the answer: %w", method, address, err)
	}
	return nil
}
