package signin_test

import (
	"context"
	"errors"
	"slices"
	"strings"
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

var ctx = context.Background()

// must returns a step's view.
func must(t *testing.T) func(signin.View, error) signin.View {
	return func(v signin.View, err error) signin.View {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func at(t *testing.T, v signin.View, step signin.Step, key string) signin.View {
	t.Helper()
	got := ""
	if v.Message != nil {
		got = v.Message.Key
	}
	if v.Step != step || got != key {
		t.Fatalf("at %s with message %q, want %s with %q", v.Step, got, step, key)
	}
	return v
}

// toChallenge takes alice through her password to the challenge.
func toChallenge(t *testing.T, w *signintest.World, app string, mode signin.Mode) signin.View {
	t.Helper()
	v := at(t, w.Start(t, app, mode), signin.StepIdentify, "")
	v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin)), signin.StepPassword, "")
	v = must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	return at(t, v, signin.StepChallenge, "")
}

func world(t *testing.T) (*signintest.World, *signintest.Agent) {
	w := signintest.New(t)
	return w, w.Enrol(t, w.Alice.ID, jose.ProtectionSoftware)
}

// answered delivers an answer that must be taken.
func answered(t *testing.T, w *signintest.World, challenge string, req okta.AnswerRequest, wantApproved bool) {
	t.Helper()
	approved, err := w.Engine.AnswerChallenge(ctx, signintest.Claims(t, challenge).TransactionID, req)
	if err != nil || approved != wantApproved {
		t.Fatalf("answer: approved %v, %v", approved, err)
	}
}

func refused(t *testing.T, w *signintest.World, challenge string, req okta.AnswerRequest, code okta.ErrorCode, status int) {
	t.Helper()
	approved, err := w.Engine.AnswerChallenge(ctx, signintest.Claims(t, challenge).TransactionID, req)
	var e *okta.Error
	if approved || !errors.As(err, &e) || e.Code != code || e.HTTPStatus != status {
		t.Fatalf("answer: approved %v, %v; want %d %s", approved, err, status, code)
	}
}

func TestSilentSignIn(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	c := signintest.Claims(t, v.Challenge.Token)
	if c.UserMediation != okta.NeedNone || c.UserVerification != okta.NeedNone || c.UserID != w.Alice.ID || c.LoginHint != signintest.AliceLogin ||
		c.Audience != "countersign-agent" || c.Issuer != signintest.BaseURL || c.ExpiresAt-c.IssuedAt != 300 || c.ID != c.TransactionID ||
		len(c.Nonce) != 32 || c.RequestReferrer != signintest.BaseURL+"/" || c.AppInstanceName != "App demo-web" || c.OrgID != w.Org.ID {
		t.Errorf("challenge %+v", c)
	}
	if err := c.Validate(okta.TypeDeviceBind); err != nil {
		t.Error(err)
	}
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")

	done, err := w.Engine.Complete(ctx, v.Success.StateToken)
	if err != nil {
		t.Fatal(err)
	}
	if done.UserID != w.Alice.ID || done.EnrolmentID != agent.Enrolment.ID || done.KeyProtection != "SOFTWARE" ||
		!slices.Equal(done.AMR, []string{"pwd", "okta_verify", "phr", "swk", "mfa"}) || !done.AuthTime.Equal(w.Clock.Now()) || done.FromSession {
		t.Errorf("completed %+v", done)
	}
	if _, err := w.Engine.Complete(ctx, v.Success.StateToken); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("completed twice: %v", err)
	}
	if _, err := w.Engine.Poll(ctx, v.StateHandle); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("poll after completion: %v", err)
	}
}

// A state token is bound to no page: a page that the org trusts may show the
// sign-in. The challenge is then that page's, and the org's own page, opened
// with the same token, gets one of its own.
func TestStateTokenOnATrustedPage(t *testing.T) {
	for page, answersFrom := range map[string]string{
		signintest.PageOrigin: signintest.PageOrigin,
		signintest.BaseURL:    signintest.BaseURL,
		"":                    signintest.BaseURL,
	} {
		w, agent := world(t)
		v := must(t)(w.Engine.Introspect(ctx, w.Entry(t, signintest.Web, signin.Redirect), page))
		if page == signintest.PageOrigin { // also after starting over
			v = must(t)(w.Engine.Cancel(ctx, v.StateHandle))
		}
		v = must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
		v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepChallenge, "")
		if c := signintest.Claims(t, v.Challenge.Token); c.RequestReferrer != answersFrom+"/" {
			t.Errorf("%q: referrer %q", page, c.RequestReferrer)
		}
		answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
		at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
	}
	// An interaction belongs to the page that started it, whoever opens it.
	w, _ := world(t)
	v := must(t)(w.Engine.Introspect(ctx, w.Entry(t, signintest.Web, signin.InteractionCode), "http://localhost:4000"))
	v = must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
	v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepChallenge, "")
	if c := signintest.Claims(t, v.Challenge.Token); c.RequestReferrer != signintest.PageOrigin+"/" {
		t.Errorf("interaction: referrer %q", c.RequestReferrer)
	}
}

