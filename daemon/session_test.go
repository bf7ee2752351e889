package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/desktop/session"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// While the screen is locked nothing is signed by itself; the same challenge is
// answered once it is open.
func TestNothingIsSignedBehindALock(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	if s := a.status(t); s.Session.Screen != "unknown" || s.Hold != nil {
		t.Fatalf("%+v", s)
	}
	a.lock()
	if s := a.status(t); s.Session.Screen != "locked" || !slices.Equal(s.Session.Sources, []string{"logind"}) ||
		s.Hold == nil || s.Hold.Reason != api.HoldScreenLocked || s.Hold.Since.IsZero() {
		t.Fatalf("%+v", s)
	}
	challenge := org.Challenge(nil)
	if got := a.post(t, org.URL, challenge); got != http.StatusServiceUnavailable {
		t.Fatalf("behind a lock: %d", got)
	}
	if got := check(t, a, "session"); got.State != "warning" || got.Hint != "if it is not locked: loginctl unlock-session" {
		t.Errorf("%+v", got)
	}
	if len(org.Answers()) != 0 {
		t.Fatal("the org got an answer")
	}
	a.unlock()
	if got := a.post(t, org.URL, challenge); got != http.StatusOK {
		t.Fatalf("after the lock: %d", got)
	}
	if s := a.status(t); s.Session.Screen != "unlocked" || s.Hold != nil {
		t.Fatalf("%+v", s)
	}
	if got := check(t, a, "session"); got.State != "ok" || got.Message != "the screen is unlocked, says logind" {
		t.Errorf("%+v", got)
	}
}

// A prompt is put away by the lock and shown again after it; meanwhile it is
// not approved, and no stays possible.
func TestPromptsBehindALock(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	events := a.subscribed(t)
	before, first := a.asks(t, org, events, okta.NeedNone)
	a.lock()
	if h := nextHold(t, events); h == nil || h.Reason != api.HoldScreenLocked {
		t.Fatalf("%+v", h)
	}
	list, err := a.client.Prompts(t.Context(), "cli")
	if err != nil || len(list.Prompts) != 0 || list.Hold == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	_, err = a.client.DecidePrompt(t.Context(), before.ID, api.Decision{Action: "approve"})
	if r := refusalOf(t, err); r.Code != "on_hold" || r.Hint == "" {
		t.Fatalf("%+v", r)
	}
	if s := a.status(t); s.PendingPrompts != 1 || len(org.Answers()) != 0 {
		t.Fatalf("%+v", s)
	}
	a.unlock()
	if h := nextHold(t, events); h != nil {
		t.Fatalf("%+v", h)
	}
	if again := nextPrompt(t, events); again.ID != before.ID {
		t.Fatalf("%+v", again)
	}
	if o, err := a.client.DecidePrompt(t.Context(), before.ID, api.Decision{Action: "approve"}); err != nil || o.Outcome != "approved" || <-first != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
	other, second := a.asks(t, org, events, okta.NeedNone)
	a.lock()
	if o, err := a.client.DecidePrompt(t.Context(), other.ID, api.Decision{Action: "deny"}); err != nil || o.Outcome != "denied" || <-second != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
}

// An approval that was given before the lock is completed.
func TestApprovalBeforeTheLock(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	events := a.subscribed(t)
	p, status := a.asks(t, org, events, okta.NeedNone)
	core := a.core.Load()
	open := core.pipeline.Keys
	core.pipeline.Keys = slowKeys(func(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
		a.lock() // right before the key signs
		return open.Open(ctx, ref)
	})
	if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve"}); err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
	if a.prompts.Held() == nil {
		t.Fatal("the lock was not heard")
	}
}

type slowKeys func(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error)

func (o slowKeys) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	return o(ctx, ref)
}

// A silent answer that is under way when the screen is locked is not begun: the
// transaction stays free for later.
func TestLockRightBeforeASilentSignature(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	core := a.core.Load()
	open, locks := core.pipeline.Keys, true
	core.pipeline.Keys = slowKeys(func(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
		if locks {
			a.lock() // a key store that takes its time
		}
		return open.Open(ctx, ref)
	})
	challenge := org.Challenge(nil)
	if got := a.post(t, org.URL, challenge); got != http.StatusServiceUnavailable || len(org.Answers()) != 0 {
		t.Fatalf("%d, %d answers", got, len(org.Answers()))
	}
	a.unlock()
	locks = false
	if got := a.post(t, org.URL, challenge); got != http.StatusOK {
		t.Fatalf("after the lock: %d", got)
	}
}

// An agent that starts behind a locked screen waits a moment for somebody to
// say so.
func TestStartBehindALock(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	c := a.config
	c.session = &fakeSession{silent: true}
	b := startAgent(t, c)
	status := make(chan int, 1)
	go func() { status <- b.post(t, org.URL, org.Challenge(nil)) }()
	select {
	case <-b.screen.wanted:
	case got := <-status:
		t.Fatalf("answered %d without looking at the screen", got)
	}
	b.lock()
	if got := <-status; got != http.StatusServiceUnavailable || len(org.Answers()) != 0 {
		t.Fatalf("%d", got)
	}
}

