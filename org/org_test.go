package org_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/org"
	"countersign.dev/org/api/admin"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

const base = "http://localhost:8080"

func open(t *testing.T, c org.Config) *org.Server {
	t.Helper()
	if c.BaseURL == "" {
		c.BaseURL = base
	}
	s, err := org.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func call(s *org.Server, method, path string, body any, header ...string) *httptest.ResponseRecorder {
	var b bytes.Buffer
	if body != nil {
		_ = json.NewEncoder(&b).Encode(body)
	}
	r := httptest.NewRequest(method, base+path, &b)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// The demonstration is what the contract says.
func TestDemoSeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	open(t, org.Config{StateDir: dir, Demo: true, TrustedOrigins: []string{"https://Shop.example.com:443"}}).Close()
	db, err := store.Open(t.Context(), filepath.Join(dir, "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, hasher := t.Context(), directory.NewHasher(1)
	storetest.Read(t, db, func(tx store.Tx) error {
		for _, login := range []string{"alice@example.com", "bob@example.com"} {
			u, err := directory.UserByLogin(ctx, tx, login)
			if err != nil || !u.Active() || u.Email != login {
				t.Fatalf("%s: %+v, %v", login, u, err)
			}
			if ok, err := hasher.Verify(ctx, u.PasswordHash, "Countersign-Demo-1"); !ok || err != nil {
				t.Errorf("%s: password %v, %v", login, ok, err)
			}
			for _, app := range []string{"demo-web", "demo-strict", "demo-uv", "countersign-agent", "countersign-home"} {
				if ok, err := directory.Assigned(ctx, tx, u.ID, app); !ok || err != nil {
					t.Errorf("%s may not use %s: %v", login, app, err)
				}
			}
		}
		for id, redirects := range map[string]string{
			"demo-web":          "http://localhost:*/callback https://shop.example.com/callback",
			"demo-strict":       "http://localhost:*/callback https://shop.example.com/callback",
			"demo-uv":           "http://localhost:*/callback https://shop.example.com/callback",
			"countersign-agent": "http://127.0.0.1:*/callback",
			"countersign-home":  base + "/app/UserHome",
		} {
			a, err := directory.AppByClientID(ctx, tx, id)
			if err != nil || strings.Join(a.RedirectURIs, " ") != redirects || a.PolicyID == "" {
				t.Errorf("%s: %+v, %v", id, a, err)
			}
		}
		origins, err := directory.TrustedOrigins(ctx, tx)
		if strings.Join(origins, " ") != "http://localhost:* https://shop.example.com" {
			t.Errorf("trusted origins %v", origins)
		}
		return err
	})
}

// Seeding happens once: a restart neither doubles nor resets anything, and the
// org keeps its identity, keys and admin token.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	config := org.Config{StateDir: dir, Demo: true, TrustedOrigins: []string{"https://shop.example.com"}}
	first := open(t, config)
	was := identity(t, first)
	first.Close()

	db, err := store.Open(t.Context(), filepath.Join(dir, "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, db, func(tx store.Tx) error {
		u, err := directory.UserByLogin(t.Context(), tx, "bob@example.com")
		if err != nil {
			return err
		}
		if err := directory.SetUserStatus(t.Context(), tx, u.ID, directory.StatusSuspended, u.CreatedAt); err != nil {
			return err
		}
		_, err = tx.ExecContext(t.Context(), `DELETE FROM trusted_origins WHERE origin = 'http://localhost:*'`)
		return err
	})
	rows := counts(t, db)
	db.Close()

	for range 2 {
		s := open(t, config)
		if now := identity(t, s); now != was {
			t.Errorf("identity changed:\n%s\n%s", was, now)
		}
		s.Close()
	}
	db, err = store.Open(t.Context(), filepath.Join(dir, "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if now := counts(t, db); now != rows {
		t.Errorf("rows changed:\n%s\n%s", rows, now)
	}
	storetest.Read(t, db, func(tx store.Tx) error {
		u, err := directory.UserByLogin(t.Context(), tx, "bob@example.com")
		if u.Status != directory.StatusSuspended {
			t.Errorf("bob is %s again", u.Status)
		}
		return err
	})
}

func identity(t *testing.T, s *org.Server) string {
	t.Helper()
	return call(s, "GET", okta.OrganizationPath, nil).Body.String() + call(s, "GET", "/oauth2/v1/keys", nil).Body.String() + s.AdminToken().Reveal()
}

func counts(t *testing.T, db *store.DB) string {
	t.Helper()
	var out strings.Builder
	storetest.Read(t, db, func(tx store.Tx) error {
		for _, table := range []string{"org", "users", "user_groups", "group_members", "apps", "app_groups", "trusted_origins", "signing_keys", "policies", "policy_rules"} {
			var n int
			if err := tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil {
				return err
			}
			fmt.Fprintf(&out, "%s %d\n", table, n)
		}
		return nil
	})
	return out.String()
}

func TestWithoutDemo(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state")})
	w := call(s, "POST", "/api/v1/users/alice@example.com/enrolment-links", nil, "Authorization", "SSWS "+s.AdminToken().Reveal())
	if w.Code != 404 {
		t.Errorf("an org without demonstration knows alice: %d", w.Code)
	}
	if w := call(s, "GET", okta.OrganizationPath, nil, "Origin", "http://localhost:3000"); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("an org without demonstration trusts localhost")
	}
}

// From the admin token to an enrolled device, through the whole server.
func TestEnrolByLink(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	w := call(s, "POST", "/api/v1/users/alice@example.com/enrolment-links", nil, "Authorization", "SSWS "+s.AdminToken().Reveal())
	var out admin.Link
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	link, err := okta.ParseEnrolmentLink(out.URL)
	if err != nil {
		t.Fatal(err)
	}
	a := devicetest.New(t)
	w = call(s, "POST", okta.AppAuthenticatorsPath, a.Request(link.AuthenticatorID), "Authorization", "OTDT "+link.Token.Reveal())
	var e okta.Enrolment
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 || e.User.Username != "alice@example.com" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	w = call(s, "GET", okta.AppAuthenticatorsPath+"/"+e.ID+"/push/notifications", nil, "Authorization", "Bearer forged")
	if w.Code != 401 {
		t.Errorf("pending with a forged token: %d", w.Code)
	}
}

func TestRoutes(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	const html = "text/html"
	for _, c := range []struct {
		method, path, accept string
		status               int
		contains             string
	}{
		{"GET", "/healthz", "", 200, `"ok"`},
		{"GET", "/.well-known/openid-configuration", "", 200, `"issuer":"` + base + `"`},
		{"GET", "/oauth2/default/.well-known/openid-configuration", "", 200, base + "/oauth2/default"},
		{"GET", "/oauth2/v1/keys", "", 200, `"keys"`},
		{"GET", "/oauth2/other/v1/keys", "", 404, "E0000007"},
		{"GET", okta.AuthenticatorConfigurationPath + "?oauthClientId=countersign-agent", "", 200, "http://localhost:*"},
		{"POST", "/idp/idx/introspect", "", 400, ""},
		{"POST", "/idp/authenticators/aut/transactions/ft/verify", "", 400, "E0000001"},
		{"POST", okta.AppAuthenticatorsPath + "/challenge/ft/verify", "", 400, "E0000001"},
		{"GET", okta.AppAuthenticatorsPath + "/challenge/ft/verify", "", 405, "E0000022"},
		{"GET", "/login", html, 200, "stateToken"},
		{"GET", "/", html, 303, ""},
		{"GET", "/nothing", html, 404, "<html"},
		{"GET", "/nothing", "", 404, "E0000008"},
		{"GET", "/api/v1/users", "", 404, "E0000008"},
		{"POST", "/api/v1/users/alice@example.com/enrolment-links", "", 401, "E0000011"},
	} {
		w := call(s, c.method, c.path, nil, "Accept", c.accept)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.contains) {
			t.Errorf("%s %s: %d %.300s", c.method, c.path, w.Code, w.Body)
		}
	}
}

// /healthz asks the store, it does not only say that a process is there.
func TestHealthIsReal(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state")})
	if w := call(s, "GET", "/healthz", nil); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	s.Close()
	if w := call(s, "GET", "/healthz", nil); w.Code != http.StatusServiceUnavailable {
		t.Errorf("without its store: %d", w.Code)
	}
}

// A5: the org compares origins with what browsers write, and they never write a
// default port. An administrator may.
func TestBaseURLIsAnOrigin(t *testing.T) {
	s := open(t, org.Config{BaseURL: "https://Id.example.com:443/", StateDir: filepath.Join(t.TempDir(), "state")})
	r := httptest.NewRequest(http.MethodGet, "https://id.example.com"+okta.OrganizationPath, nil)
	r.Header.Set("Origin", "https://id.example.com")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"https://id.example.com"`) || w.Header().Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestBadConfig(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for name, c := range map[string]org.Config{
		"no base URL": {StateDir: state},
		"no state":    {BaseURL: base},
		"path":        {BaseURL: base + "/org", StateDir: state},
		"scheme":      {BaseURL: "ftp://localhost", StateDir: state},
		"user info":   {BaseURL: "http://a@localhost", StateDir: state},
		"bad origin":  {BaseURL: base, StateDir: state, TrustedOrigins: []string{"https://*.example.com"}},
	} {
		if s, err := org.Open(t.Context(), c); err == nil {
			s.Close()
			t.Errorf("%s accepted", name)
		}
	}
}

// Two servers on one state would not know of each other's keys.
func TestOneServerPerState(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	first := open(t, org.Config{StateDir: state})
	if s, err := org.Open(t.Context(), org.Config{BaseURL: base, StateDir: state}); !errors.Is(err, store.ErrInUse) {
		if err == nil {
			s.Close()
		}
		t.Fatalf("error %v, want ErrInUse", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	open(t, org.Config{StateDir: state})
}

// C8: secrets in logs. An enrolment at debug level leaves no token behind.
func TestLogsHoldNoSecrets(t *testing.T) {
	var logs bytes.Buffer
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, org.Config{StateDir: dir, Demo: true, Log: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	auth := "SSWS " + s.AdminToken().Reveal()
	var out admin.Link
	if err := json.Unmarshal(call(s, "POST", "/api/v1/users/alice@example.com/enrolment-links", nil, "Authorization", auth).Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	link, err := okta.ParseEnrolmentLink(out.URL)
	if err != nil {
		t.Fatal(err)
	}
	req := devicetest.New(t).Request(link.AuthenticatorID)
	req.Methods.TOTP = &okta.MethodRequest{}
	var e okta.Enrolment
	if err := json.Unmarshal(call(s, "POST", okta.AppAuthenticatorsPath, req, "Authorization", "OTDT "+link.Token.Reveal()).Body.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	seed := e.Methods[okta.MethodTOTP].SharedSecret.Reveal()
	if seed == "" {
		t.Fatal("no secret of one-time codes")
	}
	call(s, "POST", okta.AppAuthenticatorsPath, req, "Authorization", "Bearer canary-bearer")
	if logs.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	for name, secret := range map[string]string{"admin token": s.AdminToken().Reveal(), "link": link.Token.Reveal(), "seed": seed, "bearer": "canary-bearer", "password": "Countersign-Demo-1"} {
		if strings.Contains(logs.String(), secret) {
			t.Errorf("the logs hold the %s", name)
		}
	}
	// A sign-in in a browser, from the app's request to its tokens, with a wrong
	// password and a token endpoint that refuses on the way.
	said := browse(t, s)
	for _, secret := range said {
		if strings.Contains(logs.String(), secret) {
			t.Errorf("the logs hold %q", secret)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "org.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(link.Token.Reveal())) {
		t.Error("the database holds the link's token")
	}
	for _, secret := range said {
		// A challenge is for anybody who asks, and kept to be shown again.
		if !strings.HasPrefix(secret, "eyJ") && bytes.Contains(raw, []byte(secret)) {
			t.Errorf("the database holds %q", secret)
		}
	}
}

// browse signs bob in as a browser does and returns all that was secret on
// the way: what was typed, and every long random text of an answer.
func browse(t *testing.T, s *org.Server) (secrets []string) {
	t.Helper()
	random := regexp.MustCompile(`[A-Za-z0-9_-]{43,}(\.[A-Za-z0-9_-]{20,}){0,2}`)
	jar := map[string]*http.Cookie{}
	do := func(method, path, contentType, body string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, base+path, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		for _, c := range jar {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			jar[c.Name] = c
			secrets = append(secrets, c.Value)
		}
		secrets = append(secrets, random.FindAllString(w.Body.String()+" "+w.Header().Get("Location"), -1)...)
		return w
	}
	find := func(text, pattern string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in %.400s", pattern, text)
		}
		return m[1]
	}
	const form = "application/x-www-form-urlencoded"
	verifier := ids.Secret()
	secrets = append(secrets, verifier, "canary wrong password", "Countersign-Demo-1")
	sum := sha256.Sum256([]byte(verifier))
	step := func(path, body string) string {
		return do("POST", "/idp/idx/"+path, "application/json", body).Body.String()
	}
	page := do("GET", "/oauth2/v1/authorize?"+url.Values{
		"client_id": {"countersign-agent"}, "redirect_uri": {"http://127.0.0.1:1/callback"}, "response_type": {"code"},
		"scope": {"openid offline_access"}, "state": {"s"}, "nonce": {"n"}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}.Encode(), "", "").Body.String()
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return s == base64.RawURLEncoding.EncodeToString(sum[:]) })
	handle := find(step("introspect", `{"stateToken":"`+find(page, `"stateToken":"([^"]+)"`)+`"}`), `"stateHandle","[^}]*"value":"([^"]+)"`)
	with := func(more string) string { return `{"stateHandle":"` + handle + `"` + more + `}` }
	step("identify", with(`,"identifier":"bob@example.com"`))
	step("challenge/answer", with(`,"credentials":{"passcode":"canary wrong password"}`))
	done := step("challenge/answer", with(`,"credentials":{"passcode":"Countersign-Demo-1"}`))
	next := do("GET", strings.TrimPrefix(find(done, `"href":"([^"]*/login/token/redirect[^"]*)"`), base), "", "").Header().Get("Location")
	code := find(next, `code=([^&]+)`)
	redeem := url.Values{"grant_type": {"authorization_code"}, "client_id": {"countersign-agent"}, "redirect_uri": {"http://127.0.0.1:1/callback"},
		"code": {code}, "code_verifier": {verifier}}
	tokens := do("POST", "/oauth2/v1/token", form, redeem.Encode()).Body.String()
	do("POST", "/oauth2/default/v1/token", form, redeem.Encode())
	do("POST", "/oauth2/v1/token", form, url.Values{"grant_type": {"refresh_token"}, "client_id": {"demo-web"}, "refresh_token": {find(tokens, `"refresh_token":"([^"]+)"`)}}.Encode())
	do("GET", "/login/token/redirect?stateToken="+handle, "", "")
	do("POST", "/login/signout", form, "")
	if len(secrets) < 12 {
		t.Fatalf("only %d secrets on the way", len(secrets))
	}
	return slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
}
