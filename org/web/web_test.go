package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/store"
)

const base = "http://localhost:8080"

type starter struct {
	intent    signin.Intent
	satisfied bool
	err       error
}

func (s *starter) Start(_ context.Context, i signin.Intent) (signin.Handle, error) {
	s.intent = i
	return signin.Handle{StateToken: `st"</script><b>`, Satisfied: s.satisfied}, s.err
}

type fixture struct {
	*Pages
	t      *testing.T
	engine *starter
	now    time.Time
	user   directory.User
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f := &fixture{t: t, engine: &starter{}, now: time.Date(2026, 11, 22, 14, 3, 0, 0, time.UTC)}
	f.Pages = New(Deps{DB: db, Engine: f.engine, BaseURL: base + "/", LoopbackPorts: []int{8769, 65111}, Now: func() time.Time { return f.now }})
	f.write(func(ctx context.Context, tx store.Tx) (err error) {
		f.user, err = directory.CreateUser(ctx, tx, directory.User{Login: "alice@example.com", FirstName: "Alice", LastName: "<i>Example"}, f.now)
		return err
	})
	return f
}

func (f *fixture) write(fn func(context.Context, store.Tx) error) {
	f.t.Helper()
	if err := f.DB.Write(f.t.Context(), func(tx store.Tx) error { return fn(f.t.Context(), tx) }); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) get(path string, sid okta.Secret) (*http.Response, string) {
	r := httptest.NewRequest(http.MethodGet, base+path, nil)
	if sid != "" {
		r.AddCookie(&http.Cookie{Name: session.CookieName, Value: sid.Reveal()})
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return w.Result(), string(body)
}

func (f *fixture) session(s session.Session) (id okta.Secret) {
	f.write(func(ctx context.Context, tx store.Tx) (err error) {
		s.UserID, s.AuthTime = f.user.ID, f.now
		id, err = session.Create(ctx, tx, s, f.now)
		return err
	})
	return id
}

func directives(r *http.Response) map[string]string {
	out := map[string]string{}
	for _, d := range strings.Split(r.Header.Get("Content-Security-Policy"), "; ") {
		name, value, _ := strings.Cut(d, " ")
		out[name] = value
	}
	return out
}

func TestLogin(t *testing.T) {
	f := setUp(t)
	r, page := f.get("/login", "")
	if r.StatusCode != 200 || !strings.Contains(page, `"stateToken":"`) {
		t.Fatalf("%d %s", r.StatusCode, page)
	}
	if strings.Contains(page, "</script><b>") {
		t.Error("the state token can leave its script")
	}
	if i := f.engine.intent; i.ClientID != HomeClientID || i.Mode != signin.Redirect || i.PageOrigin != base || i.RedirectURI != base+HomePath || i.CodeChallenge != "" {
		t.Errorf("intent: %+v", i)
	}
	if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Referrer-Policy") != "no-referrer" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", r.Header)
	}
	f.engine.satisfied = true
	if r, _ := f.get("/login", ""); r.StatusCode != 303 || r.Header.Get("Location") != HomePath {
		t.Errorf("signed in already: %d", r.StatusCode)
	}
	f.engine.err = errors.New("disk on fire")
	if r, page := f.get("/login", ""); r.StatusCode != 500 || strings.Contains(page, "fire") || !strings.Contains(page, "Your account is not affected") {
		t.Errorf("failure: %d %s", r.StatusCode, page)
	}
}

// 1.4: the page may reach the loopback ports and the agent's scheme, and
// nothing else but its own org.
func TestSignInPolicy(t *testing.T) {
	f := setUp(t)
	r, page := f.get("/login", "")
	got := directives(r)
	nonce := regexp.MustCompile(`<script nonce="([A-Za-z0-9_-]{22})">`).FindStringSubmatch(page)
	if nonce == nil {
		t.Fatal("no nonce in the page")
	}
	want := map[string]string{
		"default-src": "'none'", "script-src": "'self' 'nonce-" + nonce[1] + "'", "style-src": "'self'", "img-src": "'self' data:",
		"connect-src": "'self' http://localhost:8769 http://localhost:65111 http://127.0.0.1:8769 http://127.0.0.1:65111",
		"frame-src":   "com-okta-authenticator:", "form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("directives: %v", got)
	}
	r2, _ := f.get("/login", "")
	if directives(r2)["script-src"] == got["script-src"] {
		t.Error("the nonce repeats")
	}
}

// Nothing in a page relies on what its policy forbids.
func TestPagesFitTheirPolicy(t *testing.T) {
	f := setUp(t)
	sid := f.session(session.Session{AMR: []string{"pwd"}})
	_, login := f.get("/login", "")
	_, home := f.get(HomePath, sid)
	_, missing := f.get("/app/nothing", "")
	w := httptest.NewRecorder()
	f.FormPost(w, httptest.NewRequest(http.MethodGet, base, nil), "https://app.example.com/cb", url.Values{"code": {`"><script>`}})
	for name, page := range map[string]string{"login": login, "home": home, "missing": missing, "form post": w.Body.String()} {
		for _, bad := range []string{" style=", "<style", " onclick=", " onsubmit=", "javascript:", "http://", "//cdn", "\"><script>"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s holds %q", name, bad)
			}
		}
		for _, need := range []string{`<html lang="en">`, `name="viewport"`, "<h1", "<main", "localhost:8080"} {
			if !strings.Contains(page, need) {
				t.Errorf("%s lacks %q", name, need)
			}
		}
	}
}

