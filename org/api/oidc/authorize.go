package oidc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/store"
	"countersign.dev/org/token"
	"countersign.dev/org/web"
)

// authorize starts a browser's sign-in for an app. A session that already
// proves enough is answered with a code at once; everybody else gets the
// sign-in page.
func (s *server) authorize(as string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		forNavigation(w)
		v, err := authorizeParams(w, r)
		if err != nil {
			s.problem(w, r, err)
			return
		}
		app, err := s.client(r.Context(), v.Get("client_id"))
		if err == nil {
			err = target(v, app)
		}
		if err != nil {
			s.problem(w, r, err) // nobody has proven where an answer may go
			return
		}
		intent, err := parse(v, as, app, true)
		if err == nil {
			err = checkResponse(v)
		}
		if err == nil && !app.Allows("authorization_code") {
			err = token.GrantNotAllowed
		}
		reply := answer{uri: v.Get("redirect_uri"), mode: v.Get("response_mode"), state: v.Get("state")}
		if err != nil {
			s.redirectError(w, r, reply, err)
			return
		}
		intent.Mode, intent.ResponseMode, intent.PageOrigin = signin.Redirect, reply.mode, s.ownOrigin()
		s.startRedirect(w, r, app, intent)
	}
}

func (s *server) startRedirect(w http.ResponseWriter, r *http.Request, app directory.App, intent signin.Intent) {
	ctx := r.Context()
	reply := answer{uri: intent.RedirectURI, mode: intent.ResponseMode, state: intent.State}
	intent.ClientIP, intent.UserAgent, intent.SessionID = clientIP(r), userAgent(r), session.FromRequest(r)
	intent.Browser = session.Browser(w, r, s.BaseURL)
	handle, err := s.Engine.Start(ctx, intent)
	if err != nil {
		s.redirectError(w, r, reply, fmt.Errorf("starting a sign-in: %w", err))
		return
	}
	switch {
	case handle.Satisfied:
		done, err := s.Engine.Complete(ctx, handle.StateToken.Reveal())
		if err == nil {
			var code string
			if code, err = s.issueCode(ctx, done, intent.SessionID); err == nil {
				s.redirect(w, r, reply, url.Values{"code": {code}})
				return
			}
		}
		s.redirectError(w, r, reply, err)
	case intent.Prompt == "none":
		s.redirectError(w, r, reply, token.LoginRequired)
	default:
		s.Pages.SignIn(w, r, web.SignIn{StateToken: handle.StateToken, App: app.Label})
	}
}

// finish is where the sign-in page sends the browser after success: the
// finished sign-in is consumed, the browser gets a fresh session, the app its
// code.
func (s *server) finish(w http.ResponseWriter, r *http.Request) {
	forNavigation(w) // the address holds the state token
	ctx := r.Context()
	done, err := s.Engine.Complete(ctx, r.URL.Query().Get("stateToken"))
	if errors.Is(err, signin.ErrSessionExpired) {
		s.Log.InfoContext(ctx, "sign-in not completed", "error", err)
		s.Pages.Problem(w, r, http.StatusBadRequest, web.EndedSignIn)
		return
	}
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if !session.SameBrowser(r, s.BaseURL, done.Intent.Browser) && !s.sentByOwnPage(r) {
		// Somebody finished it elsewhere and sent the address here, to have this
		// browser signed in as them (login CSRF). It is used up now.
		s.Log.WarnContext(ctx, "sign-in brought to another browser", "client_id", done.Intent.ClientID, "user_id", done.UserID)
		s.Pages.Problem(w, r, http.StatusBadRequest, web.EndedSignIn)
		return
	}
	id, code, err := s.enter(ctx, done, session.FromRequest(r))
	home := done.Intent.ClientID == web.HomeClientID && done.Intent.CodeChallenge == ""
	reply := answer{uri: done.Intent.RedirectURI, mode: done.Intent.ResponseMode, state: done.Intent.State}
	if err != nil {
		if home {
			s.problem(w, r, err)
		} else {
			s.redirectError(w, r, reply, err)
		}
		return
	}
	session.SetCookie(w, id, s.BaseURL)
	if home {
		http.Redirect(w, r, web.HomePath, http.StatusSeeOther)
		return
	}
	s.redirect(w, r, reply, url.Values{"code": {code}})
}

