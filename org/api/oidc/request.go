package oidc

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/token"
)

// Limits of parameters. Scope and login hint as Okta has them; the others are
// far above anything a client sends.
const (
	maxParameter = 2048
	maxScope     = 1024
	maxHint      = 256
	maxAgeLimit  = 1<<31 - 1
)

// knownACR are the assurance levels a client may ask for; others are ignored.
var knownACR = []string{
	"urn:okta:loa:1fa:any", "urn:okta:loa:1fa:pwd", "urn:okta:loa:2fa:any", "urn:okta:loa:2fa:any:ifpossible", "phr", "phrh",
}

// target checks the first half of a request: that the app registered this
// redirect URI. Until it succeeds nothing may be sent there, so its errors are
// shown on a page (or, for interact, answered as JSON).
func target(v url.Values, app directory.App) error {
	uri := v.Get("redirect_uri")
	switch {
	case uri == "":
		return token.RedirectMissing
	case len(uri) > maxParameter || !app.AllowsRedirect(uri) || !sane(uri):
		return token.RedirectNotRegistered
	}
	return nil
}

// sane is a second look at a registered redirect URI: an administrator's slip
// must not turn the org into an open redirector or a script runner.
func sane(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Fragment != "" || strings.Contains(uri, "#") || u.User != nil || strings.ContainsAny(uri, "\\ \t\r\n") {
		return false
	}
	switch {
	case u.Scheme == "https", u.Scheme == "http":
		return u.Hostname() != ""
	default: // a native app's own scheme is a reversed domain name (RFC 8252, 7.1)
		return strings.Contains(u.Scheme, ".")
	}
}

// parse checks the second half: everything whose refusal goes to the proven
// redirect URI. It fills in what the request itself says of the intent.
// stateNeeded is true for authorize, where Okta insists on it.
func parse(v url.Values, as string, app directory.App, stateNeeded bool) (signin.Intent, error) {
	i := signin.Intent{
		ClientID: app.ClientID, AuthorizationServer: as,
		RedirectURI: v.Get("redirect_uri"), State: v.Get("state"), Nonce: v.Get("nonce"),
		CodeChallenge: v.Get("code_challenge"), LoginHint: v.Get("login_hint"),
	}
	if err := once(v); err != nil {
		return signin.Intent{}, err
	}
	for name, values := range v {
		if len(values[0]) > maxParameter {
			return signin.Intent{}, token.ParameterTooLong
		}
		if name == "request" || name == "request_uri" {
			return signin.Intent{}, token.RequestObject
		}
	}
	for _, check := range []func(url.Values, directory.App, *signin.Intent) error{
		checkState(stateNeeded), checkPKCE, checkScope, checkPrompt, checkText,
	} {
		if err := check(v, app, &i); err != nil {
			return signin.Intent{}, err
		}
	}
	i.ACRValues = acrValues(v)
	return i, nil
}

// acrValues are the assurance levels that a request asks for, as far as we know
// them.
func acrValues(v url.Values) (out []string) {
	for _, acr := range strings.Fields(v.Get("acr_values")) {
		if slices.Contains(knownACR, acr) && !slices.Contains(out, acr) {
			out = append(out, acr)
		}
	}
	return out
}

// checkResponse is for authorize alone: an embedded sign-in has no response type.
func checkResponse(v url.Values) error {
	switch v.Get("response_type") {
	case "code":
	case "":
		return token.ResponseTypeMissing
	default:
		return token.ResponseTypeUnsupported
	}
	switch v.Get("response_mode") {
	case "", "query", "fragment", "form_post":
		return nil
	}
	return token.ResponseModeUnsupported
}

func checkState(needed bool) func(url.Values, directory.App, *signin.Intent) error {
	return func(_ url.Values, _ directory.App, i *signin.Intent) error {
		if i.State == "" && needed {
			return token.StateMissing
		}
		for _, c := range i.State {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(",._-", c)) {
				return token.StateInvalid
			}
		}
		return nil
	}
}

func checkPKCE(v url.Values, _ directory.App, i *signin.Intent) error {
	switch {
	case i.CodeChallenge == "":
		return token.ChallengeMissing
	case v.Get("code_challenge_method") != "S256":
		return token.ChallengeMethod
	case !token.ValidChallenge(i.CodeChallenge):
		return token.ChallengeInvalid
	}
	return nil
}

func checkScope(v url.Values, app directory.App, i *signin.Intent) error {
	scope := v.Get("scope")
	if len(scope) > maxScope {
		return token.ParameterTooLong
	}
	for _, s := range strings.Fields(scope) {
		switch {
		case !slices.Contains(app.Scopes, s):
			return token.ScopeUnknown
		case strings.HasPrefix(s, "okta.") && i.AuthorizationServer != token.ServerOrg:
			return token.ScopeUnknown // the org's APIs take the org's tokens only (E5)
		case !slices.Contains(i.Scopes, s):
			i.Scopes = append(i.Scopes, s)
		}
	}
	if len(i.Scopes) == 0 {
		return token.ScopeMissing
	}
	if !slices.Contains(i.Scopes, "openid") && (slices.Contains(i.Scopes, "profile") || slices.Contains(i.Scopes, "email")) {
		return token.OpenIDMissing
	}
	return nil
}

func checkPrompt(v url.Values, _ directory.App, i *signin.Intent) error {
	prompts := strings.Fields(v.Get("prompt"))
	for _, p := range prompts {
		switch p {
		case "none":
			if len(prompts) > 1 {
				return token.PromptInvalid
			}
			i.Prompt = p
		case "login":
			i.Prompt = cmp.Or(i.Prompt, p)
		case signin.PromptEnrol:
			if v.Has("enroll_amr_values") && !slices.Contains(strings.Fields(v.Get("enroll_amr_values")), "pop") {
				return token.PromptInvalid // nothing else is enrolled in a sign-in
			}
			i.Prompt = p
		case "consent": // the org's apps are trusted: there is nothing to consent to
		default:
			return token.PromptInvalid
		}
	}
	if s, given := v.Get("max_age"), v.Has("max_age"); given {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n > maxAgeLimit {
			return token.MaxAgeInvalid
		}
		age := int(n)
		i.MaxAge = &age
	}
	return nil
}

// checkText keeps control characters out of what is shown, logged or signed.
func checkText(_ url.Values, _ directory.App, i *signin.Intent) error {
	if len(i.LoginHint) > maxHint {
		return token.ParameterTooLong
	}
	for _, s := range []string{i.Nonce, i.LoginHint} {
		for _, c := range s {
			if c < 0x20 || c == 0x7f || c == 0xfffd {
				return token.NonceInvalid
			}
		}
	}
	return nil
}
