package okta_test

import (
	"errors"
	"strings"
	"testing"

	"countersign.dev/okta"
)

func TestEnrolmentLink(t *testing.T) {
	want := okta.EnrolmentLink{Login: "alice@example.com", Token: "one-time+/=&?#", AuthenticatorID: "aut1", OrgURL: "http://localhost:7878", Issuer: "Example & Söhne"}
	for _, s := range []string{
		want.URL(), "  " + want.URL() + "\n", strings.Replace(want.URL(), "oktaverify", "OktaVerify", 1),
		strings.Replace(want.URL(), "7878", "7878%2F", 1), // a trailing slash of the org
		strings.Replace(want.URL(), "/?", "?", 1),
	} {
		got, err := okta.ParseEnrolmentLink(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	published, err := okta.ParseEnrolmentLink("oktaverify://bob@example.com/?t=tok&f=autX&s=https://id.example.com&issuer=id.example.com")
	if err != nil || published.Login != "bob@example.com" || published.OrgURL != "https://id.example.com" || published.Token.Reveal() != "tok" {
		t.Errorf("as published: %+v, %v", published, err)
	}
}

func TestEnrolmentLinkRefused(t *testing.T) {
	const good = "oktaverify://alice/?t=secret-token&f=aut1&s=https://id.example.com"
	for name, s := range map[string]string{
		"empty": "", "other scheme": strings.Replace(good, "oktaverify", "https", 1), "no scheme": "alice/?t=a&f=b&s=c",
		"no login": "oktaverify:///?t=secret-token&f=aut1&s=https://id.example.com", "no query": "oktaverify://alice/",
		"no token": strings.Replace(good, "t=secret-token&", "", 1), "no authenticator": strings.Replace(good, "f=aut1&", "", 1),
		"no org": "oktaverify://alice/?t=secret-token&f=aut1", "two tokens": good + "&t=other", "two orgs": good + "&s=https://evil.example",
		"org with a path": good + "/evil", "org with a query": good + "%3Fx", "org with a fragment": good + "%23x", "fragment": good + "#x",
		"org with user information": strings.Replace(good, "id.example.com", "id.example.com@evil.example", 1),
		"org of another scheme":     strings.Replace(good, "https:", "ftp:", 1), "org without host": strings.Replace(good, "id.example.com", "", 1),
		"org is a port":      strings.Replace(good, "id.example.com", ":443", 1),
		"login with a slash": strings.Replace(good, "alice", "alice/bob", 1), "login reversed": strings.Replace(good, "alice", "%E2%80%AEalice", 1),
		"login with a newline": strings.Replace(good, "alice", "alice%0A", 1), "login not UTF-8": strings.Replace(good, "alice", "%FF", 1),
		"token with a header": strings.Replace(good, "secret-token", "secret-token%0d%0aX:1", 1), "bad escape": good + "&issuer=%zz",
		"token with a blank": strings.Replace(good, "secret-token", "secret-token+b", 1),
		"semicolon":          good + ";x=1", "long": good + "&x=" + strings.Repeat("x", 4096), "long token": strings.Replace(good, "secret-token", strings.Repeat("x", 600), 1),
	} {
		link, err := okta.ParseEnrolmentLink(s)
		if !errors.Is(err, okta.ErrEnrolmentLink) || link != (okta.EnrolmentLink{}) {
			t.Errorf("%s: %+v, %v", name, link, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret-token") {
			t.Errorf("%s: the error tells the token: %v", name, err)
		}
	}
}

// A link that is accepted comes back the same when it is written and read.
func FuzzEnrolmentLink(f *testing.F) {
	f.Add("oktaverify://alice@example.com/?t=tok&f=autX&s=https://id.example.com&issuer=id.example.com")
	f.Add(okta.EnrolmentLink{Login: "a b", Token: "+/=", AuthenticatorID: "x&y", OrgURL: "http://[::1]:80", Issuer: "ü"}.URL())
	f.Add("oktaverify://%2e%2e/?t=%20&f=%00&s=https://%65vil.example&issuer=%ff")
	f.Add("oktaverify://a?t=b&f=c&s=https://h;d")
	f.Fuzz(func(t *testing.T, s string) {
		link, err := okta.ParseEnrolmentLink(s)
		if err != nil {
			if link != (okta.EnrolmentLink{}) {
				t.Fatal("a link and an error")
			}
			return
		}
		again, err := okta.ParseEnrolmentLink(link.URL())
		if err != nil || again != link {
			t.Fatalf("%+v became %+v, %v", link, again, err)
		}
		if link.Login == "" || link.Token == "" || link.AuthenticatorID == "" || !strings.Contains(link.OrgURL, "://") {
			t.Fatalf("%+v", link)
		}
	})
}
