package challenge

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// moody is a key store that is locked now and then.
type moody struct {
	*keyring
	locked func() bool
}

func (m moody) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	if m.locked() {
		return nil, devicekey.ErrLocked
	}
	return m.keyring.Open(ctx, ref)
}

// B3, B5, B6: whatever happens to the deliveries of one challenge (nobody there
// to ask, browsers that leave, keys that are locked, many at once), it is signed
// once at most, an approval only for a person who approved in that very run, and
// never after a start that finds it claimed. One that finds it neither claimed
// nor signed asks anew.
func TestRetriesSignOnce(t *testing.T) {
	org := oktatest.NewOrg(t)
	for seed := range uint64(40) {
		w := newWorld(t, org)
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(seed, 1))
		roll := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return dice.IntN(n)
		}
		w.Pipeline.Keys = moody{w.keyring, func() bool { return roll(3) == 0 }}
		approvals, prompts, open := 0, 0, 0
		w.asker.answer = func(ctx context.Context, p prompt.Prompt) (prompt.Answer, error) {
			mu.Lock()
			prompts++
			if open++; open > 1 {
				t.Error("two prompts for one challenge at the same time")
			}
			mu.Unlock()
			defer func() { mu.Lock(); open--; mu.Unlock() }()
			switch roll(5) {
			case 0:
				return prompt.Answer{}, prompt.ErrNoFrontEnd
			case 1:
				<-ctx.Done()
				return prompt.Answer{}, prompt.ErrWithdrawn
			case 2:
				return prompt.Answer{Verdict: prompt.Denied, Account: p.Account}, nil
			case 3:
				return prompt.Answer{}, nil // the zero answer
			}
			mu.Lock()
			approvals++
			mu.Unlock()
			return prompt.Answer{Verdict: prompt.Approved, Account: p.Account}, nil
		}
		before := len(org.Answers())
		token := org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })
		var wg sync.WaitGroup
		for range 12 {
			ctx, leave := context.WithCancel(t.Context())
			wg.Go(func() { w.Receive(ctx, token, Transport{Kind: Loopback, Origin: org.URL}) })
			wg.Go(func() {
				for range roll(200) { // some leave early, all leave
					runtime.Gosched()
				}
				leave()
			})
		}
		wg.Wait()
		answers := org.Answers()[before:]
		if n := w.keyring.signed.Load(); n > 1 || len(answers) > 1 {
			t.Fatalf("seed %d: %d signatures, %d answers", seed, n, len(answers))
		}
		if prompts > maxRuns {
			t.Fatalf("seed %d: asked %d times", seed, prompts)
		}
		if len(answers) == 1 {
			a, _ := w.lastAnswer(t)
			if consent := a.Context.UserConsent; consent == okta.ConsentApproved && approvals == 0 || consent != okta.ConsentApproved && consent != okta.ConsentDenied {
				t.Fatalf("seed %d: says %s after %d approvals", seed, consent, approvals)
			}
		}
		w.Pipeline.Close()
		signed := w.keyring.signed.Load()
		w.start(t)
		w.asker.answer = decided(prompt.Approved)
		want := Approved
		if len(w.paper.lines) > 0 {
			want = AlreadyAnswered
		} else if signed > 0 {
			t.Fatalf("seed %d: signed without a claim", seed)
		}
		if got := w.receive(t, token); got.Outcome != want || want == AlreadyAnswered && w.keyring.signed.Load() != signed {
			t.Fatalf("seed %d: after a restart: %+v, want %v", seed, got, want)
		}
	}
}
