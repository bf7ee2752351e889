package challenge

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

func TestSilentAnswer(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	token := org.Challenge(func(c *okta.Challenge) {
		c.Integrations = []okta.Integration{{Name: "com.crowdstrike.zta"}}
		c.SignalProviders = []okta.SignalProvider{{Name: "com.okta.device.integrity", Collect: "REQUIRED"}}
		c.Signals = []string{"platform", "serialNumber", "tpmPublicKeyHash", "shellHistory"}
	})
	want := claimsOf(t, token)
	if got := w.receive(t, token); got.Outcome != Approved {
		t.Fatalf("%+v", got)
	}
	if w.asker.asked.Load() != 0 || w.keyring.signed.Load() != 1 {
		t.Fatal("asked, or not signed once")
	}
	a, head := w.lastAnswer(t)
	if head.Type != okta.TypeDeviceBind || head.KeyID != "KID-1" || head.Algorithm != "ES256" {
		t.Errorf("header %+v", head)
	}
	if a.Issuer != "pfd-acc1" || a.Subject != oktatest.UserID || a.Audience != want.Issuer || a.MethodEnrolmentID != "opf-acc1" ||
		a.TransactionID != want.TransactionID || a.Nonce != want.Nonce || a.KeyType != okta.KeyProofOfPossession {
		t.Errorf("claims %+v", a)
	}
	if len(a.ID) != 36 || a.ExpiresAt-a.IssuedAt != 300 || a.IssuedAt-a.NotBefore != 60 {
		t.Errorf("jti %q, times %d %d %d", a.ID, a.IssuedAt, a.NotBefore, a.ExpiresAt)
	}
	if a.Context.UserConsent != okta.ConsentNone || a.Context.OriginHeader != org.URL || a.Context.BindingType != okta.BindingLoopback {
		t.Errorf("context %+v", a.Context)
	}
	// E12: only listed signals, only what we know, an error for each requested source.
	if s := a.DeviceSignals; s.ID != "guo1" || s.ClientInstanceID != "cli1" || s.Platform == "" || s.DisplayName != "" || s.SerialNumber != "" {
		t.Errorf("signals %+v", s)
	}
	if len(a.Integrations) != 1 || a.Integrations[0].Error == "" || len(a.SignalProviders) != 1 || a.SignalProviders[0].Error == "" {
		t.Errorf("sources %+v %+v", a.Integrations, a.SignalProviders)
	}
	if len(w.records) != 1 || w.records[0].Outcome != "approved" || w.records[0].Account != "acc1" || w.records[0].Reason != "not asked" {
		t.Errorf("record %+v", w.records)
	}
}

// TestDecisions is the table of 4.4 for device bind, with and without words we
// do not know. C2: only the exact word NONE, on a proven page, is silent. C3:
// without a UV key, REQUIRED is never an approval.
func TestDecisions(t *testing.T) {
	org := oktatest.NewOrg(t)
	yes := true
	for _, row := range []struct {
		name      string
		mod       func(*okta.Challenge)
		answer    prompt.Verdict
		asked     bool
		consent   okta.Consent
		outcome   Outcome
		unsettled bool
	}{
		{name: "silent", mod: func(c *okta.Challenge) {}, consent: okta.ConsentNone, outcome: Approved},
		{name: "mediation absent", mod: func(c *okta.Challenge) { c.UserMediation = "" }, answer: prompt.Approved, asked: true, consent: okta.ConsentApproved, outcome: Approved},
		{name: "mediation optional", mod: func(c *okta.Challenge) { c.UserMediation = okta.NeedOptional }, answer: prompt.Approved, asked: true, consent: okta.ConsentApproved, outcome: Approved},
		{name: "mediation required", mod: func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }, answer: prompt.Approved, asked: true, consent: okta.ConsentApproved, outcome: Approved},
		{name: "mediation unknown", mod: func(c *okta.Challenge) { c.UserMediation = "none" }, answer: prompt.Approved, asked: true, consent: okta.ConsentApproved, outcome: Approved},
		{name: "denied", mod: func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }, answer: prompt.Denied, asked: true, consent: okta.ConsentDenied, outcome: Denied},
		{name: "zero verdict", mod: func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }, answer: prompt.Unanswered, asked: true, outcome: Expired},
		{name: "odd verdict", mod: func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }, answer: 77, asked: true, outcome: Expired},
		{name: "UV preferred, silent", mod: func(c *okta.Challenge) { c.UserVerification = okta.NeedPreferred }, consent: okta.ConsentNone, outcome: Approved},
		{name: "UV preferred, asked", mod: func(c *okta.Challenge) {
			c.UserVerification, c.UserMediation = okta.NeedPreferred, okta.NeedRequired
		}, answer: prompt.Approved, asked: true, consent: okta.ConsentApproved, outcome: Approved},
		{name: "UV required", mod: func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired }, consent: okta.ConsentUVPermanentlyUnavailable, outcome: Reported},
		{name: "UV required, asked", mod: func(c *okta.Challenge) {
			c.UserVerification, c.UserMediation = okta.NeedRequired, okta.NeedRequired
		}, consent: okta.ConsentUVPermanentlyUnavailable, outcome: Reported},
		{name: "UV required as of 2020", mod: func(c *okta.Challenge) { c.UserVerification, c.UserVerificationRequirement = "", &yes }, consent: okta.ConsentUVPermanentlyUnavailable, outcome: Reported},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, org)
			w.asker.answer = decided(row.answer)
			before := len(org.Answers())
			got := w.receive(t, org.Challenge(row.mod))
			if got.Outcome != row.outcome || (w.asker.asked.Load() == 1) != row.asked {
				t.Fatalf("%+v, asked %d", got, w.asker.asked.Load())
			}
			if row.consent == "" {
				if len(org.Answers()) != before || w.keyring.signed.Load() != 0 {
					t.Fatal("no decision, and still an answer")
				}
				return
			}
			a, _ := w.lastAnswer(t)
			if a.Context.UserConsent != row.consent || a.KeyType != okta.KeyProofOfPossession || len(a.AMR) != 0 {
				t.Fatalf("%+v", a)
			}
		})
	}
}

