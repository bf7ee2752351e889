package challenge

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// pushWorld has one account, acc1, enrolled for pushes of both kinds.
func pushWorld(t *testing.T, org *oktatest.Org) *world {
	t.Helper()
	return newWorld(t, org, pushAccount(org, "acc1", okta.TransactionLogin, okta.TransactionCIBA))
}

func approves(number string) func(context.Context, prompt.Prompt) (prompt.Answer, error) {
	return func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
		return prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: p.Account, Number: number}, nil
	}
}

func TestPushAnswer(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := pushWorld(t, org)
	w.asker.answer = approves("42")
	token := org.PushChallenge("pfd-acc1", func(c *okta.Challenge) {
		c.RequestReferrer = org.URL + "/login"
		c.Context = &okta.ChallengeContext{
			ClientOS: "MAC_OS_X", ClientLocation: "Lisbon, Portugal", ClientIP: "203.0.113.7", RiskLevel: "HIGH",
			UnusualActivities:  []string{"ANOMALOUS_DEVICE", "ANOMALOUS_LOCATION", "ANOMALOUS_DEVICE", "SOMETHING_NEW\x1b[2J"},
			ChallengeTextItems: []string{"17", "42", "8"},
		}
	})
	want := claimsOf(t, token)
	if got := w.pushed(t, token); got.Outcome != Approved {
		t.Fatalf("%+v", got)
	}
	p := w.asker.last
	if p.Kind != "push" || p.App != "Payroll" || p.Org != org.URL || p.Account != "acc1" || p.User != oktatest.Login || !p.Pushed ||
		p.Location != "Lisbon, Portugal" || p.IP != "203.0.113.7" || p.Client != "macOS" || p.Origin != org.URL || p.Transaction != "LOGIN" ||
		!p.IssuedAt.Equal(want.IssuedAt.Time()) || !p.ExpiresAt.Equal(want.ExpiresAt.Time()) {
		t.Errorf("prompt %+v", p)
	}
	if !slices.Equal(p.Numbers, []string{"17", "42", "8"}) || !slices.Equal(p.Unusual, []string{"High risk", "New device", "New place", "SOMETHING NEW[2J"}) {
		t.Errorf("numbers %q, unusual %q", p.Numbers, p.Unusual)
	}
	a, head := w.lastAnswer(t)
	if head.Type != okta.TypePushBind || a.MethodEnrolmentID != "opp-acc1" || a.Issuer != "pfd-acc1" || a.TransactionID != want.TransactionID || a.Nonce != want.Nonce {
		t.Errorf("%+v %+v", head, a)
	}
	if a.Context != (okta.AnswerContext{UserConsent: okta.ConsentApproved, TransactionType: "LOGIN", SelectedChallengeItem: "42"}) {
		t.Errorf("context %+v", a.Context)
	}
	if last := org.Answers()[len(org.Answers())-1]; last.Method != okta.MethodPush {
		t.Errorf("method %q", last.Method)
	}
}

