package weblogin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/oktatest"
)

const scopes = "openid profile " + okta.ScopeManage

// fixture is a sign-in at a fake org.
type fixture struct {
	*SignIn
	t   *testing.T
	org *oktatest.Org
}

func begin(t *testing.T, org *oktatest.Org, change func(*Options)) *fixture {
	t.Helper()
	c, err := client.New(org.URL, client.Options{ClientID: org.ClientID})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := c.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Org: c, Metadata: meta, ClientID: org.ClientID, Scopes: scopes, Login: oktatest.Login}
	if change != nil {
		change(&o)
	}
	s, err := Begin(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Finish(Ending{}) })
	return &fixture{s, t, org}
}

// get opens an address as a browser does; edit may change the request. The
// status is 0 when nobody answers.
func (f *fixture) get(target string, edit func(*http.Request)) (status int, body string, header http.Header) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	browser := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Do(r)
	if err != nil {
		return 0, "", nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header
}

// authorize is the org's part: it returns where the browser is sent back to.
func (f *fixture) authorize() string {
	f.t.Helper()
	status, _, h := f.get(f.URL(), nil)
	if status != http.StatusFound {
		f.t.Fatalf("the org's form: %d", status)
	}
	return h.Get("Location")
}

// goes opens the address in the background; the page comes at the end.
func (f *fixture) goes(target string) (page func() (int, string)) {
	var status int
	var body string
	var wg sync.WaitGroup
	wg.Go(func() { status, body, _ = f.get(target, nil) })
	return func() (int, string) { wg.Wait(); return status, body }
}

// The whole way: form, redirect, code, token, who it was, the page, revocation.
func TestSignIn(t *testing.T) {
	for _, bound := range []bool{false, true} {
		org := oktatest.NewOrg(t)
		var proof *client.ProofKey
		if bound {
			org.BindTokens("n")
			proof, _ = client.NewProofKey()
		}
		f := begin(t, org, func(o *Options) { o.Proof = proof })
		page := f.goes(f.authorize())
		g, err := f.Wait(t.Context())
		if err != nil || g.UserID != oktatest.UserID || g.Username != oktatest.Login {
			t.Fatalf("%+v, %v", g, err)
		}
		if want := map[bool]string{false: "Bearer [redacted]", true: "DPoP [redacted]"}[bound]; g.Authorization.String() != want {
			t.Errorf("%s, want %s", g.Authorization, want)
		}
		if err := g.Revoke(t.Context()); err != nil || len(org.Revoked()) != 1 {
			t.Errorf("%v, revoked %d", err, len(org.Revoked()))
		}
		f.Finish(Ending{User: "alice@example.com", Org: "id.example.com"})
		status, body := page()
		if status != 200 || !strings.Contains(body, "alice@example.com can sign in to id.example.com from this computer.") || !strings.Contains(body, "You can close this page.") {
			t.Errorf("%d %s", status, body)
		}
		q := org.Authorizations()[0]
		for name, want := range map[string]string{
			"client_id": org.ClientID, "response_type": "code", "response_mode": "query", "scope": scopes, "prompt": "login",
			"login_hint": oktatest.Login, "code_challenge_method": "S256", "redirect_uri": f.redirect,
		} {
			if q.Get(name) != want {
				t.Errorf("%s is %q, want %q", name, q.Get(name), want)
			}
		}
		if len(q.Get("state")) != 43 || len(q.Get("nonce")) != 43 || len(q.Get("code_challenge")) != 43 || q.Get("state") == q.Get("nonce") {
			t.Errorf("%v", q)
		}
		printed := fmt.Sprintf("%+v %#v %v %+v %#v", g, g, f.SignIn, f.SignIn, f.SignIn)
		for _, s := range []string{g.token.Reveal(), f.state, f.nonce, f.verifier} {
			if strings.Contains(printed, s) {
				t.Errorf("prints %s", printed)
			}
		}
		f.Finish(Ending{}) // again: nothing
	}
}