func TestPromptShowsOnlyChecked(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	w.asker.answer = decided(prompt.Approved)
	w.receive(t, org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }))
	if p := w.asker.last; p.App != "Payroll" || p.Org != org.URL || p.Origin != org.URL || p.User != oktatest.Login || p.Account != "acc1" {
		t.Fatalf("%+v", p)
	}
	if !slices.Equal(w.asker.settle, []string{"approved"}) {
		t.Fatal(w.asker.settle)
	}
}

func TestSeveralAccounts(t *testing.T) {
	org := oktatest.NewOrg(t)
	a, b := accountAt(org, "a"), accountAt(org, "b")
	b.UserID, b.Username = "00uBob", "bob@example.com"
	open := func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }
	for _, row := range []struct {
		name   string
		mod    func(*okta.Challenge)
		answer func(context.Context, prompt.Prompt) (prompt.Answer, error)
		issuer string // of the answer
		want   Outcome
	}{
		{"asked which", open, func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
			return prompt.Answer{Verdict: prompt.Approved, Account: p.Choices[1].Account}, nil
		}, "pfd-b", Approved},
		{"denied for all", open, decided(prompt.Denied), "pfd-a", Denied},
		{"no account named", open, decided(prompt.Approved), "", Failed},
		{"foreign account named", open, func(context.Context, prompt.Prompt) (prompt.Answer, error) {
			return prompt.Answer{Verdict: prompt.Approved, Account: "c"}, nil
		}, "", Failed},
		{"denied for a foreign one", open, func(context.Context, prompt.Prompt) (prompt.Answer, error) {
			return prompt.Answer{Verdict: prompt.Denied, Account: "c"}, nil
		}, "", Failed},
		{"silent and ambiguous", func(*okta.Challenge) {}, nil, "", NotMine},
		{"hint decides", func(c *okta.Challenge) { c.LoginHint = "BOB@example.com" }, nil, "pfd-b", Approved},
		{"user id decides", func(c *okta.Challenge) { c.UserID = "00uBob" }, nil, "pfd-b", Approved},
		{"enrolment decides", func(c *okta.Challenge) { c.AuthenticatorEnrolmentID = "pfd-a" }, nil, "pfd-a", Approved},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, org, a, b)
			w.asker.answer = row.answer
			before := len(org.Answers())
			if got := w.receive(t, org.Challenge(row.mod)); got.Outcome != row.want {
				t.Fatalf("%+v", got)
			}
			if row.issuer == "" {
				if len(org.Answers()) != before {
					t.Fatal("answered")
				}
				return
			}
			if a, _ := w.lastAnswer(t); a.Issuer != row.issuer {
				t.Fatal(a.Issuer)
			}
		})
	}
}

