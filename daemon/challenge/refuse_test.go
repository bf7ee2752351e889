package challenge

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// recode changes one segment of a token without signing it again.
func recode(t *testing.T, token string, segment int, change func(map[string]any)) string {
	t.Helper()
	parts := strings.Split(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[segment])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	if raw, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	parts[segment] = base64.RawURLEncoding.EncodeToString(raw)
	return strings.Join(parts, ".")
}

// TestRefusals is the table of everything that must be turned away: no
// signature is made, nobody is asked, the org hears nothing. A3, A4, A5, A10,
// B6, B7, E1, E2, E3, E5, E12 of the threat list.
func TestRefusals(t *testing.T) {
	strangerKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	org, other := oktatest.NewOrg(t), oktatest.NewOrg(t)
	asked := func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }
	claim := func(mod func(c *okta.Challenge)) func() string {
		return func() string { return org.Challenge(func(c *okta.Challenge) { asked(c); mod(c) }) }
	}
	headed := func(change func(map[string]any)) func() string {
		return func() string { return recode(t, org.Challenge(asked), 0, change) }
	}
	genuine := func() string { return org.Challenge(asked) }
	for _, row := range []struct {
		name   string
		token  func() string
		origin string // default: the org's
		kind   Kind   // default: Loopback
		want   Outcome
	}{
		// Form (E1, E3).
		{name: "empty", token: func() string { return "" }, want: Malformed},
		{name: "not a token", token: func() string { return "hello" }, want: Malformed},
		{name: "huge", token: func() string { return strings.Repeat("a.", 20<<10) }, want: Malformed},
		{name: "alg none", token: headed(func(h map[string]any) { h["alg"] = "none" }), want: Malformed},
		{name: "alg HS256 with the public key", token: headed(func(h map[string]any) { h["alg"] = "HS256" }), want: Malformed},
		{name: "embedded jwk", token: headed(func(h map[string]any) { h["jwk"] = map[string]any{"kty": "oct"} }), want: Malformed},
		{name: "jku", token: headed(func(h map[string]any) { h["jku"] = "https://evil.example/keys" }), want: Malformed},
		{name: "x5u", token: headed(func(h map[string]any) { h["x5u"] = "https://evil.example/cert" }), want: Malformed},
		{name: "crit", token: headed(func(h map[string]any) { h["crit"] = []string{"exp"} }), want: Malformed},
		{name: "zip", token: headed(func(h map[string]any) { h["zip"] = "DEF" }), want: Malformed},
		{name: "typ of an answer's sibling", token: func() string { return org.SignChallenge(okta.TypePushBind, asked) }, want: Malformed},
		{name: "typ JWT", token: func() string { return org.SignChallenge("JWT", asked) }, want: Malformed},
		{name: "push method over loopback", token: claim(func(c *okta.Challenge) { c.Method = okta.MethodPush }), want: Malformed},
		{name: "unknown transport", token: genuine, kind: 9, want: Malformed},
		{name: "no transaction", token: claim(func(c *okta.Challenge) { c.TransactionID = "" }), want: Malformed},
		{name: "no nonce", token: claim(func(c *okta.Challenge) { c.Nonce = "" }), want: Malformed},
		{name: "no exp", token: claim(func(c *okta.Challenge) { c.ExpiresAt = 0 }), want: Malformed},
		{name: "relative verificationUri", token: claim(func(c *okta.Challenge) { c.VerificationURI = "/verify" }), want: Malformed},

		// Not for us (A10, E5): silence about why.
		{name: "other org", token: func() string { return other.Challenge(asked) }, want: NotMine},
		{name: "other org id", token: claim(func(c *okta.Challenge) { c.OrgID = "00oOther" }), want: NotMine},
		{name: "lookalike issuer", token: claim(func(c *okta.Challenge) { c.Issuer = "https://org.example.evil" }), want: NotMine},
		{name: "issuer with a slash", token: claim(func(c *okta.Challenge) { c.Issuer += "/" }), want: NotMine},
		{name: "unknown authorization server in a path", token: claim(func(c *okta.Challenge) { c.AuthorizationServerID = "../../evil" }), want: Malformed},
		// E2: it would choose, unverified, what the agent fetches from the org.
		{name: "authorization server of the token's choice", token: claim(func(c *okta.Challenge) { c.AuthorizationServerID = "aus1" }), want: Malformed},
		{name: "other enrolment", token: claim(func(c *okta.Challenge) { c.AuthenticatorEnrolmentID = "pfdOther" }), want: NotMine},
		{name: "other user", token: claim(func(c *okta.Challenge) { c.UserID = "00uOther" }), want: NotMine},
		{name: "other login", token: claim(func(c *okta.Challenge) { c.LoginHint = "bob@example.com" }), want: NotMine},

		// Signature (E2).
		{name: "another org's key, our issuer", token: func() string {
			return other.Challenge(func(c *okta.Challenge) { c.Issuer, c.OrgID = org.URL, org.OrgID })
		}, want: Forged},
		{name: "unpublished kid", token: func() string {
			token, _ := jose.Sign(t.Context(), jose.SoftwareSigner("../../keys", strangerKey), okta.TypeDeviceBind, claimsOf(t, genuine()))
			return token
		}, want: Forged},
		{name: "published kid, stranger's key", token: func() string {
			token, _ := jose.Sign(t.Context(), jose.SoftwareSigner("fake-key-0", strangerKey), okta.TypeDeviceBind, claimsOf(t, genuine()))
			return token
		}, want: Forged},
		{name: "changed payload", token: func() string {
			return recode(t, genuine(), 1, func(m map[string]any) { m["appInstanceName"] = "Bank" })
		}, want: Forged},

		// Signed by the org, and still not to be answered.
		{name: "other audience", token: claim(func(c *okta.Challenge) { c.Audience = "another-client" }), want: Forged},
		{name: "verificationUri elsewhere", token: claim(func(c *okta.Challenge) { c.VerificationURI = "https://evil.example/verify" }), want: Forged},
		{name: "verificationUri at another port", token: claim(func(c *okta.Challenge) { c.VerificationURI = other.URL + "/verify" }), want: Forged},
		{name: "verificationUri of the cloud's metadata", token: claim(func(c *okta.Challenge) { c.VerificationURI = "http://169.254.169.254/latest" }), want: Forged},
		{name: "verificationUri with user information", token: claim(func(c *okta.Challenge) {
			c.VerificationURI = strings.Replace(c.VerificationURI, "://", "://127.0.0.1@", 1)
		}), want: Malformed},
		{name: "verificationUri by https", token: claim(func(c *okta.Challenge) {
			c.VerificationURI = strings.Replace(c.VerificationURI, "http:", "https:", 1)
		}), want: Forged},
		{name: "another method enrolment", token: claim(func(c *okta.Challenge) { c.MethodEnrolmentID = "opfOther" }), want: Forged},

		// Time (B7).
		{name: "expired", token: claim(func(c *okta.Challenge) { c.IssuedAt -= 400; c.ExpiresAt -= 400 }), want: Expired},
		{name: "issued in the future", token: claim(func(c *okta.Challenge) { c.IssuedAt += 120; c.ExpiresAt += 120 }), want: Forged},
		{name: "not yet valid", token: claim(func(c *okta.Challenge) { c.NotBefore = c.IssuedAt + 120 }), want: Forged},
		{name: "lives for a year", token: claim(func(c *okta.Challenge) { c.ExpiresAt += 365 * 86400 }), want: Forged},
		{name: "times in milliseconds", token: claim(func(c *okta.Challenge) { c.IssuedAt *= 1000; c.ExpiresAt *= 1000 }), want: Forged},

		// Origin (A3, A4, A5).
		{name: "no origin", token: genuine, origin: "-", want: ForeignOrigin},
		{name: "null origin", token: genuine, origin: "null", want: ForeignOrigin},
		{name: "phishing page relays", token: genuine, origin: "https://org.evil.example", want: ForeignOrigin},
		{name: "lookalike", token: genuine, origin: org.URL + ".evil.example", want: ForeignOrigin},
		{name: "other allowed page than the org's", token: genuine, origin: "http://localhost:3000", want: ForeignOrigin},
		{name: "allowed page, no referrer signed", token: claim(func(c *okta.Challenge) { c.RequestReferrer = "" }), want: ForeignOrigin},
		{name: "org names a page it does not list", token: claim(func(c *okta.Challenge) { c.RequestReferrer = "https://evil.example/" }), origin: "https://evil.example", want: ForeignOrigin},
		{name: "referrer is not a URL", token: claim(func(c *okta.Challenge) { c.RequestReferrer = "javascript:1" }), want: ForeignOrigin},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, org)
			before := len(org.Answers())
			transport := Transport{Kind: Loopback, Origin: org.URL}
			if row.origin != "" {
				transport.Origin = strings.TrimPrefix(row.origin, "-")
			}
			if row.kind != 0 {
				transport.Kind = row.kind
			}
			got := w.Receive(t.Context(), row.token(), transport)
			if got.Outcome != row.want {
				t.Errorf("outcome %v (%s), want %v", got.Outcome, got.Reason, row.want)
			}
			w.untouched(t, before)
			if len(w.paper.lines) != 0 {
				t.Error("a refused challenge was claimed")
			}
		})
	}
}

