package signin_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

const rejected = "api.authn.poll.error.push_rejected"

// toChoice takes alice through her password.
func toChoice(t *testing.T, w *signintest.World, app string) signin.View {
	t.Helper()
	v := w.Start(t, app, signin.Redirect)
	must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
	return must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
}

// toPush takes alice to the wait for her device.
func toPush(t *testing.T, w *signintest.World, app string) signin.View {
	t.Helper()
	v := at(t, toChoice(t, w, app), signin.StepSelect, "")
	v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push")), signin.StepChallenge, "")
	if v.Challenge.Method != okta.MethodPush || v.Challenge.Token != "" {
		t.Fatalf("challenge %+v", v.Challenge)
	}
	return v
}

// pending returns the one push that waits for the agent.
func pending(t *testing.T, w *signintest.World, a *signintest.Agent) string {
	t.Helper()
	list := a.Pending(t, w)
	if len(list) != 1 {
		t.Fatalf("%d pushes wait, want one", len(list))
	}
	return list[0]
}

func numbering(t *testing.T, w *signintest.World, n directory.NumberChallenge) {
	t.Helper()
	w.Write(t, func(tx store.Tx) error { return directory.SetNumberChallenge(ctx, tx, n) })
}

func TestPush(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	v := at(t, toChoice(t, w, signintest.Strict), signin.StepSelect, "")
	if len(v.Choices) != 1 || !slices.Equal(v.Choices[0].Methods, []string{"signed_nonce", "push", "totp"}) || v.Choices[0].EnrolmentID != agent.Enrolment.ID {
		t.Fatalf("choices %+v", v.Choices)
	}
	v = toPush(t, w, signintest.Strict)
	token := pending(t, w, agent)
	c := signintest.Claims(t, token)
	m, _ := agent.Enrolment.Method(okta.MethodPush)
	pop, _ := m.Key(okta.KeyProofOfPossession)
	if c.AuthenticatorEnrolmentID != agent.Enrolment.ID || c.MethodEnrolmentID != m.ID || c.UserID != w.Alice.ID || c.KeyID != pop.JWK.KeyID ||
		c.Method != okta.MethodPush || c.UserMediation != okta.NeedRequired || c.UserVerification != okta.NeedNone ||
		c.Audience != "countersign-agent" || c.Issuer != signintest.BaseURL || c.ExpiresAt-c.IssuedAt != 300 || c.ID != c.TransactionID ||
		c.RequestReferrer != signintest.BaseURL+"/" || c.AppInstanceName != "App demo-strict" || c.OrgID != w.Org.ID ||
		c.VerificationURI != signintest.BaseURL+"/idp/myaccount/app-authenticators/challenge/"+c.ID+"/verify" {
		t.Errorf("challenge %+v", c)
	}
	if x := c.Context; x == nil || x.TransactionType != "LOGIN" || len(x.ChallengeTextItems) != 3 || !slices.Contains(x.ChallengeTextItems, v.Challenge.Number) ||
		x.TransactionTime != okta.Timestamp(w.Clock.Now()) || x.RiskLevel != "LOW" || len(x.UnusualActivities) != 0 {
		t.Errorf("context %+v", c.Context)
	}
	if err := c.Validate(okta.TypePushBind); err != nil {
		t.Error(err)
	}
	if got := w.Notified(); !slices.Equal(got, []string{agent.Enrolment.ID}) {
		t.Errorf("told %v", got)
	}
	// The page sees the same until somebody answers.
	if again := at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepChallenge, ""); again.Challenge.Number != v.Challenge.Number {
		t.Error("another number")
	}
	if len(w.Notified()) != 0 || w.Signatures != 1 {
		t.Errorf("a poll changed something: %d signatures", w.Signatures)
	}

	answered(t, w, token, agent.Answer(t, w, token, signintest.Pick(v.Challenge.Number)), true)
	if len(agent.Pending(t, w)) != 0 || !slices.Equal(w.Notified(), []string{agent.Enrolment.ID}) {
		t.Error("the push is still in the list, or nobody was told that it is not")
	}
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
	done, err := w.Engine.Complete(ctx, v.Success.StateToken)
	if err != nil || done.UserID != w.Alice.ID || done.EnrolmentID != agent.Enrolment.ID || done.KeyID != pop.JWK.KeyID || done.KeyProtection != "SOFTWARE" ||
		!slices.Equal(done.AMR, []string{"pwd", "okta_verify", "swk", "mfa"}) {
		t.Errorf("%+v %v", done, err)
	}
}

