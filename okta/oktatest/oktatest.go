// Package oktatest is a small fake org for tests: in process, on loopback,
// with the documents an agent reads, a key that signs challenges, and a place
// that collects answers. It checks nothing that a real org checks; for that
// there is countersign.dev/org.
package oktatest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Identifiers of the fake org.
const (
	OrgID           = "00oFakeOrganisation0"
	AuthenticatorID = "autFakeAuthenticator"
	UserID          = "00uFakeUser000000000"
	Login           = "alice@example.com"
	Seed            = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP" // of one-time codes, base32
)

// Reply is a canned answer of the fake org.
type Reply struct {
	Status      int
	ContentType string // empty: application/json
	Body        string
	Header      http.Header
}

// Org is a running fake org. Its methods may be called while it serves.
type Org struct {
	URL   string
	OrgID string
	// ClientID is the audience of challenges and the only app it knows.
	ClientID string

	t      testing.TB
	server *httptest.Server

	mu         sync.Mutex // guards what follows
	key        *rsa.PrivateKey
	kid        string
	origins    []string
	replies    map[string]Reply
	answers    []okta.AnswerRequest
	enrolments []okta.EnrolmentRequest
	deleted    []string
	pending    []okta.PendingChallenge
	hits       map[string]int
	next       int
	oauth      oauth
	idx        idxState
	keys       keys
}

// made are keys, once per process: 2048 bits take their time.
var made = [...]func() *rsa.PrivateKey{sync.OnceValue(newKey), sync.OnceValue(newKey)}

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// NewOrg starts a fake org that ends with the test.
func NewOrg(t testing.TB) *Org {
	t.Helper()
	o := &Org{
		OrgID: OrgID, ClientID: "countersign-agent", t: t,
		key: made[0](), kid: "fake-key-0",
		replies: make(map[string]Reply), hits: make(map[string]int),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+okta.OrganizationPath, o.organization)
	mux.HandleFunc("GET "+okta.AuthenticatorConfigurationPath, o.configuration)
	mux.HandleFunc("GET /.well-known/openid-configuration", o.discovery)
	mux.HandleFunc("GET /oauth2/v1/keys", o.keySet)
	mux.HandleFunc("GET /oauth2/v1/authorize", o.authorize)
	mux.HandleFunc("POST /oauth2/v1/token", o.token)
	mux.HandleFunc("POST /oauth2/v1/revoke", o.revoke)
	mux.HandleFunc("POST /oauth2/v1/interact", o.interact)
	mux.HandleFunc("POST /idp/idx/", o.step)
	mux.HandleFunc("POST "+okta.AppAuthenticatorsPath, o.enrol)
	mux.HandleFunc("PATCH "+okta.AppAuthenticatorsPath+"/{id}", o.update)
	mux.HandleFunc("DELETE "+okta.AppAuthenticatorsPath+"/{id}", o.remove)
	mux.HandleFunc("GET "+okta.AppAuthenticatorsPath+"/{id}/push/notifications", o.pendingList)
	mux.HandleFunc("GET "+okta.AppAuthenticatorsPath+"/{id}"+okta.NoticesPath, o.listNotices)
	mux.HandleFunc("POST /idp/authenticators/{authenticator}/transactions/{tx}/verify", o.verify)
	o.server = httptest.NewServer(o.intercept(mux))
	o.URL = o.server.URL
	t.Cleanup(o.server.Close)
	return o
}

// Close stops the org, as an outage does.
func (o *Org) Close() { o.server.Close() }

// Reply makes the org answer every request to a path that begins with prefix
// by r; the zero Reply undoes that.
func (o *Org) Reply(prefix string, r Reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Status == 0 {
		delete(o.replies, prefix)
		return
	}
	o.replies[prefix] = r
}

// ReplyToAnswers sets what the verification URI answers from now on; at first
// that is 200 with an empty object.
func (o *Org) ReplyToAnswers(status int, body string) {
	o.Reply("/idp/authenticators/", Reply{Status: status, Body: body})
}