// untouched says that no key, no person and no org was bothered.
func (w *world) untouched(t *testing.T, answersBefore int) {
	t.Helper()
	if n := w.keyring.signed.Load(); n != 0 {
		t.Errorf("%d signatures", n)
	}
	if n := w.asker.asked.Load(); n != 0 {
		t.Errorf("%d prompts", n)
	}
	if n := len(w.org.Answers()); n != answersBefore {
		t.Errorf("%d answers at the org", n-answersBefore)
	}
}

func claimsOf(t *testing.T, token string) okta.Challenge {
	t.Helper()
	parsed, err := jose.Parse(token, jose.AnyChallenge)
	if err != nil {
		t.Fatal(err)
	}
	var c okta.Challenge
	if err := parsed.Claims(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// E5: two orgs, two accounts. Every challenge is answered for the account it
// was made for, at the org that made it, or not at all.
func TestCrossAccount(t *testing.T) {
	one, two := oktatest.NewOrg(t), oktatest.NewOrg(t)
	two.OrgID = "00oSecondOrganisation"
	a, b := accountAt(one, "a"), accountAt(two, "b")
	for _, row := range []struct {
		name string
		org  *oktatest.Org // signs
		mod  func(c *okta.Challenge)
		page string
		want Outcome
	}{
		{"one for one", one, func(*okta.Challenge) {}, one.URL, Approved},
		{"two names one's enrolment", two, func(c *okta.Challenge) { c.AuthenticatorEnrolmentID = a.EnrolmentID }, two.URL, NotMine},
		{"two claims to be one", two, func(c *okta.Challenge) { c.Issuer, c.OrgID = one.URL, one.OrgID }, one.URL, Forged},
		{"two uses one's org id", two, func(c *okta.Challenge) { c.OrgID = one.OrgID }, two.URL, NotMine},
		{"one, answer to two", one, func(c *okta.Challenge) { c.VerificationURI = two.URL + "/verify" }, one.URL, Forged},
		{"one's challenge on two's page", one, func(*okta.Challenge) {}, two.URL, ForeignOrigin},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, one, a, b)
			got := w.Receive(t.Context(), row.org.Challenge(row.mod), Transport{Kind: Loopback, Origin: row.page})
			if got.Outcome != row.want {
				t.Fatalf("%v (%s), want %v", got.Outcome, got.Reason, row.want)
			}
			if want := int64(0); row.want != Approved && w.keyring.signed.Load() != want {
				t.Fatal("signed")
			}
		})
	}
}

