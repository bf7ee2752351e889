package session

import (
	"crypto/subtle"
	"net/http"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/org/ids"
)

// Browser names the browser of a request, for a sign-in that starts in it: a
// reference to a random cookie, which is set when the browser has none. The
// sign-in ends in this browser or not at all (SameBrowser). Otherwise anybody
// could finish a sign-in of their own in somebody else's browser, who would
// then work, and enrol devices, in the wrong account (login CSRF).
func Browser(w http.ResponseWriter, r *http.Request, baseURL string) string {
	if c, err := r.Cookie(browserCookie(baseURL)); err == nil && wellFormed(okta.Secret(c.Value)) {
		return Reference(okta.Secret(c.Value))
	}
	c := cookie(ids.Secret(), baseURL)
	// It stays when the browser closes: tabs that come back at once with sign-ins
	// must not each make a new one and leave all but the last without theirs.
	c.Name, c.MaxAge = browserCookie(baseURL), browserLifetime
	http.SetCookie(w, c)
	return Reference(okta.Secret(c.Value))
}

// SameBrowser says whether the request comes from the browser that Browser
// named. No name is nobody's.
func SameBrowser(r *http.Request, baseURL, name string) bool {
	c, err := r.Cookie(browserCookie(baseURL))
	return err == nil && name != "" && wellFormed(okta.Secret(c.Value)) &&
		subtle.ConstantTimeCompare([]byte(Reference(okta.Secret(c.Value))), []byte(name)) == 1
}

const browserLifetime = 365 * 24 * 60 * 60 // seconds

// browserCookie is the cookie's name. Over https the prefix keeps the org's
// sibling domains from planting one.
func browserCookie(baseURL string) string {
	if strings.HasPrefix(baseURL, "https://") {
		return "__Host-browser"
	}
	return "browser"
}
