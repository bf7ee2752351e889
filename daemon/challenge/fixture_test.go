package challenge

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/posture"
	"countersign.dev/daemon/prompt"
	"countersign.dev/daemon/vault"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/keys"
	"countersign.dev/okta/oktatest"
)

// rooms is a vault in memory.
type rooms map[string][]byte

func (r rooms) Load(room string, dst any) error {
	if r[room] == nil {
		return fs.ErrNotExist
	}
	return json.Unmarshal(r[room], dst)
}
func (r rooms) Save(room string, v any) (err error) { r[room], err = json.Marshal(v); return err }
func (rooms) SaveIndex(vault.Index) error           { return nil }

// keyring is a key store in memory that counts signatures.
type keyring struct {
	key     *ecdsa.PrivateKey
	signed  atomic.Int64
	refuses error
}

func (k *keyring) Open(context.Context, devicekey.Ref) (devicekey.Key, error) { return k, k.refuses }
func (k *keyring) Ref() devicekey.Ref                                         { return devicekey.Ref{Kind: "software", ID: "KID-1"} }
func (k *keyring) Public() crypto.PublicKey                                   { return k.key.Public() }
func (k *keyring) Protection() jose.Protection                                { return jose.ProtectionSoftware }
func (k *keyring) Sign(_ context.Context, digest []byte, _ devicekey.Authorisation) ([]byte, error) {
	k.signed.Add(1)
	return ecdsa.SignASN1(rand.Reader, k.key, digest)
}

// asker answers prompts as the test says, and counts them.
type asker struct {
	asked  atomic.Int64
	answer func(ctx context.Context, p prompt.Prompt) (prompt.Answer, error)
	mu     sync.Mutex
	last   prompt.Prompt
	settle []string
	held   []string
}

func (a *asker) Ask(ctx context.Context, p prompt.Prompt) (prompt.Answer, error) {
	a.asked.Add(1)
	a.mu.Lock()
	a.last = p
	a.mu.Unlock()
	if a.answer == nil {
		return prompt.Answer{}, prompt.ErrExpired
	}
	return a.answer(ctx, p)
}

func (a *asker) Settle(_, outcome, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle = append(a.settle, outcome)
}

func (a *asker) HoldBack(account string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = append(a.held, account)
}

func decided(v prompt.Verdict) func(context.Context, prompt.Prompt) (prompt.Answer, error) {
	return func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
		return prompt.Answer{Prompt: "p1", Verdict: v, Account: p.Account}, nil
	}
}

// paper is a journal in memory; it outlives the pipeline, as a disk does.
type paper struct {
	mu    sync.Mutex
	lines [][]byte
	full  error
	slow  chan struct{} // when set, Append waits for it
}

