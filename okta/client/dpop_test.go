package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/oktatest"
)

// A bound token: the nonce is fetched once, every later request carries its own
// proof, and nothing prints the key or the token.
func TestBoundToken(t *testing.T) {
	fake := oktatest.NewOrg(t)
	fake.BindTokens("n1")
	org := newOrg(t, fake.URL, client.Options{})
	meta, err := org.Metadata(t.Context())
	if err != nil || !meta.BindsTokens() {
		t.Fatalf("%+v, %v", meta, err)
	}
	key, err := client.NewProofKey()
	if err != nil {
		t.Fatal(err)
	}
	_, auth, err := org.BoundToken(t.Context(), url.Values{"client_id": {fake.ClientID}}, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := org.DeleteEnrolment(t.Context(), auth, "pfd1"); err != nil {
		t.Errorf("with its own proof: %v", err)
	}
	stranger, err := client.NewProofKey()
	if err != nil {
		t.Fatal(err)
	}
	stolen, _, err := org.BoundToken(t.Context(), url.Values{"client_id": {fake.ClientID}}, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, auth := range map[string]client.Authorization{
		"as a bearer token": client.Bearer(stolen.AccessToken), "with another key": client.DPoP(stolen.AccessToken, stranger),
	} {
		if err := org.DeleteEnrolment(t.Context(), auth, "pfd1"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %v %#v", auth, auth, auth, key, key); strings.Contains(s, "bound-") || strings.Contains(s, "ecdsa") {
		t.Errorf("prints %s", s)
	}
	// The nonce changes while the process runs.
	fake.BindTokens("n2")
	before := fake.Hits("/oauth2/v1/token")
	if _, _, err := org.BoundToken(t.Context(), url.Values{"client_id": {fake.ClientID}}, key); err != nil {
		t.Errorf("another nonce: %v", err)
	}
	if n := fake.Hits("/oauth2/v1/token") - before; n != 2 {
		t.Errorf("asked %d times", n)
	}
	// A server that asks for a nonce and names none, or the one it had, is not
	// asked for ever.
	for _, h := range []http.Header{{}, {"Dpop-Nonce": {"n2"}}, {"Dpop-Nonce": {strings.Repeat("x", 5000)}}} {
		fake.Reply("/oauth2/v1/token", oktatest.Reply{Status: 400, Body: `{"error":"use_dpop_nonce"}`, Header: h})
		before := fake.Hits("/oauth2/v1/token")
		var refusal *okta.TokenError
		if _, _, err := org.BoundToken(t.Context(), url.Values{"client_id": {fake.ClientID}}, key); !errors.As(err, &refusal) {
			t.Errorf("%v: %v", h, err)
		}
		if n := fake.Hits("/oauth2/v1/token") - before; n != 1 {
			t.Errorf("%v: asked %d times", h, n)
		}
	}
}

// E5, E12: whatever the org says of its addresses, codes and tokens go to its
// own origin.
func TestE12Metadata(t *testing.T) {
	fake := oktatest.NewOrg(t)
	org := newOrg(t, fake.URL, client.Options{})
	doc := func(issuer, authorize, token, revoke string) string {
		return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"revocation_endpoint":%q}`, issuer, authorize, token, revoke)
	}
	own := fake.URL + "/x"
	for name, body := range map[string]string{
		"another issuer":     doc("https://evil.example", own, own, own),
		"token elsewhere":    doc(fake.URL, own, "https://evil.example/token", own),
		"sign-in elsewhere":  doc(fake.URL, "https://evil.example/authorize", own, own),
		"revocation":         doc(fake.URL, own, own, "http://169.254.169.254/"),
		"file":               doc(fake.URL, "file:///etc/passwd", own, own),
		"javascript":         doc(fake.URL, "javascript:alert(1)", own, own),
		"user information":   doc(fake.URL, strings.Replace(own, "://", "://a@", 1), own, own),
		"no token endpoint":  doc(fake.URL, own, "", own),
		"no authorization":   doc(fake.URL, "", own, own),
		"look-alike address": doc(fake.URL, fake.URL+".evil.example/a", own, own),
	} {
		fake.Reply("/.well-known/openid-configuration", oktatest.Reply{Status: 200, Body: body})
		if m, err := org.Metadata(t.Context()); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if err := org.Revoke(t.Context(), "https://evil.example/revoke", "token"); !errors.Is(err, client.ErrForeignURL) {
		t.Errorf("revoked elsewhere: %v", err)
	}
	fake.Reply("/.well-known/openid-configuration", oktatest.Reply{Status: 200, Body: doc(fake.URL, own, own, "")})
	if m, err := org.Metadata(t.Context()); err != nil || org.Revoke(t.Context(), m.RevocationEndpoint, "token") != nil {
		t.Errorf("an org without revocation: %v", err)
	}
}
