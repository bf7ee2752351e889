package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

// carelessAgent is an agent that a phisher would like: it is truly enrolled
// for the user, answers every page and signs whatever it is handed, without
// looking at who asks. What it cannot do is forge the org's check of the
// origin, because a browser, not the page, writes the Origin header.
type carelessAgent struct {
	org       *client.Org
	enrolment okta.Enrolment
	clientID  string // kid of the client instance key
	key       jose.Signer

	mu       sync.Mutex
	refusals []*okta.Error
}

func newSigner(t *testing.T) (jose.Signer, *jose.JWK) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	kid := rand.Text()
	jwk, err := jose.NewJWK(kid, private.Public(), jose.ProtectionSoftware)
	must(t, err)
	return jose.SoftwareSigner(kid, private), &jwk
}

// enrolCareless enrols such an agent for user over the org's own API.
func enrolCareless(t *testing.T, org *harness.Org, user string) *carelessAgent {
	t.Helper()
	ctx := deadline(t)
	text, err := org.EnrolmentLink(ctx, user)
	must(t, err)
	link, err := okta.ParseEnrolmentLink(text)
	must(t, err)
	api, err := client.New(org.URL, client.Options{ClientID: "countersign-agent"})
	must(t, err)
	key, keyJWK := newSigner(t)
	_, clientJWK := newSigner(t)
	enrolment, err := api.Enrol(ctx, client.OTDT(link.Token), "", okta.EnrolmentRequest{
		AuthenticatorID: link.AuthenticatorID,
		Device: okta.Device{
			ClientInstanceKey: clientJWK, Platform: "LINUX", OSVersion: "6.1", DisplayName: "careless",
			BundleID: "careless", Version: "1", SDKVersion: okta.DeviceSDK,
		},
		Methods: okta.MethodRequests{SignedNonce: &okta.MethodRequest{Keys: &okta.MethodKeys{ProofOfPossession: keyJWK}}},
	})
	must(t, err)
	return &carelessAgent{org: api, enrolment: enrolment, clientID: clientJWK.KeyID, key: key}
}

// listen serves pages on a loopback port until the test ends.
func (c *carelessAgent) listen(t *testing.T, port int) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	must(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /probe", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /challenge", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Challenge string `json:"challengeRequest"`
		}
		err := json.NewDecoder(r.Body).Decode(&body)
		if err == nil {
			err = c.answer(r.Context(), body.Challenge, r.Header.Get("Origin"))
		}
		if err != nil {
			t.Logf("the careless agent: %v", err)
		}
		// Whatever happened, it lets the page go on.
	})
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Headers", "Content-Type, X-Okta-Xsrftoken")
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		mux.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
}

// answer signs the challenge, says that it came from a page of origin, and
// notes it when the org refuses.
func (c *carelessAgent) answer(ctx context.Context, challenge, origin string) error {
	token, err := jose.Parse(challenge, jose.DeviceChallenge)
	if err != nil {
		return err
	}
	var asked okta.Challenge
	if err := token.Claims(&asked); err != nil {
		return err
	}
	now := time.Now()
	signed, err := jose.Sign(ctx, c.key, okta.TypeDeviceBind, okta.Answer{
		Issuer: c.enrolment.ID, Subject: c.enrolment.User.ID, Audience: asked.Issuer, ID: rand.Text(),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(okta.ChallengeLifetime)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		TransactionID: asked.TransactionID, Nonce: asked.Nonce,
		MethodEnrolmentID: c.enrolment.Methods[okta.MethodSignedNonce].ID, KeyType: okta.KeyProofOfPossession, AMR: []string{},
		DeviceSignals: okta.DeviceSignals{ID: c.enrolment.Device.ID, ClientInstanceID: c.enrolment.Device.ClientInstanceID},
		Context: okta.AnswerContext{UserConsent: okta.ConsentNone, TransactionType: okta.TransactionLogin,
			OriginHeader: origin, BindingType: okta.BindingLoopback},
		Integrations: []okta.SignalResult{}, SignalProviders: []okta.SignalResult{},
	})
	if err != nil {
		return err
	}
	err = c.org.Answer(ctx, asked.VerificationURI, okta.AnswerRequest{Method: okta.MethodSignedNonce, ChallengeResponse: signed})
	if refusal, ok := err.(*okta.Error); ok {
		c.mu.Lock()
		c.refusals = append(c.refusals, refusal)
		c.mu.Unlock()
		return nil
	}
	if err != nil {
		return fmt.Errorf("answering for a page of %s: %w", origin, err)
	}
	return nil
}

// refused returns how often the org refused an answer of this agent.
func (c *carelessAgent) refused() []*okta.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusals
}