// Config.ScreenLock "ignore": a locked screen holds nothing back. What is kept
// for convenience ends all the same.
func TestScreenLockIgnored(t *testing.T) {
	org := oktatest.NewOrg(t)
	c := testConfig(t)
	c.ScreenLock = ScreenLockIgnore
	a := startAgent(t, c)
	a.enrol(t, org)
	a.lateVerified()
	a.lock()
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	if s := a.status(t); s.Session.Screen != "locked" || s.Hold != nil {
		t.Fatalf("%+v", s)
	}
	if got := check(t, a, "session"); got.State != "ok" || !strings.Contains(got.Message, "--screen-lock ignore") {
		t.Errorf("%+v", got)
	}
	if _, still := a.lately.counts(time.Now(), time.Hour); still {
		t.Error("a verification outlives the lock")
	}
}

func (a *agent) lateVerified() { a.lately.note(verification.PIN, time.Now()) }

// C3: who comes to the screen after a lock, or a sleep, shows anew who they are.
func TestC3GraceEndsWithTheLock(t *testing.T) {
	for name, away := range map[string]func(*agent){
		"lock":  func(a *agent) { a.lock(); a.unlock() },
		"sleep": func(a *agent) { desk{a.Daemon}.Sleep(); desk{a.Daemon}.Wake() },
	} {
		t.Run(name, func(t *testing.T) {
			org := oktatest.NewOrg(t)
			c := testConfig(t)
			c.VerificationGrace = 10 * time.Minute
			a, _ := quickly(t, org, c)
			events := a.subscribed(t)
			p, status := a.asks(t, org, events, okta.NeedRequired)
			if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
				t.Fatalf("%+v, %v", o, err)
			}
			p, status = a.asks(t, org, events, okta.NeedRequired)
			if !p.Verified {
				t.Log("a prompt event does not say that grace counts")
			}
			away(a)
			_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve"})
			if r := refusalOf(t, err); r.Code != "verification_required" {
				t.Fatalf("%+v", r)
			}
			list, err := a.client.Prompts(t.Context(), "")
			if err != nil || len(list.Prompts) != 1 || list.Prompts[0].Verified {
				t.Fatalf("%+v, %v", list, err)
			}
			if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
				t.Fatalf("%+v, %v", o, err)
			}
		})
	}
}

// locksMeanwhile is a verification in the middle of which the screen is locked,
// and opened again.
type locksMeanwhile struct {
	verifier
	a *agent
}

func (l locksMeanwhile) Verify(ctx context.Context, r verification.Request) (verification.Verified, error) {
	l.a.lock()
	l.a.unlock()
	return l.verifier.Verify(ctx, r)
}

// C3: a verification that the lock has overtaken is good for what it was for,
// and is not remembered.
func TestC3LockDuringAVerification(t *testing.T) {
	org := oktatest.NewOrg(t)
	c := testConfig(t)
	c.VerificationGrace = 10 * time.Minute
	a, _ := quickly(t, org, c)
	events := a.subscribed(t)
	core := *a.core.Load()
	core.verification = locksMeanwhile{core.verification, a}
	a.core.Store(&core)
	p, status := a.asks(t, org, events, okta.NeedRequired)
	if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}); err != nil || o.Outcome != "approved" || <-status != http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
	if _, still := a.lately.counts(time.Now(), time.Hour); still {
		t.Error("remembered by the agent")
	}
	if _, err := core.verification.(locksMeanwhile).verifier.Verify(t.Context(), verification.Request{Purpose: "other", Method: verification.PIN}); err == nil {
		t.Error("remembered by the service")
	}
}