func TestInteractionCode(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Web, signin.InteractionCode)
	if c := signintest.Claims(t, v.Challenge.Token); c.RequestReferrer != signintest.PageOrigin+"/" {
		t.Errorf("referrer %q", c.RequestReferrer)
	}
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
	if v.Success.InteractionCode.Reveal() != "code-1" || v.Success.StateToken != "" {
		t.Errorf("success %+v", v.Success)
	}
	// A second poll that was under way gets a code too, but not for ever.
	must(t)(w.Engine.Poll(ctx, v.StateHandle))
	w.Clock.Advance(2 * time.Minute)
	if _, err := w.Engine.Poll(ctx, v.StateHandle); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("late poll: %v", err)
	}
	if codes := w.Codes(); len(codes) != 2 || codes[0].UserID != w.Alice.ID || codes[0].Intent.ClientID != signintest.Web {
		t.Errorf("codes %+v", codes)
	}
}

func TestRefusedCode(t *testing.T) {
	w, agent := world(t)
	w.CodeError = errors.New("assurance not reached")
	v := toChallenge(t, w, signintest.Web, signin.InteractionCode)
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	for range 2 {
		v := at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepFailed, "security.access_denied")
		if v.Success != nil {
			t.Errorf("%+v", v)
		}
	}
}

func TestPollRepeatsTheChallengeAndSignsOnce(t *testing.T) {
	w, _ := world(t)
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	for range 5 {
		w.Clock.Advance(4 * time.Second)
		again := at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepChallenge, "")
		if again.Challenge.Token != v.Challenge.Token {
			t.Fatal("another challenge")
		}
	}
	if w.Signatures != 1 {
		t.Errorf("%d signatures", w.Signatures)
	}
}

func TestAskedApprove(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Strict, signin.Redirect)
	if c := signintest.Claims(t, v.Challenge.Token); c.UserMediation != okta.NeedRequired {
		t.Errorf("mediation %s", c.UserMediation)
	}
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, signintest.Approve), true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
}

func TestSilentAnswerWhereApprovalIsAsked(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Strict, signin.Redirect)
	refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), okta.CodeValidation, 400)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepSelect, "countersign.authenticator.consent")
}

func TestDeny(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Strict, signin.Redirect)
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, signintest.Deny), false)
	refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, signintest.Approve), okta.CodeValidation, 400)
	denied := at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepSelect, "api.authn.poll.error.push_rejected")
	if denied.Message.Kind != signin.KindInvalid || len(denied.Choices) != 1 {
		t.Errorf("denied: %+v", denied)
	}
	// The way back: choose the authenticator again, and approve.
	again := at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, denied.Choices[0].AuthenticatorID, "signed_nonce")), signin.StepChallenge, "")
	if again.Challenge.Token == v.Challenge.Token {
		t.Error("the denied challenge is back")
	}
	answered(t, w, again.Challenge.Token, agent.Answer(t, w, again.Challenge.Token, signintest.Approve), true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
}

func TestWrongPassword(t *testing.T) {
	w, _ := world(t)
	v := w.Start(t, signintest.Web, signin.Redirect)
	must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
	for i := range 5 {
		wrong := at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, "wrong")), signin.StepPassword, "incorrectPassword")
		if wrong.Message.Kind != signin.KindUnauthorized || wrong.UserID != "" || i > 5 {
			t.Errorf("%+v", wrong)
		}
	}
	// Then guessing slows down, even for the right password, and for a moment only.
	at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepPassword, "countersign.password.throttled")
	w.Clock.Advance(31 * time.Second)
	at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepChallenge, "")
}

// Unknown, suspended and wrong all look the same.
func TestUnknownUser(t *testing.T) {
	w, _ := world(t)
	w.Write(t, func(tx store.Tx) error {
		return directory.SetUserStatus(ctx, tx, w.Bob.ID, directory.StatusSuspended, w.Clock.Now())
	})
	for _, login := range []string{"nobody@example.com", signintest.BobLogin} {
		v := w.Start(t, signintest.Web, signin.Redirect)
		v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, login)), signin.StepPassword, "")
		v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepPassword, "incorrectPassword")
		if v.UserID != "" || len(v.Choices) != 0 || v.Identifier != login {
			t.Errorf("%s: %+v", login, v)
		}
	}
}

