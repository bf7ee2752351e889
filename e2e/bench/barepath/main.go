// Command barepath is the floor of the loopback challenge: what three
// processes (browser, agent, org) must do at least, with net/http and go-jose
// and nothing else.
//
//	barepath org                       the org: serves discovery, enrols, signs challenges, verifies answers
//	barepath agent ORG [DURABLE_FILE]  an agent that verifies, signs, posts, and forgets
//	barepath probe                     a bare handler with the headers of a probe answer
//
// The org end also enrols the real agent, so that both are measured against
// the very same counterpart. Each mode prints one JSON line when it is ready.
package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"countersign.dev/okta"
	okjose "countersign.dev/okta/jose"
	"github.com/go-jose/go-jose/v4"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "org":
		err = runOrg()
	case len(os.Args) >= 3 && os.Args[1] == "agent":
		err = runAgent(os.Args[2], strings.Join(os.Args[3:], ""))
	case len(os.Args) == 2 && os.Args[1] == "probe":
		err = runProbe()
	default:
		err = fmt.Errorf("usage: barepath org | agent ORG [DURABLE_FILE] | probe")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "barepath:", err)
		os.Exit(1)
	}
}

func serve(handler http.Handler, url func(port int) string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("{\"ready\":true,\"url\":%q}\n", url(listener.Addr().(*net.TCPAddr).Port))
	return http.Serve(listener, handler)
}

type org struct {
	url    string
	key    *rsa.PrivateKey
	signer jose.Signer

	mu        sync.RWMutex
	keys      map[string]crypto.PublicKey // answer keys by kid
	enrolment okta.Enrolment              // the newest
	count     int
}

func runOrg() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	o := &org{key: key, keys: map[string]crypto.PublicKey{}}
	o.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "floor"}},
		(&jose.SignerOptions{}).WithType(okta.TypeDeviceBind))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /verify/{tx}", o.verify)
	mux.HandleFunc("POST /register", o.register)
	mux.HandleFunc("GET /challenges", o.challenges)
	mux.HandleFunc("GET "+okta.OrganizationPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"id": "00ofloor", "pipeline": "idx"})
	})
	mux.HandleFunc("GET "+okta.AuthenticatorConfigurationPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, []okta.AuthenticatorConfiguration{{
			AuthenticatorID: "autfloor", OrgID: "00ofloor", Key: okta.AuthenticatorKeyCustomApp, Type: "app",
			EnrolEndpoint:    o.url + okta.AppAuthenticatorsPath,
			SupportedMethods: []okta.SupportedMethod{{Type: okta.MethodSignedNonce, Status: "ACTIVE"}},
		}})
	})
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"issuer": o.url, "jwks_uri": o.url + "/oauth2/v1/keys"})
	})
	mux.HandleFunc("GET /oauth2/v1/keys", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "floor", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("POST "+okta.AppAuthenticatorsPath, o.enrol)
	return serve(mux, func(port int) string { o.url = "http://localhost:" + strconv.Itoa(port); return o.url })
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck
}

func (o *org) enrol(w http.ResponseWriter, r *http.Request) {
	var request okta.EnrolmentRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Methods.SignedNonce == nil {
		http.Error(w, "bad enrolment", http.StatusBadRequest)
		return
	}
	jwk := *request.Methods.SignedNonce.Keys.ProofOfPossession
	key, err := jwk.PublicKey()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	n := strconv.Itoa(o.count)
	now := okta.Timestamp(time.Now())
	o.keys[jwk.KeyID] = key
	o.enrolment = okta.Enrolment{
		ID: "pfdfloor" + n, AuthenticatorID: "autfloor", CreatedDate: now, LastUpdated: now,
		User:    okta.EnrolmentUser{ID: "00ufloor" + n, Username: "user" + n + "@example.com"},
		Device:  okta.EnrolmentDevice{ID: "guofloor", Status: "ACTIVE", ClientInstanceID: "clifloor"},
		Methods: map[okta.Method]okta.EnrolledMethod{okta.MethodSignedNonce: {ID: "opffloor" + n}},
		Links:   map[string]okta.Link{"self": {Href: o.url + okta.AppAuthenticatorsPath + "/pfdfloor" + n}},
	}
	writeJSON(w, o.enrolment)
}

func (o *org) register(w http.ResponseWriter, r *http.Request) {
	var jwk okjose.JWK
	err := json.NewDecoder(r.Body).Decode(&jwk)
	var key crypto.PublicKey
	if err == nil {
		key, err = jwk.PublicKey()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[jwk.KeyID] = key
}

// challenges signs ?n= challenges for the newest enrolment, one a line.
func (o *org) challenges(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	o.mu.RLock()
	enrolment := o.enrolment
	o.mu.RUnlock()
	for range min(n, 20_000) {
		now := time.Now()
		id := "ft" + rand.Text()
		claims, err := json.Marshal(okta.Challenge{
			Issuer: o.url, Audience: "countersign-agent", IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(okta.ChallengeLifetime)),
			ID: id, TransactionID: id, Nonce: rand.Text(), OrgID: "00ofloor", VerificationURI: o.url + "/verify/" + id,
			Method: okta.MethodSignedNonce, FactorType: "signed_nonce", UserID: enrolment.User.ID, LoginHint: enrolment.User.Username,
			KeyTypes:         []string{"proofOfPossession"},
			UserVerification: okta.NeedNone, UserMediation: okta.NeedNone,
			Signals:         []string{"id", "displayName", "platform", "manufacturer", "model", "osVersion", "serialNumber", "udid", "sid"},
			AppInstanceName: "Floor", RequestReferrer: o.url + "/login",
		})
		if err != nil {
			return
		}
		signed, err := o.signer.Sign(claims)
		if err != nil {
			return
		}
		text, _ := signed.CompactSerialize()
		fmt.Fprintln(w, text)
	}
}

