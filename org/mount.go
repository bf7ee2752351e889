package org

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/api/idx"
	"countersign.dev/org/api/legacy"
	"countersign.dev/org/api/myaccount"
	"countersign.dev/org/api/oidc"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/signingkey"
	"countersign.dev/org/store"
	"countersign.dev/org/token"
	"countersign.dev/org/web"
)

// mount puts the rooms that talk to browsers and agents together. The adapters
// below are all they know of each other.
func (s *Server) mount(mux *http.ServeMux, registry *device.Registry, hasher *directory.Hasher, administrator http.Handler) error {
	c := s.config
	tokens := token.New(token.Deps{DB: s.db, Signing: s.keys, BaseURL: c.BaseURL, Now: c.Now})
	engine, err := signin.New(signin.Deps{
		DB: s.db, Signing: s.keys, Hasher: hasher, Codes: codeIssuer{tokens}, Session: sessionFacts(c.Now), Notify: s.lot.Notify,
		BaseURL: c.BaseURL, LoopbackPorts: c.LoopbackPorts, Now: c.Now, Log: c.Log,
	})
	if err != nil {
		return err
	}
	pages := web.New(web.Deps{DB: s.db, Engine: engine, BaseURL: c.BaseURL, LoopbackPorts: c.LoopbackPorts, Now: c.Now, Log: c.Log})
	oauth := oidc.New(oidc.Deps{
		DB: s.db, Tokens: tokens, Engine: oauthEngine{engine}, Back: engine, Devices: registry, Keys: s.keys, Pages: pages,
		BaseURL: c.BaseURL, Trusted: s.trusts, Now: c.Now, Log: c.Log,
	})
	access := accessTokens{tokens, s.db, s.keys, c.BaseURL, c.Now}
	account := myaccount.New(myaccount.Deps{
		DB: s.db, Registry: registry, Tokens: access, Bound: access,
		Pending: factor.PendingPush, Lot: s.lot, BaseURL: c.BaseURL, Now: c.Now, Log: c.Log,
	})

	mux.Handle(okta.OrganizationPath, account)
	mux.Handle(okta.AppAuthenticatorsPath+"/{id}/push/notifications", account)
	mux.Handle(okta.AppAuthenticatorsPath+"/{id}"+okta.NoticesPath, account)
	if !c.LegacyOnly {
		mux.Handle(okta.AuthenticatorConfigurationPath, account)
		mux.Handle(okta.AppAuthenticatorsPath, account)
		mux.Handle(okta.AppAuthenticatorsPath+"/{id}", account)
	}
	older := legacy.New(legacy.Deps{
		DB: s.db, Registry: registry, Tokens: access, Bound: access, AdminToken: s.token,
		BaseURL: c.BaseURL, Notify: s.lot.Notify, Now: c.Now, Log: c.Log,
	})
	mux.Handle(okta.LegacyAuthenticatorsPath, s.listing(administrator, older))
	mux.Handle(okta.LegacyEnrolmentsPath, older)
	mux.Handle(okta.LegacyEnrolmentsPath+"/{id}", older)

	steps := idx.New(engine, c.BaseURL, c.Log)
	mux.Handle("/idp/idx/", steps)
	mux.Handle("/idp/authenticators/{authenticatorId}/transactions/{txId}/verify", steps)
	mux.Handle(okta.AppAuthenticatorsPath+"/challenge/{txId}/verify", steps)

	mux.Handle("/.well-known/openid-configuration", oauth)
	mux.Handle("/oauth2/", oauth)
	mux.Handle("/login/token/redirect", oauth)
	mux.Handle("/login/signout", oauth)

	mux.Handle("/login", pages)
	mux.Handle("/app/", pages)
	mux.Handle("/assets/", pages)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, web.HomePath, http.StatusSeeOther)
	})
	// A person who took a wrong turn gets a page, a program the error object.
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
			pages.ServeHTTP(w, r)
			return
		}
		httpx.NotFound(w, r)
	})
	return nil
}

// listing shows the administrator all authenticators, at the address where agents
// ask what may be enrolled on a device. With a key of those it is their answer for
// both.
func (s *Server) listing(all, enrollable http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, credential := httpx.Authorization(r)
		if scheme == "ssws" && httpx.SameSecret(credential, s.token) && !legacy.Lists(r.URL.Query().Get("key")) {
			all.ServeHTTP(w, r)
			return
		}
		enrollable.ServeHTTP(w, r)
	})
}

