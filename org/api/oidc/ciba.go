package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/token"
)

// Backchannel asks a user's devices without a page and tells how that ended;
// *signin.Engine does.
type Backchannel interface {
	StartBackchannel(ctx context.Context, b signin.Backchannel) (id okta.Secret, expiresAt time.Time, err error)
	CompleteBackchannel(ctx context.Context, id okta.Secret, clientID string) (signin.Completed, error)
}

const (
	maxBindingMessage = 250 // characters
	maxRequestExpiry  = 300 // seconds
)

// askDevices starts a request over the back channel (CIBA, spec 7). The client
// polls the token endpoint for its outcome.
func (s *server) askDevices(as string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, app, err := s.clientForm(w, r)
		switch {
		case err != nil:
		case !app.Confidential():
			err = token.ConfidentialOnly
		case !app.Allows(okta.GrantCIBA):
			err = token.BackchannelNotAllowed
		}
		var ask signin.Backchannel
		if err == nil {
			ask, err = s.parseAsk(v, as, app)
		}
		if err != nil {
			s.refuse(w, r, fmt.Errorf("asking over the back channel: %w", err))
			return
		}
		ask.ClientIP, ask.UserAgent = clientIP(r), userAgent(r)
		id, expiresAt, err := s.Back.StartBackchannel(r.Context(), ask)
		if errors.Is(err, signin.ErrNoCIBAEnrolment) {
			s.Log.InfoContext(r.Context(), "back channel: nobody to ask", "client_id", app.ClientID)
			httpx.WriteError(w, okta.NewError(okta.CodeNoCIBAEnrolment))
			return
		}
		if err == nil {
			err = s.Tokens.OpenBackchannel(r.Context(), token.Poll{ClientID: app.ClientID, AuthorizationServer: as, RequestID: id}, expiresAt)
		}
		if err != nil {
			s.refuse(w, r, fmt.Errorf("asking over the back channel: %w", reasonOf(err)))
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"auth_req_id": id.Reveal(), "expires_in": int(expiresAt.Sub(s.Now()).Round(time.Second).Seconds()),
			"interval": int(token.BackchannelInterval.Seconds()),
		})
	}
}

// reasonOf puts what the engine says into the words of OAuth.
func reasonOf(err error) error {
	for _, m := range [...]struct {
		is error
		to token.Reason
	}{
		{signin.ErrUnknownUser, token.UserUnknown}, {signin.ErrThrottled, token.UserThrottled}, {signin.ErrDenied, token.BackchannelDenied},
		{signin.ErrAuthorizationPending, token.RequestPending}, {signin.ErrSessionExpired, token.RequestExpired},
		{signin.ErrRequest, token.Malformed},
	} {
		if errors.Is(err, m.is) {
			return fmt.Errorf("%w: %w", m.to, err)
		}
	}
	return err
}

func (s *server) parseAsk(v url.Values, as string, app directory.App) (signin.Backchannel, error) {
	b := signin.Backchannel{ClientID: app.ClientID, AuthorizationServer: as, LoginHint: v.Get("login_hint"), BindingMessage: v.Get("binding_message")}
	if v.Has("request") || v.Has("request_uri") {
		return b, token.RequestObject
	}
	for name, values := range v {
		if len(values[0]) > maxParameter && name != "id_token_hint" && !strings.HasPrefix(name, "client_") {
			return b, token.ParameterTooLong
		}
	}
	intent := signin.Intent{AuthorizationServer: as}
	if err := checkScope(v, app, &intent); err != nil {
		return b, err
	}
	if b.Scopes = intent.Scopes; !slices.Contains(b.Scopes, "openid") {
		return b, token.OpenIDMissing
	}
	b.ACRValues = acrValues(v)
	if !showable(b.BindingMessage) {
		return b, token.BindingMessage
	}
	hint := v.Get("id_token_hint")
	switch {
	case (b.LoginHint == "") == (hint == ""):
		return b, token.HintInvalid
	case hint != "":
		var err error
		if b.UserID, err = s.Tokens.HintedUser(as, app.ClientID, hint); err != nil {
			return b, err
		}
	case len(b.LoginHint) > maxHint || !utf8.ValidString(b.LoginHint):
		return b, token.HintInvalid
	}
	var err error
	b.ExpiresIn, err = requestExpiry(v)
	return b, err
}

// showable says whether a binding message can be put before a person: one line
// that shows as it was written.
func showable(s string) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxBindingMessage &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
}

// requestExpiry reads how long a request is to wait. The number has two names,
// CIBA Core's and that of Okta's reference; 0 is the engine's own choice.
func requestExpiry(v url.Values) (time.Duration, error) {
	name := "request_expiry"
	if v.Has("requested_expiry") {
		if v.Has(name) && v.Get(name) != v.Get("requested_expiry") {
			return 0, token.ExpiryInvalid
		}
		name = "requested_expiry"
	}
	if !v.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseUint(v.Get(name), 10, 16)
	if err != nil || n < 1 || n > maxRequestExpiry {
		return 0, token.ExpiryInvalid
	}
	return time.Duration(n) * time.Second, nil
}

// backchannel answers a client that asks how its request stands.
func (s *server) backchannel(r *http.Request, as string, app directory.App, v url.Values, key string) (token.Tokens, error) {
	if !app.Confidential() {
		return token.Tokens{}, token.ConfidentialOnly
	}
	poll := token.Poll{ClientID: app.ClientID, AuthorizationServer: as, RequestID: okta.Secret(v.Get("auth_req_id"))}
	if poll.RequestID == "" {
		return token.Tokens{}, token.RequestIDMissing
	}
	if err := s.Tokens.PaceBackchannel(r.Context(), poll); err != nil {
		return token.Tokens{}, err
	}
	done, err := s.Back.CompleteBackchannel(r.Context(), poll.RequestID, app.ClientID)
	if err != nil {
		return token.Tokens{}, reasonOf(err)
	}
	if err := s.Tokens.CloseBackchannel(r.Context(), poll); err != nil {
		return token.Tokens{}, err
	}
	if done.Intent.ClientID != app.ClientID || done.Intent.AuthorizationServer != as {
		return token.Tokens{}, token.RequestIDInvalid
	}
	g, err := GrantOf(done)
	if err != nil {
		return token.Tokens{}, err
	}
	return s.Tokens.IssueBackchannel(r.Context(), g, key)
}
