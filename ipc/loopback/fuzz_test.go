package loopback

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// A valid origin is what net/url makes of it again, and nothing more: no part
// of it can hide from a comparison of strings.
func FuzzOrigin(f *testing.F) {
	for _, seed := range []string{page, "http://localhost:4173", "http://127.0.0.1:8080", "https://[::1]:8443", "null", "", "https://a:443", "https://A",
		"https://a/", "https://u@a", "https://a.", "http://a:080", "https://[::1", "https://xn--d-hga.example", "https://a b", "https://a\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !validOrigin(s) {
			return
		}
		u, err := url.Parse(s)
		if err != nil {
			if strings.Contains(s, "[") {
				return // looks like an IPv6 address and is none: no account has it
			}
			t.Fatalf("%q is no URL: %v", s, err)
		}
		if u.Scheme+"://"+u.Host != s || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("%q has more than an origin: %#v", s, u)
		}
		if strings.ToLower(s) != s || u.Port() == "443" && u.Scheme == "https" || u.Port() == "80" && u.Scheme == "http" || strings.HasSuffix(s, ":") {
			t.Fatalf("%q is not as a browser writes it", s)
		}
	})
}

// Whatever is accepted says the same to every other JSON reader.
func FuzzChallengeBody(f *testing.F) {
	for _, seed := range []string{body, `{"challengeRequest":""}`, `{"challengeRequest":"a","challengeRequest":"b"}`, `{"ChallengeRequest":"a"}`, `{}`, `[]`, `{"challengeRequest":"\ud800"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		token, err := parseChallenge(data)
		if err != nil {
			return
		}
		var loose map[string]any
		if err := json.Unmarshal(data, &loose); err != nil || len(loose) != 1 || loose["challengeRequest"] != token || token == "" {
			t.Fatalf("accepted %q as %q; it says %v (%v)", data, token, loose, err)
		}
	})
}

func FuzzContentType(f *testing.F) {
	for _, seed := range []string{"application/json", "application/json; charset=UTF-8", "text/plain", "application/json;charset=utf-16", "application/jsonx", "text/plain; application/json"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if jsonType([]string{s}) && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(s)), "application/json") {
			t.Fatalf("%q passes for JSON", s)
		}
	})
}