// LoopbackOrigins sets the list that the authenticator configuration carries.
func (o *Org) LoopbackOrigins(origins ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.origins = origins
}

// Rotate makes the org sign by another key and withdraw the old one at once.
func (o *Org) Rotate() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next++
	o.key, o.kid = made[o.next%len(made)](), fmt.Sprintf("fake-key-%d", o.next)
}

// Hits says how many requests came to a path.
func (o *Org) Hits(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hits[path]
}

// Answers returns the answers that came to the verification URI, in order,
// also those the org replied to with an error.
func (o *Org) Answers() []okta.AnswerRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]okta.AnswerRequest(nil), o.answers...)
}

// Enrolments returns the bodies of all create requests.
func (o *Org) Enrolments() []okta.EnrolmentRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]okta.EnrolmentRequest(nil), o.enrolments...)
}

// Deleted returns the ids of deleted enrolments.
func (o *Org) Deleted() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.deleted...)
}

// Challenge signs a loopback challenge; mod, which may be nil, changes its
// claims first. The token is fresh, asks for nothing from the user, and comes
// from the org's own page.
func (o *Org) Challenge(mod func(*okta.Challenge)) string {
	return o.SignChallenge(okta.TypeDeviceBind, mod)
}

// PushChallenge signs a push challenge for an enrolment and puts it on the
// pending list.
func (o *Org) PushChallenge(enrolmentID string, mod func(*okta.Challenge)) string {
	token := o.SignChallenge(okta.TypePushBind, func(c *okta.Challenge) {
		c.Method = okta.MethodPush
		c.AuthenticatorEnrolmentID = enrolmentID
		c.UserID = UserID
		c.Context = &okta.ChallengeContext{TransactionType: okta.TransactionLogin}
		if mod != nil {
			mod(c)
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending = append(o.pending, okta.PendingChallenge{PayloadVersion: okta.PayloadVersion, Challenge: token})
	return token
}

// Pending returns the tokens on the pending list, in order.
func (o *Org) Pending() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	tokens := make([]string, len(o.pending))
	for i, c := range o.pending {
		tokens[i] = c.Challenge
	}
	return tokens
}

// SignChallenge signs a challenge with any typ.
func (o *Org) SignChallenge(typ string, mod func(*okta.Challenge)) string {
	o.t.Helper()
	tx, now := "ft"+strings.ToLower(rand.Text()), time.Now()
	c := okta.Challenge{
		Issuer: o.URL, Audience: o.ClientID, OrgID: o.OrgID,
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(okta.ChallengeLifetime)),
		ID: tx, TransactionID: tx, Nonce: rand.Text(),
		VerificationURI: o.URL + "/idp/authenticators/" + AuthenticatorID + "/transactions/" + tx + "/verify",
		Method:          okta.MethodSignedNonce,
		KeyTypes:        []string{string(okta.KeyProofOfPossession)},
		FactorType:      string(okta.MethodSignedNonce),
		Signals:         []string{"id", "displayName", "platform"},
		UserMediation:   okta.NeedNone, UserVerification: okta.NeedNone,
		AppInstanceName: "Payroll", RequestReferrer: o.URL,
	}
	if mod != nil {
		mod(&c)
	}
	return o.Sign(typ, c)
}

// Sign signs any claims with the org's present key.
func (o *Org) Sign(typ string, claims any) string {
	o.t.Helper()
	o.mu.Lock()
	signer := jose.SoftwareSigner(o.kid, o.key)
	o.mu.Unlock()
	token, err := jose.Sign(context.Background(), signer, typ, claims)
	if err != nil {
		o.t.Fatalf("signing as the fake org: %v", err)
	}
	return token
}

// Link returns an enrolment link; any token is good at the fake org.
func (o *Org) Link() okta.EnrolmentLink {
	return okta.EnrolmentLink{Login: Login, Token: "one-time-token", AuthenticatorID: AuthenticatorID, OrgURL: o.URL, Issuer: "Fake"}
}
