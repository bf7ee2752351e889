// Package signintest is a small org for tests: a real store with users, apps
// and policies, a real sign-in engine, and agents that hold keys and answer
// challenges as they are told, honestly or not.
package signintest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/signin"
	"countersign.dev/org/store"
)

// What every World has.
const (
	BaseURL    = "http://localhost:8080"
	PageOrigin = "http://localhost:3000" // of the page of InteractionCode sign-ins
	Password   = okta.Secret("correct horse")
	AliceLogin = "alice@example.com"
	BobLogin   = "bob@example.com"
)

// The apps of a World, by client id.
const (
	Web      = "demo-web"      // password and possession
	Strict   = "demo-strict"   // and a person must approve
	Enrol    = "demo-enrol"    // password until something is enrolled
	Verified = "demo-verified" // user verification
	UV       = "demo-uv"       // and a person must approve: the rule of the demo
	Hardware = "demo-hardware" // attested hardware
	Resist   = "demo-resist"   // phishing resistance
	Private  = "demo-private"  // assigned to nobody
	Keyed    = "demo-keyed"    // possession alone, no password
	Back     = "demo-back"     // an approval, over the back channel
)

// Clock is a settable clock.
type Clock struct {
	mu        sync.Mutex
	now       time.Time // guarded by mu
	meanwhile func()    // guarded by mu
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	now, do := c.now, c.meanwhile
	c.meanwhile = nil
	c.mu.Unlock()
	if do != nil {
		do()
	}
	return now
}

// Meanwhile has something happen when the time is asked for next: of a step that
// is after it has read where the sign-in is, and before it stores what it did.
func (c *Clock) Meanwhile(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meanwhile = do
}

// Advance moves the time.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// World is an org.
type World struct {
	DB         *store.DB
	Engine     *signin.Engine
	Clock      *Clock
	Org        directory.OrgInfo
	Alice, Bob directory.User
	Log        *Log
	Signatures int // how many challenges were signed
	Sessions   map[okta.Secret]signin.SessionFacts
	CodeError  error // what the code issuer says instead of a code

	mu       sync.Mutex
	codes    []signin.Completed // guarded by mu; what codes were issued for
	notified []string           // guarded by mu; whose pending lists have changed
}

// Log collects log lines.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var orgKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var passwordHash = sync.OnceValue(func() directory.PasswordHash {
	h, err := directory.NewHasher(1).Hash(context.Background(), Password)
	if err != nil {
		panic(err)
	}
	return h
})

// Sign implements signin.Signer.
func (w *World) Sign(ctx context.Context, typ string, claims any) (string, error) {
	w.mu.Lock()
	w.Signatures++
	w.mu.Unlock()
	return jose.Sign(ctx, jose.SoftwareSigner("org-key", orgKey()), typ, claims)
}

// IssueInteractionCode implements signin.CodeIssuer.
func (w *World) IssueInteractionCode(_ context.Context, _ store.Tx, c signin.Completed) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.CodeError != nil {
		return "", w.CodeError
	}
	w.codes = append(w.codes, c)
	return fmt.Sprintf("code-%d", len(w.codes)), nil
}

// Codes returns what codes were issued for.
func (w *World) Codes() []signin.Completed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.codes
}

// Notified returns the enrolments whose pending lists have changed since the
// last call, each time they did, sorted.
func (w *World) Notified() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.notified
	w.notified = nil
	slices.Sort(list)
	return list
}