// TestConformance44 is the table of 4.4, the agent's half: user verification x
// user mediation x what the person does x transport -> which key, whether
// anybody is asked, which consent value. No UV key exists on this device, so
// REQUIRED is an honest report and never an approval (C3).
func TestConformance44(t *testing.T) {
	needs := []okta.Need{"", okta.NeedNone, okta.NeedDiscouraged, okta.NeedPreferred, okta.NeedRequired, "SOMETHING"}
	mediations := []okta.Need{"", okta.NeedNone, okta.NeedOptional, okta.NeedRequired, "none", "SOMETHING"}
	actions := map[string]struct {
		verdict prompt.Verdict
		consent okta.Consent // "": nothing is sent
		outcome Outcome
	}{
		"approve": {prompt.Approved, okta.ConsentApproved, Approved},
		"deny":    {prompt.Denied, okta.ConsentDenied, Denied},
		"nothing": {prompt.Unanswered, "", Expired},
	}
	org := oktatest.NewOrg(t)
	for _, kind := range []Kind{Loopback, Push} {
		for _, verification := range needs {
			for _, mediation := range mediations {
				for name, action := range actions {
					asked, consent, outcome := true, action.consent, action.outcome
					switch {
					case verification == okta.NeedRequired:
						asked, consent, outcome = false, okta.ConsentUVPermanentlyUnavailable, Reported
					case kind == Loopback && mediation == okta.NeedNone:
						asked, consent, outcome = false, okta.ConsentNone, Approved
					}
					t.Run(fmt.Sprintf("%d/UV=%s/UM=%s/%s", kind, verification, mediation, name), func(t *testing.T) {
						w := pushWorld(t, org)
						w.asker.answer = decided(action.verdict)
						before := len(org.Answers())
						mod := func(c *okta.Challenge) { c.UserVerification, c.UserMediation = verification, mediation }
						var got Result
						if kind == Push {
							got = w.pushed(t, org.PushChallenge("pfd-acc1", mod))
						} else {
							got = w.receive(t, org.Challenge(mod))
						}
						if got.Outcome != outcome || (w.asker.asked.Load() == 1) != asked {
							t.Fatalf("%+v, asked %d", got, w.asker.asked.Load())
						}
						if consent == "" {
							if len(org.Answers()) != before || w.keyring.signed.Load() != 0 {
								t.Fatal("no word, and still an answer")
							}
							return
						}
						a, _ := w.lastAnswer(t)
						if a.Context.UserConsent != consent || a.KeyType != okta.KeyProofOfPossession || len(a.AMR) != 0 {
							t.Fatalf("%+v", a)
						}
						if (a.Context.OriginHeader == "") != (kind == Push) || (a.Context.BindingType == "") != (kind == Push) {
							t.Fatalf("%+v", a.Context)
						}
					})
				}
			}
		}
	}
}