// B2: one try, and only the number on the page.
func TestNumberChallenge(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	other := func(v signin.View, items []string) string {
		return items[(slices.Index(items, v.Challenge.Number)+1)%3]
	}
	for name, pick := range map[string]func(signin.View, []string) string{
		"wrong":      other,
		"missing":    func(signin.View, []string) string { return "" },
		"not listed": func(signin.View, []string) string { return "00" },
		"all":        func(_ signin.View, items []string) string { return strings.Join(items, " ") },
		"padded":     func(v signin.View, _ []string) string { return v.Challenge.Number + " " },
	} {
		t.Run(name, func(t *testing.T) {
			w.Clock.Advance(11 * time.Minute)
			v := toPush(t, w, signintest.Web)
			token := pending(t, w, agent)
			items := signintest.Claims(t, token).Context.ChallengeTextItems
			_, err := w.Engine.AnswerChallenge(ctx, signintest.Claims(t, token).TransactionID, agent.Answer(t, w, token, signintest.Pick(pick(v, items))))
			var e *okta.Error
			if !errors.As(err, &e) || e.Code != okta.CodeValidation || e.HTTPStatus != 400 || !strings.Contains(e.Causes[0].Summary, "number") {
				t.Fatalf("%v", err)
			}
			refused(t, w, token, agent.Answer(t, w, token, signintest.Pick(v.Challenge.Number)), okta.CodeValidation, 400)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, rejected)
		})
	}
	t.Run("denied without one", func(t *testing.T) {
		w.Clock.Advance(11 * time.Minute)
		v := toPush(t, w, signintest.Web)
		token := pending(t, w, agent)
		answered(t, w, token, agent.Answer(t, w, token, signintest.Deny), false)
		at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, rejected)
	})
	t.Run("unasked", func(t *testing.T) {
		w.Clock.Advance(11 * time.Minute)
		numbering(t, w, directory.NumberNever)
		v := toPush(t, w, signintest.Web)
		token := pending(t, w, agent)
		if v.Challenge.Number != "" || signintest.Claims(t, token).Context.ChallengeTextItems != nil {
			t.Error("a number although none is asked for")
		}
		answered(t, w, token, agent.Answer(t, w, token, signintest.Pick("42")), true)
	})
	t.Run("unless the place is known", func(t *testing.T) { // see TestUnusualActivity
		numbering(t, w, directory.NumberHighRisk)
		if v := toPush(t, w, signintest.Web); v.Challenge.Number == "" {
			t.Error("no number, and nothing is known of where this comes from")
		}
	})
}

