package token

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

const (
	base     = "https://id.example.com"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636, appendix B
	callback = "https://app.example.com/callback"
)

var challenge = func() string {
	h := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(h[:])
}()

// ring is a signer with one key, in place of the org's.
type ring struct{ key *rsa.PrivateKey }

var testRing = sync.OnceValue(func() ring {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return ring{k}
})

func (r ring) Sign(ctx context.Context, typ string, claims any) (string, error) {
	return jose.Sign(ctx, jose.SoftwareSigner("k1", r.key), typ, claims)
}

func (r ring) Verify(token string, use jose.Use, claims any) error {
	t, err := jose.Parse(token, use)
	if err != nil {
		return err
	}
	jwk, err := jose.NewJWK("k1", &r.key.PublicKey, "")
	if err != nil {
		return err
	}
	if err := t.Verify(jwk); err != nil {
		return err
	}
	return t.Claims(claims)
}

type fixture struct {
	*Service
	t    *testing.T
	now  time.Time
	user directory.User
	org  directory.OrgInfo
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f := &fixture{t: t, now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	f.Service = New(Deps{DB: db, Signing: testRing(), BaseURL: base, Now: func() time.Time { return f.now }})
	f.write(func(ctx context.Context, tx store.Tx) (err error) {
		if f.org, err = directory.EnsureOrg(ctx, tx, f.now); err != nil {
			return err
		}
		f.user, err = directory.CreateUser(ctx, tx, directory.User{
			Login: "alice@example.com", Email: "alice@example.com", FirstName: "Alice", LastName: "Example"}, f.now)
		if err != nil {
			return err
		}
		everyone, err := directory.EnsureGroup(ctx, tx, directory.EveryoneGroup, f.now)
		if err != nil {
			return err
		}
		for _, id := range []string{"app", "other"} {
			if err := directory.PutApp(ctx, tx, directory.App{ClientID: id, Label: id, RedirectURIs: []string{callback}}, f.now); err != nil {
				return err
			}
			if err := directory.AssignGroup(ctx, tx, id, everyone.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return f
}

func (f *fixture) write(fn func(context.Context, store.Tx) error) {
	f.t.Helper()
	ctx := f.t.Context()
	if err := f.db.Write(ctx, func(tx store.Tx) error { return fn(ctx, tx) }); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) grant() Grant {
	return Grant{
		ClientID: "app", UserID: f.user.ID, RedirectURI: callback, Nonce: "n-1", CodeChallenge: challenge,
		Scopes: []string{"openid", "profile", "email", "offline_access"}, AMR: []string{"pwd", "okta_verify", "phr", "mfa"},
		AuthTime: f.now.Add(-time.Minute), EnrolmentID: "pfd1", DeviceID: "guo1", KeyID: "KEY",
	}
}

func (f *fixture) code(g Grant) string {
	f.t.Helper()
	var code string
	f.write(func(ctx context.Context, tx store.Tx) (err error) {
		code, err = f.IssueCode(ctx, tx, g)
		return err
	})
	return code
}

func (f *fixture) redemption(code string) Redemption {
	return Redemption{ClientID: "app", Code: code, RedirectURI: callback, Verifier: verifier}
}

func (f *fixture) signIn() Tokens {
	f.t.Helper()
	tokens, err := f.RedeemCode(f.t.Context(), f.redemption(f.code(f.grant())))
	if err != nil {
		f.t.Fatal(err)
	}
	return tokens
}

func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// E5: every token is worth something at its own server and as its own kind only.
func TestTokenConfusion(t *testing.T) {
	f := setUp(t)
	org := f.signIn()
	g := f.grant()
	g.AuthorizationServer = ServerDefault
	r := f.redemption(f.code(g))
	r.AuthorizationServer = ServerDefault
	custom, err := f.RedeemCode(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(change func(*accessClaims)) string {
		var c accessClaims
		if err := testRing().Verify(org.AccessToken, jose.AccessToken, &c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		token, err := testRing().Sign(t.Context(), "", c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for name, c := range map[string]struct{ server, token string }{
		"default's at the org":    {ServerOrg, custom.AccessToken},
		"the org's at default":    {ServerDefault, org.AccessToken},
		"at no server":            {"nope", org.AccessToken},
		"ID token":                {ServerOrg, org.IDToken},
		"refresh token":           {ServerOrg, org.RefreshToken},
		"empty":                   {ServerOrg, ""},
		"tampered":                {ServerOrg, org.AccessToken[:len(org.AccessToken)-4] + "AAAA"},
		"other user":              {ServerOrg, forge(func(c *accessClaims) { c.UserID = "00u2" })},
		"other client":            {ServerOrg, forge(func(c *accessClaims) { c.ClientID = "other" })},
		"unknown id":              {ServerOrg, forge(func(c *accessClaims) { c.ID = "AT.none" })},
		"other audience":          {ServerOrg, forge(func(c *accessClaims) { c.Audience = "api://default" })},
		"other issuer":            {ServerOrg, forge(func(c *accessClaims) { c.Issuer = base + "/oauth2/default" })},
		"issuer with a slash":     {ServerOrg, forge(func(c *accessClaims) { c.Issuer = base + "/" })},
		"expired":                 {ServerOrg, forge(func(c *accessClaims) { c.ExpiresAt = okta.DateOf(f.now) })},
		"default's row as org's":  {ServerOrg, forge(func(c *accessClaims) { c.ID = claims(t, custom.AccessToken)["jti"].(string) })},
		"without an expiry":       {ServerOrg, forge(func(c *accessClaims) { c.ExpiresAt = 0 })},
		"with a megabyte of user": {ServerOrg, forge(func(c *accessClaims) { c.Subject = strings.Repeat("a", 1<<20) })},
	} {
		if got, err := f.VerifyAccessTokenOf(t.Context(), c.server, c.token); !errors.Is(err, TokenInvalid) || got.UserID != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAccessEnds(t *testing.T) {
	for name, end := range map[string]func(*fixture, Tokens){
		"expiry": func(f *fixture, _ Tokens) { f.now = f.now.Add(AccessLifetime) },
		"revoked": func(f *fixture, tokens Tokens) {
			if err := f.Revoke(t.Context(), ServerOrg, "app", tokens.AccessToken); err != nil {
				t.Error(err)
			}
		},
		"refresh token revoked": func(f *fixture, tokens Tokens) {
			if err := f.Revoke(t.Context(), ServerOrg, "app", tokens.RefreshToken); err != nil {
				t.Error(err)
			}
		},
		"user suspended": func(f *fixture, _ Tokens) {
			f.write(func(ctx context.Context, tx store.Tx) error {
				return directory.SetUserStatus(ctx, tx, f.user.ID, directory.StatusSuspended, f.now)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			tokens := f.signIn()
			if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); err != nil {
				t.Fatal(err)
			}
			end(f, tokens)
			if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); !errors.Is(err, TokenInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRevokeIsForOwnTokens(t *testing.T) {
	f := setUp(t)
	tokens := f.signIn()
	for _, token := range []string{tokens.AccessToken, tokens.RefreshToken, "unknown", ""} {
		if err := f.Revoke(t.Context(), ServerOrg, "other", token); err != nil {
			t.Error(err)
		}
		if err := f.Revoke(t.Context(), ServerDefault, "app", token); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); err != nil {
		t.Errorf("another's revocation counted: %v", err)
	}
	// An access token alone: the refresh token goes on.
	f.Revoke(t.Context(), ServerOrg, "app", tokens.AccessToken)
	if _, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: tokens.RefreshToken}); err != nil {
		t.Error(err)
	}
}

func TestNothingIsIssuedForAHalfMadeGrant(t *testing.T) {
	f := setUp(t)
	for name, change := range map[string]func(*Grant){
		"no client":    func(g *Grant) { g.ClientID = "" },
		"no user":      func(g *Grant) { g.UserID = "" },
		"no redirect":  func(g *Grant) { g.RedirectURI = "" },
		"no challenge": func(g *Grant) { g.CodeChallenge = "" },
		"no scope":     func(g *Grant) { g.Scopes = nil },
		"no time":      func(g *Grant) { g.AuthTime = time.Time{} },
		"other server": func(g *Grant) { g.AuthorizationServer = "x" },
	} {
		g := f.grant()
		change(&g)
		err := f.db.Write(t.Context(), func(tx store.Tx) error {
			_, err := f.IssueCode(t.Context(), tx, g)
			return err
		})
		if err == nil {
			t.Errorf("%s: a code was issued", name)
		}
	}
}

func TestUserInfo(t *testing.T) {
	f := setUp(t)
	c, err := f.VerifyAccessToken(t.Context(), f.signIn().AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.UserInfo(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got["sub"] != f.user.ID || got["given_name"] != "Alice" || got["email"] != "alice@example.com" {
		t.Errorf("got %v", got)
	}
	c.Scopes = []string{"profile"}
	if _, err := f.UserInfo(t.Context(), c); !errors.Is(err, ScopeInsufficient) {
		t.Errorf("without openid: %v", err)
	}
}

func TestExpiredRowsGo(t *testing.T) {
	f := setUp(t)
	tokens := f.signIn()
	// An access token outlives the end of the refresh token it came from.
	f.now = f.now.Add(RefreshLifetime - time.Minute)
	f.code(f.grant())
	late, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: tokens.RefreshToken})
	if err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(CodeLifetime)
	f.code(f.grant())
	if _, err := f.VerifyAccessToken(t.Context(), late.AccessToken); err != nil {
		t.Errorf("the late access token: %v", err)
	}
	f.now = f.now.Add(AccessLifetime)
	f.code(f.grant())
	for _, table := range []string{"oauth_codes", "oauth_grants", "oauth_access_tokens", "oauth_refresh_tokens"} {
		var n int
		f.db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n)
		})
		want := 0
		if table == "oauth_codes" || table == "oauth_grants" {
			want = 1
		}
		if n != want {
			t.Errorf("%s has %d rows, want %d", table, n, want)
		}
	}
}

// C8: what holds tokens does not print them.
func TestTokensDoNotPrint(t *testing.T) {
	f := setUp(t)
	tokens := f.signIn()
	for _, s := range []string{fmt.Sprint(tokens), fmt.Sprintf("%v %+v %#v", tokens, tokens, tokens), fmt.Sprint(&tokens)} {
		if strings.Contains(s, tokens.RefreshToken) || strings.Contains(s, tokens.AccessToken) {
			t.Errorf("printed: %.60s", s)
		}
	}
}

// Section 14: each reason has its row, and a row has all it needs.
func TestReasonTable(t *testing.T) {
	for r := NoClient; r <= ScopeInsufficient; r++ {
		row, ok := reasons[r]
		if !ok || row.status < 400 || row.code == "" || row.text == "" || strings.ContainsAny(row.text, "\"\\\n") {
			t.Errorf("reason %d: %+v", r, row)
		}
	}
	if len(reasons) != int(ScopeInsufficient) {
		t.Errorf("%d rows for %d reasons", len(reasons), ScopeInsufficient)
	}
	for err, want := range map[error]okta.TokenError{
		fmt.Errorf("x: %w", CodeInvalid): {Code: "invalid_grant", HTTPStatus: 400},
		UserNotAssigned:                  {Code: "access_denied", HTTPStatus: 400},
		AccessDenied:                     {Code: "access_denied", HTTPStatus: 403},
		NoClient:                         {Code: "invalid_client", HTTPStatus: 401},
		GrantNotAllowed:                  {Code: "unauthorized_client", HTTPStatus: 400},
		ScopeInsufficient:                {Code: "insufficient_scope", HTTPStatus: 403},
		TokenInvalid:                     {Code: "invalid_token", HTTPStatus: 401},
		errors.New("disk on fire"):       {Code: "server_error", HTTPStatus: 500},
		Reason(0):                        {Code: "server_error", HTTPStatus: 500},
		Reason(-1):                       {Code: "server_error", HTTPStatus: 500},
	} {
		got := OAuthError(err)
		if got.Code != want.Code || got.HTTPStatus != want.HTTPStatus || strings.Contains(got.Description, "fire") {
			t.Errorf("%v: got %v", err, got)
		}
	}
}