// B8: what is on an account's pending list and was not made for it, by its own
// org, is shown to nobody. E12, B9 and B2 for what a genuine one may ask.
func TestB8HostilePushes(t *testing.T) {
	org, other := oktatest.NewOrg(t), oktatest.NewOrg(t)
	mine := func() *account.Account { return pushAccount(org, "acc1", okta.TransactionLogin) }
	second := pushAccount(org, "acc2", okta.TransactionLogin)
	second.UserID, second.Username = "00uBob", "bob@example.com"
	claim := func(mod func(*okta.Challenge)) func(*testing.T) string {
		return func(*testing.T) string { return org.PushChallenge("pfd-acc1", mod) }
	}
	numbers := func(items ...string) func(*testing.T) string {
		return claim(func(c *okta.Challenge) { c.Context.ChallengeTextItems = items })
	}
	ciba := func(message string) func(*testing.T) string {
		return claim(func(c *okta.Challenge) { c.Context.TransactionType, c.Context.BindingMessage = "CIBA", message })
	}
	for name, row := range map[string]struct {
		token   func(*testing.T) string
		account string // the list it is on; default acc1
		want    Outcome
	}{
		"unsigned": {token: func(t *testing.T) string {
			return recode(t, org.PushChallenge("pfd-acc1", nil), 0, func(h map[string]any) { h["alg"] = "none" })
		}, want: Malformed},
		"no signature": {token: func(*testing.T) string {
			token := org.PushChallenge("pfd-acc1", nil)
			return token[:strings.LastIndex(token, ".")+1]
		}, want: Malformed},
		"changed": {token: func(t *testing.T) string {
			return recode(t, org.PushChallenge("pfd-acc1", nil), 1, func(m map[string]any) { m["appInstanceName"] = "Bank" })
		}, want: Forged},
		"signed by another org": {token: func(*testing.T) string {
			return other.PushChallenge("pfd-acc1", func(c *okta.Challenge) { c.Issuer, c.OrgID = org.URL, org.OrgID })
		}, want: Forged},
		"of another org":            {token: func(*testing.T) string { return other.PushChallenge("pfd-acc1", nil) }, want: NotMine},
		"loopback challenge":        {token: func(*testing.T) string { return org.Challenge(nil) }, want: Malformed},
		"loopback claims, push typ": {token: func(*testing.T) string { return org.SignChallenge(okta.TypePushBind, nil) }, want: Malformed},
		"wrong audience":            {token: claim(func(c *okta.Challenge) { c.Audience = "another-client" }), want: Forged},
		"unknown enrolment":         {token: claim(func(c *okta.Challenge) { c.AuthenticatorEnrolmentID = "pfd-other" }), want: NotMine},
		"no enrolment":              {token: claim(func(c *okta.Challenge) { c.AuthenticatorEnrolmentID = "" }), want: Malformed},
		"another user":              {token: claim(func(c *okta.Challenge) { c.UserID = "00uBob" }), want: NotMine},
		"another method's id":       {token: claim(func(c *okta.Challenge) { c.MethodEnrolmentID = "opf-acc1" }), want: Forged},
		"another account's, on this list": {token: func(*testing.T) string {
			return org.PushChallenge("pfd-acc2", func(c *okta.Challenge) { c.UserID = "00uBob" })
		}, want: NotMine},
		"this account's, on another list": {token: claim(nil), account: "acc2", want: NotMine},
		"list of no account":              {token: claim(nil), account: "-", want: NotMine},
		"answer elsewhere":                {token: claim(func(c *okta.Challenge) { c.VerificationURI = other.URL + "/verify" }), want: Forged},
		"expired":                         {token: claim(func(c *okta.Challenge) { c.IssuedAt, c.ExpiresAt = c.IssuedAt-601, c.ExpiresAt-601 }), want: Expired},
		"from the future":                 {token: claim(func(c *okta.Challenge) { c.IssuedAt, c.ExpiresAt = c.IssuedAt+330, c.ExpiresAt+330 }), want: Forged},
		"no context":                      {token: claim(func(c *okta.Challenge) { c.Context = nil }), want: Malformed},
		"one number":                      {token: numbers("42"), want: Malformed},
		"nine numbers":                    {token: numbers("1", "2", "3", "4", "5", "6", "7", "8", "9"), want: Malformed},
		"the same number twice":           {token: numbers("42", "17", "42"), want: Malformed},
		"the same number, written twice":  {token: numbers("42", " 4\u200b2 ", "17"), want: Malformed},
		"a word":                          {token: numbers("42", "yes", "17"), want: Malformed},
		"five digits":                     {token: numbers("42", "17", "12345"), want: Malformed},
		"nothing":                         {token: numbers("42", "17", "\u202e"), want: Malformed},
		"other digits":                    {token: numbers("42", "17", "४२"), want: Malformed},
		"CIBA without a message":          {token: ciba(""), want: Malformed},
		"CIBA with an invisible message":  {token: ciba("%E2%80%8B%00"), want: Malformed},
		"CIBA with an endless message":    {token: ciba(strings.Repeat("pay ", prompt.MaxMessage/4) + "me"), want: Malformed},
		"CIBA where it was not enrolled":  {token: ciba("Pay%20300?"), want: Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, org, mine(), second)
			w.asker.answer = decided(prompt.Approved)
			from := "acc1"
			if row.account != "" {
				from = strings.Trim(row.account, "-")
			}
			before := len(org.Answers())
			got := w.Receive(t.Context(), row.token(t), Transport{Kind: Push, Account: from})
			if got.Outcome != row.want {
				t.Errorf("%v (%s), want %v", got.Outcome, got.Reason, row.want)
			}
			w.untouched(t, before)
			if len(w.paper.lines) != 0 {
				t.Error("a refused push was claimed")
			}
		})
	}
}

// B2: an approval carries the number that was picked, as the org wrote it, and
// one that was not on the list carries nothing anywhere.
func TestB2PickedNumber(t *testing.T) {
	org := oktatest.NewOrg(t)
	for picked, sent := range map[string]string{"42": "42", "7": " 7 ", "": "-", "43": "-", "4": "-"} {
		w := pushWorld(t, org)
		w.asker.answer = approves(picked)
		before := len(org.Answers())
		got := w.pushed(t, org.PushChallenge("pfd-acc1", func(c *okta.Challenge) { c.Context.ChallengeTextItems = []string{"17", "42", " 7 "} }))
		if sent == "-" {
			if got.Outcome != Failed || len(org.Answers()) != before {
				t.Errorf("%q: %+v", picked, got)
			}
			continue
		}
		a, _ := w.lastAnswer(t)
		if got.Outcome != Approved || a.Context.SelectedChallengeItem != sent {
			t.Errorf("%q: %+v, %+v", picked, got, a.Context)
		}
	}
}

