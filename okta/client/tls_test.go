package client

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"countersign.dev/okta"
)

// E11: who is not proved to be the org by a certificate hears nothing.
func TestE11Certificates(t *testing.T) {
	var heard atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		heard.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id":"00o"}`))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it reports the failed handshakes
	server.StartTLS()
	defer server.Close()
	wrongName := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for name, c := range map[string]struct {
		url  string
		http *http.Client
	}{
		"unknown authority": {server.URL, nil},
		"wrong name":        {wrongName, server.Client()},
		"plain text":        {strings.Replace(server.URL, "https:", "http:", 1), nil},
	} {
		org, err := New(c.url, Options{HTTP: c.http})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := org.Organization(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := org.Answer(t.Context(), c.url+"/verify", okta.AnswerRequest{ChallengeResponse: "secret"}); err == nil {
			t.Errorf("%s: answered", name)
		}
		key, err := NewProofKey()
		if err != nil {
			t.Fatal(err)
		}
		form := url.Values{"code": {"secret"}, "code_verifier": {"secret"}, "assertion": {"secret"}}
		for what, call := range map[string]func() error{
			"sign-in":    func() error { _, err := org.Metadata(t.Context()); return err },
			"token":      func() error { _, _, err := org.BoundToken(t.Context(), form, key); return err },
			"revocation": func() error { return org.Revoke(t.Context(), org.URL()+"/revoke", "secret") },
			"listing":    func() error { _, err := org.LegacyConfiguration(t.Context(), OTDT("secret")); return err },
			"enrolment": func() error {
				_, err := org.LegacyEnrol(t.Context(), OTDT("secret"), "", okta.EnrolmentRequest{})
				return err
			},
			"removal": func() error { return org.LegacyDelete(t.Context(), SSWS("secret"), "x") },
		} {
			var silent *Unreachable
			var odd *UnexpectedAnswer // the plain-text door of a TLS server says so
			if err := call(); !errors.As(err, &silent) && !errors.As(err, &odd) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
	if heard.Load() != 0 {
		t.Errorf("%d requests arrived", heard.Load())
	}
	org, err := New(server.URL, Options{HTTP: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := org.Organization(t.Context()); err != nil || org.Development() {
		t.Errorf("a trusted org: %v", err)
	}
}

// E11: the proxy of the environment never sees what goes to this machine.
func TestE11NoProxyForThisMachine(t *testing.T) {
	for _, raw := range []string{"http://localhost:7878/", "http://127.0.0.1:1/", "http://127.9.9.9/", "http://[::1]:7878/", "https://LOCALHOST/"} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if via, err := proxy(&http.Request{URL: u}); err != nil || via != nil {
			t.Errorf("%s goes through %v, %v", raw, via, err)
		}
	}
}

// A cause stays visible to errors.Is and errors.As, an unknown one included.
func TestUnreachableUnwraps(t *testing.T) {
	cause := errors.New("cause")
	if err := unreachable("id.example.com", &url.Error{Op: "Get", URL: "https://id.example.com/?secret", Err: cause}); !errors.Is(err, cause) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
