// Package oidc is the OAuth 2.0 and OpenID Connect face of the org: discovery,
// authorize, interact, token, keys, userinfo and revoke, for both of its
// authorization servers, and the two steps where a browser's sign-in becomes a
// session and where it ends (spec okta-oidc 1-5, 10-12, 14, 16).
//
// The package translates. Who may sign in is decided by the sign-in engine,
// what a code or token is worth by package token; here requests are validated,
// and refusals get the shape and the status that Okta gives them. Nothing is
// sent to a redirect URI before client and URI have been proven to belong
// together.
//
// It owns these paths; everything else is a 404 with Okta's error object:
//
//	/.well-known/openid-configuration
//	/oauth2/…                        both servers; an unknown one is E0000007
//	/login/token/redirect            a finished sign-in: session, code, redirect
//	/login/signout
package oidc

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/signin"
	"countersign.dev/org/store"
	"countersign.dev/org/token"
	"countersign.dev/org/web"
)

// Engine is the part of the sign-in engine that OAuth needs; *signin.Engine is one.
type Engine interface {
	// Start begins a sign-in for a browser.
	Start(ctx context.Context, i signin.Intent) (signin.Handle, error)
	// Complete consumes a finished one, once.
	Complete(ctx context.Context, stateToken string) (signin.Completed, error)
}

// Keys publishes the org's verification keys; *signingkey.Ring does.
type Keys interface {
	Public(ctx context.Context) (keys []jose.JWK, maxAge time.Duration)
}

// Devices recognises devices by what they sign; *device.Registry does. The
// errors of RedeemAssertion are its own.
type Devices interface {
	RedeemAssertion(ctx context.Context, assertion string) (device.Asserted, error)
}

// Deps is what the endpoints work with. Now and Log may be nil.
type Deps struct {
	DB      *store.DB
	Tokens  *token.Service
	Engine  Engine
	Back    Backchannel
	Devices Devices
	Keys    Keys
	Pages   *web.Pages
	BaseURL string // the org's own address, without a trailing slash
	// Trusted says whether pages of an origin may call the org; the org's own
	// may in any case. Nil trusts no other.
	Trusted func(ctx context.Context, origin string) bool
	Now     func() time.Time
	Log     *slog.Logger
}

type server struct {
	Deps
	mux *http.ServeMux
}

// New returns the handler of the paths in the package comment.
func New(d Deps) http.Handler {
	d.BaseURL = strings.TrimSuffix(d.BaseURL, "/")
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Trusted == nil {
		d.Trusted = func(context.Context, string) bool { return false }
	}
	s := &server{Deps: d, mux: http.NewServeMux()}

	for _, as := range []struct{ id, wellKnown, base string }{
		{token.ServerOrg, "/.well-known/openid-configuration", "/oauth2/v1"},
		{token.ServerDefault, "/oauth2/default/.well-known/openid-configuration", "/oauth2/default/v1"},
	} {
		s.mux.HandleFunc("GET "+as.wellKnown, s.discovery(as.id))
		s.mux.HandleFunc("GET "+as.base+"/authorize", s.authorize(as.id))
		s.mux.HandleFunc("POST "+as.base+"/authorize", s.authorize(as.id))
		s.mux.HandleFunc("POST "+as.base+"/interact", s.interact(as.id))
		s.mux.HandleFunc("POST "+as.base+"/token", s.token(as.id))
		s.mux.HandleFunc("POST "+as.base+"/bc/authorize", s.askDevices(as.id))
		s.mux.HandleFunc("POST "+as.base+"/revoke", s.revoke(as.id))
		s.mux.HandleFunc("GET "+as.base+"/keys", s.keys)
		s.mux.HandleFunc("GET "+as.base+"/userinfo", s.userinfo(as.id))
		s.mux.HandleFunc("POST "+as.base+"/userinfo", s.userinfo(as.id))
	}
	s.mux.HandleFunc("GET /oauth2/default/.well-known/oauth-authorization-server", s.discovery(token.ServerDefault))
	s.mux.HandleFunc("GET /login/token/redirect", s.finish)
	s.mux.HandleFunc("GET /login/signout", s.signOut)
	s.mux.HandleFunc("POST /login/signout", s.signOut)
	return s
}

// ServeHTTP answers what the mux has no route for as Okta does: an unknown
// authorization server is a resource that does not exist.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := s.mux.Handler(r); pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	code := okta.CodeNotFound
	if other := s.otherMethod(r); other {
		code = okta.CodeMethodNotAllowed
	}
	e := okta.NewError(code)
	writeJSON(w, e.HTTPStatus, e)
}

// otherMethod says whether the path exists under another method.
func (s *server) otherMethod(r *http.Request) bool {
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := s.mux.Handler(probe); pattern != "" {
			return true
		}
	}
	return false
}

// ownOrigin is the origin of the org's own pages.
func (s *server) ownOrigin() string { return s.BaseURL }

// trusted says whether a browser page may use endpoints that answer with
// something to keep. A request without Origin comes from no page.
func (s *server) trusted(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || origin == s.ownOrigin() || s.Trusted(r.Context(), origin)
}