// B2: whoever picks a number to be left in peace is asked twice, whether the
// pushes come at once or one after another.
func TestPickingAtRandom(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	miss := func(token string) {
		t.Helper()
		refused(t, w, token, agent.Answer(t, w, token, signintest.Pick("00")), okta.CodeValidation, 400)
	}
	var views []signin.View
	for _, app := range []string{signintest.Web, signintest.Strict, signintest.Web} {
		views = append(views, toPush(t, w, app))
		w.Clock.Advance(time.Second) // the list is in this order, too
	}
	all := agent.Pending(t, w)
	w.Notified()
	miss(all[1])
	if len(agent.Pending(t, w)) != 0 || !slices.Equal(w.Notified(), []string{agent.Enrolment.ID}) {
		t.Error("another waits to be guessed, or nobody was told")
	}
	refused(t, w, all[0], agent.Answer(t, w, all[0], signintest.Pick(views[0].Challenge.Number)), okta.CodeValidation, 400)
	at(t, must(t)(w.Engine.Poll(ctx, views[0].StateHandle)), signin.StepSelect, "")
	at(t, must(t)(w.Engine.Poll(ctx, views[1].StateHandle)), signin.StepResend, rejected)

	w.Clock.Advance(11 * time.Minute)
	v := toPush(t, w, signintest.Web)
	for range 2 {
		miss(pending(t, w, agent))
		at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, rejected)
		v = must(t)(w.Engine.Resend(ctx, v.StateHandle))
	}
	at(t, v, signin.StepSelect, "countersign.push.throttled")
	if len(agent.Pending(t, w)) != 0 {
		t.Error("a third guess")
	}
	// Who mistook one number is not held up.
	w.Clock.Advance(11 * time.Minute)
	v = toPush(t, w, signintest.Web)
	miss(pending(t, w, agent))
	must(t)(w.Engine.Poll(ctx, v.StateHandle))
	v = at(t, must(t)(w.Engine.Resend(ctx, v.StateHandle)), signin.StepChallenge, "")
	token := pending(t, w, agent)
	answered(t, w, token, agent.Answer(t, w, token, signintest.Pick(v.Challenge.Number)), true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
}

// Several devices are asked at once; the first answer counts and the others are
// told.
func TestFirstAnswerWins(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberNever)
	agents := []*signintest.Agent{w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), w.EnrolPush(t, w.Alice.ID), w.EnrolPush(t, w.Alice.ID)}
	asleep, bobs := w.EnrolPush(t, w.Alice.ID), w.EnrolPush(t, w.Bob.ID)
	w.Write(t, func(tx store.Tx) error {
		return device.SetStatus(ctx, tx, asleep.Enrolment.ID, device.StatusSuspended, w.Clock.Now())
	})
	var all []string
	for _, a := range agents {
		all = append(all, a.Enrolment.ID)
	}
	slices.Sort(all)
	v := toPush(t, w, signintest.Web)
	if got := w.Notified(); !slices.Equal(got, all) {
		t.Errorf("told %v, want %v", got, all)
	}
	if len(asleep.Pending(t, w))+len(bobs.Pending(t, w)) != 0 {
		t.Error("a device was asked that may not answer")
	}
	first, second := pending(t, w, agents[0]), pending(t, w, agents[1])
	c, d := signintest.Claims(t, first), signintest.Claims(t, second)
	if first == second || c.TransactionID != d.TransactionID || c.Nonce != d.Nonce || c.AuthenticatorEnrolmentID == d.AuthenticatorEnrolmentID {
		t.Errorf("%+v\n%+v", c, d)
	}
	answered(t, w, first, agents[0].Answer(t, w, first, signintest.Deny), false)
	if got := w.Notified(); !slices.Equal(got, all) {
		t.Errorf("told %v, want %v", got, all)
	}
	// The denial of one ends it for all.
	refused(t, w, second, agents[1].Answer(t, w, second), okta.CodeValidation, 400)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, rejected)
	// Any of them may answer what is sent next.
	must(t)(w.Engine.Resend(ctx, v.StateHandle))
	third := pending(t, w, agents[2])
	answered(t, w, third, agents[2].Answer(t, w, third), true)
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
	if done, err := w.Engine.Complete(ctx, v.Success.StateToken); err != nil || done.EnrolmentID != agents[2].Enrolment.ID {
		t.Errorf("%+v %v", done, err)
	}
}

