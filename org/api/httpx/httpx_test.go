package httpx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
)

const base = "http://localhost:8080"

func edge(t *testing.T, baseURL string, next http.HandlerFunc) http.Handler {
	t.Helper()
	h, err := httpx.Edge{
		BaseURL: baseURL,
		Trusted: func(context.Context) []string { return []string{"http://localhost:*", "https://app.example.com"} },
		Log:     slog.New(slog.DiscardHandler),
	}.Wrap(next)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ok(w http.ResponseWriter, _ *http.Request) {
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"ok": "yes"})
}

func fail(w http.ResponseWriter, _ *http.Request) {
	httpx.WriteError(w, okta.NewError(okta.CodeForbidden))
}

func do(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func errorCode(t *testing.T, w *httptest.ResponseRecorder) okta.ErrorCode {
	t.Helper()
	var e okta.Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return e.Code
}

// A1: DNS rebinding. Nothing but the org's own name is routed.
func TestHost(t *testing.T) {
	routed := false
	next := func(w http.ResponseWriter, r *http.Request) { routed = true; ok(w, r) }
	for _, c := range []struct {
		base, host string
		want       int
	}{
		{base, "localhost:8080", 200},
		{base, "LOCALHOST:8080", 200},
		{base, "localhost", 421},
		{base, "localhost:8081", 421},
		{base, "localhost.:8080", 421},
		{base, "localhost:8080.", 421},
		{base, "127.0.0.1:8080", 421}, // not a page
		{base, "127.1:8080", 421},
		{base, "2130706433:8080", 421},
		{base, "0.0.0.0:8080", 421},
		{base, "[::1]:8080", 421},
		{base, "evil.example:8080", 421},
		{base, "evil.example", 421},
		{base, "localhost:8080.evil.example", 421},
		{base, "user@localhost:8080", 421},
		{base, "localhost:8080@evil.example", 421},
		{base, "localhost:08080", 421},
		{base, " localhost:8080", 421},
		{base, "", 400},
		{"https://id.example.com", "id.example.com", 200},
		{"https://id.example.com", "id.example.com:443", 200},
		{"https://id.example.com", "id.example.com:80", 421},
		{"https://id.example.com", "id.example.com.", 421},
		{"https://id.example.com", "127.0.0.1", 421},
		{"https://id.example.com", "xid.example.com", 421},
		{"http://localhost", "localhost:80", 200},
		{"http://localhost", "localhost", 200},
	} {
		routed = false
		w := do(edge(t, c.base, next), http.MethodPost, "/idp/idx/introspect", "Host", c.host)
		if w.Code != c.want || routed != (c.want == 200) {
			t.Errorf("base %s, host %q: %d, routed %v; want %d", c.base, c.host, w.Code, routed, c.want)
		}
	}
}

func TestAddressBecomesName(t *testing.T) {
	h := edge(t, base, ok)
	html := "text/html,application/xhtml+xml"
	w := do(h, http.MethodGet, "/login?x=1&y=a%2Fb", "Host", "127.0.0.1:8080", "Accept", html)
	if w.Code != 307 || w.Header().Get("Location") != base+"/login?x=1&y=a%2Fb" {
		t.Errorf("%d to %q", w.Code, w.Header().Get("Location"))
	}
	for _, c := range []struct {
		name, method, target, host, accept string
		want                               int
	}{
		{"a call", http.MethodGet, "/oauth2/v1/keys", "127.0.0.1:8080", "application/json", 421},
		{"a page that takes anything", http.MethodGet, "/login", "127.0.0.1:8080", "*/*", 307},
		{"a page by a plain program", http.MethodHead, "/app/UserHome", "127.0.0.1:8080", "", 307},
		{"a call that takes anything", http.MethodGet, "/oauth2/v1/keys", "127.0.0.1:8080", "*/*", 421},
		{"a form", http.MethodPost, "/login", "127.0.0.1:8080", html, 421},
		{"another name", http.MethodGet, "/login", "evil.example:8080", html, 421},
		{"another port", http.MethodGet, "/login", "127.0.0.1:8081", html, 421},
		{"protocol-relative path", http.MethodGet, "//evil.example/", "127.0.0.1:8080", html, 421},
		{"health", http.MethodGet, "/healthz", "127.0.0.1:8080", "", 200},
		{"health of another", http.MethodGet, "/healthz", "evil.example:8080", "", 421},
	} {
		if w := do(h, c.method, c.target, "Host", c.host, "Accept", c.accept); w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
	// Only an org on localhost is known by address.
	if w := do(edge(t, "http://id.example.com:8080", ok), http.MethodGet, "/login", "Host", "127.0.0.1:8080", "Accept", html); w.Code != 421 {
		t.Errorf("named org by address: %d", w.Code)
	}
}

// A3: over-wide CORS: origins x methods x outcomes.
func TestCORS(t *testing.T) {
	origins := map[string]bool{
		"http://localhost:3000":         true,
		"http://localhost":              true,
		"https://app.example.com":       true,
		base:                            true,
		"":                              false,
		"null":                          false,
		"https://app.example.com.evil":  false,
		"https://app.example.com:8443":  false,
		"http://app.example.com":        false,
		"https://evil.example":          false,
		"http://localhost:3000.evil":    false,
		"http://localhost.evil.example": false,
		"https://xn--pp-fka.example":    false,
		"https://localhost:3000":        false,
		"http://127.0.0.1:8080":         false,
	}
	for origin, trusted := range origins {
		for name, next := range map[string]http.HandlerFunc{
			"success": ok, "error": fail, "panic": func(http.ResponseWriter, *http.Request) { panic("bug") }, "missing": httpx.NotFound,
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
				w := do(edge(t, base, next), method, base+"/x", "Origin", origin)
				if got := w.Header().Get("Access-Control-Allow-Origin"); trusted && got != origin || !trusted && got != "" {
					t.Errorf("%s %s from %q: allowed origin %q", method, name, origin, got)
				}
				if got := w.Header().Get("Access-Control-Allow-Credentials") == "true"; got != trusted {
					t.Errorf("%s %s from %q: credentials %v", method, name, origin, got)
				}
				if !strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Origin") {
					t.Errorf("%s %s from %q: no Vary", method, name, origin)
				}
			}
		}
		w := do(edge(t, base, func(http.ResponseWriter, *http.Request) { t.Error("a preflight was routed") }), http.MethodOptions, base+"/x",
			"Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-okta-user-agent-extended")
		if trusted {
			if w.Code != 204 || w.Header().Get("Access-Control-Allow-Headers") != "content-type,x-okta-user-agent-extended" ||
				!strings.Contains(w.Header().Get("Access-Control-Allow-Methods"), "POST") || w.Header().Get("Access-Control-Allow-Origin") != origin {
				t.Errorf("preflight from %q: %d %v", origin, w.Code, w.Header())
			}
		} else if w.Code != 403 || w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("Access-Control-Allow-Headers") != "" {
			t.Errorf("preflight from %q: %d %v", origin, w.Code, w.Header())
		}
	}
	w := do(edge(t, base, ok), http.MethodGet, base+"/x", "Origin", base, "Origin", "https://evil.example")
	if w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("two Origin headers were allowed")
	}
}

