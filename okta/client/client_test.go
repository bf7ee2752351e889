package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

func newOrg(t testing.TB, orgURL string, o client.Options) *client.Org {
	t.Helper()
	if o.ClientID == "" {
		o.ClientID = "countersign-agent"
	}
	org, err := client.New(orgURL, o)
	if err != nil {
		t.Fatal(err)
	}
	return org
}

// handler serves one handler as an org.
func handler(t testing.TB, h http.HandlerFunc) *client.Org {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return newOrg(t, server.URL, client.Options{})
}

func TestNew(t *testing.T) {
	for in, want := range map[string]string{
		"https://id.example.com":       "https://id.example.com",
		"https://id.example.com/":      "https://id.example.com",
		"HTTPS://ID.Example.COM:443":   "https://id.example.com",
		"https://id.example.com:8443/": "https://id.example.com:8443",
		"http://localhost:7878":        "http://localhost:7878",
		"http://127.0.0.1:80":          "http://127.0.0.1",
		"http://127.3.2.1:1":           "http://127.3.2.1:1",
		"http://[::1]:7878":            "http://[::1]:7878",
		"https://[2001:db8::1]":        "https://[2001:db8::1]",
	} {
		org, err := client.New(in, client.Options{})
		if err != nil || org.URL() != want || org.Development() != strings.HasPrefix(want, "http:") {
			t.Errorf("%s: %+v, %v", in, org, err)
		}
	}
}

// E11, E12: no plain text except to this machine, and nothing in the address
// but the org.
func TestE11NewRefuses(t *testing.T) {
	for in, want := range map[string]error{
		"":                                  client.ErrURL,
		"id.example.com":                    client.ErrURL,
		"https://":                          client.ErrURL,
		"https://:443":                      client.ErrURL,
		"https:id.example.com":              client.ErrURL,
		"ftp://id.example.com":              client.ErrURL,
		"file:///etc/passwd":                client.ErrURL,
		"https://a:b@id.example.com":        client.ErrURL,
		"https://id.example.com/path":       client.ErrURL,
		"https://id.example.com/?":          client.ErrURL,
		"https://id.example.com?x=1":        client.ErrURL,
		"https://id.example.com#":           client.ErrURL,
		"https://id.example.com#x":          client.ErrURL,
		"http://id.example.com":             client.ErrInsecure,
		"http://localhost.example.com":      client.ErrInsecure,
		"http://127.0.0.1.nip.io":           client.ErrInsecure,
		"http://10.0.0.1":                   client.ErrInsecure,
		"http://0.0.0.0":                    client.ErrInsecure,
		"http://[::ffff:10.0.0.1]":          client.ErrInsecure,
		"http://2130706433":                 client.ErrInsecure,
		"http://169.254.169.254/latest":     client.ErrURL,
		"http://localhost:7878/../evil/..?": client.ErrURL,
	} {
		if _, err := client.New(in, client.Options{}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", in, err, want)
		}
	}
}