// A7: loopback out of reach ends in the same strong method again, and in
// nothing weaker.
func TestAgentAbsent(t *testing.T) {
	w, _ := world(t)
	for _, app := range []string{signintest.Web, signintest.Resist} {
		v := toChallenge(t, w, app, signin.Redirect)
		stale := v.Challenge.Token
		v = at(t, must(t)(w.Engine.CancelPoll(ctx, v.StateHandle, signin.Unreachable)), signin.StepSelect, "countersign.authenticator.unreachable")
		if len(v.Choices) != 1 || v.Choices[0].Key != "okta_verify" || !slices.Equal(v.Choices[0].Methods, []string{"signed_nonce"}) {
			t.Errorf("%s offers %+v", app, v.Choices)
		}
		for _, weaker := range []string{"push", "totp", "password", "email"} {
			for _, id := range []string{v.PasswordID, v.VerifyID, "aut0"} {
				if _, err := w.Engine.Select(ctx, v.StateHandle, id, weaker); !errors.Is(err, signin.ErrRequest) {
					t.Errorf("%s admits %s of %s: %v", app, weaker, id, err)
				}
			}
		}
		// The withdrawn challenge takes no answer.
		agent := w.Enrol(t, w.Alice.ID, jose.ProtectionSoftware)
		refused(t, w, stale, agent.Answer(t, w, stale), okta.CodeValidation, 400)
	}
}

func TestCancelAfterTheAnswerWasTaken(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	at(t, must(t)(w.Engine.CancelPoll(ctx, v.StateHandle, signin.AgentError)), signin.StepDone, "")

	v = toChallenge(t, w, signintest.Web, signin.Redirect)
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	at(t, must(t)(w.Engine.CancelPoll(ctx, v.StateHandle, signin.UserCanceled)), signin.StepSelect, "")
	if _, err := w.Engine.CancelPoll(ctx, v.StateHandle, "BECAUSE"); !errors.Is(err, signin.ErrRequest) {
		t.Errorf("unknown reason: %v", err)
	}
}

func TestFastPassButton(t *testing.T) {
	w, agent := world(t)
	v := w.Start(t, signintest.Web, signin.Redirect)
	v = at(t, must(t)(w.Engine.Launch(ctx, v.StateHandle)), signin.StepFastPass, "")
	if c := signintest.Claims(t, v.Challenge.Token); c.UserID != "" || c.LoginHint != "" || c.UserMediation != okta.NeedNone {
		t.Errorf("challenge %+v", c)
	}
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepPassword, "")
	if v.Identifier != signintest.AliceLogin {
		t.Errorf("identified %q", v.Identifier)
	}
	v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepDone, "")
	done, err := w.Engine.Complete(ctx, v.Success.StateToken)
	if err != nil || done.EnrolmentID != agent.Enrolment.ID || !slices.Contains(done.AMR, "mfa") {
		t.Errorf("%+v %v", done, err)
	}
}

func TestFastPassUnreachableAndDenied(t *testing.T) {
	w, agent := world(t)
	v := w.Start(t, signintest.Web, signin.Redirect)
	must(t)(w.Engine.Launch(ctx, v.StateHandle))
	at(t, must(t)(w.Engine.CancelPoll(ctx, v.StateHandle, signin.Unreachable)), signin.StepIdentify, "countersign.authenticator.unreachable")
	v = must(t)(w.Engine.Launch(ctx, v.StateHandle))
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, signintest.Deny), false)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepIdentify, "api.authn.poll.error.push_rejected")
}

func TestPasswordUntilEnrolled(t *testing.T) {
	w := signintest.New(t)
	signIn := func() signin.View {
		v := w.Start(t, signintest.Enrol, signin.Redirect)
		must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
		return must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	}
	v := at(t, signIn(), signin.StepDone, "")
	if done, err := w.Engine.Complete(ctx, v.Success.StateToken); err != nil || !slices.Equal(done.AMR, []string{"pwd"}) {
		t.Errorf("%+v %v", done, err)
	}
	agent := w.Enrol(t, w.Alice.ID, jose.ProtectionSoftware)
	at(t, signIn(), signin.StepChallenge, "")
	// Losing the device opens no door.
	w.Write(t, func(tx store.Tx) error {
		return device.SetStatus(ctx, tx, agent.Enrolment.ID, device.StatusSuspended, w.Clock.Now())
	})
	at(t, signIn(), signin.StepFailed, "countersign.no_authenticator")
}

