package oidc

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

const (
	basicSecret = okta.Secret("a secret: 32 characters + 100% odd")
	postSecret  = okta.Secret("another-secret-of-32-characters-x")
)

// clients adds confidential clients to the fixture: one for each method.
func (f *fixture) clients() devicetest.Key {
	f.t.Helper()
	key := devicetest.NewKey(f.t)
	f.write(func(ctx context.Context, tx store.Tx) error {
		everyone, err := directory.EnsureGroup(ctx, tx, directory.EveryoneGroup, f.now)
		if err != nil {
			return err
		}
		for id, method := range map[string]directory.AuthMethod{
			"basic client": directory.AuthBasic, "post": directory.AuthPost, "signing": directory.AuthPrivateKey, "no-ciba": directory.AuthPost,
		} {
			app := directory.App{ClientID: id, Label: id, AuthMethod: method, RedirectURIs: []string{callback},
				GrantTypes: []string{"authorization_code", "refresh_token", okta.GrantCIBA},
				Scopes:     []string{"openid", "profile", "email", "offline_access"}}
			if method == directory.AuthPrivateKey {
				app.Keys = []jose.JWK{key.JWK}
			}
			if id == "no-ciba" {
				app.GrantTypes = app.GrantTypes[:2]
			}
			if err := directory.PutApp(ctx, tx, app, f.now); err != nil {
				return err
			}
			if err := directory.AssignGroup(ctx, tx, id, everyone.ID); err != nil {
				return err
			}
		}
		for id, secret := range map[string]okta.Secret{"basic client": basicSecret, "post": postSecret, "no-ciba": postSecret} {
			if err := directory.AddClientSecret(ctx, tx, id, secret, f.now); err != nil {
				return err
			}
		}
		return nil
	})
	return key
}

func basicAuth(id string, secret okta.Secret) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret.Reveal())))
}

// assertion is by what the client "signing" proves itself at the token endpoint.
func (f *fixture) clientAssertion() devicetest.Claims {
	return devicetest.NewClaims("signing", "signing", base+"/oauth2/v1/token", f.now)
}

