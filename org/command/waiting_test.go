package command_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device/devicetest"
)

// enrol takes a link of alice's and enrols a device with it.
func (s *server) enrol(t *testing.T, c *http.Client, a devicetest.Agent) okta.Enrolment {
	t.Helper()
	send := func(path, authorization string, body, dst any) {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", authorization)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(dst); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d %v", path, resp.StatusCode, err)
		}
	}
	var out struct{ URL string }
	send("/api/v1/users/alice@example.com/enrolment-links", "SSWS "+*s.AdminToken, nil, &out)
	link, err := okta.ParseEnrolmentLink(out.URL)
	if err != nil {
		t.Fatal(err)
	}
	var e okta.Enrolment
	send(okta.AppAuthenticatorsPath, "OTDT "+link.Token.Reveal(), a.Request(link.AuthenticatorID), &e)
	return e
}

// Agents wait for a push, over http and https, on one connection each; when
// the org stops they hear so, and it stops in time.
func TestStopsWithAgentsWaiting(t *testing.T) {
	cert, key, pool := certificate(t, t.TempDir())
	for _, flags := range [][]string{
		{"--listen", "127.0.0.1:0"},
		{"--listen", "", "--tls-listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key},
	} {
		s := serve(t, append(flags, "--state", filepath.Join(t.TempDir(), "state"), "--demo")...)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		c := &http.Client{Transport: transport}
		a := devicetest.New(t)
		e := s.enrol(t, c, a)
		var connections atomic.Int64
		ask := func(prefer string) (*http.Response, string) {
			trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
				if !i.Reused {
					connections.Add(1)
				}
			}}
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, e.Methods[okta.MethodPush].Links["pending"].Href, nil)
			if err != nil {
				t.Error(err)
				return nil, ""
			}
			req.Header.Set("Prefer", prefer)
			req.Header.Set("Authorization", "SSWS "+a.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(e.ID, e.User.ID, s.URL, time.Now())))
			resp, err := c.Do(req)
			if err != nil {
				t.Error(err)
				return nil, ""
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
			}
			return resp, string(body)
		}
		for range 3 {
			if resp, body := ask("wait=1"); resp.StatusCode != 200 || body != "[]\n" || resp.Header.Get("Preference-Applied") != "wait=1" ||
				resp.Header.Get("X-Okta-Request-Id") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
			}
		}
		if n := connections.Load(); n != 0 {
			t.Errorf("%d new connections", n)
		}
		// Four may wait: when the first of five is answered, all have arrived.
		answers := make(chan string)
		for range 5 {
			go func() {
				resp, body := ask("wait=55")
				if resp == nil || resp.StatusCode != 200 {
					body = "failed"
				}
				answers <- body
			}()
		}
		if body := <-answers; body != "[]\n" {
			t.Errorf("the first: %q", body)
		}
		began := time.Now()
		if code := s.stop(); code != 0 || time.Since(began) > 2*time.Second {
			t.Errorf("stopped with %d after %v: %s", code, time.Since(began), s.logs)
		}
		for range 4 {
			if body := <-answers; body != "[]\n" {
				t.Errorf("%q", body)
			}
		}
		transport.CloseIdleConnections()
		if strings.Contains(s.logs.String(), "panic") {
			t.Error(s.logs.String())
		}
	}
}

func TestLegacyFlag(t *testing.T) {
	for _, flags := range [][]string{nil, {"--legacy"}} {
		s := serve(t, append(flags, "--listen", "127.0.0.1:0", "--state", filepath.Join(t.TempDir(), "state"))...)
		want := 200
		if flags != nil {
			want = 404
		}
		if code := get(t, http.DefaultClient, s.URL+okta.AuthenticatorConfigurationPath+"?oauthClientId=countersign-agent"); code != want {
			t.Errorf("%v: %d", flags, code)
		}
	}
}