func TestTrustedOrigin(t *testing.T) {
	for origin, want := range map[string]bool{"http://localhost:3000": true, "https://evil.example": false, "": false} {
		do(edge(t, base, func(w http.ResponseWriter, r *http.Request) {
			if got, trusted := httpx.TrustedOrigin(r.Context()); trusted != want || trusted && got != origin {
				t.Errorf("%q: %q, %v", origin, got, trusted)
			}
			if httpx.RequestID(r.Context()) == "" {
				t.Error("no request id")
			}
		}), http.MethodPost, base+"/x", "Origin", origin)
	}
}

func TestPanicsBecomeErrors(t *testing.T) {
	w := do(edge(t, base, func(http.ResponseWriter, *http.Request) { panic("secret detail") }), http.MethodGet, base+"/x")
	if w.Code != 500 || errorCode(t, w) != okta.CodeInternal || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("an aborted answer was not left aborted")
		}
	}()
	do(edge(t, base, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), http.MethodGet, base+"/x")
}

func TestHeaders(t *testing.T) {
	w := do(edge(t, "https://id.example.com", ok), http.MethodGet, "https://id.example.com/x")
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
		"Strict-Transport-Security": "max-age=31536000", "Content-Type": "application/json",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, other := range []string{base, "https://localhost:8443"} {
		if w := do(edge(t, other, ok), http.MethodGet, other+"/x"); w.Code != 200 || w.Header().Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: %d, HSTS %q", other, w.Code, w.Header().Get("Strict-Transport-Security"))
		}
	}
}