// sentByOwnPage says whether a sign-in page sent the browser here, rather than
// a link that somebody else made: a page of the org, or one that it trusts. A
// state token is bound to nothing but its transaction until success, so the
// page that shows the sign-in need not be in the browser that asked for it;
// but the page that ends it must be one of these. What sends no Sec-Fetch-Site
// is no browser that a link could be sent to.
func (s *server) sentByOwnPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin":
		return true
	case "none": // typed, or followed from outside of the browser
		return false
	}
	page, err := url.Parse(r.Referer())
	if err != nil || page.Host == "" {
		return false
	}
	var trusted []string
	if err := s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		trusted, err = directory.TrustedOrigins(r.Context(), tx)
		return err
	}); err != nil {
		return false
	}
	return directory.OriginTrusted(trusted, page.Scheme+"://"+page.Host)
}

// enter makes the session, and the code if the sign-in was for an app. The
// browser never keeps a session value it brought along: whoever may have
// planted it would be signed in with it (session fixation).
func (s *server) enter(ctx context.Context, done signin.Completed, old okta.Secret) (id okta.Secret, code string, err error) {
	err = s.DB.Write(ctx, func(tx store.Tx) error {
		if old != "" {
			if err := session.End(ctx, tx, old); err != nil {
				return err
			}
		}
		var err error
		id, err = session.Create(ctx, tx, session.Session{
			UserID: done.UserID, AMR: done.AMR, AuthTime: done.AuthTime, EnrolmentID: done.EnrolmentID,
			DeviceID: done.DeviceID, KeyID: done.KeyID, KeyProtection: done.KeyProtection,
		}, s.Now())
		if err != nil || done.Intent.CodeChallenge == "" {
			return err
		}
		code, err = s.issueCodeIn(ctx, tx, done, id)
		return err
	})
	return id, code, err
}

func (s *server) issueCode(ctx context.Context, done signin.Completed, sid okta.Secret) (code string, err error) {
	err = s.DB.Write(ctx, func(tx store.Tx) error {
		code, err = s.issueCodeIn(ctx, tx, done, sid)
		if err == nil {
			err = session.Touch(ctx, tx, sid, s.Now())
		}
		return err
	})
	return code, err
}

func (s *server) issueCodeIn(ctx context.Context, tx store.Tx, done signin.Completed, sid okta.Secret) (string, error) {
	assigned, err := directory.Assigned(ctx, tx, done.UserID, done.Intent.ClientID)
	if err != nil {
		return "", err
	}
	if !assigned {
		return "", token.UserNotAssigned
	}
	g, err := GrantOf(done)
	if err != nil {
		return "", err
	}
	g.SessionID = session.Reference(sid)
	return s.Tokens.IssueCode(ctx, tx, g)
}

// GrantOf says what a completed sign-in gives its client. It refuses when the
// client asked for an assurance that the sign-in did not reach.
func GrantOf(c signin.Completed) (token.Grant, error) {
	acr, err := reached(c.Intent.ACRValues, c.AMR)
	if err != nil {
		return token.Grant{}, err
	}
	return token.Grant{
		ClientID: c.Intent.ClientID, UserID: c.UserID, AuthorizationServer: c.Intent.AuthorizationServer,
		RedirectURI: c.Intent.RedirectURI, Nonce: c.Intent.Nonce, CodeChallenge: c.Intent.CodeChallenge,
		Scopes: c.Intent.Scopes, AMR: c.AMR, AuthTime: c.AuthTime,
		EnrolmentID: c.EnrolmentID, DeviceID: c.DeviceID, KeyID: c.KeyID, ACR: acr,
	}, nil
}

// reached returns the first of the wanted assurance levels that amr meets.
// Nothing wanted is nothing claimed.
func reached(wanted, amr []string) (string, error) {
	if len(wanted) == 0 {
		return "", nil
	}
	has := func(m string) bool { return slices.Contains(amr, m) }
	for _, acr := range wanted {
		ok := false
		switch acr {
		case "urn:okta:loa:1fa:any", "urn:okta:loa:2fa:any:ifpossible":
			ok = len(amr) > 0
		case "urn:okta:loa:1fa:pwd":
			ok = has("pwd")
		case "urn:okta:loa:2fa:any":
			ok = has("mfa")
		case "phr":
			ok = has("phr") || has("pop") // a security key answers for the page that asked
		case "phrh":
			ok = has("phr") && has("hwk")
		}
		if ok {
			return acr, nil
		}
	}
	return "", token.Unmet
}