func TestClientsProveThemselves(t *testing.T) {
	f := setUp(t)
	key := f.clients()
	other := devicetest.NewKey(t)
	other.JWK.KeyID = key.JWK.KeyID
	form := func(pairs ...string) url.Values {
		v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}
		for i := 0; i+1 < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	signed := func(assertion string, more ...string) url.Values {
		return form(append([]string{"client_assertion_type", assertionType, "client_assertion", assertion}, more...)...)
	}
	by := func(c devicetest.Claims) string { return key.Sign(t, "JWT", c) }
	good := f.clientAssertion()
	used := by(good.With("jti", "used"))
	if r := f.post("/oauth2/v1/token", signed(used)); oauthError(t, r) != "invalid_grant" {
		t.Fatalf("%d", r.StatusCode)
	}
	at := func(d time.Duration) int64 { return f.now.Add(d).Unix() }
	const pass = "invalid_grant" // the client is believed; its refresh token is not
	for name, c := range map[string]struct {
		form    url.Values
		headers []string
		status  int
		want    string
	}{
		"basic":                       {form(), []string{"Authorization", basicAuth("basic client", basicSecret)}, 400, pass},
		"basic, id in the body":       {form("client_id", "basic client"), []string{"Authorization", basicAuth("basic client", basicSecret)}, 400, pass},
		"post":                        {form("client_id", "post", "client_secret", postSecret.Reveal()), nil, 400, pass},
		"signed":                      {signed(by(good)), nil, 400, pass},
		"signed, id in the body":      {signed(by(good.With("jti", "2")), "client_id", "signing"), nil, 400, pass},
		"signed, no jti":              {signed(by(good.With("jti", nil))), nil, 400, pass},
		"signed, a list":              {signed(by(good.With("jti", "3").With("aud", []string{base + "/oauth2/v1/token"}))), nil, 400, pass},
		"basic, wrong secret":         {form(), []string{"Authorization", basicAuth("basic client", postSecret)}, 401, "invalid_client"},
		"basic, no secret":            {form(), []string{"Authorization", basicAuth("basic client", "")}, 401, "invalid_client"},
		"basic, another's id":         {form("client_id", "post"), []string{"Authorization", basicAuth("basic client", basicSecret)}, 401, "invalid_client"},
		"basic, unknown":              {form(), []string{"Authorization", basicAuth("nope", basicSecret)}, 401, "invalid_client"},
		"basic, a public client":      {form(), []string{"Authorization", basicAuth("web", basicSecret)}, 401, "invalid_client"},
		"basic, not encoded":          {form(), []string{"Authorization", "Basic !"}, 401, "invalid_client"},
		"bearer":                      {form("client_id", "basic client"), []string{"Authorization", "Bearer x"}, 401, "invalid_client"},
		"by post in place of basic":   {form("client_id", "basic client", "client_secret", basicSecret.Reveal()), nil, 401, "invalid_client"},
		"by basic in place of post":   {form(), []string{"Authorization", basicAuth("post", postSecret)}, 401, "invalid_client"},
		"as a public client":          {form("client_id", "post"), nil, 401, "invalid_client"},
		"post, wrong secret":          {form("client_id", "post", "client_secret", basicSecret.Reveal()), nil, 401, "invalid_client"},
		"post, empty secret":          {form("client_id", "post", "client_secret", ""), nil, 401, "invalid_client"},
		"two methods":                 {form("client_secret", postSecret.Reveal()), []string{"Authorization", basicAuth("basic client", basicSecret)}, 401, "invalid_request"},
		"two methods, signed":         {signed(by(good.With("jti", "4")), "client_secret", "x"), nil, 401, "invalid_request"},
		"signed, used":                {signed(used), nil, 401, "invalid_client"},
		"signed, another type":        {form("client_assertion_type", "saml2", "client_assertion", by(good)), nil, 401, "invalid_client"},
		"signed, nothing":             {signed(""), nil, 401, "invalid_client"},
		"signed, another's id":        {signed(by(good), "client_id", "post"), nil, 401, "invalid_client"},
		"signed, another's key":       {signed(other.Sign(t, "JWT", good)), nil, 401, "invalid_client"},
		"signed for another client":   {signed(by(good.With("sub", "post").With("iss", "post"))), nil, 401, "invalid_client"},
		"signed, another issuer":      {signed(by(good.With("iss", "post"))), nil, 401, "invalid_client"},
		"signed for the issuer":       {signed(by(good.With("aud", base))), nil, 401, "invalid_client"},
		"signed for the other server": {signed(by(good.With("aud", base+"/oauth2/default/v1/token"))), nil, 401, "invalid_client"},
		"signed for two":              {signed(by(good.With("aud", []string{base + "/oauth2/v1/token", "x"}))), nil, 401, "invalid_client"},
		"signed, no audience":         {signed(by(good.With("aud", nil))), nil, 401, "invalid_client"},
		"signed, expired":             {signed(by(good.With("exp", at(-time.Minute)))), nil, 401, "invalid_client"},
		"signed, no end":              {signed(by(good.With("exp", nil))), nil, 401, "invalid_client"},
		"signed, for two hours":       {signed(by(good.With("exp", at(2*time.Hour)))), nil, 401, "invalid_client"},
		"signed in the future":        {signed(by(good.With("iat", at(2*time.Minute)))), nil, 401, "invalid_client"},
		"signed, long jti":            {signed(by(good.With("jti", strings.Repeat("j", 257)))), nil, 401, "invalid_client"},
		"signed, another typ":         {signed(key.Sign(t, "dpop+jwt", good)), nil, 401, "invalid_client"},
	} {
		r := f.post("/oauth2/v1/token", c.form, c.headers...)
		challenge := r.Header.Get("WWW-Authenticate")
		if got := oauthError(t, r); got != c.want || r.StatusCode != c.status {
			t.Errorf("%s: %d %s, want %d %s", name, r.StatusCode, got, c.status, c.want)
		}
		if tried := len(c.headers) > 1 && strings.HasPrefix(c.headers[1], "Basic ") && len(c.headers[1]) > 8; tried && c.want == "invalid_client" && challenge == "" {
			t.Errorf("%s: no challenge", name)
		}
	}
	for name, q := range map[string]url.Values{"secret": {"client_secret": {postSecret.Reveal()}}, "assertion": {"client_assertion": {by(good)}}} {
		if r := f.post("/oauth2/v1/token?"+q.Encode(), form("client_id", "post", "client_secret", postSecret.Reveal())); r.StatusCode != 400 || oauthError(t, r) != "invalid_request" {
			t.Errorf("%s in the address: %d", name, r.StatusCode)
		}
	}
}

// E7: of any number of requests with one assertion, one is believed.
func TestParallelClientAssertions(t *testing.T) {
	f := setUp(t)
	key := f.clients()
	assertion := key.Sign(t, "JWT", f.clientAssertion())
	var mu sync.Mutex
	believed := 0
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			r := f.post("/oauth2/v1/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"},
				"client_assertion_type": {assertionType}, "client_assertion": {assertion}})
			mu.Lock()
			defer mu.Unlock()
			if r.StatusCode == http.StatusBadRequest {
				believed++
			}
		})
	}
	wg.Wait()
	if believed != 1 {
		t.Errorf("believed %d times", believed)
	}
}
