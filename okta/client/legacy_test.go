package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/oktatest"
)

// The four calls of the older protocol, as they go over the wire.
func TestLegacyCalls(t *testing.T) {
	var got []string
	org := handler(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization")+" "+string(body))
		w.Header().Set("Content-Type", "application/json")
		switch r.Method {
		case http.MethodGet:
			_, _ = io.WriteString(w, `[{"id":"aut1","key":"okta_verify","status":"ACTIVE","settings":{"userVerification":"REQUIRED"},"_links":{"enroll":{"href":"x"}},
				"_embedded":{"methods":[{"type":"totp","status":"ACTIVE","settings":{"timeIntervalInSeconds":30}}]},"loopbackOrigins":["https://a.example"]},{"key":"custom_app","status":"ACTIVE"}]`)
		case http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			_, _ = io.WriteString(w, `{"id":"aen1","user":{"id":"u"},"device":{"id":"d","clientInstanceId":"c"},
				"methods":[{"id":"o1","type":"totp","status":"ACTIVE","sharedSecret":"JBSW"},{"id":"o2","type":"push","status":"INACTIVE"},{"id":"o3","type":"signed_nonce"}]}`)
		}
	})
	config, err := org.LegacyConfiguration(t.Context(), client.OTDT("t"))
	if err != nil || config.AuthenticatorID != "aut1" || config.EnrolEndpoint != "x" || len(config.SupportedMethods) != 1 ||
		config.SupportedMethods[0].Settings.TimeInterval != 30 || config.Settings.UserVerification != okta.NeedRequired || config.LoopbackOrigins[0] != "https://a.example" {
		t.Fatalf("%+v, %v", config, err)
	}
	token := ""
	request := okta.EnrolmentRequest{AuthenticatorID: "aut1", Methods: okta.MethodRequests{
		Push: &okta.MethodRequest{PushToken: &token, Keys: &okta.MethodKeys{UserVerification: json.RawMessage(`{}`)}}, TOTP: &okta.MethodRequest{}}}
	e, err := org.LegacyEnrol(t.Context(), client.OTDT("t"), "", request)
	if err != nil || e.ID != "aen1" || e.Methods[okta.MethodTOTP].SharedSecret.Reveal() != "JBSW" || e.Methods[okta.MethodSignedNonce].ID != "o3" || len(e.Methods) != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := org.LegacyReplace(t.Context(), client.SSWS("j"), "aen1", request); err != nil {
		t.Fatal(err)
	}
	if err := org.LegacyDelete(t.Context(), client.SSWS("j"), "a/b"); err != nil {
		t.Fatal(err)
	}
	const methods = `"methods":[{"type":"push","pushToken":"","supportUserVerification":true,"keys":{"userVerification":{}}},{"type":"totp"}]}`
	for i, want := range []string{
		"GET /api/v1/authenticators?key=okta_verify&expand=methods&oauthClientId=countersign-agent OTDT t ",
		"POST /idp/authenticators OTDT t {", "PUT /idp/authenticators/aen1 SSWS j {", "DELETE /idp/authenticators/a%2Fb SSWS j ",
	} {
		if !strings.HasPrefix(got[i], want) || strings.HasPrefix(got[i], "P") && (!strings.HasSuffix(got[i], methods) || !strings.Contains(got[i], `"key":"okta_verify"`)) {
			t.Errorf("%s\nwant %s", got[i], want)
		}
	}
	// E12: nothing goes elsewhere, and an id stays an id.
	if _, err := org.LegacyEnrol(t.Context(), client.OTDT("t"), "https://evil.example/", request); !errors.Is(err, client.ErrForeignURL) {
		t.Errorf("%v", err)
	}
	for _, id := range []string{"", ".", ".."} {
		if err := org.LegacyDelete(t.Context(), client.SSWS("j"), id); !errors.Is(err, client.ErrURL) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestLegacyAnswers(t *testing.T) {
	for body, complete := range map[string]bool{
		`{"id":"a","user":{"id":"u"},"device":{"id":"d","clientInstanceId":"c"},"methods":[{"id":"o","type":"push"}]}`:                          true,
		`{"id":"a","user":{"id":"u"},"device":{"id":"d","clientInstanceId":"c"},"methods":[]}`:                                                  false,
		`{"id":"a","user":{"id":"u"},"device":{"id":"d","clientInstanceId":"c"},"methods":[{"id":"o","type":"push"},{"id":"p","type":"push"}]}`: false,
		`{"id":"a","user":{"id":"u"},"device":{"id":"d"},"methods":[{"id":"o","type":"push"}]}`:                                                 false,
		`{"id":"a","methods":{"push":{"id":"o"}}}`:                                                                                              false,
		`[]`: false,
	} {
		org := handler(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})
		e, err := org.LegacyEnrol(t.Context(), client.OTDT("t"), "", okta.EnrolmentRequest{})
		if (err == nil) != complete || err != nil && e.ID != "" {
			t.Errorf("%s: %+v, %v", body, e, err)
		}
	}
}