// signOut ends the browser's session. Tokens that apps hold are theirs to revoke.
func (s *server) signOut(w http.ResponseWriter, r *http.Request) {
	forNavigation(w)
	if r.Method != http.MethodPost && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		// A link on another site: the person decides, by the button there. Forms
		// of other sites come without the session (SameSite).
		http.Redirect(w, r, web.HomePath, http.StatusSeeOther)
		return
	}
	if id := session.FromRequest(r); id != "" {
		err := s.DB.Write(r.Context(), func(tx store.Tx) error { return session.End(r.Context(), tx, id) })
		if err != nil {
			s.problem(w, r, err)
			return
		}
	}
	if _, err := r.Cookie(session.CookieName); err == nil {
		session.ClearCookie(w, s.BaseURL)
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// answer says where and how a browser carries the result to the app. Its uri
// has been proven to belong to the client.
type answer struct{ uri, mode, state string }

func (s *server) redirect(w http.ResponseWriter, r *http.Request, a answer, v url.Values) {
	if a.state != "" {
		v.Set("state", a.state)
	}
	forNavigation(w)
	if a.mode == "form_post" {
		s.Pages.FormPost(w, r, a.uri, v)
		return
	}
	separator := "?"
	switch {
	case a.mode == "fragment":
		separator = "#"
	case strings.Contains(a.uri, "?"):
		separator = "&"
	}
	// Not http.Redirect: the address is sent exactly as registered, uncleaned.
	w.Header().Set("Location", a.uri+separator+v.Encode())
	status := http.StatusFound
	if r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	w.WriteHeader(status)
}

func (s *server) redirectError(w http.ResponseWriter, r *http.Request, a answer, err error) {
	e := token.OAuthError(err)
	if e.HTTPStatus >= 500 {
		s.Log.ErrorContext(r.Context(), "authorize failed", "error", err)
	} else {
		s.Log.InfoContext(r.Context(), "authorize refused", "error", err)
	}
	s.redirect(w, r, a, url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// problem shows a refusal on a page: for when nothing may be sent anywhere.
func (s *server) problem(w http.ResponseWriter, r *http.Request, err error) {
	e := token.OAuthError(err)
	if e.HTTPStatus >= 500 {
		s.Log.ErrorContext(r.Context(), "authorize failed", "error", err)
	} else {
		s.Log.InfoContext(r.Context(), "authorize refused", "error", err)
	}
	// 401 would ask the browser for credentials it cannot give.
	status := max(e.HTTPStatus, http.StatusBadRequest)
	if status == http.StatusUnauthorized {
		status = http.StatusBadRequest
	}
	s.Pages.Problem(w, r, status, web.BadLink(e))
}

// client finds the app of a request.
func (s *server) client(ctx context.Context, id string) (app directory.App, err error) {
	if id == "" {
		return app, token.NoClient
	}
	if len(id) > maxHint {
		return app, token.UnknownClient
	}
	err = s.DB.Read(ctx, func(tx store.Tx) error {
		app, err = directory.AppByClientID(ctx, tx, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return app, token.UnknownClient
	}
	return app, err
}

func authorizeParams(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost {
		v, err := form(w, r)
		if errors.Is(err, token.DuplicateParameter) && len(v["client_id"]) == 1 && len(v["redirect_uri"]) == 1 {
			err = nil // parse refuses it again, by redirect
		}
		return v, err
	}
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, token.Malformed
	}
	if len(v["client_id"]) > 1 || len(v["redirect_uri"]) > 1 {
		return nil, token.DuplicateParameter
	}
	return v, nil
}

// forNavigation marks an answer that is for a browser's window and for no
// script. Trusted pages may call the org's APIs with the browser's session; the
// code that a session gets for an app is that app's alone (A3).
func forNavigation(w http.ResponseWriter) {
	h := w.Header()
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Allow-Credentials")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// userAgent is shown to people and kept with the sign-in; it is cut to a length
// that both can bear.
func userAgent(r *http.Request) string {
	ua := r.UserAgent()
	return ua[:min(len(ua), 256)]
}