// B5, B6: of many answers at once, from several devices, one counts.
func TestParallelPushAnswers(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberNever)
	agents := []*signintest.Agent{w.EnrolPush(t, w.Alice.ID), w.EnrolPush(t, w.Alice.ID), w.EnrolPush(t, w.Alice.ID)}
	v := at(t, toChoice(t, w, signintest.Web), signin.StepOffer, "")
	v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push")), signin.StepChallenge, "")
	reqs := make([]okta.AnswerRequest, 60)
	approves := make([]bool, len(reqs))
	for i := range reqs {
		a := agents[i%len(agents)]
		var edits []edit
		if approves[i] = i%4 != 3; !approves[i] {
			edits = []edit{signintest.Deny}
		}
		reqs[i] = a.Answer(t, w, pending(t, w, a), edits...)
	}
	id := signintest.Claims(t, pending(t, w, agents[0])).TransactionID
	var taken, approved atomic.Int32
	parallel(len(reqs), func(i int) {
		if ok, err := w.Engine.AnswerChallenge(ctx, id, reqs[i]); err == nil {
			taken.Add(1)
			if ok != approves[i] {
				t.Errorf("answer %d: approved %v", i, ok)
			}
			if ok {
				approved.Add(1)
			}
		}
	})
	if taken.Load() != 1 {
		t.Fatalf("%d answers were taken", taken.Load())
	}
	if v = must(t)(w.Engine.Poll(ctx, v.StateHandle)); (v.Step == signin.StepDone) != (approved.Load() == 1) {
		t.Errorf("at %s after %d approvals", v.Step, approved.Load())
	}
}

// Answers to a push that are refused and leave it as it was.
func TestForgedPushAnswers(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberNever)
	agent, other := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	v := toPush(t, w, signintest.Web)
	token := pending(t, w, agent)
	late, bobs := w.EnrolPush(t, w.Alice.ID), w.EnrolPush(t, w.Bob.ID)
	nonce, _ := agent.Enrolment.Method(okta.MethodSignedNonce)
	for name, e := range map[string]edit{
		"another key":                func(r *signintest.Reply) { r.Key = other.PoP },
		"another enrolment, own key": func(r *signintest.Reply) { r.Issuer = other.Enrolment.ID },
		"the method of loopback":     func(r *signintest.Reply) { r.MethodEnrolmentID = nonce.ID },
		"as a loopback answer":       func(r *signintest.Reply) { r.Type = okta.TypeDeviceBind },
		"another nonce":              func(r *signintest.Reply) { r.Nonce = strings.Repeat("x", 32) },
		"another transaction":        func(r *signintest.Reply) { r.TransactionID = "ft0" },
		"another org":                func(r *signintest.Reply) { r.Audience = "https://other.example" },
		"sub is another user":        func(r *signintest.Reply) { r.Subject = w.Bob.ID },
		"expired":                    func(r *signintest.Reply) { r.ExpiresAt -= 361 },
		"CIBA":                       func(r *signintest.Reply) { r.Context.TransactionType = okta.TransactionCIBA },
		"unknown transaction type":   func(r *signintest.Reply) { r.Context.TransactionType = "PAY" },
		"no consent":                 func(r *signintest.Reply) { r.Context.UserConsent = "" },
		"approved and reported":      func(r *signintest.Reply) { r.Context.Reported = true },
		"C3: PoP key as UV key":      func(r *signintest.Reply) { agent.Verify(r); r.Key = agent.PoP },
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w, token, agent.Answer(t, w, token, e), okta.CodeValidation, 400)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepChallenge, "")
		})
	}
	// B8: devices that were not asked, of the same user and of another.
	for name, a := range map[string]*signintest.Agent{"enrolled afterwards": late, "somebody else's": bobs} {
		m, _ := a.Enrolment.Method(okta.MethodPush)
		pop, _ := m.Key(okta.KeyProofOfPossession)
		req := agent.Answer(t, w, token, func(r *signintest.Reply) {
			r.Issuer, r.Subject, r.MethodEnrolmentID, r.KID, r.Key = a.Enrolment.ID, a.Enrolment.UserID, m.ID, pop.JWK.KeyID, a.PoP
		})
		t.Run(name, func(t *testing.T) { refused(t, w, token, req, okta.CodeValidation, 400) })
	}
	honest := agent.Answer(t, w, token)
	t.Run("as a signed nonce", func(t *testing.T) {
		refused(t, w, token, okta.AnswerRequest{Method: okta.MethodSignedNonce, ChallengeResponse: honest.ChallengeResponse}, okta.CodeValidation, 400)
	})
	// B6: what answered one push answers no other.
	answered(t, w, token, honest, true)
	refused(t, w, token, honest, okta.CodeValidation, 400)
	v = toPush(t, w, signintest.Web)
	next := pending(t, w, agent)
	refused(t, w, next, honest, okta.CodeValidation, 400)
	// Another device of the same user answers with its own token.
	answered(t, w, next, other.Answer(t, w, pending(t, w, other)), true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
}