func TestReadJSON(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body string
		want                    int
	}{
		{"plain", "application/json", `{"a":1}`, 0},
		{"charset", "application/json; charset=UTF-8", `{"a":1}`, 0},
		{"version", "application/json; okta-version=1.0.0", `{"a":1}`, 0},
		{"version, no space", "application/json;okta-version=1.0.0", `{"a":1}`, 0},
		{"version after a comma", "application/json, okta-version=1.0.0", `{"a":1}`, 0},
		{"ion", "application/ion+json; okta-version=1.0.0", `{"a":1}`, 0},
		{"merge patch", "application/merge-patch+json; okta-version=1.0.0", `{"a":1}`, 0},
		{"capitals", "Application/JSON", `{"a":1}`, 0},
		// A2: what a form on any page can send without a preflight.
		{"form", "application/x-www-form-urlencoded", `{"a":1}`, 415},
		{"text", "text/plain", `{"a":1}`, 415},
		{"multipart", "multipart/form-data; boundary=x", `{"a":1}`, 415},
		{"none", "", `{"a":1}`, 415},
		{"text that says json", "text/plain; application/json", `{"a":1}`, 415},
		{"empty", "application/json", ``, 400},
		{"two documents", "application/json", `{"a":1}{"a":2}`, 400},
		{"duplicate", "application/json", `{"a":1,"a":2}`, 400},
		{"deep", "application/json", strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100), 400},
		{"wrong type", "application/json", `{"a":"x"}`, 400},
		{"large", "application/json", `{"a":1` + strings.Repeat(" ", 2000) + `}`, 413},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
		if c.contentType != "" {
			r.Header.Set("Content-Type", c.contentType)
		}
		var dst struct{ A int }
		err := httpx.ReadJSON(httptest.NewRecorder(), r, &dst, 1024)
		var e *okta.Error
		switch {
		case c.want == 0 && (err != nil || dst.A != 1):
			t.Errorf("%s: %v", c.name, err)
		case c.want != 0 && (!errors.As(err, &e) || e.HTTPStatus != c.want):
			t.Errorf("%s: %v, want %d", c.name, err, c.want)
		}
	}
}