// A11: whatever is not the org's one answer to this sign-in changes nothing, and
// the sign-in goes on to a good end.
func TestA11HostileCallbacks(t *testing.T) {
	org := oktatest.NewOrg(t)
	f := begin(t, org, nil)
	other := begin(t, org, nil)
	good, err := url.Parse(f.authorize())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := url.Parse(other.authorize()) // a code of another sign-in, e.g. an attacker's own
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string, q url.Values) string { return "http://" + f.host + path + "?" + q.Encode() }
	with := func(change func(url.Values)) url.Values {
		q := good.Query()
		change(q)
		return q
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	_, port, _ := net.SplitHostPort(f.host)
	for _, row := range []struct {
		name   string
		target string
		edit   func(*http.Request)
		status int
	}{
		{"no query", "http://" + f.host + "/callback", nil, 400},
		{"no state", at("/callback", with(func(q url.Values) { q.Del("state") })), nil, 400},
		{"empty state", at("/callback", with(func(q url.Values) { q.Set("state", "") })), nil, 400},
		{"wrong state", at("/callback", with(func(q url.Values) { q.Set("state", strings.Repeat("A", 43)) })), nil, 400},
		{"state in other letters", at("/callback", with(func(q url.Values) { q.Set("state", strings.ToUpper(q.Get("state"))) })), nil, 400},
		{"half a state", at("/callback", with(func(q url.Values) { q.Set("state", q.Get("state")[:20]) })), nil, 400},
		{"another sign-in's answer", at("/callback", stranger.Query()), nil, 400},
		{"a refusal with a wrong state", at("/callback", url.Values{"error": {"access_denied"}, "state": {"x"}}), nil, 400},
		{"a refusal without a state", at("/callback", url.Values{"error": {"access_denied"}}), nil, 400},
		{"two states", at("/callback", with(func(q url.Values) { q.Add("state", "x") })), nil, 400},
		{"two codes", at("/callback", with(func(q url.Values) { q.Add("code", stranger.Query().Get("code")) })), nil, 400},
		{"another issuer", at("/callback", with(func(q url.Values) { q.Set("iss", "https://evil.example") })), nil, 400},
		{"a broken query", "http://" + f.host + "/callback?state=" + good.Query().Get("state") + "&code=%zz", nil, 400},
		{"a semicolon", "http://" + f.host + "/callback?state=" + good.Query().Get("state") + ";code=x", nil, 400},
		{"a huge query", at("/callback", with(func(q url.Values) { q.Set("x", strings.Repeat("x", 9<<10)) })), nil, 400},
		{"huger", at("/callback", with(func(q url.Values) { q.Set("x", strings.Repeat("x", 64<<10)) })), nil, 431},
		{"another path", at("/", good.Query()), nil, 404},
		{"below", at("/callback/x", good.Query()), nil, 404},
		{"slash", at("/callback/", good.Query()), nil, 404},
		{"dots", at("/x/../callback", good.Query()), nil, 404},
		{"escaped", at("/%63allback", good.Query()), nil, 404},
		{"a browser's icon", "http://" + f.host + "/favicon.ico", nil, 404},
		{"POST", at("/callback", good.Query()), method("POST"), 405},
		{"HEAD", at("/callback", good.Query()), method("HEAD"), 405},
		{"OPTIONS", at("/callback", good.Query()), method("OPTIONS"), 405},
		{"DELETE", at("/callback", good.Query()), method("DELETE"), 405},
		{"rebound name", at("/callback", good.Query()), host("evil.example:" + port), 403},
		{"localhost", at("/callback", good.Query()), host("localhost:" + port), 403},
		{"no port", at("/callback", good.Query()), host("127.0.0.1"), 403},
		{"another port", at("/callback", good.Query()), host("127.0.0.1:1"), 403},
		{"a script", at("/callback", good.Query()), header("Origin", "https://evil.example"), 403},
		{"no-cors", at("/callback", good.Query()), header("Sec-Fetch-Mode", "no-cors"), 403},
		{"an image", at("/callback", good.Query()), header("Sec-Fetch-Dest", "image"), 403},
		{"a frame", at("/callback", good.Query()), header("Sec-Fetch-Dest", "iframe"), 403},
	} {
		status, body, h := f.get(row.target, row.edit)
		if status != row.status {
			t.Errorf("%s: %d, want %d", row.name, status, row.status)
			continue
		}
		if status == 431 {
			continue // net/http's own word
		}
		if h.Get("Access-Control-Allow-Origin") != "" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" ||
			!strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", row.name, h)
		}
		if strings.Contains(body, good.Query().Get("state")) || strings.Contains(body, good.Query().Get("code")) {
			t.Errorf("%s: the page repeats what came in", row.name)
		}
	}
	if len(org.TokenRequests()) != 0 {
		t.Fatalf("a code was redeemed: %v", org.TokenRequests())
	}
	// The real one still counts: nobody could end it from outside.
	page := f.goes(good.String())
	g, err := f.Wait(t.Context())
	if err != nil || g.UserID != oktatest.UserID {
		t.Fatal(err)
	}
	// Once: nobody listens any more.
	if status, _, _ := f.get(good.String(), nil); status != 0 {
		t.Errorf("a second use: %d", status)
	}
	f.Finish(Ending{Why: "<script>alert(1)</script>"})
	if _, body := page(); strings.Contains(body, "<script>") || !strings.Contains(body, "Nothing was added") {
		t.Errorf("%s", body)
	}
}