func TestHome(t *testing.T) {
	f := setUp(t)
	for name, sid := range map[string]okta.Secret{"nobody": "", "unknown": okta.Secret(strings.Repeat("A", 43))} {
		if r, _ := f.get(HomePath, sid); r.StatusCode != 303 || r.Header.Get("Location") != "/login" {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.Header.Get("Location"))
		}
	}
	sid := f.session(session.Session{AMR: []string{"pwd", "okta_verify", "phr", "mfa"}, EnrolmentID: "pfd-removed", KeyID: "KEY-1", KeyProtection: "SOFTWARE"})
	r, page := f.get(HomePath, sid)
	if r.StatusCode != 200 || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d", r.StatusCode)
	}
	for _, want := range []string{"Alice &lt;i&gt;Example", "alice@example.com", "Password, and a key on this device", "KEY-1", "Software key", "22 November 2026, 14:03 UTC", `action="/login/signout"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// Use keeps it alive…
	f.now = f.now.Add(session.Idle - time.Minute)
	f.get(HomePath, sid)
	f.now = f.now.Add(2 * time.Minute)
	if r, _ := f.get(HomePath, sid); r.StatusCode != 200 {
		t.Error("a session in use went idle")
	}
	// …but not for somebody who may no longer sign in.
	f.write(func(ctx context.Context, tx store.Tx) error {
		return directory.SetUserStatus(ctx, tx, f.user.ID, directory.StatusSuspended, f.now)
	})
	if r, _ := f.get(HomePath, sid); r.StatusCode != 303 {
		t.Errorf("suspended: %d", r.StatusCode)
	}
}

func TestHow(t *testing.T) {
	for want, amr := range map[string][]string{
		"Password only":                                  {"pwd"},
		"Password, and a key on this device":             {"pwd", "okta_verify", "phr", "swk", "mfa"},
		"A key on this device":                           {"okta_verify", "phr", "hwk"},
		"Password, and a one-time code":                  {"pwd", "okta_verify", "otp", "mfa"},
		"Password, and an approval on a device of yours": {"pwd", "okta_verify", "swk", "mfa"},
		"An approval on a device of yours":               {"okta_verify", "hwk"},
		"In a way this page does not know":               {"retina"},
	} {
		if got := How(amr); got != want {
			t.Errorf("%v: %q", amr, got)
		}
	}
}

func TestProtectionIsSaidHonestly(t *testing.T) {
	for _, c := range []struct {
		p        jose.Protection
		attested bool
		want     string
	}{
		{jose.ProtectionHardware, true, "verified by the organisation"},
		{jose.ProtectionHardware, false, "has not verified"},
		{jose.ProtectionSoftware, false, "not in its hardware"},
		{jose.ProtectionSoftware, true, "not in its hardware"},
		{"", true, "does not know"},
		{"hardware", true, "does not know"},
	} {
		if got, _ := protection(c.p, c.attested); !strings.Contains(got, c.want) {
			t.Errorf("%q, attested %v: %q", c.p, c.attested, got)
		}
	}
}

func TestAssets(t *testing.T) {
	f := setUp(t)
	for path, kind := range map[string]string{"countersign.css": "text/css", "signin.js": "text/javascript", "agent.js": "text/javascript", "securitykey.js": "text/javascript", "home.js": "text/javascript", "mark.svg": "image/svg+xml"} {
		r, body := f.get("/assets/"+path, "")
		if r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), kind) || body == "" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.Header.Get("Content-Type"))
		}
	}
	for _, path := range []string{"/assets/", "/assets/nope.js", "/assets/..%2fweb.go", "/assets/../web.go"} {
		if r, body := f.get(path, ""); r.StatusCode == 200 || strings.Contains(body, "package web") {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

// The script keeps to what its policy allows and to what tests and people rely on.
func TestScript(t *testing.T) {
	var script string
	for _, name := range []string{"signin.js", "agent.js", "securitykey.js"} {
		b, err := assets.ReadFile("assets/" + name)
		if err != nil {
			t.Fatal(err)
		}
		script += string(b)
	}
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", ".style.", "https://"} {
		if strings.Contains(script, bad) {
			t.Errorf("the script uses %q", bad)
		}
	}
	for _, need := range []string{`"identifier"`, `"credentials.passcode"`, `"credentials.totp"`, `"launch-authenticator"`, "OV_UNREACHABLE_BY_LOOPBACK", "OV_RETURNED_ERROR", "USER_CANCELED",
		"loopback-network", "local-network-access", "probeTimeoutMillis", `"/idp/idx/introspect"`} {
		if !strings.Contains(script, need) {
			t.Errorf("the script lacks %s", need)
		}
	}
}
