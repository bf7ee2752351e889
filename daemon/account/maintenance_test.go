package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey/software"
	"countersign.dev/daemon/vault"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// clocked is a book whose time stands still until it is moved.
type clocked struct {
	*Book
	mu  sync.Mutex
	now time.Time
}

func (c *clocked) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newClocked(t *testing.T) *clocked {
	t.Helper()
	v, err := vault.Open(t.Context(), t.TempDir()+"/state", vault.Options{Key: "file"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	c := &clocked{now: time.Now()}
	c.Book, err = Open(Options{Vault: v, Keys: software.New(v), Device: testDevice, Now: func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.now
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *clocked) enrol(t *testing.T, org *oktatest.Org) *Account {
	t.Helper()
	a, err := c.EnrolByLink(t.Context(), org.Link(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestMaintenanceToken(t *testing.T) {
	org, b := oktatest.NewOrg(t), newClocked(t)
	a := b.enrol(t, org)
	get := func(renew bool, asked int) client.Authorization {
		t.Helper()
		auth, err := b.Maintenance(t.Context(), a, renew)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(org.TokenRequests()); n != asked {
			t.Fatalf("asked %d times, want %d", n, asked)
		}
		return auth
	}
	if auth := get(false, 1); auth.String() != "Bearer [redacted]" {
		t.Errorf("%s", auth)
	}
	form := org.TokenRequests()[0]
	if form.Get("grant_type") != okta.GrantJWTBearer || form.Get("scope") != okta.ScopeMaintenanceManage+" "+okta.ScopeMaintenanceRead {
		t.Errorf("%v", form)
	}
	// The assertion is what 3.5 says, and signed by the key of the push method.
	token, err := jose.Parse(form.Get("assertion"), jose.MaintenanceAssertion)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(*org.Enrolments()[0].Methods.Push.Keys.ProofOfPossession); err != nil {
		t.Fatal(err)
	}
	var claims okta.MaintenanceAssertion
	push, _ := a.Method(okta.MethodPush)
	if err := token.Claims(&claims); err != nil || token.Header.Type != "JWT" || claims.Issuer != okta.MaintenanceIssuer || claims.Subject != a.UserID ||
		claims.Audience != org.URL || claims.MethodEnrolmentID != push.ID || claims.ExpiresAt-claims.IssuedAt != 300 || claims.ID == "" || claims.NotBefore >= claims.IssuedAt {
		t.Errorf("%+v, %v", claims, err)
	}

	get(false, 1) // from memory
	b.move(59*time.Minute - time.Second)
	get(false, 1)
	b.move(2 * time.Second) // its last minute
	get(false, 2)
	get(true, 3) // the org has refused it

	// It is in no file.
	if err := b.Remove(t.Context(), a.ID, true); err != nil {
		t.Fatal(err)
	}
	if len(b.tokens.held) != 0 {
		t.Error("the token of a removed account is kept")
	}
}

// Where the org binds tokens, they are of no use without this process's key.
func TestMaintenanceTokenIsBound(t *testing.T) {
	org, other, b := oktatest.NewOrg(t), oktatest.NewOrg(t), newClocked(t)
	org.BindTokens("nonce-1")
	other.BindTokens("nonce-2")
	a := b.enrol(t, org)
	auth, err := b.Maintenance(t.Context(), a, false)
	if err != nil || auth.String() != "DPoP [redacted]" || strings.Contains(fmt.Sprintf("%#v %+v", auth, auth), "bound-") {
		t.Fatalf("%#v, %v", auth, err)
	}
	if n := len(org.TokenRequests()); n != 2 { // once without the nonce
		t.Fatalf("%d token requests", n)
	}
	if _, err := b.Maintenance(t.Context(), a, true); err != nil || len(org.TokenRequests()) != 3 {
		t.Fatalf("%v, %d: the nonce was not remembered", err, len(org.TokenRequests()))
	}
	// A request by it carries a proof of its own, which the fake verifies.
	client, err := b.Org(org.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteEnrolment(t.Context(), auth, a.EnrolmentID); err != nil {
		t.Fatal(err)
	}
	// Two orgs cannot tell by the key that it is one device.
	b.enrol(t, other)
	one, err1 := b.tokens.proof(org.URL)
	two, err2 := b.tokens.proof(other.URL)
	if err1 != nil || err2 != nil || one == two {
		t.Errorf("%v %v, the same key for two orgs", err1, err2)
	}
}

// Many ask, the org is asked once; also when all of them were refused the same
// token.
func TestMaintenanceTokenOnce(t *testing.T) {
	org, b := oktatest.NewOrg(t), newClocked(t)
	a := b.enrol(t, org)
	for _, renew := range []bool{false, true} {
		before := len(org.TokenRequests())
		h := b.tokens.of(a.ID)
		h.turn <- struct{}{} // all of them wait, and have noted which token they were refused, before the first may ask
		var wg, waiting sync.WaitGroup
		waiting.Add(20)
		b.step = func(string) { waiting.Done() }
		for range 20 {
			wg.Go(func() {
				if _, err := b.Maintenance(t.Context(), a, renew); err != nil {
					t.Error(err)
				}
			})
		}
		waiting.Wait()
		<-h.turn
		wg.Wait()
		b.step = func(string) {}
		if n := len(org.TokenRequests()) - before; n != 1 {
			t.Errorf("renew %v: asked %d times", renew, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.tokens.of(a.ID).turn <- struct{}{}
	if _, err := b.Maintenance(ctx, a, true); !errors.Is(err, context.Canceled) {
		t.Errorf("waits on: %v", err)
	}
}

func TestMaintenanceTokenRefused(t *testing.T) {
	for _, row := range []struct {
		name  string
		reply oktatest.Reply
		want  any
	}{
		{"invalid_grant", oktatest.Reply{Status: 400, Body: `{"error":"invalid_grant","error_description":"no"}`}, new(*okta.TokenError)},
		{"too many", oktatest.Reply{Status: 429, Body: `{"errorCode":"E0000047"}`}, new(*okta.Error)},
		{"a proxy's page", oktatest.Reply{Status: 200, ContentType: "text/html", Body: "<html>"}, new(*client.UnexpectedAnswer)},
		{"no token", oktatest.Reply{Status: 200, Body: `{"token_type":"Bearer"}`}, new(*client.UnexpectedAnswer)},
		{"another type", oktatest.Reply{Status: 200, Body: `{"access_token":"x","token_type":"MAC"}`}, new(*client.UnexpectedAnswer)},
		{"bound without being asked", oktatest.Reply{Status: 200, Body: `{"access_token":"x","token_type":"DPoP"}`}, new(*client.UnexpectedAnswer)},
		{"the same nonce for ever", oktatest.Reply{Status: 400, Body: `{"error":"use_dpop_nonce"}`}, new(*okta.TokenError)},
	} {
		org, b := oktatest.NewOrg(t), newClocked(t)
		a := b.enrol(t, org)
		org.Reply("/oauth2/v1/token", row.reply)
		if _, err := b.Maintenance(t.Context(), a, false); !errors.As(err, row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
		if kept, err := b.Get(a.ID); err != nil || kept.State != Active {
			t.Errorf("%s: %+v, %v", row.name, kept, err) // it proves nothing about the enrolment
		}
		if org.Hits("/oauth2/v1/token") > 2 {
			t.Errorf("%s: asked %d times", row.name, org.Hits("/oauth2/v1/token"))
		}
		org.Reply("/oauth2/v1/token", oktatest.Reply{})
		if _, err := b.Maintenance(t.Context(), a, false); err != nil {
			t.Errorf("%s: afterwards: %v", row.name, err)
		}
	}
}

// E5, E12: an assertion goes to the account's own org only, whatever that says
// about its addresses.
func TestE5AssertionStaysAtTheOrg(t *testing.T) {
	org, other, b := oktatest.NewOrg(t), oktatest.NewOrg(t), newClocked(t)
	a := b.enrol(t, org)
	for _, doc := range []string{
		fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q}`, org.URL, org.URL+"/a", other.URL+"/oauth2/v1/token"),
		fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q}`, org.URL, "http://169.254.169.254/", org.URL+"/oauth2/v1/token"),
		fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"revocation_endpoint":"file:///etc/passwd"}`, org.URL, org.URL+"/a", org.URL+"/t"),
		fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q}`, other.URL, org.URL+"/a", org.URL+"/oauth2/v1/token"),
		`{}`,
	} {
		org.Reply("/.well-known/openid-configuration", oktatest.Reply{Status: 200, Body: doc})
		if _, err := b.Maintenance(t.Context(), a, false); err == nil {
			t.Errorf("accepted: %s", doc)
		}
	}
	if len(org.TokenRequests()) != 0 || len(other.TokenRequests()) != 0 {
		t.Error("an assertion was sent")
	}
}
