package session_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign.dev/org/session"
)

// Login CSRF: a sign-in belongs to one browser, by a cookie that only the org
// sets and reads.
func TestBrowser(t *testing.T) {
	for base, name := range map[string]string{"https://id.example.com": "__Host-browser", "http://localhost:8080": "browser"} {
		request := func(cookies ...*http.Cookie) *http.Request {
			r := httptest.NewRequest(http.MethodGet, base+"/login", nil)
			for _, c := range cookies {
				r.AddCookie(c)
			}
			return r
		}
		browser := func(cookies ...*http.Cookie) (ref string, set []*http.Cookie) {
			w := httptest.NewRecorder()
			ref = session.Browser(w, request(cookies...), base)
			return ref, w.Result().Cookies()
		}
		ref, set := browser()
		if len(set) != 1 || set[0].Name != name || !set[0].HttpOnly || set[0].Secure != strings.HasPrefix(base, "https") ||
			set[0].SameSite != http.SameSiteLaxMode || set[0].Path != "/" || set[0].Domain != "" || set[0].MaxAge <= 0 {
			t.Fatalf("%s: %+v", base, set)
		}
		if ref == "" || strings.Contains(ref, set[0].Value) {
			t.Errorf("%s: %q names the browser", base, ref)
		}
		again, more := browser(set[0])
		if again != ref || len(more) != 0 {
			t.Errorf("%s: the same browser is %q now, %v", base, again, more)
		}
		if !session.SameBrowser(request(set[0]), base, ref) {
			t.Errorf("%s: not recognised", base)
		}
		other, set2 := browser(&http.Cookie{Name: name, Value: "short"})
		if other == ref || len(set2) != 1 {
			t.Errorf("%s: a malformed value was kept", base)
		}
		for what, r := range map[string]*http.Request{
			"no cookie": request(), "another browser": request(set2[0]), "empty value": request(&http.Cookie{Name: name}),
			"the session's cookie": request(&http.Cookie{Name: "sid", Value: set[0].Value}),
		} {
			if session.SameBrowser(r, base, ref) || session.SameBrowser(r, base, "") {
				t.Errorf("%s: %s passes", base, what)
			}
		}
		if session.SameBrowser(request(set[0]), base, "") {
			t.Errorf("%s: a sign-in of no browser passes", base)
		}
	}
}