// The org ends a challenge whose number was wrong: the person learns that it
// was refused, and why.
func TestWrongNumberAtTheOrg(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := pushWorld(t, org)
	w.asker.answer = approves("17")
	org.ReplyToAnswers(400, `{"errorCode":"E0000001","errorSummary":"Api validation failed","errorCauses":[{"errorSummary":"wrong number"}]}`)
	got := w.pushed(t, org.PushChallenge("pfd-acc1", func(c *okta.Challenge) { c.Context.ChallengeTextItems = []string{"17", "42"} }))
	if got.Outcome != OrgRefused || !strings.Contains(got.Reason, "wrong number") || !slices.Equal(w.asker.settle, []string{"refused"}) {
		t.Fatalf("%+v, told %v", got, w.asker.settle)
	}
}

func TestCIBA(t *testing.T) {
	org := oktatest.NewOrg(t)
	for sent, shown := range map[string]string{
		"Did you make a $300 purchase%3F": "Did you make a $300 purchase?",
		"100%25 of it":                    "100% of it",
		"100% of it":                      "100% of it",    // not encoded at all
		"%2525":                           "%25",           // decoded once
		"a+b":                             "a+b",           // not a form
		"line%0Abreak%1B%5B2J":            "line break[2J", // B9
	} {
		w := pushWorld(t, org)
		w.asker.answer = decided(prompt.Approved)
		got := w.pushed(t, org.PushChallenge("pfd-acc1", func(c *okta.Challenge) {
			c.Context.TransactionType, c.Context.BindingMessage = "CIBA", sent
		}))
		if got.Outcome != Approved || w.asker.last.Message != shown || w.asker.last.Transaction != "CIBA" {
			t.Errorf("%q: %+v, shown %q", sent, got, w.asker.last.Message)
		}
		if a, _ := w.lastAnswer(t); a.Context.TransactionType != "CIBA" {
			t.Errorf("%+v", a.Context)
		}
	}
	// An unknown kind of transaction is a sign-in, and nothing else is said of it.
	w := pushWorld(t, org)
	w.asker.answer = decided(prompt.Denied)
	w.pushed(t, org.PushChallenge("pfd-acc1", func(c *okta.Challenge) {
		c.Context.TransactionType, c.Context.BindingMessage = "TRANSFER", "Pay"
	}))
	if a, _ := w.lastAnswer(t); a.Context.TransactionType != "LOGIN" || w.asker.last.Message != "" || a.Context.UserConsent != okta.ConsentDenied {
		t.Errorf("%+v, shown %q", a.Context, w.asker.last.Message)
	}
}

// B1: "this wasn't me" is a denial that says so to the org, and holds back what
// else comes for the account, across restarts, until the person lets it pass.
func TestB1ReportHoldsBack(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := pushWorld(t, org)
	w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
		return prompt.Answer{Prompt: "p1", Verdict: prompt.Denied, Account: p.Account, Report: true}, nil
	}
	if got := w.pushed(t, org.PushChallenge("pfd-acc1", nil)); got.Outcome != Denied {
		t.Fatalf("%+v", got)
	}
	a, _ := w.lastAnswer(t)
	if a.Context.UserConsent != okta.ConsentDenied || !a.Context.Reported {
		t.Fatalf("%+v", a.Context)
	}
	if !slices.Equal(w.asker.held, []string{"acc1"}) {
		t.Fatalf("held %v", w.asker.held)
	}
	w.start(t)
	before, signed := len(org.Answers()), w.keyring.signed.Load()
	for range 200 {
		if got := w.pushed(t, org.PushChallenge("pfd-acc1", nil)); got.Outcome != Held {
			t.Fatalf("%+v", got)
		}
	}
	if w.asker.asked.Load() != 1 || len(org.Answers()) != before || w.keyring.signed.Load() != signed || len(w.paper.lines) != 1 {
		t.Fatal("a held push was shown, answered or claimed")
	}
	events := map[string]int{}
	for _, r := range w.records {
		events[r.Event+" "+r.Outcome]++
	}
	if events["pushes_held held"] != 1 || events["challenge denied"] != 1 || events["challenge_refused held"] != maxRefusals {
		t.Fatalf("%v", events)
	}
	// A page that the person has before them is another matter.
	if got := w.receive(t, org.Challenge(nil)); got.Outcome != Approved {
		t.Fatalf("loopback while held: %+v", got)
	}
	if err := w.book.SetPushesHeld("acc1", false); err != nil {
		t.Fatal(err)
	}
	w.asker.answer = decided(prompt.Approved)
	if got := w.pushed(t, org.PushChallenge("pfd-acc1", nil)); got.Outcome != Approved {
		t.Fatalf("after resuming: %+v", got)
	}
	if a, _ := w.lastAnswer(t); a.Context.Reported {
		t.Fatal("an approval that reports")
	}
}