// New makes an org in a temporary folder.
func New(t testing.TB) *World {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "state", "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &World{DB: db, Log: &Log{}, Clock: &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, Sessions: map[okta.Secret]signin.SessionFacts{}}
	w.Write(t, func(tx store.Tx) error { return w.seed(ctx, tx) })
	w.Engine, err = signin.New(signin.Deps{
		DB: db, Signing: w, Hasher: directory.NewHasher(2), Codes: w,
		Session: func(_ context.Context, _ store.Tx, id okta.Secret) (signin.SessionFacts, bool, error) {
			f, ok := w.Sessions[id]
			return f, ok, nil
		},
		Notify: func(enrolmentIDs []string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.notified = append(w.notified, enrolmentIDs...)
		},
		BaseURL: BaseURL, LoopbackPorts: []int{8769, 65111}, Now: w.Clock.Now,
		Log: slog.New(slog.NewTextHandler(w.Log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *World) seed(ctx context.Context, tx store.Tx) (err error) {
	now := w.Clock.Now()
	if w.Org, err = directory.EnsureOrg(ctx, tx, now); err != nil {
		return err
	}
	for login, u := range map[string]*directory.User{AliceLogin: &w.Alice, BobLogin: &w.Bob} {
		*u, err = directory.CreateUser(ctx, tx, directory.User{Login: login, FirstName: "A", LastName: "Person", Email: login, PasswordHash: passwordHash()}, now)
		if err != nil {
			return err
		}
	}
	everyone, err := directory.EnsureGroup(ctx, tx, directory.EveryoneGroup, now)
	if err != nil {
		return err
	}
	narrowed := func(edit func(*policy.ClassConstraint)) policy.Rule {
		r := policy.TwoFactors(policy.Optional)
		edit(r.Actions.AppSignOn.VerificationMethod.Constraints[0].Possession)
		return r
	}
	for id, rule := range map[string]policy.Rule{
		Web: policy.TwoFactors(policy.Optional), Strict: policy.TwoFactors(policy.Required), Enrol: policy.PasswordUntilEnrolled(),
		Verified: narrowed(func(c *policy.ClassConstraint) { c.UserVerification = policy.Required }),
		UV:       policy.TwoFactorsVerified(),
		Hardware: narrowed(func(c *policy.ClassConstraint) { c.HardwareProtection = policy.Required }),
		Resist:   narrowed(func(c *policy.ClassConstraint) { c.PhishingResistant = policy.Required }),
		Private:  policy.TwoFactors(policy.Optional),
		Keyed: {Name: "A possession factor", Actions: policy.Actions{AppSignOn: policy.AppSignOn{Access: policy.Allow,
			VerificationMethod: &policy.VerificationMethod{Type: "ASSURANCE", FactorMode: "1FA",
				Constraints: []policy.Constraint{{Possession: &policy.ClassConstraint{UserPresence: policy.Optional}}}}}}},
		Back: policy.OnePossessionFactor(),
	} {
		app := directory.App{ClientID: id, Label: "App " + id, RedirectURIs: []string{"http://localhost:*/callback"}}
		if app.PolicyID, err = policy.Seed(ctx, tx, id, rule); err != nil {
			return err
		}
		if err := directory.PutApp(ctx, tx, app, now); err != nil {
			return err
		}
		if id == Private {
			continue
		}
		if err := directory.AssignGroup(ctx, tx, id, everyone.ID); err != nil {
			return err
		}
	}
	return nil
}

// Write runs fn in a write transaction.
func (w *World) Write(t testing.TB, fn func(store.Tx) error) {
	t.Helper()
	if err := w.DB.Write(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// Start begins a sign-in to app and opens it.
func (w *World) Start(t testing.TB, app string, mode signin.Mode) signin.View {
	t.Helper()
	v, err := w.Engine.Introspect(context.Background(), w.Entry(t, app, mode), "")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Entry begins a sign-in and returns what a page opens it with.
func (w *World) Entry(t testing.TB, app string, mode signin.Mode) okta.Secret {
	t.Helper()
	origin := PageOrigin
	if mode == signin.Redirect {
		origin = BaseURL
	}
	h, err := w.Engine.Start(context.Background(), signin.Intent{ClientID: app, Mode: mode, PageOrigin: origin, RedirectURI: "http://localhost:3000/callback"})
	if err != nil {
		t.Fatal(err)
	}
	if h.Satisfied {
		t.Fatal("satisfied before anything was proven")
	}
	return h.StateToken + h.InteractionHandle
}

// Agent is an authenticator on a machine, enrolled for one user.
type Agent struct {
	Enrolment device.Enrolment
	PoP, UV   *ecdsa.PrivateKey
}

// The key ids that agents use; they differ per agent by its suffix.
func kid(role okta.KeyType, e string) string { return string(role) + "-" + e }

// Enrol enrols a new agent for a user, with keys for both roles, which answers
// over loopback only.
func (w *World) Enrol(t testing.TB, userID string, protection jose.Protection) *Agent {
	t.Helper()
	return w.enrol(t, userID, protection, func(keys okta.MethodKeys) okta.MethodRequests {
		return okta.MethodRequests{SignedNonce: &okta.MethodRequest{Keys: &keys}}
	})
}

// EnrolAll enrols a new agent with all methods: it also takes pushes, of these
// transaction types, and gives one-time codes.
func (w *World) EnrolAll(t testing.TB, userID string, protection jose.Protection, transactionTypes ...string) *Agent {
	t.Helper()
	return w.enrol(t, userID, protection, func(keys okta.MethodKeys) okta.MethodRequests {
		return okta.MethodRequests{
			SignedNonce: &okta.MethodRequest{Keys: &keys},
			Push:        &okta.MethodRequest{Keys: &keys, Capabilities: &okta.Capabilities{TransactionTypes: transactionTypes}},
			TOTP:        &okta.MethodRequest{},
		}
	})
}

// EnrolPIN enrols a new agent that answers in both ways and whose keys that
// verify the user are released by a PIN; for pushes it has none without pushes.
func (w *World) EnrolPIN(t testing.TB, userID string, pushes bool) *Agent {
	t.Helper()
	return w.enrol(t, userID, jose.ProtectionSoftware, func(keys okta.MethodKeys) okta.MethodRequests {
		keys.UserVerification, keys.UserVerificationBioOrPIN = nil, keys.UserVerification
		push := keys
		if !pushes {
			push.UserVerificationBioOrPIN = nil
		}
		return okta.MethodRequests{SignedNonce: &okta.MethodRequest{Keys: &keys}, Push: &okta.MethodRequest{Keys: &push}}
	})
}

// EnrolPush enrols a new agent that takes pushes and nothing else, and has no
// key that verifies the user.
func (w *World) EnrolPush(t testing.TB, userID string, transactionTypes ...string) *Agent {
	t.Helper()
	return w.enrol(t, userID, jose.ProtectionSoftware, func(keys okta.MethodKeys) okta.MethodRequests {
		keys.UserVerification = nil
		return okta.MethodRequests{Push: &okta.MethodRequest{Keys: &keys, Capabilities: &okta.Capabilities{TransactionTypes: transactionTypes}}}
	})
}

func (w *World) enrol(t testing.TB, userID string, protection jose.Protection, methods func(okta.MethodKeys) okta.MethodRequests) *Agent {
	t.Helper()
	name := ids.New("")
	a := &Agent{PoP: newKey(), UV: newKey()}
	pop, clientKey := jwk(kid(okta.KeyProofOfPossession, name), a.PoP, protection), jwk(kid("client", name), newKey(), protection)
	uv, err := json.Marshal(jwk(kid(okta.KeyUserVerification, name), a.UV, protection))
	if err != nil {
		t.Fatal(err)
	}
	a.Enrolment, err = device.NewRegistry(w.DB, BaseURL, w.Clock.Now).Create(context.Background(), device.ByUser(userID), okta.EnrolmentRequest{
		AuthenticatorID: w.Org.Authenticators.OktaVerify,
		Device: okta.Device{
			ClientInstanceKey: &clientKey, Platform: "LINUX", OSVersion: "12", DisplayName: "laptop",
			BundleID: "dev.countersign", Version: "1", SDKVersion: okta.DeviceSDK,
		},
		Methods: methods(okta.MethodKeys{ProofOfPossession: &pop, UserVerification: uv}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func jwk(kid string, k *ecdsa.PrivateKey, p jose.Protection) jose.JWK {
	j, err := jose.NewJWK(kid, k.Public(), p)
	if err != nil {
		panic(err)
	}
	return j
}

// Reply is an answer in the making.
type Reply struct {
	okta.Answer
	Type string // typ of the token
	KID  string
	Key  *ecdsa.PrivateKey
}

// Claims reads the claims of a challenge without checking anything.
func Claims(t testing.TB, token string) okta.Challenge {
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

// Answer makes the honest answer to a challenge, changed by edits: silent to
// one that came from the page it names, approved to a push.
func (a *Agent) Answer(t testing.TB, w *World, challenge string, edits ...func(*Reply)) okta.AnswerRequest {
	t.Helper()
	c := Claims(t, challenge)
	m, _ := a.Enrolment.Method(c.Method)
	pop, _ := m.Key(okta.KeyProofOfPossession)
	now := okta.DateOf(w.Clock.Now())
	r := &Reply{Type: okta.TypeDeviceBind, KID: pop.JWK.KeyID, Key: a.PoP, Answer: okta.Answer{
		Issuer: a.Enrolment.ID, Subject: a.Enrolment.UserID, Audience: c.Issuer, ID: ids.New(""),
		IssuedAt: now, ExpiresAt: now + 300, NotBefore: now - 300,
		TransactionID: c.TransactionID, Nonce: c.Nonce, MethodEnrolmentID: m.ID, KeyType: okta.KeyProofOfPossession, AMR: []string{},
		Context: okta.AnswerContext{
			UserConsent: okta.ConsentNone, TransactionType: okta.TransactionLogin, BindingType: okta.BindingLoopback,
			OriginHeader: strings.TrimSuffix(c.RequestReferrer, "/"),
		},
	}}
	if c.Method == okta.MethodPush {
		r.Type = okta.TypePushBind
		r.Context = okta.AnswerContext{UserConsent: okta.ConsentApproved, TransactionType: c.Context.TransactionType}
	}
	for _, edit := range edits {
		edit(r)
	}
	token, err := jose.Sign(context.Background(), jose.SoftwareSigner(r.KID, r.Key), r.Type, r.Answer)
	if err != nil {
		t.Fatal(err)
	}
	return okta.AnswerRequest{Method: c.Method, ChallengeResponse: token}
}

// Pending returns the pushes that wait for the agent.
func (a *Agent) Pending(t testing.TB, w *World) []string {
	t.Helper()
	var tokens []string
	err := w.DB.Read(context.Background(), func(tx store.Tx) error {
		list, err := factor.PendingPush(context.Background(), tx, a.Enrolment.ID, w.Clock.Now())
		for _, p := range list {
			tokens = append(tokens, p.Challenge)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// Code returns the agent's one-time code at a time.
func (a *Agent) Code(t testing.TB, at time.Time) okta.Secret {
	t.Helper()
	m, _ := a.Enrolment.Method(okta.MethodTOTP)
	code, err := totp.GenerateCode(m.SharedSecret.Reveal(), at)
	if err != nil {
		t.Fatal(err)
	}
	return okta.Secret(code)
}

// Pick says that the person picked a number.
func Pick(number string) func(*Reply) {
	return func(r *Reply) { r.Context.SelectedChallengeItem = number }
}

// Report says that the person did not start this.
func Report(r *Reply) { Deny(r); r.Context.Reported = true }

// Approve says that the person approved.
func Approve(r *Reply) { r.Context.UserConsent = okta.ConsentApproved }

// Deny says that the person denied.
func Deny(r *Reply) { r.Context.UserConsent = okta.ConsentDenied }

// Verify signs with the user-verification key, of whichever role.
func (a *Agent) Verify(r *Reply) {
	method := okta.MethodSignedNonce
	if r.Type == okta.TypePushBind {
		method = okta.MethodPush
	}
	m, _ := a.Enrolment.Method(method)
	k, ok := m.Key(okta.KeyUserVerification)
	if !ok {
		k, _ = m.Key(okta.KeyUserVerificationBioOrPIN)
	}
	r.KeyType, r.KID, r.Key = k.Role, k.JWK.KeyID, a.UV
	r.Context.UserConsent = okta.ConsentApprovedUserVerification
}
