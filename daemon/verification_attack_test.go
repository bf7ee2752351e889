package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/challenge"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// spoilt is a service that fails, or lies, as the test says.
type spoilt struct {
	verifier
	verify func(verification.Request) (verification.Verified, error)
}

func (s spoilt) Verify(_ context.Context, r verification.Request) (verification.Verified, error) {
	return s.verify(r)
}

// C4: whatever the verification service does, nothing is approved without a
// verification of that very prompt, and the prompt stays open.
func TestC4VerificationServiceFails(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, _ := quickly(t, org, testConfig(t))
	core := a.core.Load()
	genuine := core.verification
	events := a.subscribed(t)
	p, status := a.asks(t, org, events, okta.NeedRequired)
	other := func(r verification.Request) (verification.Verified, error) {
		r.Purpose = "another prompt"
		return genuine.Verify(t.Context(), r)
	}
	fails := func(err error) func(verification.Request) (verification.Verified, error) {
		return func(r verification.Request) (verification.Verified, error) {
			v, _ := genuine.Verify(t.Context(), r) // one that is there does not matter beside an error
			return v, err
		}
	}
	for name, row := range map[string]struct {
		verify func(verification.Request) (verification.Verified, error)
		code   string
	}{
		"zero value":      {func(verification.Request) (verification.Verified, error) { return verification.Verified{}, nil }, "internal"},
		"another prompt":  {other, "internal"},
		"not set up":      {fails(verification.ErrNotSetUp), "verification_not_set_up"},
		"cancelled":       {fails(verification.ErrCancelled), "verification_cancelled"},
		"timed out":       {fails(fmt.Errorf("%w: %w", verification.ErrTimedOut, context.DeadlineExceeded)), "verification_timed_out"},
		"absent":          {fails(verification.ErrAbsent), "verification_unavailable"},
		"broken":          {fails(fmt.Errorf("count a try: %w", verification.ErrBroken)), "verification_broken"},
		"disk full":       {fails(fmt.Errorf("count a try: %w", &notRoom{})), "state_not_written"},
		"vault locked":    {fails(devicekey.ErrLocked), "locked"},
		"store lockout":   {fails(&verification.TryError{Method: verification.PIN, Until: time.Now().Add(time.Hour), Err: verification.ErrTooMany}), "pin_locked"},
		"store busy":      {fails(&devicekey.StateError{State: devicekey.State{Kind: "tpm", State: devicekey.Busy}}), "tpm_busy"},
		"store cleared":   {fails(&devicekey.StateError{State: devicekey.State{Kind: "tpm", State: devicekey.Cleared}}), "pin_lost"},
		"key store fault": {fails(errors.New("garbage")), "internal"},
	} {
		core.verification = spoilt{genuine, row.verify}
		_, err := front{a.Daemon}.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}, peer.Self())
		var refused *api.Error
		if err == nil || errors.As(err, &refused) && refused.Code != row.code || refused == nil && row.code != "internal" {
			t.Errorf("%s: %v", name, err)
		}
		if a.prompts.Len() != 1 || len(org.Answers()) != 0 {
			t.Fatalf("%s: the prompt is gone, or answered", name)
		}
	}
	core.verification = genuine
	if o, err := (front{a.Daemon}).DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)}, peer.Self()); err != nil || o.Outcome != "approved" || <-status != 200 {
		t.Fatalf("when it is well again: %+v, %v", o, err)
	}
}

// C4: the vault is locked while the person looks for their PIN.
func TestC4VaultLocksWhileAsking(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := withPIN(t, org, testConfig(t))
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	a.vault.Lock()
	_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(testPIN)})
	if r := refusalOf(t, err); r.Code != "locked" {
		t.Fatalf("%+v", r)
	}
	if o, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "deny"}); err != nil || o.Outcome == "approved" || <-status == http.StatusOK {
		t.Fatalf("%+v, %v", o, err)
	}
	if len(org.Answers()) != 0 {
		t.Fatal("a locked key has signed")
	}
}