// Whatever an org lists: one active authenticator of our kind, or an error.
func FuzzLegacyListing(f *testing.F) {
	for _, s := range []string{`[]`, `[{"id":"a","key":"okta_verify","status":"ACTIVE"}]`, `[{"id":"a","key":"okta_verify","status":"ACTIVE"},{"id":"b","key":"okta_verify","status":"ACTIVE"}]`,
		`[{"key":"okta_verify","status":"ACTIVE"}]`, `[{"id":"a","key":"okta_verify","status":"ACTIVE","settings":null,"_links":{"enroll":null},"_embedded":null}]`, `{}`, `null`, `[null]`, `[[]]`} {
		f.Add(s)
	}
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}))
	f.Cleanup(server.Close)
	org := newOrg(f, server.URL, client.Options{})
	f.Fuzz(func(t *testing.T, s string) {
		body = s
		c, err := org.LegacyConfiguration(t.Context(), client.OTDT("t"))
		if err != nil {
			if c.AuthenticatorID != "" {
				t.Fatalf("%q: refused, and still %+v", s, c)
			}
			return
		}
		var list []struct{ ID, Key, Status string }
		if json.Unmarshal([]byte(s), &list) != nil || c.AuthenticatorID == "" || c.Key != okta.AuthenticatorKeyOktaVerify {
			t.Fatalf("%q: %+v", s, c)
		}
		active := 0
		for _, l := range list {
			if l.Key == okta.AuthenticatorKeyOktaVerify && l.Status == "ACTIVE" {
				active++
			}
		}
		if active != 1 {
			t.Fatalf("%q: chose one of %d", s, active)
		}
	})
}

// E12: a redirect is not followed, and no credential goes along one.
func TestE12NoRedirects(t *testing.T) {
	var hits atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer evil.Close()
	fake := oktatest.NewOrg(t)
	fake.Reply("/", oktatest.Reply{Status: 307, Header: http.Header{"Location": {evil.URL}}})
	org, ctx, auth := newOrg(t, fake.URL, client.Options{}), t.Context(), client.Bearer("secret")
	for what, call := range map[string]func() error{
		"metadata":   func() error { _, err := org.Metadata(ctx); return err },
		"token":      func() error { _, err := org.Token(ctx, url.Values{"code": {"secret"}}); return err },
		"revocation": func() error { return org.Revoke(ctx, fake.URL+"/oauth2/v1/revoke", "secret") },
		"listing":    func() error { _, err := org.LegacyConfiguration(ctx, auth); return err },
		"enrolment":  func() error { _, err := org.LegacyEnrol(ctx, auth, "", okta.EnrolmentRequest{}); return err },
		"removal":    func() error { return org.LegacyDelete(ctx, auth, "x") },
	} {
		var ua *client.UnexpectedAnswer
		if err := call(); !errors.As(err, &ua) || ua.Kind != client.KindRedirect {
			t.Errorf("%s: %v", what, err)
		}
	}
	if hits.Load() != 0 {
		t.Errorf("the other origin was asked %d times", hits.Load())
	}
}