// C4: the disk is full. The report reaches the org all the same, and the record
// says that nothing is held back.
func TestReportNotDurable(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := pushWorld(t, org)
	w.Pipeline.Accounts = stuckBook{w.book}
	w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
		return prompt.Answer{Prompt: "p1", Verdict: prompt.Denied, Account: p.Account, Report: true}, nil
	}
	if got := w.pushed(t, org.PushChallenge("pfd-acc1", nil)); got.Outcome != Denied {
		t.Fatalf("%+v", got)
	}
	if a, _ := w.lastAnswer(t); !a.Context.Reported || len(w.records) != 2 || w.records[0].Outcome != "failed" {
		t.Fatalf("%+v, %+v", a.Context, w.records)
	}
}

type stuckBook struct{ *account.Book }

func (stuckBook) SetPushesHeld(string, bool) error { return errDisk }

// What the broker did not ask the person is sent nowhere, and ends for good.
func TestPushNotAsked(t *testing.T) {
	org := oktatest.NewOrg(t)
	for err, want := range map[error]Outcome{
		prompt.ErrHeld: Held, prompt.ErrReported: Held, prompt.ErrSuperseded: Superseded, prompt.ErrElsewhere: Withdrawn, prompt.ErrExpired: Expired,
	} {
		w := pushWorld(t, org)
		w.asker.answer = func(context.Context, prompt.Prompt) (prompt.Answer, error) { return prompt.Answer{}, err }
		before := len(org.Answers())
		got := w.pushed(t, org.PushChallenge("pfd-acc1", nil))
		if got.Outcome != want || got.Reason != err.Error() || len(org.Answers()) != before || w.keyring.signed.Load() != 0 {
			t.Errorf("%v: %+v", err, got)
		}
	}
}

// The list no longer has it: the prompt goes, with that reason.
func TestPushAnsweredElsewhere(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := pushWorld(t, org)
	ctx, leave := context.WithCancelCause(t.Context())
	var why error
	w.asker.answer = func(asking context.Context, _ prompt.Prompt) (prompt.Answer, error) {
		leave(prompt.ErrElsewhere)
		<-asking.Done()
		why = context.Cause(asking)
		return prompt.Answer{}, why
	}
	got := w.Receive(ctx, org.PushChallenge("pfd-acc1", nil), Transport{Kind: Push, Account: "acc1"})
	if got.Outcome != Withdrawn || !errors.Is(why, prompt.ErrElsewhere) {
		t.Fatalf("%+v, %v", got, why)
	}
}