// C4: the vault fails at each step of a verification, once or from then on: that
// is never an approval, and the prompt waits for a better moment.
func TestC4VaultFailsWhileVerifying(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, rooms := quickly(t, org, testConfig(t))
	p, status := a.asks(t, org, a.subscribed(t), okta.NeedRequired)
	decide := func(pin string) (api.PromptOutcome, error) {
		return front{a.Daemon}.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", PIN: api.PIN(pin)}, peer.Self())
	}
	step := 1
	for ; ; step++ {
		for _, lasting := range []bool{false, true} {
			steps := 0
			rooms.Fail = func(string, string) error {
				if steps++; steps == step || lasting && steps > step {
					return errors.New("disk on fire")
				}
				return nil
			}
			// A wrong one first: with the right one there might be nothing to spoil.
			if o, err := decide(wrongPIN); err == nil {
				t.Fatalf("step %d: %+v by a wrong PIN", step, o)
			}
			rooms.Fail = nil
			verified, err := a.core.Load().verification.Verify(t.Context(), verification.Request{Purpose: "forgive", Method: verification.PIN, PIN: devicekey.Secret(testPIN)})
			if err != nil {
				t.Fatalf("step %d: well again, and %v", step, err)
			}
			verified.Wipe()
		}
		steps := 0
		rooms.Fail = func(string, string) error {
			if steps++; steps >= step {
				return errors.New("disk on fire")
			}
			return nil
		}
		o, err := decide(testPIN)
		rooms.Fail = nil
		if spoiled := steps >= step; spoiled != (err != nil) || (a.prompts.Len() == 1) != spoiled || len(org.Answers()) > 1 {
			t.Fatalf("step %d, spoiled %v: %+v, %v", step, spoiled, o, err)
		}
		if err == nil {
			break
		}
	}
	if step < 4 || <-status != http.StatusOK {
		t.Fatalf("%d steps only", step)
	}
}

// B5, C3: fifty prompts decided at random, by PINs right and wrong, at once: a
// prompt that nobody gave the right PIN for is never approved, and each one that
// is approved is signed by the key that the PIN unlocks.
func TestRacingPINs(t *testing.T) {
	const prompts = 50
	org := oktatest.NewOrg(t)
	a, _ := quickly(t, org, testConfig(t))
	defer a.prompts.Attach("cli")()
	pipeline := a.core.Load().pipeline
	var waiting sync.WaitGroup
	outcomes := make(chan challenge.Result, prompts)
	for range prompts {
		waiting.Go(func() {
			token := org.Challenge(func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired })
			outcomes <- pipeline.Receive(t.Context(), token, challenge.Transport{Kind: challenge.Loopback, Origin: org.URL})
		})
	}
	for a.prompts.Len() < prompts {
		time.Sleep(time.Millisecond)
	}
	dice := rand.New(rand.NewPCG(7, 11))
	var deciding sync.WaitGroup
	var mu sync.Mutex
	approved := 0
	for _, p := range a.prompts.List() {
		for range 2 {
			d := api.Decision{Action: "approve", PIN: api.PIN(testPIN)}
			switch roll := dice.IntN(8); {
			case roll < 2:
				d.PIN = api.PIN(wrongPIN)
			case roll == 2:
				d.PIN = nil
			case roll == 3:
				d = api.Decision{Action: "deny", PIN: api.PIN(testPIN)}
			}
			deciding.Go(func() {
				o, err := front{a.Daemon}.DecidePrompt(t.Context(), p.ID, d, peer.Self())
				mu.Lock()
				defer mu.Unlock()
				if err == nil && o.Outcome == "approved" {
					if approved++; string(d.PIN) != testPIN || d.Action != "approve" {
						t.Errorf("approved by %+v", d)
					}
				}
			})
		}
	}
	deciding.Wait()
	for _, p := range a.prompts.List() { // those that had no luck
		_, _ = front{a.Daemon}.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "deny"}, peer.Self())
	}
	waiting.Wait()
	close(outcomes)
	count := map[challenge.Outcome]int{}
	for o := range outcomes {
		count[o.Outcome]++
	}
	signed := 0
	for _, answer := range org.Answers() {
		token, err := jose.Parse(answer.ChallengeResponse, jose.Answer)
		if err != nil {
			t.Fatal(err)
		}
		var claims okta.Answer
		if err := token.Claims(&claims); err != nil {
			t.Fatal(err)
		}
		switch claims.Context.UserConsent {
		case okta.ConsentApprovedUserVerification:
			signed++
		case okta.ConsentDenied:
		default:
			t.Errorf("the org was told %q", claims.Context.UserConsent)
		}
	}
	if approved == 0 || count[challenge.Approved] != approved || signed != approved || count[challenge.Approved]+count[challenge.Denied] != prompts {
		t.Fatalf("%d approved, %d signed, %v", approved, signed, count)
	}
}