// A11: a code that somebody caught on its way is worth nothing without the
// verifier, which only this process has.
func TestA11CaughtCode(t *testing.T) {
	org := oktatest.NewOrg(t)
	f := begin(t, org, nil)
	back, err := url.Parse(f.authorize())
	if err != nil {
		t.Fatal(err)
	}
	thief, err := client.New(org.URL, client.Options{ClientID: org.ClientID})
	if err != nil {
		t.Fatal(err)
	}
	for _, verifier := range []string{"", "guess", f.state, org.Authorizations()[0].Get("code_challenge")} {
		_, err := thief.Token(t.Context(), url.Values{"grant_type": {"authorization_code"}, "client_id": {org.ClientID},
			"redirect_uri": {f.redirect}, "code": {back.Query().Get("code")}, "code_verifier": {verifier}})
		var refusal *okta.TokenError
		if !errors.As(err, &refusal) || refusal.Code != "invalid_grant" {
			t.Errorf("%q: %v", verifier, err)
		}
	}
}

// A11: two answers with the right state at the same moment are one answer.
func TestA11OneUse(t *testing.T) {
	org := oktatest.NewOrg(t)
	f := begin(t, org, nil)
	back := f.authorize()
	var pages []func() (int, string)
	for range 20 {
		pages = append(pages, f.goes(back))
	}
	if _, err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Finish(Ending{User: "u", Org: "o"})
	good := 0
	for _, page := range pages {
		if status, _ := page(); status == 200 {
			good++
		}
	}
	if good != 1 || len(org.TokenRequests()) != 1 {
		t.Errorf("%d pages say it worked, %d codes were redeemed", good, len(org.TokenRequests()))
	}
}

// The org's refusals, and answers that are none.
func TestRefusedByTheOrg(t *testing.T) {
	for _, row := range []struct {
		query url.Values
		want  RefusedError
	}{
		{url.Values{"error": {"access_denied"}, "error_description": {"The user is not assigned."}}, RefusedError{"access_denied", "The user is not assigned."}},
		{url.Values{"error": {"access_denied"}, "code": {"x"}}, RefusedError{"access_denied", ""}},
		{url.Values{"error": {""}}, RefusedError{"", ""}},
		{url.Values{}, RefusedError{"no_code", "it sent neither a code nor a reason"}},
		{url.Values{"error": {"a\x1b[2Jb"}, "error_description": {"line\nline\u202e " + strings.Repeat("x", 1000)}}, RefusedError{"a[2Jb", "line line " + strings.Repeat("x", 190)}},
	} {
		f := begin(t, oktatest.NewOrg(t), nil)
		row.query.Set("state", f.state)
		page := f.goes(f.redirect + "?" + row.query.Encode())
		_, err := f.Wait(t.Context())
		var got *RefusedError
		if !errors.As(err, &got) || *got != row.want {
			t.Errorf("%v: %v", row.query, err)
		}
		f.Finish(Ending{Why: "It was refused."})
		if status, body := page(); status != 200 || !strings.Contains(body, "It was refused.") {
			t.Errorf("%v: %d %s", row.query, status, body)
		}
	}
}