// B6: delivered twice at once, one signature, one prompt, one outcome.
func TestJoinedDeliveries(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	release := make(chan struct{})
	w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
		<-release
		return prompt.Answer{Verdict: prompt.Approved, Account: p.Account}, nil
	}
	token := org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })
	const n = 20
	results := make([]Result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { results[i] = w.receive(t, token) })
	}
	w.untilWaiting(n) // all of them for the one run
	close(release)
	wg.Wait()
	for _, r := range results {
		if r.Outcome != Approved {
			t.Fatalf("%+v", r)
		}
	}
	if w.keyring.signed.Load() != 1 || w.asker.asked.Load() != 1 || len(org.Answers()) != 1 {
		t.Fatalf("%d signatures, %d prompts, %d answers", w.keyring.signed.Load(), w.asker.asked.Load(), len(org.Answers()))
	}
	if got := w.receive(t, token); got.Outcome != AlreadyAnswered {
		t.Fatalf("afterwards: %+v", got)
	}
}

// waiting counts who waits for runs under way.
func (w *world) waiting() (n int) {
	w.Claims.mu.Lock()
	defer w.Claims.mu.Unlock()
	for _, cl := range w.Claims.seen {
		if cl.run != nil {
			n += cl.run.waiting
		}
	}
	return n
}

// untilWaiting yields until n deliveries wait.
func (w *world) untilWaiting(n int) {
	for w.waiting() != n {
		runtime.Gosched()
	}
}

// B6: a challenge replayed after a restart, whether or not its answer went out.
func TestRestartReplay(t *testing.T) {
	org := oktatest.NewOrg(t)
	t.Run("answered", func(t *testing.T) {
		w := newWorld(t, org)
		token := org.Challenge(nil)
		if got := w.receive(t, token); got.Outcome != Approved {
			t.Fatalf("%+v", got)
		}
		w.start(t)
		if got := w.receive(t, token); got.Outcome != AlreadyAnswered || w.keyring.signed.Load() != 1 {
			t.Fatalf("%+v, %d signatures", got, w.keyring.signed.Load())
		}
	})
	t.Run("died between claim and answer", func(t *testing.T) {
		w := newWorld(t, org)
		token := org.Challenge(nil)
		c := claimsOf(t, token)
		w.paper.lines = append(w.paper.lines, encodeClaim(keyOf(c.Issuer, c.TransactionID, c.Nonce), int64(c.ExpiresAt)+60))
		w.start(t)
		if got := w.receive(t, token); got.Outcome != AlreadyAnswered || w.keyring.signed.Load() != 0 {
			t.Fatalf("%+v", got)
		}
	})
	// B7: the clock is ahead when the agent starts, and is set back then.
	t.Run("answered, and started by a clock that is ahead", func(t *testing.T) {
		w := newWorld(t, org)
		token := org.Challenge(nil)
		if got := w.receive(t, token); got.Outcome != Approved {
			t.Fatalf("%+v", got)
		}
		w.clock = 6 * time.Hour
		w.start(t)
		w.clock = 0
		if got := w.receive(t, token); got.Outcome != AlreadyAnswered || w.keyring.signed.Load() != 1 {
			t.Fatalf("%+v, %d signatures", got, w.keyring.signed.Load())
		}
	})
	t.Run("expired claims are forgotten, and so are their lines", func(t *testing.T) {
		w := newWorld(t, org)
		for i := range 2 * firstSweep {
			w.paper.lines = append(w.paper.lines, encodeClaim(claimKey{byte(i), byte(i >> 8)}, 1000))
		}
		token := org.Challenge(nil)
		c := claimsOf(t, token)
		w.paper.lines = append(w.paper.lines, encodeClaim(keyOf(c.Issuer, c.TransactionID, c.Nonce), time.Now().Unix()+60))
		w.start(t)
		if len(w.paper.lines) != 1 || len(w.Claims.seen) != 1 {
			t.Fatalf("%d lines, %d claims", len(w.paper.lines), len(w.Claims.seen))
		}
		if got := w.receive(t, token); got.Outcome != AlreadyAnswered {
			t.Fatalf("%+v", got)
		}
	})
}

// C4: what cannot be remembered is not signed.
func TestClaimNotDurable(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	w.paper.full = errDisk
	token := org.Challenge(nil)
	if got := w.receive(t, token); got.Outcome != Failed || w.keyring.signed.Load() != 0 {
		t.Fatalf("%+v", got)
	}
	w.paper.full = nil
	if got := w.receive(t, token); got.Outcome != Approved {
		t.Fatalf("after the disk has room: %+v", got)
	}
}