func TestNoUsableAuthenticator(t *testing.T) {
	w := signintest.New(t)
	w.Enrol(t, w.Alice.ID, jose.ProtectionHardware) // says hardware, attests nothing
	for app, key := range map[string]string{
		signintest.Hardware: "countersign.no_authenticator",
		signintest.Private:  "idx.error.user.not.assigned.to.app",
	} {
		v := w.Start(t, app, signin.Redirect)
		must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
		v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepFailed, key)
		if v.Message.Kind != signin.KindForbidden {
			t.Errorf("%+v", v.Message)
		}
	}
}

func TestUserVerification(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Verified, signin.Redirect)
	if c := signintest.Claims(t, v.Challenge.Token); c.UserVerification != okta.NeedRequired || !slices.Equal(c.KeyTypes, []string{"userVerification", "userVerificationBioOrPin", "proofOfPossession"}) {
		t.Errorf("challenge %+v", c)
	}
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, agent.Verify), true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")

	v = toChallenge(t, w, signintest.Verified, signin.Redirect)
	refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, func(r *signintest.Reply) {
		r.Context.UserConsent = okta.ConsentUVPermanentlyUnavailable
	}), okta.CodeUVRequired, 400)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepSelect, "oie.authenticator.oktaverify.method.fastpass.verify.enable.biometrics.desktop")
}

