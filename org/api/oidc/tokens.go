package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/token"
)

// interact starts a sign-in for a page that brings its own form: an embedded
// one. The page's origin goes into every challenge, so that an answer given to
// another page is recognised as phishing (A5).
func (s *server) interact(as string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, app, err := s.clientForm(w, r)
		if err == nil && !app.Allows("interaction_code") {
			err = token.GrantNotAllowed
		}
		if err == nil {
			err = target(v, app)
		}
		var intent signin.Intent
		if err == nil {
			intent, err = parse(v, as, app, false)
		}
		if err != nil {
			s.refuse(w, r, fmt.Errorf("starting an embedded sign-in: %w", err))
			return
		}
		intent.Mode, intent.PageOrigin = signin.InteractionCode, r.Header.Get("Origin")
		if intent.PageOrigin == "" {
			// No page started this. Its challenges can then be carried to an agent
			// by the org's own pages and by no other.
			intent.PageOrigin = s.ownOrigin()
		}
		intent.ClientIP, intent.UserAgent, intent.SessionID = clientIP(r), userAgent(r), session.FromRequest(r)
		handle, err := s.Engine.Start(r.Context(), intent)
		if err != nil {
			s.refuse(w, r, fmt.Errorf("starting an embedded sign-in: %w", err))
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"interaction_handle": handle.InteractionHandle.Reveal()})
	}
}

// token answers the token endpoint.
func (s *server) token(as string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, app, err := s.clientForm(w, r)
		var key string
		if err == nil {
			key, err = s.prove(w, r)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		t, err := s.grant(r, as, app, v, key)
		var refusal *okta.Error
		if errors.As(err, &refusal) {
			// A device that has proven itself hears why it is turned away, in the
			// words of the API it then calls (devices protocol 2.7).
			s.Log.InfoContext(r.Context(), "device refused", "error", err)
			httpx.WriteError(w, refusal)
			return
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, t)
	}
}

// grant issues what a grant type gives; key is the thumbprint of the key that
// the client has proven, "" for none.
func (s *server) grant(r *http.Request, as string, app directory.App, v url.Values, key string) (token.Tokens, error) {
	grantType := v.Get("grant_type")
	switch grantType {
	case "authorization_code", "interaction_code", "refresh_token", okta.GrantCIBA:
	case okta.GrantJWTBearer:
		if as != token.ServerOrg { // the org's APIs take the org's tokens only
			return token.Tokens{}, token.GrantTypeUnsupported
		}
	case "":
		return token.Tokens{}, token.GrantTypeMissing
	default:
		return token.Tokens{}, token.GrantTypeUnsupported
	}
	if !app.Allows(grantType) {
		return token.Tokens{}, token.GrantNotAllowed
	}
	if grantType == "refresh_token" {
		if v.Get("refresh_token") == "" {
			return token.Tokens{}, token.RefreshMissing
		}
		var scopes []string // nil asks for all that was granted
		if scope := strings.Fields(v.Get("scope")); len(scope) > 0 {
			scopes = scope
		}
		return s.Tokens.Refresh(r.Context(), token.RefreshRequest{
			ClientID: app.ClientID, AuthorizationServer: as, RefreshToken: v.Get("refresh_token"), Scopes: scopes, Key: key,
		})
	}
	switch grantType {
	case okta.GrantJWTBearer:
		return s.maintenance(r, app, v, key)
	case okta.GrantCIBA:
		return s.backchannel(r, as, app, v, key)
	}
	code := token.Redemption{
		ClientID: app.ClientID, AuthorizationServer: as, RedirectURI: v.Get("redirect_uri"), Verifier: v.Get("code_verifier"), Key: key,
	}
	redeem := s.Tokens.RedeemCode
	if code.Code = v.Get("code"); grantType == "interaction_code" {
		code.Code, redeem = v.Get("interaction_code"), s.Tokens.RedeemInteractionCode
	}
	switch {
	case code.Code == "":
		return token.Tokens{}, token.CodeMissing
	case code.Verifier == "":
		return token.Tokens{}, token.VerifierMissing
	case code.RedirectURI == "" && grantType == "authorization_code":
		return token.Tokens{}, token.RedirectMissing
	}
	return redeem(r.Context(), code)
}

// maintenance gives a device what it needs to look after its enrolment, for an
// assertion that the enrolment's key signed (spec 5.1).
func (s *server) maintenance(r *http.Request, app directory.App, v url.Values, key string) (token.Tokens, error) {
	assertion := v.Get("assertion")
	scopes, err := maintenanceScopes(v.Get("scope"), app)
	switch {
	case assertion == "":
		return token.Tokens{}, token.AssertionMissing
	case err != nil:
		return token.Tokens{}, err
	}
	by, err := s.Devices.RedeemAssertion(r.Context(), assertion)
	switch {
	case errors.Is(err, device.ErrAssertionIssuer):
		return token.Tokens{}, fmt.Errorf("%w: %w", token.AssertionIssuer, err)
	case errors.Is(err, device.ErrAssertion):
		return token.Tokens{}, fmt.Errorf("%w: %w", token.AssertionInvalid, err)
	case err != nil:
		return token.Tokens{}, err
	}
	return s.Tokens.IssueMaintenance(r.Context(), token.Maintenance{
		ClientID: app.ClientID, UserID: by.UserID, EnrolmentID: by.EnrolmentID, DeviceID: by.DeviceID, KeyID: by.KeyID, Scopes: scopes, Key: key,
	})
}

// maintenanceScopes admits what a device may do without a person, and no other
// scope, whatever the app may ask for otherwise.
func maintenanceScopes(scope string, app directory.App) (out []string, err error) {
	if len(scope) > maxScope {
		return nil, token.ParameterTooLong
	}
	for _, s := range strings.Fields(scope) {
		switch {
		case s != okta.ScopeMaintenanceRead && s != okta.ScopeMaintenanceManage, !slices.Contains(app.Scopes, s):
			return nil, token.ScopeUnknown
		case !slices.Contains(out, s):
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, token.ScopeMissing
	}
	return out, nil
}

// revoke answers 200 with an empty body whatever the token was.
func (s *server) revoke(as string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, app, err := s.clientForm(w, r)
		if err == nil && v.Get("token") == "" {
			err = token.TokenMissing
		}
		if err == nil {
			err = s.Tokens.Revoke(r.Context(), as, app.ClientID, v.Get("token"))
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "no-cache, no-store")
		w.WriteHeader(http.StatusOK)
	}
}

func (s *server) userinfo(as string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// The header only: a token in an address or a form gets logged and cached.
		var c token.AccessClaims
		var err error
		switch scheme, credential := httpx.Authorization(r); {
		case credential == "":
			err = token.BearerMissing
		case scheme == "bearer":
			c, err = s.Tokens.VerifyAccessTokenOf(r.Context(), as, credential.Reveal())
		case scheme == "dpop":
			var key string
			if key, err = s.Tokens.ProveForToken(r.Context(), s.possession(r), credential.Reveal()); err == nil {
				c, err = s.Tokens.VerifyBoundToken(r.Context(), as, credential.Reveal(), key)
			}
		default:
			err = token.BearerMissing
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		claims, err := s.Tokens.UserInfo(r.Context(), c)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, claims)
	}
}