// verify does what any org must: parse, check the signature, read the claims.
func (o *org) verify(w http.ResponseWriter, r *http.Request) {
	var request okta.AnswerRequest
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token, err := jose.ParseSignedCompact(request.ChallengeResponse, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.mu.RLock()
	key := o.keys[token.Signatures[0].Header.KeyID]
	o.mu.RUnlock()
	payload, err := token.Verify(key)
	var answer okta.Answer
	if err == nil {
		err = json.Unmarshal(payload, &answer)
	}
	if err != nil || answer.TransactionID != r.PathValue("tx") {
		http.Error(w, "answer refused", http.StatusForbidden)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// probeHeaders are those of an answer to an allowed page.
func probeHeaders(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Vary", "Origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
}

func runProbe() error {
	return serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		probeHeaders(w.Header(), r.Header.Get("Origin"))
		io.WriteString(w, "{}\n") //nolint:errcheck
	}), func(port int) string { return "http://localhost:" + strconv.Itoa(port) })
}

func runAgent(orgURL, durable string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	kid := rand.Text()
	jwk, err := okjose.NewJWK(kid, &key.PublicKey, okjose.ProtectionSoftware)
	if err != nil {
		return err
	}
	description, _ := json.Marshal(jwk)
	response, err := http.Post(orgURL+"/register", "application/json", bytes.NewReader(description))
	if err != nil {
		return fmt.Errorf("registering: %w", err)
	}
	response.Body.Close()
	var set jose.JSONWebKeySet
	response, err = http.Get(orgURL + "/oauth2/v1/keys")
	if err == nil {
		err = json.NewDecoder(response.Body).Decode(&set)
		response.Body.Close()
	}
	if err != nil || len(set.Keys) != 1 {
		return fmt.Errorf("fetching keys: %v", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}},
		(&jose.SignerOptions{}).WithType(okta.TypeDeviceBind))
	if err != nil {
		return err
	}
	a := &agent{orgKey: set.Keys[0].Key, signer: signer}
	a.http.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	if durable != "" {
		if a.record, err = os.OpenFile(durable, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	return serve(http.HandlerFunc(a.challenge), func(port int) string { return "http://localhost:" + strconv.Itoa(port) })
}

type agent struct {
	orgKey any
	signer jose.Signer
	http   http.Client

	mu     sync.Mutex
	record *os.File
}

func (a *agent) challenge(w http.ResponseWriter, r *http.Request) {
	probeHeaders(w.Header(), r.Header.Get("Origin"))
	if status := a.answer(r); status != http.StatusOK {
		http.Error(w, "refused", status)
	}
}

func (a *agent) answer(r *http.Request) int {
	var request struct{ ChallengeRequest string }
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<10))
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil {
		return http.StatusBadRequest
	}
	token, err := jose.ParseSignedCompact(request.ChallengeRequest, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return http.StatusBadRequest
	}
	payload, err := token.Verify(a.orgKey)
	var c okta.Challenge
	if err == nil {
		err = json.Unmarshal(payload, &c)
	}
	if err != nil {
		return http.StatusBadRequest
	}
	if a.record != nil {
		a.mu.Lock()
		_, err = a.record.WriteString(c.TransactionID + " " + c.Nonce + "\n")
		if err == nil {
			err = a.record.Sync()
		}
		a.mu.Unlock()
		if err != nil {
			return http.StatusInternalServerError
		}
	}
	now := time.Now()
	claims, err := json.Marshal(okta.Answer{
		Issuer: "pfdfloor1", Subject: c.UserID, Audience: c.Issuer, ID: rand.Text(),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(5 * time.Minute)), NotBefore: okta.DateOf(now),
		TransactionID: c.TransactionID, Nonce: c.Nonce, MethodEnrolmentID: "opffloor1", KeyType: okta.KeyProofOfPossession, AMR: []string{},
		DeviceSignals: okta.DeviceSignals{ID: "guofloor", ClientInstanceID: "clifloor", DisplayName: "bare", Platform: "LINUX"},
		Context:       okta.AnswerContext{UserConsent: okta.ConsentNone, TransactionType: okta.TransactionLogin, OriginHeader: r.Header.Get("Origin"), BindingType: okta.BindingLoopback},
	})
	if err != nil {
		return http.StatusInternalServerError
	}
	signed, err := a.signer.Sign(claims)
	if err != nil {
		return http.StatusInternalServerError
	}
	text, _ := signed.CompactSerialize()
	out, _ := json.Marshal(okta.AnswerRequest{Method: okta.MethodSignedNonce, ChallengeResponse: text})
	response, err := a.http.Post(c.VerificationURI, "application/json", bytes.NewReader(out))
	if err != nil {
		return http.StatusBadGateway
	}
	io.Copy(io.Discard, response.Body) //nolint:errcheck
	response.Body.Close()
	return response.StatusCode
}
