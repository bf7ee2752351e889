package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/store"
	"countersign.dev/org/web"
)

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