// trusts says whether pages of an origin may call the org.
func (s *Server) trusts(ctx context.Context, origin string) bool {
	return directory.OriginTrusted(s.trustedOrigins(ctx), origin)
}

// codeIssuer turns a finished sign-in into an interaction code.
type codeIssuer struct{ tokens *token.Service }

func (i codeIssuer) IssueInteractionCode(ctx context.Context, tx store.Tx, c signin.Completed) (string, error) {
	grant, err := oidc.GrantOf(c)
	if err != nil {
		return "", err
	}
	return i.tokens.IssueInteractionCode(ctx, tx, grant)
}

// oauthEngine is the engine as the OAuth endpoints see it.
type oauthEngine struct{ *signin.Engine }

func (e oauthEngine) Complete(ctx context.Context, stateToken string) (signin.Completed, error) {
	return e.Engine.Complete(ctx, okta.Secret(stateToken))
}

// sessionFacts tells the engine what a browser's session has proven.
func sessionFacts(now func() time.Time) func(context.Context, store.Tx, okta.Secret) (signin.SessionFacts, bool, error) {
	return func(ctx context.Context, tx store.Tx, id okta.Secret) (signin.SessionFacts, bool, error) {
		s, err := session.Lookup(ctx, tx, id, now())
		if notFound(err) {
			return signin.SessionFacts{}, false, nil
		}
		if err != nil {
			return signin.SessionFacts{}, false, err
		}
		return signin.SessionFacts{
			UserID: s.UserID, AMR: s.AMR, AuthTime: s.AuthTime, EnrolmentID: s.EnrolmentID,
			DeviceID: s.DeviceID, KeyID: s.KeyID, KeyProtection: s.KeyProtection,
		}, true, nil
	}
}

// accessTokens verifies access tokens for the MyAccount API.
type accessTokens struct {
	tokens  *token.Service
	db      *store.DB
	keys    *signingkey.Ring
	baseURL string
	now     func() time.Time
}

func (a accessTokens) VerifyAccessToken(ctx context.Context, t okta.Secret) (myaccount.Access, error) {
	claims, err := a.tokens.VerifyAccessToken(ctx, t.Reveal())
	return a.access(ctx, t, claims, err)
}

// VerifyProof implements gate.BoundTokens.
func (a accessTokens) VerifyProof(ctx context.Context, proofs []string, method, url string, t okta.Secret) (string, error) {
	return a.tokens.ProveForToken(ctx, token.Possession{Proofs: proofs, Method: method, URL: url}, t.Reveal())
}

// VerifyBoundToken implements gate.BoundTokens.
func (a accessTokens) VerifyBoundToken(ctx context.Context, t okta.Secret, key string) (myaccount.Access, error) {
	claims, err := a.tokens.VerifyBoundToken(ctx, token.ServerOrg, t.Reveal(), key)
	return a.access(ctx, t, claims, err)
}

func (a accessTokens) access(ctx context.Context, t okta.Secret, claims token.AccessClaims, err error) (myaccount.Access, error) {
	if err != nil {
		if refusal := a.userRefusal(ctx, t); refusal != nil {
			return myaccount.Access{}, refusal
		}
		return myaccount.Access{}, err
	}
	access := myaccount.Access{UserID: claims.UserID, Scopes: claims.Scopes, AuthTime: claims.AuthTime, Strong: claims.Strong()}
	if claims.ByDevice {
		access.EnrolmentID = claims.EnrolmentID
	}
	return access, nil
}

// userRefusal finds out whether a token is refused because of its user. Only
// who holds a token that we signed and that has not expired learns so: an
// agent that is told "suspended" keeps its enrolment, one that is told
// "invalid token" asks the person to sign in, in vain.
func (a accessTokens) userRefusal(ctx context.Context, t okta.Secret) *okta.Error {
	var c struct {
		Issuer    string           `json:"iss"`
		UserID    string           `json:"uid"`
		ExpiresAt okta.NumericDate `json:"exp"`
	}
	if err := a.keys.Verify(t.Reveal(), jose.AccessToken, &c); err != nil || c.UserID == "" || c.Issuer != a.baseURL || !a.now().Before(c.ExpiresAt.Time()) {
		return nil
	}
	var user directory.User
	err := a.db.Read(ctx, func(tx store.Tx) (err error) {
		user, err = directory.UserByID(ctx, tx, c.UserID)
		return err
	})
	if err != nil {
		return nil
	}
	return user.Refusal()
}

func notFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
