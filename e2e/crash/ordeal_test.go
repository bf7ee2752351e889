package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

// What the person says to a sign-in. Anything that is not approve must never
// become an approval.
const (
	approve = "approve"
	deny    = "deny"
	nothing = "nothing"
	wrong   = "wrong number"
	unclear = "unclear" // the test lost track of it
)

// ordeal is an org, an agent of alice and bob, and everything that was done to
// them.
type ordeal struct {
	t     *testing.T
	stage *harness.Stage
	agent *harness.Agent
	state string // of the org
	local *client.Client
	done  atomic.Int64 // requests of the traffic that somebody answered

	asking   sync.Mutex               // one question at a time
	question atomic.Pointer[question] // the one under way

	mu       sync.Mutex        // guards what follows
	said     map[string]string // by nonce of the sign-in
	taken    []handed          // challenges for which the agent told the page: done
	accounts map[string]state
	counts   map[string]int
}

// demoApp asks for the password, too: to somebody who has proven nothing no push
// is sent.
const demoApp = "demo-strict"

type question struct{ say, number string }

type handed struct{ token, id string }

// state is what is known of an account of the agent.
type state struct {
	enrolment string
	removing  bool // it may be gone
	removed   bool // it is gone
}

func newOrdeal(t *testing.T) *ordeal {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	o := &ordeal{t: t, state: filepath.Join(dir, "org"), said: map[string]string{}, accounts: map[string]state{}, counts: map[string]int{}}
	must(t, harness.FoundOrg(ctx, o.state))
	var err error
	o.stage, err = harness.NewStage(ctx, programs, harness.StageOptions{Dir: dir})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(o.stage.Org.Tail())
			if o.agent != nil {
				t.Log(o.agent.Tail())
			}
		}
		if err := o.stage.Stop(); err != nil {
			t.Error(err)
		}
	})
	o.agent, err = o.stage.StartAgent(ctx)
	must(t, err)
	o.local = client.New(o.agent.Socket)
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// step counts what got an answer.
func (o *ordeal) step(err error) bool {
	if err == nil {
		o.done.Add(1)
	}
	return err == nil
}

func (o *ordeal) count(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[what]++
}

// traffic runs until ctx ends. Nothing in it has to succeed while programs are
// being killed.
func (o *ordeal) traffic(ctx context.Context, seed uint64) (wait func()) {
	var workers sync.WaitGroup
	run := func(stream uint64, work func(context.Context, *rand.Rand)) {
		dice := rand.New(rand.NewPCG(seed, stream))
		workers.Go(func() {
			for ctx.Err() == nil {
				work(ctx, dice)
			}
		})
	}
	run(1, func(ctx context.Context, _ *rand.Rand) { o.signIn(ctx, harness.QuickSilent, "signed_nonce", approve) })
	run(2, func(ctx context.Context, dice *rand.Rand) {
		o.signIn(ctx, harness.QuickAsking, "signed_nonce", pick(dice, approve, approve, approve, deny, nothing))
	})
	run(3, func(ctx context.Context, dice *rand.Rand) {
		o.signIn(ctx, demoApp, "push", pick(dice, approve, approve, approve, approve, approve, deny, wrong))
	})
	run(4, func(ctx context.Context, dice *rand.Rand) { o.change(ctx, dice) })
	run(5, func(ctx context.Context, _ *rand.Rand) {
		if _, err := o.local.Code(ctx, harness.Alice); err == nil {
			o.count("codes")
		}
		pause(ctx)
	})
	workers.Go(func() { o.person(ctx) })
	return workers.Wait
}

func pick(dice *rand.Rand, list ...string) string { return list[dice.IntN(len(list))] }