// E5: an ID token that is not this org's word, for this app, in this sign-in.
func TestE5IDTokens(t *testing.T) {
	for name, spoil := range map[string]func(map[string]any){
		"another org":         func(c map[string]any) { c["iss"] = "https://evil.example" },
		"no issuer":           func(c map[string]any) { delete(c, "iss") },
		"another app":         func(c map[string]any) { c["aud"] = "other-app" },
		"no audience":         func(c map[string]any) { delete(c, "aud") },
		"many, no party":      func(c map[string]any) { c["aud"] = []string{"countersign-agent", "other"} },
		"another party":       func(c map[string]any) { c["azp"] = "other" },
		"another sign-in":     func(c map[string]any) { c["nonce"] = "x" },
		"no nonce":            func(c map[string]any) { delete(c, "nonce") },
		"nobody":              func(c map[string]any) { c["sub"] = "" },
		"endless":             func(c map[string]any) { c["sub"] = strings.Repeat("x", 4096) },
		"expired":             func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"of tomorrow":         func(c map[string]any) { c["iat"] = time.Now().Add(24 * time.Hour).Unix() },
		"audience of numbers": func(c map[string]any) { c["aud"] = []int{1} },
	} {
		org := oktatest.NewOrg(t)
		org.SignsIn(oktatest.SignIn{Claims: spoil})
		f := begin(t, org, nil)
		page := f.goes(f.authorize())
		if g, err := f.Wait(t.Context()); !errors.Is(err, ErrIDToken) || g.UserID != "" {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
		if len(org.Revoked()) != 1 {
			t.Errorf("%s: the token lives on", name)
		}
		f.Finish(Ending{})
		page()
	}
	// Signed by a key that the org does not publish, or by its own, and changed.
	for name, forge := range map[string]func(org *oktatest.Org, claims map[string]any) string{
		"a foreign key": func(_ *oktatest.Org, claims map[string]any) string {
			evil := oktatest.NewOrg(t)
			evil.Rotate()
			return evil.Sign("JWT", claims)
		},
		"somebody else": func(org *oktatest.Org, claims map[string]any) string {
			part := strings.Split(org.Sign("JWT", claims), ".")
			claims["sub"] = "eve"
			b, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			return part[0] + "." + base64.RawURLEncoding.EncodeToString(b) + "." + part[2]
		},
	} {
		org := oktatest.NewOrg(t)
		f := begin(t, org, nil)
		back := f.authorize()
		org.Reply("/oauth2/v1/token", oktatest.Reply{Status: 200, Body: fmt.Sprintf(`{"access_token":"x","token_type":"Bearer","id_token":%q}`,
			forge(org, map[string]any{"iss": org.URL, "aud": org.ClientID, "sub": "u", "nonce": f.nonce, "iat": time.Now().Unix(), "exp": time.Now().Unix() + 60}))})
		page := f.goes(back)
		if _, err := f.Wait(t.Context()); !errors.Is(err, ErrIDToken) {
			t.Errorf("%s: %v", name, err)
		}
		f.Finish(Ending{})
		page()
	}
}

// The code is redeemed at the org or nowhere, and a failure there is told.
func TestRedemptionFails(t *testing.T) {
	for name, reply := range map[string]oktatest.Reply{
		"invalid_grant": {Status: 400, Body: `{"error":"invalid_grant"}`},
		"server error":  {Status: 500, Body: `{}`},
		"a page":        {Status: 200, ContentType: "text/html", Body: "<html>"},
		"no id token":   {Status: 200, Body: `{"access_token":"x","token_type":"Bearer"}`},
	} {
		org := oktatest.NewOrg(t)
		f := begin(t, org, nil)
		back := f.authorize()
		org.Reply("/oauth2/v1/token", reply)
		page := f.goes(back)
		if _, err := f.Wait(t.Context()); err == nil {
			t.Errorf("%s: worked", name)
		}
		f.Finish(Ending{Why: "No."})
		if _, body := page(); !strings.Contains(body, "No.") {
			t.Errorf("%s: %s", name, body)
		}
	}
}

func TestCancelled(t *testing.T) {
	f := begin(t, oktatest.NewOrg(t), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Wait(ctx); !errors.Is(err, ErrCancelled) {
		t.Fatal(err)
	}
	back := f.redirect + "?code=x&state=" + f.state
	f.Finish(Ending{})
	if status, _, _ := f.get(back, nil); status != 0 {
		t.Fatalf("still listens: %d", status)
	}
}

// Nobody comes: ten minutes, and the port is free again. (The listener is real;
// only the wait is faked.)
func TestTimedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &SignIn{expires: time.Now().Add(Lifetime), answered: make(chan callback)}
		s.options.Now = time.Now
		start := time.Now()
		if _, err := s.Wait(t.Context()); !errors.Is(err, ErrTimedOut) || time.Since(start) != Lifetime {
			t.Fatalf("%v after %s", err, time.Since(start))
		}
	})
}

// No two sign-ins share anything, and the port is not a fixed one.
func TestNothingShared(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, b := begin(t, org, nil), begin(t, org, nil)
	if a.state == b.state || a.nonce == b.nonce || a.verifier == b.verifier || a.host == b.host {
		t.Fatal("shared")
	}
	if strings.Contains(a.URL(), a.verifier) {
		t.Fatal("the verifier is in the address")
	}
}

// Whatever a browser brings: an answer only with the one state, and then at most
// one of code and refusal.
func FuzzCallback(f *testing.F) {
	const state, issuer = "s3cr3t-state", "https://id.example.com"
	for _, q := range []string{"", "code=x&state=" + state, "error=access_denied&state=" + state, "state=" + state, "code=x&state=other",
		"code=x&code=y&state=" + state, "state=" + state + "&iss=https://evil.example&code=x", "%zz", "a;b", "state=%73%33cr3t-state&code=1"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		c, err := readCallback(q, state, issuer)
		if _, none := readCallback(q, "", issuer); none == nil {
			t.Fatal("an answer to no sign-in")
		}
		if err != nil {
			if c.code != "" || c.refusal != nil {
				t.Fatalf("%q: refused, and still %+v", q, c)
			}
			return
		}
		values, parse := url.ParseQuery(q)
		if parse != nil || len(values["state"]) != 1 || values.Get("state") != state {
			t.Fatalf("%q: without the state", q)
		}
		if (c.code != "") == (c.refusal != nil) {
			t.Fatalf("%q: %+v", q, c)
		}
		if c.refusal != nil && strings.ContainsFunc(c.refusal.Error(), func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
			t.Fatalf("%q: %q", q, c.refusal.Error())
		}
	})
}