func TestBodyLimit(t *testing.T) {
	h := edge(t, base, func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil || n > httpx.MaxBody {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
	r := httptest.NewRequest(http.MethodPost, base+"/x", bytes.NewReader(make([]byte, httpx.MaxBody+1)))
	h.ServeHTTP(httptest.NewRecorder(), r)
}

func TestAcceptable(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                       true,
		"*/*":                                    true,
		"application/json":                       true,
		"application/*":                          true,
		"application/json; okta-version=1.0.0":   true,
		"application/json;okta-version=1.0.0":    true,
		"application/json, okta-version=1.0.0":   true,
		`application/json; okta-version="1.0.0"`: true,
		"application/merge-patch+json; okta-version=1.0.0": true,
		"text/html, application/json;okta-version=1.0.0":   true,
		"text/html, */*;q=0.8":                             true,
		"application/json; okta-version=2.0.0":             false,
		"application/json, okta-version=2.0.0":             false,
		"text/html":                                        false,
		"application/json; okta-version=2.0.0, */*":        true,
		"application/json; okta-version=2.0.0, text/plain": false,
		"application/merge-patch+json; okta-version=9":     false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		if got := httpx.Acceptable(r); got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
}

func TestErrorShape(t *testing.T) {
	w := httptest.NewRecorder()
	httpx.WriteError(w, okta.NewError(okta.CodeValidation, "authenticatorId: missing"))
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"errorCode", "errorSummary", "errorLink", "errorId", "errorCauses"} {
		if doc[member] == nil {
			t.Errorf("%s is missing: %s", member, w.Body)
		}
	}
	for _, e := range []*okta.Error{nil, {}, {Code: okta.CodeValidation, HTTPStatus: 200}} {
		w := httptest.NewRecorder()
		httpx.WriteError(w, e)
		if w.Code != 500 {
			t.Errorf("%v: status %d", e, w.Code)
		}
	}
	w = httptest.NewRecorder()
	httpx.WriteOAuthError(w, &okta.TokenError{Code: "invalid_grant", Description: "used", HTTPStatus: 400})
	if w.Code != 400 || w.Header().Get("Pragma") != "no-cache" || !strings.Contains(w.Body.String(), `"error":"invalid_grant"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	httpx.Fail(w, httptest.NewRequest(http.MethodGet, "/", nil), slog.New(slog.DiscardHandler), errors.New("table users: disk broken"))
	if w.Code != 500 || strings.Contains(w.Body.String(), "disk") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMethods(t *testing.T) {
	h := httpx.Methods{http.MethodGet: ok, http.MethodDelete: ok}
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "DELETE": 200, "POST": 405, "TRACE": 405, "get": 405} {
		w := do(h, method, base+"/x")
		if w.Code != want || want == 405 && (w.Header().Get("Allow") != "DELETE, GET" || errorCode(t, w) != okta.CodeMethodNotAllowed) {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}

func TestAuthorization(t *testing.T) {
	for header, want := range map[string][2]string{
		"":                   {"", ""},
		"Bearer abc":         {"bearer", "abc"},
		"bearer abc":         {"bearer", "abc"},
		"SSWS  x.y.z ":       {"ssws", "x.y.z"},
		"OTDT":               {"otdt", ""},
		"Bearer abc, SSWS x": {"bearer", "abc, SSWS x"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		if scheme, credential := httpx.Authorization(r); scheme != want[0] || credential.Reveal() != want[1] {
			t.Errorf("%q: %q, %q", header, scheme, credential.Reveal())
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["Authorization"] = []string{"Bearer a", "SSWS b"}
	if scheme, _ := httpx.Authorization(r); scheme != "" {
		t.Error("two headers gave a credential")
	}
}

// E10: timing leaks in token comparison. Digests are compared, in constant
// time; what can be tested is that the outcome is right at every length.
func TestSameSecret(t *testing.T) {
	for _, c := range []struct {
		a, b okta.Secret
		want bool
	}{
		{"token", "token", true}, {"token", "tokem", false}, {"token", "toke", false}, {"token", "tokens", false},
		{"", "", false}, {"token", "", false}, {"", "token", false},
	} {
		if got := httpx.SameSecret(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %v", c.a.Reveal(), c.b.Reveal(), got)
		}
	}
}

func TestServerHasLimits(t *testing.T) {
	s := httpx.NewServer(http.HandlerFunc(ok), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Error("a client can hold the server up")
	}
}

func TestEdgeRefusesBadBase(t *testing.T) {
	for _, bad := range []string{"", "localhost", "http://", "http://localhost/path", "http://localhost/"} {
		if _, err := (httpx.Edge{BaseURL: bad}).Wrap(http.HandlerFunc(ok)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}