// C3: a PIN that waits for the end of a sign-in in the browser is wiped when the
// screen is locked.
func TestC3PINIsWipedByTheLock(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, _ := quickly(t, org, testConfig(t))
	f := front{a.Daemon}
	p, err := f.present(t.Context(), a.core.Load(), "a purpose", "A reason", audit.Record{}, api.PIN(testPIN), "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.done()
	pin := p.requests[0].PIN
	a.lock()
	if strings.Trim(string(pin), "\x00") != "" {
		t.Error("the PIN is in memory still")
	}
	a.unlock()
	if _, err := p.presence()(t.Context()); !errors.Is(err, errForgotten) {
		t.Errorf("%v", err)
	}
	if tries := a.pin(t).TriesLeft; tries != 5 {
		t.Errorf("%d tries left: a PIN that was wiped is no wrong one", tries)
	}
	p.done()
	if len(a.presents.all) != 0 {
		t.Error("kept for good")
	}
}

// B7: the computer sleeps for eight hours. What has expired meanwhile is gone
// when it wakes, whatever the timers say, and the orgs are asked at once.
func TestB7AwakeAgain(t *testing.T) {
	org := oktatest.NewOrg(t)
	c := testConfig(t)
	var ahead atomic.Int64
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	a := startAgent(t, c)
	added := a.enrol(t, org)
	events := a.subscribed(t)
	p, status := a.asks(t, org, events, okta.NeedNone)
	a.lock()
	desk{a.Daemon}.Sleep()
	if h := nextHold(t, events); h == nil || h.Reason != api.HoldScreenLocked {
		t.Fatalf("%+v", h)
	}
	if h := nextHold(t, events); h == nil || h.Reason != api.HoldAsleep {
		t.Fatalf("%+v", h)
	}
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusServiceUnavailable {
		t.Fatalf("asleep: %d", got)
	}
	list := okta.AppAuthenticatorsPath + "/" + added.EnrolmentID + "/push/notifications"
	hits := org.Hits(list)
	ahead.Store(int64(8 * time.Hour))
	desk{a.Daemon}.Wake()
	select {
	case got := <-status:
		if got != http.StatusGatewayTimeout {
			t.Fatalf("a prompt of yesterday: %d", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a prompt of yesterday waits still")
	}
	if h := nextHold(t, events); h == nil || h.Reason != api.HoldScreenLocked {
		t.Fatalf("%+v", h)
	}
	a.unlock()
	_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve"})
	if r := refusalOf(t, err); r.Code != "prompt_expired" {
		t.Fatalf("%+v", r)
	}
	for deadline := time.Now().Add(5 * time.Second); org.Hits(list) == hits; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the org was not asked")
		}
	}
	if len(org.Answers()) != 0 {
		t.Error("something was answered")
	}
}

// B5, B7: fifty sign-ins, decided at random while the screen is locked and
// opened at random. Nothing is approved behind a lock, nothing is lost.
func TestB5RacingLocks(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	defer a.prompts.Attach("cli")()
	const n = 50
	statuses := make(chan int, n)
	for range n {
		go func() {
			statuses <- a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }))
		}()
	}
	// A lock stands for sure in odd times, from its begin to before its end.
	var times atomic.Int64
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			a.lock()
			times.Add(1)
			time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
			times.Add(1)
			a.unlock()
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Microsecond)
		}
	})
	var mu sync.Mutex
	approved, denied := map[string]bool{}, map[string]bool{}
	ids := map[string]bool{}
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				for _, p := range a.prompts.List() {
					ids[p.ID] = true
				}
				var all []string
				for id := range ids {
					if !approved[id] && !denied[id] {
						all = append(all, id)
					}
				}
				mu.Unlock()
				if len(all) == 0 {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				id, action := all[rand.IntN(len(all))], []string{"approve", "approve", "approve", "deny"}[rand.IntN(4)]
				before := times.Load()
				_, err := front{a.Daemon}.decideNow(id, action)
				after := times.Load()
				if err != nil {
					continue
				}
				mu.Lock()
				switch {
				case action == "deny":
					denied[id] = true
				case before == after && before%2 == 1:
					t.Errorf("%s was approved behind a lock", id)
				default:
					approved[id] = true
				}
				mu.Unlock()
			}
		})
	}
	for range n {
		if got := <-statuses; got != http.StatusOK {
			t.Errorf("status %d", got)
		}
	}
	close(stop)
	work.Wait()
	if len(approved)+len(denied) != n || len(org.Answers()) != n {
		t.Errorf("%d approved, %d denied, %d answers", len(approved), len(denied), len(org.Answers()))
	}
	yes := 0
	for _, answer := range org.Answers() {
		token, err := jose.Parse(answer.ChallengeResponse, jose.Answer)
		if err != nil {
			t.Fatal(err)
		}
		var claims okta.Answer
		if err := token.Claims(&claims); err != nil {
			t.Fatal(err)
		}
		if claims.Context.UserConsent == okta.ConsentApproved {
			yes++
		}
	}
	if yes != len(approved) {
		t.Errorf("the org got %d approvals of %d", yes, len(approved))
	}
}

// decideNow answers a prompt without waiting for the org.
func (f front) decideNow(id, action string) (prompt.Outcome, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return f.d.prompts.Decide(ctx, id, prompt.Decision{Action: prompt.Action(action)})
}

// The agent looks for a bus when there is something to do anyway.
func TestLooksWhenThereIsSomethingToDo(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	fake := a.config.session.(*fakeSession)
	looks := func() int {
		fake.mu.Lock()
		defer fake.mu.Unlock()
		return fake.looks
	}
	for name, do := range map[string]func(){
		"status":    func() { a.status(t) },
		"prompts":   func() { _, _ = a.client.Prompts(t.Context(), "") },
		"challenge": func() { a.post(t, org.URL, org.Challenge(nil)) },
		"doctor":    func() { check(t, a, "session") },
	} {
		before := looks()
		if do(); looks() == before {
			t.Errorf("%s: not looked", name)
		}
	}
}

// Who tells of the screen is told to front ends that wait.
func TestSessionIsTold(t *testing.T) {
	a := startAgent(t, testConfig(t))
	events := a.subscribed(t)
	a.heardFirst()
	desk{a.Daemon}.Screen(session.Screen{Known: true, Sources: []string{"screensaver"}})
	for e := range events {
		if e.Type == "status" {
			break
		}
	}
	if s := a.status(t).Session; s.Screen != "unlocked" || !slices.Equal(s.Sources, []string{"screensaver"}) {
		t.Errorf("%+v", s)
	}
}
