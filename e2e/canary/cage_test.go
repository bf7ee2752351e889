package canary

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// cage collects secrets while they are made and used, and later looks for them
// where they must not be.
type cage struct {
	mu      sync.Mutex
	secrets map[string]string // value: what it is
}

// add keeps a secret; what is too short to be told from chance is not one.
func (c *cage) add(what, value string) {
	if len(value) < 12 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secrets == nil {
		c.secrets = map[string]string{}
	}
	if _, known := c.secrets[value]; !known {
		c.secrets[value] = what
	}
}

// kinds counts what was collected.
func (c *cage) kinds() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := map[string]int{}
	for _, what := range c.secrets {
		n[what]++
	}
	return n
}

// secretMembers are members of documents, and fields of forms and queries,
// whose value lets somebody in.
var secretMembers = map[string]string{
	"access_token": "access token", "refresh_token": "refresh token", "id_token": "id token",
	"code": "authorization code", "interaction_code": "interaction code", "code_verifier": "code verifier",
	"interaction_handle": "interaction handle", "interactionHandle": "interaction handle",
	"stateHandle": "state handle", "stateToken": "state token", "token": "token in an address",
	"sharedSecret": "seed of the codes", "passcode": "password", "assertion": "assertion",
	"challengeResponse": "signed answer",
}

// watch takes the secrets out of what passes between agent, page and org.
func (c *cage) watch(r *http.Request, answer []byte) {
	if scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		c.add(scheme+" authorization", value)
	}
	body, _ := io.ReadAll(r.Body)
	c.members(body)
	if form, err := url.ParseQuery(string(body)); err == nil && strings.Contains(r.Header.Get("Content-Type"), "urlencoded") {
		c.form(form)
	}
	c.form(r.URL.Query())
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), r)
	if err != nil {
		return
	}
	defer res.Body.Close()
	for _, cookie := range res.Cookies() {
		c.add("cookie "+cookie.Name, cookie.Value)
	}
	if to, err := res.Location(); err == nil {
		c.form(to.Query())
	}
	if body, err = io.ReadAll(res.Body); err == nil {
		c.members(body)
	}
}

func (c *cage) form(values url.Values) {
	for name, list := range values {
		for _, v := range list {
			if what := secretMembers[name]; what != "" {
				c.add(what, v)
			}
		}
	}
}

// members looks through a JSON document; forms of the sign-in API name their
// fields in a member of its own.
func (c *cage) members(body []byte) {
	var doc any
	if json.Unmarshal(body, &doc) != nil {
		return
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if name, _ := v["name"].(string); secretMembers[name] != "" {
				if value, ok := v["value"].(string); ok {
					c.add(secretMembers[name], value)
				}
			}
			for name, member := range v {
				if value, ok := member.(string); ok && secretMembers[name] != "" {
					c.add(secretMembers[name], value)
				}
				walk(member)
			}
		case []any:
			for _, member := range v {
				walk(member)
			}
		}
	}
	walk(doc)
}

// forms are the ways in which a secret may have been written down.
func forms(secret string) map[string]string {
	list := map[string]string{
		"as it is": secret, "in hex": hex.EncodeToString([]byte(secret)), "in upper-case hex": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"escaped": url.QueryEscape(secret),
	}
	// Inside something longer it may begin at any of three places; the
	// characters at both ends depend on the neighbours.
	for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for shift := range 3 {
			text := enc.EncodeToString(append(make([]byte, shift), secret...))
			from, to := (shift*8+5)/6, (shift+len(secret))*8/6
			list[fmt.Sprintf("in %s, shifted %d", name, shift)] = text[from:to]
		}
	}
	return list
}

// search reports every secret that a text has in it, but for those that are
// excused there: kinds, with the reason.
func (c *cage) search(t *testing.T, where string, text []byte, excused map[string]string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for secret, what := range c.secrets {
		if excused[what] != "" {
			continue
		}
		for form, written := range forms(secret) {
			if at := bytes.Index(text, []byte(written)); at >= 0 {
				t.Errorf("%s: %s %s: …%q…", where, what, form, text[max(0, at-60):min(len(text), at+20)])
				break
			}
		}
	}
}

// searchFiles looks through every file below a folder.
func (c *cage) searchFiles(t *testing.T, dir string, excused map[string]map[string]string) (files int) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		name, err := filepath.Rel(dir, path)
		c.search(t, path, content, excused[name])
		return err
	}))
	return files
}

// TestCage makes sure that a secret would be found.
func TestCage(t *testing.T) {
	const secret = "a secret of some length/+?"
	for name, written := range forms(secret) {
		if len(written) < len(secret)-2 {
			t.Errorf("%s: only %q is looked for", name, written)
		}
	}
	for shift := range 12 {
		text := base64.StdEncoding.EncodeToString([]byte("before......"[:shift] + secret + "after"))
		found := false
		for _, written := range forms(secret) {
			found = found || strings.Contains(text, written)
		}
		if !found {
			t.Errorf("not found in base64 at %d", shift)
		}
	}
	var c cage
	c.watch(&http.Request{Method: "POST", URL: &url.URL{Path: "/", RawQuery: "token=one-of-the-links-tokens"}, Header: http.Header{"Authorization": {"Bearer the-bearer-token-itself"}},
		Body: io.NopCloser(strings.NewReader(`{"a":[{"name":"stateHandle","value":"the-state-handle-of-it"}],"credentials":{"passcode":"the-password-of-it"}}`))},
		[]byte("HTTP/1.1 200 OK\r\nSet-Cookie: sid=the-session-of-the-browser\r\n\r\n"+`{"access_token":"the-access-token-of-it"}`))
	if got := c.kinds(); len(got) != 6 {
		t.Errorf("collected %v", got)
	}
}
