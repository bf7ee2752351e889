package push

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

// world is a poller in a bubble of fake time, with an org that follows a script.
type world struct {
	t     *testing.T
	p     *Poller
	stop  func()
	start time.Time

	mu        sync.Mutex
	accounts  []*account.Account
	succeeded int
	refused   []*okta.Error

	// answer is the org: the n-th question, counted from 0.
	answer func(ctx context.Context, n int, r client.PendingRequest) (client.PendingList, error)
	asked  []time.Duration // since start
	last   client.PendingRequest

	authorize func(renew bool) error
	tokens    []bool // renew, of each call

	receive  func(ctx context.Context, token string) bool
	received []string

	watched bool
	network func() // tells of a change; set by Network
}

func pushAccount(id string) *account.Account {
	return &account.Account{
		ID: id, State: account.Active, OrgURL: "https://org.example.com", EnrolmentID: "pfd-" + id,
		Methods: []account.Method{{Type: okta.MethodPush, ID: "opf-" + id, PendingURL: "https://org.example.com/pending/" + id}},
	}
}

func (w *world) All() []*account.Account {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.accounts)
}

func (w *world) Succeeded(string) { w.mu.Lock(); defer w.mu.Unlock(); w.succeeded++ }
func (w *world) Refused(_ string, e *okta.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = append(w.refused, e)
}

// run starts the poller for one account, acc1, and stops it when the test ends.
func run(t *testing.T, w *world, change ...func(*Config)) *world {
	t.Helper()
	w.t, w.start = t, time.Now()
	if w.accounts == nil {
		w.accounts = []*account.Account{pushAccount("acc1")}
	}
	c := Config{
		Accounts: w,
		Authorize: func(_ context.Context, _ *account.Account, renew bool) (client.Authorization, error) {
			w.mu.Lock()
			w.tokens = append(w.tokens, renew)
			w.mu.Unlock()
			if w.authorize != nil {
				return client.Authorization{}, w.authorize(renew)
			}
			return client.Authorization{}, nil
		},
		List: func(ctx context.Context, _ *account.Account, _ client.Authorization, _ string, r client.PendingRequest) (client.PendingList, error) {
			w.mu.Lock()
			n := len(w.asked)
			w.asked, w.last = append(w.asked, time.Since(w.start)), r
			w.mu.Unlock()
			return w.answer(ctx, n, r)
		},
		Receive: func(ctx context.Context, _, token string) bool {
			w.mu.Lock()
			w.received = append(w.received, token)
			w.mu.Unlock()
			return w.receive != nil && w.receive(ctx, token)
		},
		Watched: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.watched },
		Network: func(ctx context.Context, changed func()) error {
			w.mu.Lock()
			w.network = changed
			w.mu.Unlock()
			<-ctx.Done()
			return ctx.Err()
		},
	}
	for _, f := range change {
		f(&c)
	}
	w.p = New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.p.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		before := time.Now()
		<-done
		if d := time.Since(before); d > 2*time.Second {
			t.Errorf("stopping took %v", d)
		}
	})
	t.Cleanup(w.stop)
	return w
}

// after lets time pass and returns when the org was asked in it.
func (w *world) after(d time.Duration) []time.Duration {
	w.t.Helper()
	w.mu.Lock()
	before := len(w.asked)
	w.mu.Unlock()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked[before:])
}

// count is how often the org was asked.
func (w *world) count() int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

// settle waits until the last question is long enough ago for the next.
func (w *world) settle() {
	for {
		synctest.Wait()
		w.mu.Lock()
		since := time.Since(w.start) - w.asked[len(w.asked)-1]
		w.mu.Unlock()
		if since >= spacing {
			return
		}
		time.Sleep(spacing - since)
	}
}

func (w *world) tokensReceived() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.received)
}

// signingKey is made once: 2048 bits take their time. Outside of any bubble.
var signingKey = func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}()

// challenge is a push with that iat.
func challenge(t testing.TB, tx string, issued int64) okta.PendingChallenge {
	t.Helper()
	token, err := jose.Sign(context.Background(), jose.SoftwareSigner("k", signingKey), okta.TypePushBind, map[string]any{"transactionId": tx, "iat": issued})
	if err != nil {
		t.Fatal(err)
	}
	return okta.PendingChallenge{PayloadVersion: okta.PayloadVersion, Challenge: token}
}

// waits is an org that can: it answers when the list changes, or after 55 s.
type waits struct {
	mu      sync.Mutex
	list    []okta.PendingChallenge
	version int
	changed chan struct{}
}

func newWaits() *waits { return &waits{changed: make(chan struct{}), version: 1} }

func (o *waits) set(list ...okta.PendingChallenge) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.version = list, o.version+1
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *waits) answer(ctx context.Context, _ int, r client.PendingRequest) (client.PendingList, error) {
	limit := time.NewTimer(okta.PreferWaitSeconds * time.Second)
	defer limit.Stop()
	for {
		o.mu.Lock()
		list := client.PendingList{Challenges: o.list, ETag: fmt.Sprintf(`"%d"`, o.version), Waited: true}
		changed := o.changed
		o.mu.Unlock()
		if r.ETag == "" && len(list.Challenges) > 0 || r.ETag != "" && r.ETag != list.ETag {
			return list, nil
		}
		select {
		case <-changed:
		case <-limit.C:
			if list.Unchanged = r.ETag != ""; list.Unchanged {
				list.Challenges = nil
			}
			return list, nil
		case <-ctx.Done():
			return client.PendingList{}, &client.Unreachable{Host: "org.example.com", Err: ctx.Err()}
		}
	}
}

// plain is an org that answers at once.
func plain(list ...okta.PendingChallenge) func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
	return func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
		return client.PendingList{Challenges: list}, nil
	}
}

func fails(err error) func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
	return func(context.Context, int, client.PendingRequest) (client.PendingList, error) {
		return client.PendingList{}, err
	}
}

var errOffline = &client.Unreachable{Host: "org.example.com", Err: errors.New("network is unreachable")}