// C4: a locked or broken key store ends in no approval, and a lock is no end.
func TestKeyStoreFails(t *testing.T) {
	org := oktatest.NewOrg(t)
	for err, want := range map[error]Outcome{
		devicekey.ErrLocked: Locked, devicekey.ErrNotFound: Failed, devicekey.ErrUnavailable: Failed, devicekey.ErrUnauthorised: Failed,
	} {
		w := newWorld(t, org)
		w.keyring.refuses = err
		before := len(org.Answers())
		token := org.Challenge(nil)
		if got := w.receive(t, token); got.Outcome != want || len(org.Answers()) != before {
			t.Errorf("%v: %+v", err, got)
		}
		w.keyring.refuses = nil
		again := AlreadyAnswered
		if want == Locked {
			again = Approved
		}
		if got := w.receive(t, token); got.Outcome != again {
			t.Errorf("%v, second delivery: %+v", err, got)
		}
	}
}

func TestOrgAnswers(t *testing.T) {
	for _, row := range []struct {
		name  string
		reply oktatest.Reply
		want  Outcome
		again Outcome
		state account.State
	}{
		{"200", oktatest.Reply{Status: 200, Body: "{}"}, Approved, AlreadyAnswered, account.Active},
		{"204", oktatest.Reply{Status: 204}, Approved, AlreadyAnswered, account.Active},
		{"origin mismatch", oktatest.Reply{Status: 403, Body: `{"errorCode":"E0000212"}`}, OrgRefused, AlreadyAnswered, account.Active},
		{"expired", oktatest.Reply{Status: 400, Body: `{"errorCode":"E0000001"}`}, OrgRefused, AlreadyAnswered, account.Active},
		{"suspended", oktatest.Reply{Status: 423, Body: `{"errorCode":"E0000180"}`}, OrgRefused, AlreadyAnswered, account.Suspended},
		{"gone", oktatest.Reply{Status: 410, Body: `{"errorCode":"E0000154"}`}, OrgRefused, AlreadyAnswered, account.Gone},
		{"404 erases nothing", oktatest.Reply{Status: 404, Body: `{"errorCode":"E0000008"}`}, OrgRefused, AlreadyAnswered, account.Active},
		{"gone code without 410", oktatest.Reply{Status: 404, Body: `{"errorCode":"E0000154"}`}, OrgRefused, AlreadyAnswered, account.Active},
		{"proxy's page", oktatest.Reply{Status: 502, ContentType: "text/html", Body: "<html>"}, OrgUnreachable, OrgUnreachable, account.Active},
		{"proxy's 410 page", oktatest.Reply{Status: 410, ContentType: "text/html", Body: "<html>"}, OrgRefused, AlreadyAnswered, account.Active},
		{"server error", oktatest.Reply{Status: 500, Body: `{"errorCode":"E0000009"}`}, OrgUnreachable, OrgUnreachable, account.Active},
		{"rate limit", oktatest.Reply{Status: 429, Body: `{"errorCode":"E0000047"}`}, OrgUnreachable, OrgUnreachable, account.Active},
	} {
		t.Run(row.name, func(t *testing.T) {
			org := oktatest.NewOrg(t)
			w := newWorld(t, org)
			org.Reply("/idp/authenticators/", row.reply)
			token := org.Challenge(nil)
			if got := w.receive(t, token); got.Outcome != row.want {
				t.Fatalf("%+v, want %v", got, row.want)
			}
			a, err := w.book.Get("acc1")
			if err != nil || a.State != row.state {
				t.Fatalf("account %v, %v", a.State, err)
			}
			// Whatever happened, there is no second signature.
			if row.state != account.Gone {
				if got := w.receive(t, token); got.Outcome != row.again {
					t.Fatalf("second delivery: %+v", got)
				}
			}
			if w.keyring.signed.Load() != 1 {
				t.Fatalf("%d signatures", w.keyring.signed.Load())
			}
			if row.state == account.Suspended {
				org.Reply("/idp/authenticators/", oktatest.Reply{})
				w.receive(t, org.Challenge(nil))
				if a, _ := w.book.Get("acc1"); a.State != account.Active {
					t.Fatalf("a success left the account %v", a.State)
				}
			}
		})
	}
}