// B7: the tolerance is five minutes to both sides. A clock that is ahead leaves
// the person a minute to answer what is over by it; nothing beyond is asked.
func TestB7PushClock(t *testing.T) {
	org := oktatest.NewOrg(t)
	for _, row := range []struct {
		clock time.Duration
		want  Outcome
		left  time.Duration
	}{
		{0, Approved, 5 * time.Minute},
		{-4 * time.Minute, Approved, 5 * time.Minute}, // a prompt never waits longer
		{-6 * time.Minute, Forged, 0},
		{4 * time.Minute, Approved, time.Minute},
		{6 * time.Minute, Approved, time.Minute},
		{9*time.Minute + 50*time.Second, Approved, 10 * time.Second},
		{10*time.Minute + 10*time.Second, Expired, 0},
		{8 * time.Hour, Expired, 0},
	} {
		w := pushWorld(t, org)
		w.clock = row.clock
		w.asker.answer = decided(prompt.Approved)
		got := w.pushed(t, org.PushChallenge("pfd-acc1", nil))
		if got.Outcome != row.want {
			t.Errorf("%v: %+v", row.clock, got)
		}
		if left := w.asker.last.ExpiresAt.Sub(time.Now().Add(row.clock)); row.want == Approved && (left > row.left || left < row.left-3*time.Second) {
			t.Errorf("%v: %v to answer", row.clock, left)
		}
	}
}

// B6: a push that is replayed, to the same list or after a restart, is not
// asked about again.
func TestB6PushReplay(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := pushWorld(t, org)
	w.asker.answer = decided(prompt.Approved)
	token := org.PushChallenge("pfd-acc1", nil)
	if got := w.pushed(t, token); got.Outcome != Approved {
		t.Fatalf("%+v", got)
	}
	for range 2 {
		if got := w.pushed(t, token); got.Outcome != AlreadyAnswered || w.asker.asked.Load() != 1 || w.keyring.signed.Load() != 1 {
			t.Fatalf("%+v", got)
		}
		w.start(t)
	}
}

// FuzzPushClaims puts any payload under a push's header. Whatever parses asks
// for something that can be shown: bounded, printable, with numbers that can be
// told apart (B9).
func FuzzPushClaims(f *testing.F) {
	f.Add(`{"iss":"https://o.example","aud":"c","iat":1,"exp":2,"orgId":"o","nonce":"n","transactionId":"t","verificationUri":"https://o.example/v","authenticatorEnrollmentId":"p","challengeContext":{"challengeTextItems":["1","2"]}}`)
	f.Add(`{"iss":"https://o.example","aud":"c","iat":1,"exp":2,"orgId":"o","nonce":"n","transactionId":"t","verificationUri":"https://o.example/v","authenticatorEnrollmentId":"p","challengeContext":{"transactionType":"CIBA","bindingMessage":"a%2Fb","unusualActivitiesTextItems":["ANOMALOUS_DEVICE",""],"riskLevel":"HIGH"}}`)
	f.Fuzz(func(t *testing.T, payload string) {
		c := &Challenge{raw: forgeToken(payload), transport: Transport{Kind: Push, Account: "acc1"}}
		if err := parse(c); err != nil {
			if result(err).Outcome != Malformed {
				t.Fatalf("%v", err)
			}
			return
		}
		var q prompt.Prompt
		c.accounts = []*account.Account{{ID: "acc1"}}
		p := New(Config{})
		p.describe(c, &q)
		if n := len(q.Numbers); n == 1 || n > maxNumbers || len(slices.Compact(slices.Sorted(slices.Values(q.Numbers)))) != n {
			t.Fatalf("numbers %q", q.Numbers)
		}
		for _, n := range q.Numbers {
			if len(n) > maxDigits || strings.Trim(n, "0123456789") != "" {
				t.Fatalf("number %q", n)
			}
			if _, ok := c.subject.item(n); !ok {
				t.Fatalf("number %q cannot be picked", n)
			}
		}
		if q.Transaction != "LOGIN" && (q.Transaction != "CIBA" || q.Message == "") || utf8.RuneCountInString(q.Message) > prompt.MaxMessage || prompt.Clean(q.Message, prompt.MaxMessage) != q.Message {
			t.Fatalf("%q about %q", q.Transaction, q.Message)
		}
		if len(q.Unusual) > maxUnusual+1 {
			t.Fatalf("%d unusual things", len(q.Unusual))
		}
	})
}

// forgeToken is a token with the header of a push, any payload and no honest
// signature.
func forgeToken(payload string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256","kid":"k","typ":"`+okta.TypePushBind+`"}`)) + "." + part([]byte(payload)) + "." + part(make([]byte, 256))
}
