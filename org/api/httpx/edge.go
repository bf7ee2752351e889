package httpx

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
)

// Edge is what every request passes before it is routed.
type Edge struct {
	BaseURL string                             // the org's URL: scheme, host and port, no trailing slash
	Trusted func(ctx context.Context) []string // origins whose pages may call the org
	Log     *slog.Logger
}

// Wrap puts the edge in front of the org's handler.
func (e Edge) Wrap(next http.Handler) (http.Handler, error) {
	base, err := url.Parse(e.BaseURL)
	if err != nil || base.Host == "" || base.Path != "" {
		return nil, fmt.Errorf("base URL %q: want scheme://host[:port]", e.BaseURL)
	}
	h := bodyLimit(next)
	h = CORS(e.Trusted, e.BaseURL)(h)
	h = hostCheck(base, h)
	h = recoverPanics(e.Log, h)
	h = headers(base, h)
	return h, nil
}

type contextKey int

const (
	requestIDKey contextKey = iota
	originKey
)

// RequestID is the id of the request being served, for logs.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey).(string)
	return id
}

// TrustedOrigin returns the request's Origin when the org trusts it or is it
// itself. A missing Origin is not trusted.
func TrustedOrigin(ctx context.Context) (string, bool) {
	o, ok := ctx.Value(originKey).(string)
	return o, ok
}

// headers gives every answer an id and the headers that keep a browser from
// guessing, framing and storing. Handlers may loosen them for their pages.
func headers(base *url.URL, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := ids.New("req")
		h := w.Header()
		h.Set("X-Okta-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
		h.Set("Cache-Control", "no-store")
		// Not for localhost: it would hold for every port of the machine.
		if base.Scheme == "https" && base.Hostname() != "localhost" {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey, id)))
	})
}

// recoverPanics turns a bug into an error object instead of a cut connection.
func recoverPanics(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint // the value itself is the signal
				panic(v)
			}
			log.ErrorContext(r.Context(), "handler panicked", "path", r.URL.Path,
				"request_id", RequestID(r.Context()), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			// Without effect when the handler has begun to answer.
			WriteError(w, okta.NewError(okta.CodeInternal))
		}()
		next.ServeHTTP(w, r)
	})
}

// hostCheck refuses requests for another host before anything else looks at
// them: a page that rebinds its own name to our address gets nowhere. The one
// exception is a person who types the address instead of the name.
func hostCheck(base *url.URL, next http.Handler) http.Handler {
	want := canonicalHost(base.Scheme, base.Host)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if canonicalHost(base.Scheme, r.Host) == want {
			next.ServeHTTP(w, r)
			return
		}
		if loopbackOf(base, r.Host) {
			if r.URL.Path == "/healthz" {
				next.ServeHTTP(w, r)
				return
			}
			if isPage(r) {
				http.Redirect(w, r, base.Scheme+"://"+base.Host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
				return
			}
		}
		e := okta.NewError(okta.CodePathNotFound, "this server does not answer for that host")
		e.HTTPStatus = http.StatusMisdirectedRequest
		if r.Host == "" {
			e.HTTPStatus = http.StatusBadRequest
		}
		WriteError(w, e)
	})
}

// canonicalHost drops the default port of a scheme and the case of letters.
func canonicalHost(scheme, host string) string {
	host = strings.ToLower(host)
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// loopbackOf says whether host is 127.0.0.1 with the port of a base URL on
// localhost.
func loopbackOf(base *url.URL, host string) bool {
	return base.Hostname() == "localhost" &&
		canonicalHost(base.Scheme, host) == canonicalHost(base.Scheme, strings.Replace(base.Host, "localhost", "127.0.0.1", 1))
}

// isPage says whether somebody wants to see the answer as a page: a browser,
// which says so, or a program that takes anything, at a page that people go to.
func isPage(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || !strings.HasPrefix(r.URL.Path, "/") || strings.HasPrefix(r.URL.Path, "//") {
		return false
	}
	switch accept := r.Header.Get("Accept"); accept {
	case "", "*/*":
		return r.URL.Path == "/" || r.URL.Path == "/login" || strings.HasPrefix(r.URL.Path, "/app/")
	default:
		return strings.Contains(accept, "text/html")
	}
}

// CORS lets pages of trusted origins, and of no other, read answers: the exact
// origin is echoed, with credentials, on errors too. Preflights are answered
// here and never routed.
func CORS(trusted func(ctx context.Context) []string, base string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Vary", "Origin")
			origins := r.Header.Values("Origin")
			allowed := len(origins) == 1 && (origins[0] == base || directory.OriginTrusted(trusted(r.Context()), origins[0]))
			if allowed {
				w.Header().Set("Access-Control-Allow-Origin", origins[0])
				w.Header().Set("Access-Control-Allow-Credentials", "true")
				w.Header().Set("Access-Control-Expose-Headers", "X-Okta-Request-Id, DPoP-Nonce, WWW-Authenticate")
				r = r.WithContext(context.WithValue(r.Context(), originKey, origins[0]))
			}
			if r.Method == http.MethodOptions {
				preflight(w, r, allowed)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func preflight(w http.ResponseWriter, r *http.Request, allowed bool) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	if !allowed {
		WriteError(w, okta.NewError(okta.CodeForbidden, "the origin is not trusted"))
		return
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	// Widgets send headers of their own that change with their version. The
	// list comes from a browser acting for a trusted page.
	if requested := r.Header.Get("Access-Control-Request-Headers"); len(requested) > 0 && len(requested) <= 1024 {
		h.Set("Access-Control-Allow-Headers", requested)
	}
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// bodyLimit bounds what any handler can read.
func bodyLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		}
		next.ServeHTTP(w, r)
	})
}

// NewServer makes an HTTP server whose clients cannot hold it up.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