func TestExpiry(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	late := agent.Answer(t, w, v.Challenge.Token)
	w.Clock.Advance(301 * time.Second)
	refused(t, w, v.Challenge.Token, late, okta.CodeValidation, 400)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepSelect, "countersign.authenticator.timed_out")
	w.Clock.Advance(time.Hour)
	for name, err := range map[string]error{
		"poll":       second(w.Engine.Poll(ctx, v.StateHandle)),
		"select":     second(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "signed_nonce")),
		"cancel":     second(w.Engine.Cancel(ctx, v.StateHandle)),
		"introspect": second(w.Engine.Introspect(ctx, v.StateHandle, "")),
		"unknown":    second(w.Engine.Poll(ctx, "nothing")),
		"empty":      second(w.Engine.Poll(ctx, "")),
	} {
		if !errors.Is(err, signin.ErrSessionExpired) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The next start sweeps it away.
	w.Start(t, signintest.Web, signin.Redirect)
	var n int
	w.Write(t, func(tx store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM signin_transactions) + (SELECT COUNT(*) FROM challenges)`).Scan(&n)
	})
	if n != 1 {
		t.Errorf("%d rows left", n)
	}
}

func second(_ signin.View, err error) error { return err }

func TestCancelStartsAfresh(t *testing.T) {
	w, agent := world(t)
	entry := w.Entry(t, signintest.Web, signin.Redirect)
	v := must(t)(w.Engine.Introspect(ctx, entry, ""))
	must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
	v = must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	fresh := at(t, must(t)(w.Engine.Cancel(ctx, v.StateHandle)), signin.StepIdentify, "")
	if fresh.StateHandle == v.StateHandle || fresh.UserID != "" || fresh.Identifier != "" {
		t.Errorf("%+v", fresh)
	}
	if _, err := w.Engine.Poll(ctx, v.StateHandle); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("old handle: %v", err)
	}
	refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), okta.CodeValidation, 400)
	// The page may be loaded again, with either value.
	at(t, must(t)(w.Engine.Introspect(ctx, entry, "")), signin.StepIdentify, "")
	at(t, must(t)(w.Engine.Introspect(ctx, fresh.StateHandle, "")), signin.StepIdentify, "")
}

func TestSessionSatisfies(t *testing.T) {
	w, agent := world(t)
	facts := signin.SessionFacts{UserID: w.Alice.ID, AMR: []string{"pwd", "okta_verify", "phr", "swk", "mfa"},
		AuthTime: w.Clock.Now().Add(-time.Hour), EnrolmentID: agent.Enrolment.ID}
	w.Sessions["good"] = facts
	weak := facts
	weak.AMR, weak.EnrolmentID = []string{"pwd"}, ""
	w.Sessions["weak"] = weak
	minute, day := 60, 86400
	for name, c := range map[string]struct {
		in   signin.Intent
		want bool
	}{
		"enough":        {signin.Intent{ClientID: signintest.Web, SessionID: "good"}, true},
		"young enough":  {signin.Intent{ClientID: signintest.Web, SessionID: "good", MaxAge: &day}, true},
		"too old":       {signin.Intent{ClientID: signintest.Web, SessionID: "good", MaxAge: &minute}, false},
		"login wanted":  {signin.Intent{ClientID: signintest.Web, SessionID: "good", Prompt: "login"}, false},
		"unknown":       {signin.Intent{ClientID: signintest.Web, SessionID: "other"}, false},
		"one factor":    {signin.Intent{ClientID: signintest.Web, SessionID: "weak"}, false},
		"no presence":   {signin.Intent{ClientID: signintest.Strict, SessionID: "good"}, false},
		"not assigned":  {signin.Intent{ClientID: signintest.Private, SessionID: "good"}, false},
		"none at hand":  {signin.Intent{ClientID: signintest.Web}, false},
		"no hardware":   {signin.Intent{ClientID: signintest.Hardware, SessionID: "good"}, false},
		"no inherence":  {signin.Intent{ClientID: signintest.Verified, SessionID: "good"}, false},
		"weak enrolled": {signin.Intent{ClientID: signintest.Enrol, SessionID: "weak"}, false},
	} {
		c.in.Mode, c.in.PageOrigin = signin.Redirect, signintest.BaseURL
		h, err := w.Engine.Start(ctx, c.in)
		if err != nil || h.Satisfied != c.want {
			t.Errorf("%s: %v %v", name, h.Satisfied, err)
			continue
		}
		if !c.want {
			at(t, must(t)(w.Engine.Introspect(ctx, h.StateToken, "")), signin.StepIdentify, "")
			continue
		}
		done, err := w.Engine.Complete(ctx, h.StateToken)
		if err != nil || !done.FromSession || done.UserID != w.Alice.ID || !done.AuthTime.Equal(facts.AuthTime) || !slices.Equal(done.AMR, facts.AMR) {
			t.Errorf("%s: %+v %v", name, done, err)
		}
	}
	// The enrolment behind the session is gone: the session proves nothing more.
	w.Write(t, func(tx store.Tx) error {
		return device.SetStatus(ctx, tx, agent.Enrolment.ID, device.StatusDeleted, w.Clock.Now())
	})
	h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.Web, SessionID: "good", Mode: signin.Redirect, PageOrigin: signintest.BaseURL})
	if err != nil || h.Satisfied {
		t.Errorf("%+v %v", h, err)
	}
}

// What is true when it ends counts, not what was true on the way.
func TestChangesOnTheWay(t *testing.T) {
	for name, change := range map[string]func(w *signintest.World, a *signintest.Agent, tx store.Tx) error{
		"user suspended": func(w *signintest.World, _ *signintest.Agent, tx store.Tx) error {
			return directory.SetUserStatus(ctx, tx, w.Alice.ID, directory.StatusSuspended, w.Clock.Now())
		},
		"enrolment deleted": func(w *signintest.World, a *signintest.Agent, tx store.Tx) error {
			return device.SetStatus(ctx, tx, a.Enrolment.ID, device.StatusDeleted, w.Clock.Now())
		},
		"policy gone": func(_ *signintest.World, _ *signintest.Agent, tx store.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE policies SET status = 'INACTIVE'`)
			return err
		},
		"no longer assigned": func(_ *signintest.World, _ *signintest.Agent, tx store.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM app_groups`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, agent := world(t)
			v := toChallenge(t, w, signintest.Web, signin.Redirect)
			answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
			w.Write(t, func(tx store.Tx) error { return change(w, agent, tx) })
			v = must(t)(w.Engine.Poll(ctx, v.StateHandle))
			if v.Step != signin.StepFailed || v.Success != nil {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	w := signintest.New(t)
	for name, in := range map[string]signin.Intent{
		"zero":        {},
		"no mode":     {ClientID: signintest.Web, PageOrigin: signintest.BaseURL},
		"no page":     {ClientID: signintest.Web, Mode: signin.Redirect},
		"unknown app": {ClientID: "other", Mode: signin.Redirect, PageOrigin: signintest.BaseURL},
	} {
		if _, err := w.Engine.Start(ctx, in); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

// Secrets of a sign-in are in no log and no table.
func TestSecretsStaySecret(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	v = must(t)(w.Engine.Poll(ctx, v.StateHandle))
	var rows string
	w.Write(t, func(tx store.Tx) error {
		var a, b, c string
		err := tx.QueryRowContext(ctx, `SELECT (SELECT group_concat(digest) FROM signin_handles), (SELECT group_concat(intent || state) FROM signin_transactions),
			(SELECT group_concat(subject) FROM password_attempts)`).Scan(&a, &b, new(any))
		rows = a + b + c
		return err
	})
	for _, secret := range []okta.Secret{v.StateHandle, v.Success.StateToken, signintest.Password} {
		if strings.Contains(w.Log.String(), secret.Reveal()) || strings.Contains(rows, secret.Reveal()) {
			t.Error("a secret was written down")
		}
	}
}