// E12: an account without its pins accepts nothing.
func TestUnsetPinsRefuse(t *testing.T) {
	org := oktatest.NewOrg(t)
	for name, unset := range map[string]func(*account.Account){
		"org id":    func(a *account.Account) { a.OrgID = "" },
		"org URL":   func(a *account.Account) { a.OrgURL = "" },
		"client id": func(a *account.Account) { a.ClientID = "" },
		"origins":   func(a *account.Account) { a.Origins = nil },
		"methods":   func(a *account.Account) { a.Methods = nil },
		"gone":      func(a *account.Account) { a.State = account.Gone },
		"enrolling": func(a *account.Account) { a.State = account.Enrolling },
		"removing":  func(a *account.Account) { a.State = account.Removing },
		"no state":  func(a *account.Account) { a.State = "" },
	} {
		t.Run(name, func(t *testing.T) {
			a := accountAt(org, "acc1")
			unset(a)
			w := newWorld(t, org, a)
			if got := w.receive(t, org.Challenge(nil)); got.Outcome.Delivered() {
				t.Fatalf("%+v", got)
			}
			w.untouched(t, 0)
		})
	}
}

// A5: a page that relays a genuine challenge leaves its mark in the record, and
// cannot fill it.
func TestRelayIsRecorded(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	token := org.Challenge(nil)
	for range 3 * maxRefusals {
		w.Receive(t.Context(), token, Transport{Kind: Loopback, Origin: "https://org.evil.example"})
		w.Receive(t.Context(), token[:len(token)-4]+"AAAA", Transport{Kind: Loopback, Origin: org.URL})
	}
	if len(w.records) != maxRefusals || w.records[0].Outcome != "foreign_origin" || w.records[0].Origin != "https://org.evil.example" {
		t.Fatalf("%d records, first %+v", len(w.records), w.records[0])
	}
	if got := w.receive(t, token); got.Outcome != Approved {
		t.Fatalf("the genuine page afterwards: %+v", got)
	}
}

// The org is down before its keys are known: nothing is believed.
func TestKeysUnreachable(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	token := org.Challenge(nil)
	org.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got := w.Receive(ctx, token, Transport{Kind: Loopback, Origin: org.URL}); got.Outcome != OrgUnreachable {
		t.Fatalf("%+v", got)
	}
	if w.keyring.signed.Load() != 0 {
		t.Fatal("signed")
	}
}

func FuzzReceive(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.AA")
	f.Fuzz(func(t *testing.T, raw string) {
		c := &Challenge{raw: raw, transport: Transport{Kind: Loopback, Origin: "https://org.example"}}
		if err := parse(c); err == nil && c.claims.TransactionID == "" {
			t.Fatal("a challenge without a transaction was parsed")
		} else if err != nil && result(err).Outcome != Malformed {
			t.Fatalf("%v", err)
		}
	})
}