// Every call sends the headers that the protocol names for it, and no others
// that say something.
func TestHeaders(t *testing.T) {
	type seen struct {
		method, uri, accept, contentType, auth, agent, body string
	}
	var last seen
	fake := oktatest.NewOrg(t)
	spy := roundTripper(func(r *http.Request) (*http.Response, error) {
		body := ""
		if r.Body != nil {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			body = string(b)
			r.Body = io.NopCloser(strings.NewReader(body))
		}
		h := r.Header
		last = seen{r.Method, r.URL.RequestURI(), h.Get("Accept"), h.Get("Content-Type"), h.Get("Authorization"), h.Get("User-Agent"), body}
		return http.DefaultTransport.RoundTrip(r)
	})
	org := newOrg(t, fake.URL, client.Options{UserAgent: "Countersign/1 test", HTTP: &http.Client{Transport: spy}})
	ctx := t.Context()
	const (
		v1    = "application/json; okta-version=1.0.0"
		patch = "application/merge-patch+json; okta-version=1.0.0"
		plain = "application/json"
		agent = "Countersign/1 test"
		path  = "/idp/myaccount/app-authenticators"
	)
	request := okta.EnrolmentRequest{AuthenticatorID: "aut", Methods: okta.MethodRequests{Push: &okta.MethodRequest{}}}
	for _, c := range []struct {
		name string
		call func() error
		want seen
	}{
		{"organization", func() error { _, err := org.Organization(ctx); return err },
			seen{"GET", "/.well-known/okta-organization", "", plain, "", agent, ""}},
		{"configuration", func() error { _, err := org.AuthenticatorConfiguration(ctx); return err },
			seen{"GET", "/.well-known/app-authenticator-configuration?oauthClientId=countersign-agent", v1, "", "", agent, ""}},
		{"enrol", func() error { _, err := org.Enrol(ctx, client.OTDT("secret"), "", request); return err },
			seen{"POST", path, v1, plain, "OTDT secret", agent, `{"authenticatorId":"aut","device":{"platform":"","osVersion":"","displayName":"","clientInstanceBundleId":"","clientInstanceVersion":"","clientInstanceDeviceSdkVersion":""},"methods":{"push":{}}}`}},
		{"update", func() error {
			_, err := org.UpdateEnrolment(ctx, client.Bearer("secret"), "pfd1", map[string]any{"methods": nil})
			return err
		}, seen{"PATCH", path + "/pfd1", patch, patch, "Bearer secret", agent, `{"methods":null}`}},
		{"delete", func() error { return org.DeleteEnrolment(ctx, client.SSWS("secret"), "pfd1") },
			seen{"DELETE", path + "/pfd1", v1, "", "SSWS secret", agent, ""}},
		{"pending", func() error {
			_, err := org.Pending(ctx, client.Bearer("secret"), fake.URL+path+"/pfd1/push/notifications", client.PendingRequest{})
			return err
		},
			seen{"GET", path + "/pfd1/push/notifications", v1, "", "Bearer secret", agent, ""}},
		{"answer", func() error {
			return org.Answer(ctx, fake.URL+"/idp/authenticators/aut/transactions/ft1/verify", okta.AnswerRequest{Method: okta.MethodSignedNonce, ChallengeResponse: "jwt"})
		}, seen{"POST", "/idp/authenticators/aut/transactions/ft1/verify", v1, plain, "", agent, `{"method":"signed_nonce","challengeResponse":"jwt"}`}},
		{"token", func() error { _, err := org.Token(ctx, url.Values{"client_id": {fake.ClientID}}); return err },
			seen{"POST", "/oauth2/v1/token", plain, "application/x-www-form-urlencoded", "", agent, "client_id=countersign-agent"}},
		{"keys", func() error { _, _, err := org.SigningKeys(ctx, fake.URL); return err },
			seen{"GET", "/oauth2/v1/keys", plain, "", "", agent, ""}},
	} {
		if err := c.call(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if last != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, last, c.want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestDocuments(t *testing.T) {
	fake := oktatest.NewOrg(t)
	org := newOrg(t, fake.URL+"/", client.Options{})
	info, err := org.Organization(t.Context())
	if err != nil || info.ID != fake.OrgID {
		t.Errorf("organisation: %+v, %v", info, err)
	}
	list, age, err := org.SigningKeys(t.Context(), org.URL())
	if err != nil || len(list) != 1 || age != time.Hour {
		t.Errorf("keys: %v, %s, %v", list, age, err)
	}
	other := newOrg(t, fake.URL, client.Options{ClientID: "somebody else"})
	if _, err := other.AuthenticatorConfiguration(t.Context()); !errors.Is(err, client.ErrNoAuthenticator) {
		t.Errorf("no configuration: %v", err)
	}
	token, err := org.Token(t.Context(), url.Values{"client_id": {fake.ClientID}, "scope": {"s"}})
	if err != nil || token.AccessToken.Reveal() != "fake-access-token" || token.ExpiresIn != 3600 || token.Scope != "s" {
		t.Errorf("token: %+v, %v", token, err)
	}
	var te *okta.TokenError
	if _, err := org.Token(t.Context(), url.Values{}); !errors.As(err, &te) || te.Code != "invalid_client" || te.HTTPStatus != 401 {
		t.Errorf("token refused: %v", err)
	}
}

// The ways an answer can end, for Answer and for a call that wants a document.
func TestAnswersOfTheOrg(t *testing.T) {
	const errorBody = `{"errorCode":"E0000154","errorSummary":"gone","errorCauses":[{"errorSummary":"because"}]}`
	big := strings.Repeat(" ", 70<<10) + "{}"
	huge := `{"id":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, c := range []struct {
		name                string
		status              int
		contentType, body   string
		answer, document    string // "" for success, a Kind, or "error CODE"
		header, headerValue string
	}{
		{"accepted", 200, "application/json", `{"id":"00o"}`, "", "", "", ""},
		{"ion", 200, "application/ion+json; okta-version=1.0.0", `{"id":"00o"}`, "", "", "", ""},
		{"denial recorded", 204, "", "", "", "not_json", "", ""},
		{"empty", 200, "", "", "", "not_json", "", ""},
		{"text", 200, "text/plain", "fine", "", "not_json", "", ""},
		{"captive portal", 200, "text/html; charset=utf-8", "<html>log in</html>", "html", "html", "", ""},
		{"captive portal that lies", 200, "application/json", " \n<!doctype html>", "html", "html", "", ""},
		{"not JSON", 200, "application/json", `{"id":`, "", "not_json", "", ""},
		{"member twice", 200, "application/json", `{"id":"a","id":"b"}`, "", "not_json", "", ""},
		{"too deep", 200, "application/json", strings.Repeat("[", 50), "", "not_json", "", ""},
		{"incomplete", 200, "application/json", `{}`, "", "incomplete", "", ""},
		{"70 KiB", 200, "application/json", big, "too_large", "incomplete", "", ""},
		{"over 1 MiB", 200, "application/json", huge, "too_large", "too_large", "", ""},
		{"redirect", 302, "", "", "redirect", "redirect", "Location", "https://evil.example/x?secret=1"},
		{"redirect inside", 307, "", "", "redirect", "redirect", "Location", "/elsewhere"},
		{"redirect nowhere", 301, "", "", "redirect", "redirect", "", ""},
		{"not modified", 304, "", "", "redirect", "redirect", "", ""},
		{"gone", 410, "application/json", errorBody, "error E0000154", "error E0000154", "", ""},
		{"code with another status", 404, "application/json", errorBody, "error E0000154", "error E0000154", "", ""},
		{"IDX style", 400, "application/json", `{"@type":"FACTOR","status":"REJECT","reasons":[]}`, "error ", "error ", "", ""},
		{"error page", 404, "text/html", "<html>not found</html>", "html", "html", "", ""},
		{"error of a proxy", 502, "text/plain", "bad gateway", "not_json", "not_json", "", ""},
		{"error without a body", 500, "", "", "not_json", "not_json", "", ""},
		{"huge error", 500, "application/json", big, "too_large", "too_large", "", ""},
		{"rate limit", 429, "application/json", `{"errorCode":"E0000047"}`, "error E0000047", "error E0000047", "Retry-After", "30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			org := handler(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if c.contentType != "" {
					w.Header().Set("Content-Type", c.contentType)
				}
				if c.header != "" {
					w.Header().Set(c.header, c.headerValue)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			err := org.Answer(t.Context(), org.URL()+"/verify", okta.AnswerRequest{})
			if got := outcome(t, err, c.status); got != c.answer {
				t.Errorf("answer: got %q (%v), want %q", got, err, c.answer)
			}
			_, err = org.Organization(t.Context())
			if got := outcome(t, err, c.status); got != c.document {
				t.Errorf("document: got %q (%v), want %q", got, err, c.document)
			}
			if err != nil && strings.Contains(err.Error(), "secret=1") {
				t.Errorf("the query of a redirect is told: %v", err)
			}
			var oe *okta.Error
			if errors.As(err, &oe) && (oe.Gone() != (c.name == "gone") || oe.RetryAt.IsZero() != (c.status != 429)) {
				t.Errorf("%+v", oe)
			}
		})
	}
}

func outcome(t *testing.T, err error, status int) string {
	var (
		oe *okta.Error
		ua *client.UnexpectedAnswer
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &oe):
		if oe.HTTPStatus != status {
			t.Errorf("status %d, want %d", oe.HTTPStatus, status)
		}
		return "error " + string(oe.Code)
	case errors.As(err, &ua):
		if ua.Status != status {
			t.Errorf("status %d, want %d", ua.Status, status)
		}
		return ua.Kind
	}
	return fmt.Sprintf("%T", err)
}

func TestUnreachable(t *testing.T) {
	fake := oktatest.NewOrg(t)
	org := newOrg(t, fake.URL, client.Options{})
	fake.Close()
	var un *client.Unreachable
	err := org.Answer(t.Context(), fake.URL+"/verify?nonce=1", okta.AnswerRequest{})
	if !errors.As(err, &un) || un.Slow || un.Unwrap() == nil || strings.Contains(err.Error(), "nonce") {
		t.Errorf("down: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := org.Organization(ctx); !errors.As(err, &un) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A server that accepts and says nothing, or never ends what it says.
func TestSlowOrg(t *testing.T) {
	release := make(chan struct{})
	for name, h := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
		"endless answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":`)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
	} {
		server := httptest.NewServer(h)
		org := newOrg(t, server.URL, client.Options{Timeout: 50 * time.Millisecond})
		var un *client.Unreachable
		if _, err := org.Organization(t.Context()); !errors.As(err, &un) || !un.Slow || !strings.Contains(err.Error(), "in time") {
			t.Errorf("%s: %v", name, err)
		}
		server.CloseClientConnections()
		server.Close()
	}
	close(release)
}

// E12: credentials and questions of trust go to the org's own origin only,
// and no redirect carries them away.
func TestE12StaysAtTheOrg(t *testing.T) {
	var hits atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer evil.Close()
	fake := oktatest.NewOrg(t)
	org := newOrg(t, fake.URL, client.Options{})
	ctx, auth := t.Context(), client.Bearer("secret")
	host := strings.TrimPrefix(fake.URL, "http://")
	for _, foreign := range []string{
		evil.URL, evil.URL + "/x", "https://" + host, "http://" + host + "@" + strings.TrimPrefix(evil.URL, "http://"), "http://" + host + ".evil.example",
		"//" + host, "/path", "", "file:///etc/passwd", "http://169.254.169.254/", "http://user@" + host + "/", "javascript:1", "http://[",
	} {
		if _, err := org.Enrol(ctx, auth, foreign, okta.EnrolmentRequest{}); foreign != "" && !errors.Is(err, client.ErrForeignURL) {
			t.Errorf("enrol at %q: %v", foreign, err)
		}
		if _, err := org.Pending(ctx, auth, foreign, client.PendingRequest{}); !errors.Is(err, client.ErrForeignURL) {
			t.Errorf("pending at %q: %v", foreign, err)
		}
		if _, _, err := org.SigningKeys(ctx, foreign); !errors.Is(err, client.ErrForeignURL) {
			t.Errorf("keys of %q: %v", foreign, err)
		}
	}
	for _, bad := range []string{"file:///etc/passwd", "ftp://x/", "http://169.254.169.254/latest", "http://example.com/verify", "verify", "", "http://", "http://user:pw@" + host + "/", "http://[", "gopher://" + host} {
		if err := org.Answer(ctx, bad, okta.AnswerRequest{}); !errors.Is(err, client.ErrURL) && !errors.Is(err, client.ErrInsecure) {
			t.Errorf("answer to %q: %v", bad, err)
		}
	}
	for _, id := range []string{"", ".", ".."} {
		if err := org.DeleteEnrolment(ctx, auth, id); !errors.Is(err, client.ErrURL) {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	if err := org.DeleteEnrolment(ctx, auth, "../../../evil?x=#"); err != nil || len(fake.Deleted()) != 1 || fake.Deleted()[0] != "../../../evil?x=#" {
		t.Errorf("an id is more than one segment: %v, %q", err, fake.Deleted())
	}
	fake.Reply("/", oktatest.Reply{Status: 307, Header: http.Header{"Location": {evil.URL}}})
	var ua *client.UnexpectedAnswer
	if _, err := org.Enrol(ctx, auth, "", okta.EnrolmentRequest{}); !errors.As(err, &ua) || ua.Kind != client.KindRedirect {
		t.Errorf("redirected enrolment: %v", err)
	}
	if err := org.Answer(ctx, fake.URL+"/idp/authenticators/a/transactions/b/verify", okta.AnswerRequest{}); !errors.As(err, &ua) {
		t.Errorf("redirected answer: %v", err)
	}
	if hits.Load() != 0 {
		t.Errorf("the other origin was asked %d times", hits.Load())
	}
}

// E2: keys come from the issuer's own documents.
func TestE2Discovery(t *testing.T) {
	fake := oktatest.NewOrg(t)
	org := newOrg(t, fake.URL, client.Options{})
	const path = "/.well-known/openid-configuration"
	for name, body := range map[string]string{
		"other issuer":      `{"issuer":"https://evil.example","jwks_uri":"` + fake.URL + `/oauth2/v1/keys"}`,
		"no issuer":         `{"jwks_uri":"` + fake.URL + `/oauth2/v1/keys"}`,
		"keys elsewhere":    `{"issuer":"` + fake.URL + `","jwks_uri":"https://evil.example/keys"}`,
		"no keys":           `{"issuer":"` + fake.URL + `"}`,
		"keys in a file":    `{"issuer":"` + fake.URL + `","jwks_uri":"file:///etc/passwd"}`,
		"issuer twice":      `{"issuer":"` + fake.URL + `","issuer":"x","jwks_uri":"` + fake.URL + `/oauth2/v1/keys"}`,
		"issuer with slash": `{"issuer":"` + fake.URL + `/","jwks_uri":"` + fake.URL + `/oauth2/v1/keys"}`,
	} {
		fake.Reply(path, oktatest.Reply{Status: 200, Body: body})
		if list, _, err := org.SigningKeys(t.Context(), fake.URL); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
	fake.Reply(path, oktatest.Reply{})
	good, _, err := org.SigningKeys(t.Context(), fake.URL)
	if err != nil {
		t.Fatal(err)
	}
	fake.Reply("/oauth2/v1/keys", oktatest.Reply{Status: 200, Body: `{"keys":[7,null,{"kty":5},{"kty":"EC","kid":["a"]},{"kty":"RSA","kid":"x","e":"` + good[0].E + `","n":"` + good[0].N + `","x5c":["A"]}]}`,
		Header: http.Header{"Cache-Control": {"no-transform, Max-Age=60"}}})
	list, age, err := org.SigningKeys(t.Context(), fake.URL)
	if err != nil || age != time.Minute {
		t.Fatalf("%v, %s", err, age)
	}
	var usable []jose.JWK
	for _, k := range list {
		if _, err := k.PublicKey(); err == nil {
			usable = append(usable, k)
		}
	}
	if len(usable) != 1 || usable[0].KeyID != "x" {
		t.Errorf("usable keys: %v", usable)
	}
}

// Answers go over one connection, also after errors.
func TestKeepsConnection(t *testing.T) {
	var connections atomic.Int32
	status := []int{200, 204, 400, 500, 302}
	var n atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status[int(n.Add(1))%len(status)])
		_, _ = io.WriteString(w, strings.Repeat(" ", 8<<10))
	}))
	server.Config.ConnState = connCounter(&connections)
	server.Start()
	defer server.Close()
	for range 3 { // several clients of one org share it
		org := newOrg(t, server.URL, client.Options{})
		for range 10 {
			_ = org.Answer(t.Context(), server.URL+"/verify", okta.AnswerRequest{})
		}
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

func TestAuthorizationNeverPrints(t *testing.T) {
	for _, a := range []client.Authorization{client.Bearer("canary"), client.SSWS("canary"), client.OTDT("canary"), {}} {
		if s := fmt.Sprintf("%v %+v %#v %s %q %x", a, a, a, a, a, a); strings.Contains(s, "canary") || strings.Contains(s, "63616e617279") {
			t.Errorf("printed: %s", s)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	body := `{"method":"signed_nonce","challengeResponse":"` + strings.Repeat("x", 1000) + `"}`
	b.Run("client", func(b *testing.B) {
		org := newOrg(b, server.URL, client.Options{})
		b.ReportAllocs()
		for b.Loop() {
			if err := org.Answer(b.Context(), server.URL+"/verify", okta.AnswerRequest{Method: okta.MethodSignedNonce, ChallengeResponse: strings.Repeat("x", 1000)}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			resp, err := http.Post(server.URL+"/verify", "application/json", strings.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
}

// connCounter counts new connections.
func connCounter(n *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}
}