// pause keeps a worker that has nobody to talk to from spinning.
func pause(ctx context.Context) {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// signIn is one sign-in as far as it comes. It returns when no device can answer
// it any more.
func (o *ordeal) signIn(ctx context.Context, app, method, say string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	org := o.stage.Org.URL
	s := harness.RunningOrg(org, "", "").NewSignIn(app, "", "http://localhost:3000/callback")
	o.mu.Lock()
	o.said[s.Nonce] = say
	o.mu.Unlock()
	page, err := harness.RunningOrg(org, "", "").BeginTransaction(ctx, s)
	if err != nil {
		pause(ctx)
		return
	}
	if app != harness.QuickSilent {
		o.asking.Lock()
		defer o.asking.Unlock()
		defer o.question.Store(nil)
	}
	last := page.Last
	defer func() {
		if page.Last.Success == nil {
			o.callOff(page, last, s.Nonce)
		}
	}()
	if !o.step(page.Submit(ctx, "identify", map[string]any{"identifier": harness.Alice})) {
		return
	}
	last = page.Last
	if app != harness.QuickSilent {
		o.question.Store(&question{say: say})
	}
	if app == demoApp {
		if !o.step(page.Submit(ctx, "challenge-authenticator", map[string]any{"credentials": map[string]string{"passcode": harness.Password}})) {
			return
		}
		last = page.Last
	}
	if !o.step(page.Choose(ctx, method)) {
		return
	}
	last = page.Last
	if method == "push" {
		o.question.Store(&question{say, page.Number()})
	} else if token := last.CurrentAuthenticator.Value.ContextualData.Challenge.Value.Request; token != "" {
		wait, giveUp := ctx, context.CancelFunc(func() {})
		if say == nothing {
			wait, giveUp = context.WithTimeout(ctx, 300*time.Millisecond)
		}
		status := o.hand(wait, token)
		giveUp()
		if status != 0 {
			o.done.Add(1)
		}
		if status == http.StatusOK {
			o.mu.Lock()
			o.taken = append(o.taken, handed{token, s.Nonce})
			o.mu.Unlock()
		}
	}
	for range 100 { // a push takes its time
		if page.Poll(ctx) != nil || page.Last.Success != nil {
			break
		}
		if _, waiting := page.Form("challenge-poll"); !waiting {
			break
		}
		last = page.Last
		if method != "push" {
			break
		}
		pause(ctx)
	}
	switch {
	case page.Last.Success != nil:
		o.count("signed in by " + method)
		if say != approve {
			o.t.Errorf("signed in by %s, and the person said %s", method, say)
		}
	case say != approve:
		o.count("said " + say)
	}
}

// callOff ends a sign-in, so that a device that hears of it late is refused.
func (o *ordeal) callOff(page *harness.Transaction, last harness.IDX, nonce string) {
	for range 500 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := page.Cancel(ctx, last)
		cancel()
		var status *harness.StatusError
		switch {
		case err == nil:
			return
		case errors.As(err, &status) && status.Status/100 == 4: // a later step has taken its place
			o.mu.Lock()
			if o.said[nonce] != approve {
				o.said[nonce] = unclear
			}
			o.mu.Unlock()
			return
		}
		pause(context.Background())
	}
	o.t.Error("the org never came back")
}

// hand gives a challenge to the agent; 0 when it is not there.
func (o *ordeal) hand(ctx context.Context, token string) int {
	body, err := json.Marshal(map[string]string{"challengeRequest": token})
	if err != nil {
		return 0
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/challenge", o.stage.Ports[0]), bytes.NewReader(body))
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", o.stage.Org.URL)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// person answers the agent's questions, and comes back to an agent that was
// killed.
func (o *ordeal) person(ctx context.Context) {
	for ctx.Err() == nil {
		events, err := o.local.Subscribe(ctx, "crash")
		if err != nil {
			pause(ctx)
			continue
		}
		for e, err := range events {
			if err != nil {
				break
			}
			if e.Type == "prompt" && e.Prompt != nil {
				o.decide(ctx, *e.Prompt)
			}
		}
	}
}

func (o *ordeal) decide(ctx context.Context, p api.Prompt) {
	q := o.question.Load()
	// The number is on the page a moment after the push has gone out.
	for q != nil && q.number == "" && len(p.Numbers) > 0 && ctx.Err() == nil {
		pause(ctx)
		q = o.question.Load()
	}
	if q == nil || q.say == nothing {
		return
	}
	d := api.Decision{Action: q.say, Number: q.number}
	if len(p.Numbers) == 0 {
		d.Number = ""
	}
	if q.say == wrong {
		d.Action = approve
		for _, n := range p.Numbers {
			if n != q.number {
				d.Number = n
			}
		}
	}
	if len(p.Choices) > 0 {
		d.Account = p.Choices[0].Account
	}
	if d.Action == deny {
		d.Number = ""
	}
	_, _ = o.local.DecidePrompt(ctx, p.ID, d)
}

// change enrols by a link, and removes when there are enough.
func (o *ordeal) change(ctx context.Context, dice *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var link struct {
		URL string `json:"url"`
	}
	if err := o.stage.Org.Administer(ctx, http.MethodPost, "/api/v1/users/"+pick(dice, harness.Alice, harness.Bob)+"/enrolment-links", nil, &link); err != nil {
		pause(ctx)
		return
	}
	if o.living() < 6 {
		if a, err := o.local.AddAccount(ctx, api.AddAccount{Link: link.URL}); o.step(err) {
			o.mu.Lock()
			o.accounts[a.ID] = state{enrolment: a.EnrolmentID}
			o.mu.Unlock()
			o.count("enrolled")
		}
		return
	}
	o.mu.Lock()
	var ids []string
	for id, s := range o.accounts {
		if !s.removing {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	id := ids[dice.IntN(len(ids))]
	s := o.accounts[id]
	s.removing = true
	o.accounts[id] = s
	o.mu.Unlock()
	if err := o.local.RemoveAccount(ctx, id, false); o.step(err) {
		o.mu.Lock()
		s.removed = true
		o.accounts[id] = s
		o.mu.Unlock()
		o.count("removed")
	}
}

func (o *ordeal) living() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.accounts {
		if !s.removing {
			n++
		}
	}
	return n
}