func (p *paper) Append(_ context.Context, line []byte) (uint64, error) {
	if p.slow != nil {
		<-p.slow
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full != nil {
		return 0, p.full
	}
	p.lines = append(p.lines, append([]byte(nil), line...))
	return uint64(len(p.lines)), nil
}

func (p *paper) Replay(fn func(uint64, []byte, []byte, []byte) error) error {
	for i, l := range p.lines {
		if err := fn(uint64(i), l, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

func (p *paper) Rewrite(keep func([]byte) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept [][]byte
	for _, l := range p.lines {
		if keep(l) {
			kept = append(kept, l)
		}
	}
	p.lines = kept
	return nil
}

// world is a pipeline with everything around it.
type world struct {
	*Pipeline
	org        *oktatest.Org
	book       *account.Book
	keyring    *keyring
	asker      *asker
	paper      *paper
	records    []audit.Record
	unrecorded error         // makes recording fail
	clock      time.Duration // how far the agent's clock is ahead
	mu         sync.Mutex
}

func accountAt(org *oktatest.Org, id string) *account.Account {
	return &account.Account{
		ID: id, Name: id, State: account.Active, OrgID: org.OrgID, OrgURL: org.URL,
		ClientID: account.ClientID, EnrolmentID: "pfd-" + id, UserID: oktatest.UserID, Username: oktatest.Login,
		Device:  account.Device{ID: "guo1", ClientInstanceID: "cli1"},
		Methods: []account.Method{{Type: okta.MethodSignedNonce, ID: "opf-" + id, ProofOfPossession: devicekey.Ref{Kind: "software", ID: "KID-1"}}},
		Origins: []string{org.URL, "http://localhost:3000"},
	}
}

// pushAccount is an account that takes pushes, too.
func pushAccount(org *oktatest.Org, id string, transactions ...string) *account.Account {
	a := accountAt(org, id)
	a.Methods = append(a.Methods, account.Method{
		Type: okta.MethodPush, ID: "opp-" + id, ProofOfPossession: devicekey.Ref{Kind: "software", ID: "KID-1"},
		PendingURL: org.URL + okta.AppAuthenticatorsPath + "/" + a.EnrolmentID + "/push/notifications", Transactions: transactions,
	})
	return a
}

func newWorld(t *testing.T, org *oktatest.Org, accounts ...*account.Account) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{org: org, keyring: &keyring{key: key}, asker: &asker{}, paper: &paper{}}
	if accounts == nil {
		accounts = []*account.Account{accountAt(org, "acc1")}
	}
	state := rooms{}
	_ = state.Save("accounts", map[string]any{"version": 1, "accounts": accounts})
	if w.book, err = account.Open(account.Options{Vault: state}); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	return w
}

// start makes the pipeline, as a start of the agent does.
func (w *world) start(t *testing.T) {
	t.Helper()
	now := func() time.Time { return time.Now().Add(w.clock) }
	claims, err := OpenClaims(w.paper, now)
	if err != nil {
		t.Fatal(err)
	}
	w.Pipeline = New(Config{
		Accounts: w.book, Posture: posture.New(posture.System{OS: "linux", Host: "test", Files: fstest.MapFS{}}, "test"), Keys: w.keyring, Prompts: w.asker, Claims: claims, Now: now,
		OrgKeys: keys.New(func(ctx context.Context, issuer string) ([]jose.JWK, time.Duration, error) {
			org, err := w.book.Org(w.org.URL)
			if err != nil {
				return nil, 0, err
			}
			return org.SigningKeys(ctx, issuer)
		}),
		Deliver: func(ctx context.Context, a *account.Account, uri string, r okta.AnswerRequest) error {
			org, err := w.book.Org(a.OrgURL)
			if err != nil {
				return err
			}
			return org.Answer(ctx, uri, r)
		},
		Record: func(r audit.Record) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.unrecorded != nil {
				return w.unrecorded
			}
			w.records = append(w.records, r)
			return nil
		},
	})
	t.Cleanup(w.Pipeline.Close)
}

func (w *world) receive(t *testing.T, token string) Result {
	t.Helper()
	return w.Receive(t.Context(), token, Transport{Kind: Loopback, Origin: w.org.URL})
}

// pushed is a push as the poller brings it.
func (w *world) pushed(t *testing.T, token string) Result {
	t.Helper()
	return w.Receive(t.Context(), token, Transport{Kind: Push, Account: "acc1"})
}

// lastAnswer decodes what the org got last, verified with the device's key.
func (w *world) lastAnswer(t *testing.T) (okta.Answer, jose.Header) {
	t.Helper()
	all := w.org.Answers()
	if len(all) == 0 {
		t.Fatal("the org got no answer")
	}
	token, err := jose.Parse(all[len(all)-1].ChallengeResponse, jose.Answer)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.NewJWK("KID-1", w.keyring.Public(), jose.ProtectionSoftware)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(jwk); err != nil {
		t.Fatal(err)
	}
	var a okta.Answer
	if err := token.Claims(&a); err != nil {
		t.Fatal(err)
	}
	return a, token.Header
}

var errDisk = errors.New("disk full")