// C8: the PIN is nowhere: not in the log at debug level, not in the record, the
// events, the state's plain files, or what the local API says.
func TestC8PINLeavesNoTrace(t *testing.T) {
	const pin, wrong, next = "canary-7291", "canary-0000", "canary-8350"
	var log locked
	c := testConfig(t)
	c.Log = newDebugLog(&log)
	org := oktatest.NewOrg(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	events := a.subscribed(t)
	ctx := t.Context()
	var said strings.Builder
	hear := func(v any, err error) {
		b, _ := json.Marshal(v)
		fmt.Fprintf(&said, "%s %v %+v\n", b, err, v)
		if refused := (*api.Error)(nil); errors.As(err, &refused) {
			fmt.Fprintf(&said, "%+v\n", *refused)
		}
	}
	hear(a.client.SetPIN(ctx, api.PIN(pin), nil))
	hear(a.client.SetPIN(ctx, api.PIN(next), api.PIN(wrong)))
	hear(a.client.SetPIN(ctx, api.PIN(next), api.PIN(pin)))
	hear(a.client.EnableVerification(ctx, "fingerprint", true, api.PIN(wrong)))
	hear(a.client.EnableVerification(ctx, "fingerprint", true, api.PIN(next)))
	p, status := a.asks(t, org, events, okta.NeedPreferred)
	hear(a.client.DecidePrompt(ctx, p.ID, api.Decision{Action: "nonsense", PIN: api.PIN(next)}))
	hear(a.client.DecidePrompt(ctx, p.ID, api.Decision{Action: "approve", PIN: api.PIN(wrong)}))
	<-status
	hear(a.client.Verification(ctx))
	hear(a.client.Status(ctx))
	hear(a.client.Doctor(ctx, ""))
	hear(a.audit(t), nil)
	hear(a.client.RemovePIN(ctx, api.PIN(wrong)))
	hear(a.client.RemovePIN(ctx, api.PIN(next)))
	_ = a.stop()
	for e := range events {
		hear(e, nil)
	}
	if !strings.Contains(said.String(), "wrong_pin") || !strings.Contains(said.String(), `"outcome":"removed"`) || log.String() == "" {
		t.Fatalf("too little was said for the test to prove anything: %s", said.String())
	}
	for name, text := range map[string]string{"log": log.String(), "answers": said.String()} {
		if strings.Contains(text, "canary") {
			t.Errorf("the %s: %s", name, text)
		}
	}
}

// Every error of a verification has words, and none of them is a success.
func TestVerificationErrorsAreExplained(t *testing.T) {
	d := &Daemon{now: time.Now}
	soon, later := time.Now().Add(30*time.Second), time.Now().Add(10*time.Minute)
	for _, row := range []struct {
		method verification.Method
		err    error
		code   string
		says   string
	}{
		{"pin", &verification.TryError{Left: 3, Err: verification.ErrWrong}, "wrong_pin", "the PIN is wrong, 3 tries left"},
		{"pin", &verification.TryError{Left: 1, Err: verification.ErrWrong}, "wrong_pin", "the PIN is wrong, 1 try left"},
		{"pin", &verification.TryError{Until: soon, Err: verification.ErrWrong}, "pin_locked", ", in 30 s"},
		{"pin", &verification.TryError{Until: later, Err: verification.ErrTooMany}, "pin_locked", ", in 10 min"},
		{"pin", &verification.TryError{Err: verification.ErrTooMany}, "pin_locked", "locked for a while"},
		{"fingerprint", &verification.TryError{Left: 2, Err: verification.ErrWrong}, "not_verified", "you were not recognised, 2 tries left"},
		{"fingerprint", &verification.TryError{Until: later, Err: verification.ErrTooMany}, "verification_locked", ", in 10 min"},
		{"pin", verification.ErrNotSetUp, "verification_not_set_up", ""},
		{"pin", fmt.Errorf("no: %w", prompt.ErrVerificationRequired), "verification_required", ""},
	} {
		r := refusalOf(t, explain(d.unverified(row.method, row.err)))
		if r.Code != row.code || !strings.Contains(r.Message, row.says) || r.Status < 400 {
			t.Errorf("%v: %+v", row.err, r)
		}
	}
}

// One lock is on record once, however often it is run into.
func TestLockIsRecordedOnce(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	c := a.core.Load()
	until := time.Now().Add(time.Hour)
	for i := range 10 {
		a.recordUnverified(c, audit.Record{}, verification.PIN,
			&verification.TryError{Until: until.Add(time.Duration(i) * time.Millisecond), Err: verification.ErrTooMany})
	}
	a.recordUnverified(c, audit.Record{}, verification.PIN, &verification.TryError{Until: until.Add(time.Hour), Err: verification.ErrTooMany})
	count := func(outcome string) (n int) {
		for _, r := range a.audit(t) {
			if r.Event == "verification" && r.Outcome == outcome {
				n++
			}
		}
		return n
	}
	if n := count("locked"); n != 2 {
		t.Fatalf("%d records", n)
	}
	// What cannot be a PIN costs no try, and fills nothing either.
	for range 3 * maxFailures {
		a.recordUnverified(c, audit.Record{}, verification.PIN, &verification.TryError{Left: 5, Err: verification.ErrWrong})
	}
	if n := count("wrong"); n == 0 || n > maxFailures {
		t.Fatalf("%d records", n)
	}
}