// The browser goes away while the person is asked: the prompt is withdrawn,
// nothing is sent, and the same challenge may be asked again, a few times.
func TestWithdrawal(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	var leave context.CancelFunc
	w.asker.answer = func(ctx context.Context, _ prompt.Prompt) (prompt.Answer, error) {
		leave()
		<-ctx.Done()
		return prompt.Answer{}, prompt.ErrWithdrawn
	}
	token := org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })
	for range maxRuns {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		leave = cancel
		if got := w.Receive(ctx, token, Transport{Kind: Loopback, Origin: org.URL}); got.Outcome != Withdrawn {
			t.Fatalf("%+v", got)
		}
	}
	if got := w.receive(t, token); got.Outcome != AlreadyAnswered || w.asker.asked.Load() != maxRuns {
		t.Fatalf("%+v after %d prompts", got, w.asker.asked.Load())
	}
	if len(w.paper.lines) != 0 || w.keyring.signed.Load() != 0 {
		t.Fatal("claimed without a decision, or signed")
	}
}

// One of two who wait goes away: the other still gets the answer.
func TestOneOfTwoLeaves(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	release := make(chan struct{})
	w.asker.answer = func(ctx context.Context, p prompt.Prompt) (prompt.Answer, error) {
		select {
		case <-release:
			return prompt.Answer{Verdict: prompt.Approved, Account: p.Account}, nil
		case <-ctx.Done():
			return prompt.Answer{}, prompt.ErrWithdrawn
		}
	}
	token := org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })
	first, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.Receive(first, token, Transport{Kind: Loopback, Origin: org.URL}) })
	w.untilWaiting(1)
	var second Result
	wg.Go(func() { second = w.receive(t, token) })
	w.untilWaiting(2)
	leave()
	w.untilWaiting(1)
	close(release)
	wg.Wait()
	if second.Outcome != Approved || w.keyring.signed.Load() != 1 {
		t.Fatalf("%+v", second)
	}
}

func TestNoFrontEnd(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	w.asker.answer = func(context.Context, prompt.Prompt) (prompt.Answer, error) {
		return prompt.Answer{}, prompt.ErrNoFrontEnd
	}
	token := org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })
	if got := w.receive(t, token); got.Outcome != NoFrontEnd || len(org.Answers()) != 0 || w.keyring.signed.Load() != 0 {
		t.Fatalf("%+v", got)
	}
	w.asker.answer = decided(prompt.Approved)
	if got := w.receive(t, token); got.Outcome != Approved {
		t.Fatalf("after the front end has come: %+v", got)
	}
}

// B7: the person took so long that the challenge is over; nothing is signed.
func TestExpiredWhileAsking(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
		w.clock = 8 * time.Hour // the machine slept
		return prompt.Answer{Verdict: prompt.Approved, Account: p.Account}, nil
	}
	if got := w.receive(t, org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })); got.Outcome != Expired || w.keyring.signed.Load() != 0 {
		t.Fatalf("%+v", got)
	}
}

// A14: many at once; each transaction is signed once, and expired claims are
// swept on the way.
func TestParallel(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	w.Claims.sweepAt = 8
	var tokens []string
	for range 16 {
		tokens = append(tokens, org.Challenge(nil))
	}
	var wg sync.WaitGroup
	for _, token := range tokens {
		wg.Go(func() {
			if got := w.receive(t, token); got.Outcome != Approved {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	w.Claims.wait()
	if len(org.Answers()) != 16 || len(w.paper.lines) != 16 {
		t.Fatalf("%d answers, %d claims", len(org.Answers()), len(w.paper.lines))
	}
}

func TestOutcomes(t *testing.T) {
	var zero Result
	if zero.Outcome.Delivered() || zero.Outcome != Failed || Outcome(200).String() != "failed" || Outcome(200).Delivered() {
		t.Fatal("the zero outcome is not a refusal")
	}
	for o := range Outcome(len(outcomes)) {
		if o.Delivered() != (o == Approved || o == Denied || o == Reported) || strings.ContainsAny(o.String(), " A") {
			t.Error(o)
		}
	}
}

func FuzzDecodeClaim(f *testing.F) {
	f.Add(encodeClaim(claimKey{1, 2, 3}, 1795334400))
	f.Add([]byte("00 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, at, err := decodeClaim(b)
		if err != nil {
			return
		}
		if k2, at2, err := decodeClaim(encodeClaim(k, at)); err != nil || k2 != k || at2 != at {
			t.Fatalf("%q does not survive", b)
		}
	})
}