// B3: only an explicit approval approves a push, whatever the app would have
// settled for over loopback.
func TestPushConsent(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberNever)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	consent := func(c okta.Consent) edit { return func(r *signintest.Reply) { r.Context.UserConsent = c } }
	for _, c := range []struct {
		app  string
		edit edit
		code okta.ErrorCode // "" accepted
		key  string
	}{
		{signintest.Web, consent(okta.ConsentApproved), "", ""},
		{signintest.Web, agent.Verify, "", ""},
		{signintest.Web, consent(okta.ConsentNone), okta.CodeValidation, "countersign.authenticator.consent"},
		{signintest.Web, consent(okta.ConsentCancelledUserVerification), okta.CodeValidation, "countersign.authenticator.consent"},
		{signintest.Web, consent(okta.ConsentApprovedUserVerification), okta.CodeValidation, "countersign.authenticator.consent"},
		{signintest.Web, consent("APPROVE"), okta.CodeValidation, "countersign.authenticator.consent"},
		{signintest.Verified, agent.Verify, "", ""},
		{signintest.Verified, consent(okta.ConsentApproved), okta.CodeUVRequired, "oie.authenticator.app.method.push.verify.enable.biometrics"},
		{signintest.Verified, consent(okta.ConsentUVTemporarilyUnavailable), okta.CodeUVRequired, "countersign.verification.unavailable"},
	} {
		w.Clock.Advance(11 * time.Minute)
		v := toPush(t, w, c.app)
		token := pending(t, w, agent)
		req := agent.Answer(t, w, token, c.edit)
		if c.code == "" {
			answered(t, w, token, req, true)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
			continue
		}
		refused(t, w, token, req, c.code, 400)
		at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, c.key)
	}
}

// A push is sent where it could satisfy the policy, and nowhere else.
func TestPushIsOfferedWhereItSuffices(t *testing.T) {
	w := signintest.New(t)
	both, plain := w.EnrolAll(t, w.Alice.ID, jose.ProtectionHardware), w.EnrolPush(t, w.Alice.ID) // nothing is attested
	for app, want := range map[string][]string{
		signintest.Web: {"signed_nonce", "push", "totp"}, signintest.Strict: {"signed_nonce", "push", "totp"}, signintest.Verified: {"signed_nonce", "push"},
	} {
		v := at(t, toChoice(t, w, app), signin.StepSelect, "")
		if !slices.Equal(v.Choices[0].Methods, want) {
			t.Errorf("%s offers %v, want %v", app, v.Choices[0].Methods, want)
		}
	}
	// A7: neither push nor code where the rule wants resistance to phishing.
	v := at(t, toChoice(t, w, signintest.Resist), signin.StepChallenge, "")
	for _, m := range []string{"push", "totp"} {
		if _, err := w.Engine.Select(ctx, v.StateHandle, v.VerifyID, m); !errors.Is(err, signin.ErrRequest) {
			t.Errorf("%s: %v", m, err)
		}
	}
	at(t, toChoice(t, w, signintest.Hardware), signin.StepFailed, "countersign.no_authenticator")
	toPush(t, w, signintest.Verified)
	if len(plain.Pending(t, w)) != 0 {
		t.Error("a device without a verification key was rung for nothing")
	}
	if c := signintest.Claims(t, pending(t, w, both)); c.UserVerification != okta.NeedRequired {
		t.Errorf("%+v", c)
	}
}
