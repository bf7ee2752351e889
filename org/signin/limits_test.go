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
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

// B1: a name is typed by anybody. It rings no device and tells of none.
func TestTypedNamesRingNothing(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	w.EnrolPush(t, w.Bob.ID)
	for _, login := range []string{signintest.AliceLogin, signintest.BobLogin, "nobody@example.com"} {
		v := w.Start(t, signintest.Keyed, signin.Redirect)
		v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, login)), signin.StepChallenge, "")
		if !slices.Equal(v.Choices[0].Methods, []string{"signed_nonce"}) || v.Challenge.Method != okta.MethodSignedNonce {
			t.Errorf("%s: %+v", login, v.Choices)
		}
		for _, m := range []string{"push", "totp"} {
			if _, err := w.Engine.Select(ctx, v.StateHandle, v.VerifyID, m); !errors.Is(err, signin.ErrRequest) {
				t.Errorf("%s, %s: %v", login, m, err)
			}
		}
	}
	if len(agent.Pending(t, w)) != 0 || len(w.Notified()) != 0 {
		t.Error("a device was rung")
	}
}

// B1: a user's devices are rung in vain five times in ten minutes, and not once
// more, whichever sign-ins ask. Approvals do not count.
func TestPushesAreThrottled(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberNever)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	for range 8 {
		v := toPush(t, w, signintest.Web)
		token := pending(t, w, agent)
		answered(t, w, token, agent.Answer(t, w, token), true)
		at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
	}
	v := toPush(t, w, signintest.Web)
	token := pending(t, w, agent)
	answered(t, w, token, agent.Answer(t, w, token, signintest.Deny), false)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, rejected)
	for range 3 {
		at(t, must(t)(w.Engine.Resend(ctx, v.StateHandle)), signin.StepChallenge, "")
	}
	toPush(t, w, signintest.Strict)
	if n := len(agent.Pending(t, w)); n != 2 {
		t.Errorf("%d pushes wait", n)
	}
	// The one that is out there stays; no other goes out, here or elsewhere.
	held := at(t, must(t)(w.Engine.Resend(ctx, v.StateHandle)), signin.StepChallenge, "countersign.push.throttled")
	if held.Message.Kind != signin.KindNotice || len(agent.Pending(t, w)) != 2 {
		t.Errorf("%+v, %d wait", held.Message, len(agent.Pending(t, w)))
	}
	s := at(t, toChoice(t, w, signintest.Web), signin.StepSelect, "")
	s = at(t, must(t)(w.Engine.Select(ctx, s.StateHandle, s.VerifyID, "push")), signin.StepSelect, "countersign.push.throttled")
	if !slices.Equal(s.Choices[0].Methods, []string{"signed_nonce", "push", "totp"}) || !strings.Contains(w.Log.String(), "pushes held back") {
		t.Errorf("choices %+v", s.Choices)
	}
	// Other ways stay open, and other people are not concerned.
	at(t, must(t)(w.Engine.Select(ctx, s.StateHandle, s.VerifyID, "totp")), signin.StepCode, "")
	bobs := w.EnrolPush(t, w.Bob.ID)
	b := w.Start(t, signintest.Web, signin.Redirect)
	must(t)(w.Engine.Identify(ctx, b.StateHandle, signintest.BobLogin))
	b = at(t, must(t)(w.Engine.Password(ctx, b.StateHandle, signintest.Password)), signin.StepOffer, "")
	at(t, must(t)(w.Engine.Select(ctx, b.StateHandle, b.VerifyID, "push")), signin.StepChallenge, "")
	pending(t, w, bobs)
	w.Clock.Advance(10 * time.Minute)
	toPush(t, w, signintest.Web)
}

// E25: a stranger who types wrong passwords all day slows down strangers, and
// not the person in the browser where they have signed in before.
func TestStrangersLockNobodyOut(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	try := func(browser, login string, password okta.Secret) signin.View {
		t.Helper()
		h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.Web, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, Browser: browser, UserAgent: "Firefox"})
		if err != nil {
			t.Fatal(err)
		}
		v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
		must(t)(w.Engine.Identify(ctx, v.StateHandle, login))
		return must(t)(w.Engine.Password(ctx, v.StateHandle, password))
	}
	const throttled, wrong = "countersign.password.throttled", "incorrectPassword"
	v := at(t, try("home", signintest.AliceLogin, signintest.Password), signin.StepSelect, "")
	must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "totp"))
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, agent.Code(t, w.Clock.Now()))), signin.StepDone, "")
	for range 5 {
		at(t, try("elsewhere", signintest.AliceLogin, "guess"), signin.StepPassword, wrong)
	}
	at(t, try("elsewhere", signintest.AliceLogin, "guess"), signin.StepPassword, throttled)
	at(t, try("home", signintest.AliceLogin, signintest.Password), signin.StepSelect, "")
	// Which forgets nothing of the stranger, whatever the program says its name
	// is. Another's browser is a stranger's, too.
	for _, browser := range []string{"elsewhere", ""} {
		at(t, try(browser, signintest.AliceLogin, signintest.Password), signin.StepPassword, throttled)
	}
	for range 5 {
		at(t, try("home", signintest.BobLogin, "guess"), signin.StepPassword, wrong)
	}
	at(t, try("elsewhere", signintest.BobLogin, "guess"), signin.StepPassword, throttled)
	// A known browser has a measure, too.
	for range 5 {
		at(t, try("home", signintest.AliceLogin, "guess"), signin.StepPassword, wrong)
	}
	at(t, try("home", signintest.AliceLogin, signintest.Password), signin.StepPassword, throttled)
}

// B1: parallel sign-ins count like others.
func TestParallelPushes(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	var views []signin.View
	for range 12 {
		views = append(views, toChoice(t, w, signintest.Web))
	}
	var sent atomic.Int32
	parallel(len(views), func(i int) {
		v, err := w.Engine.Select(ctx, views[i].StateHandle, views[i].VerifyID, "push")
		if err != nil {
			t.Error(err)
		}
		if v.Step == signin.StepChallenge {
			sent.Add(1)
		}
	})
	if sent.Load() != 5 || len(agent.Pending(t, w)) != 5 {
		t.Errorf("%d pages wait, %d pushes are out", sent.Load(), len(agent.Pending(t, w)))
	}
}

// "This wasn't me" ends the sign-in for good and is kept.
func TestReportedPush(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.Web, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, ClientIP: "203.0.113.9", UserAgent: "Curl"})
	if err != nil {
		t.Fatal(err)
	}
	v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
	must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
	must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push"))
	token := pending(t, w, agent)
	answered(t, w, token, agent.Answer(t, w, token, signintest.Report), false)
	const key = "countersign.push.reported"
	if !strings.Contains(w.Log.String(), "user reported suspicious activity") {
		t.Error("the log is silent")
	}
	var user, enrolment, challenge, client, ip, ua string
	w.Write(t, func(tx store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT user_id, enrolment_id, challenge_id, client_id, client_ip, user_agent FROM push_reports`).
			Scan(&user, &enrolment, &challenge, &client, &ip, &ua)
	})
	if user != w.Alice.ID || enrolment != agent.Enrolment.ID || challenge != signintest.Claims(t, token).ID || client != signintest.Web || ip != "203.0.113.9" || ua != "Curl" {
		t.Error(user, enrolment, challenge, client, ip, ua)
	}
	if failed := at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepFailed, key); failed.Message.Kind != signin.KindForbidden {
		t.Errorf("%+v", failed.Message)
	}
	for name, do := range map[string]func() (signin.View, error){
		"resend":    func() (signin.View, error) { return w.Engine.Resend(ctx, v.StateHandle) },
		"select":    func() (signin.View, error) { return w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push") },
		"another":   func() (signin.View, error) { return w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "totp") },
		"identify":  func() (signin.View, error) { return w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin) },
		"load anew": func() (signin.View, error) { return w.Engine.Introspect(ctx, h.StateToken, "") },
	} {
		t.Run(name, func(t *testing.T) { at(t, must(t)(do()), signin.StepFailed, key) })
	}
	if _, err := w.Engine.Cancel(ctx, v.StateHandle); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("cancel: %v", err)
	}
	if len(agent.Pending(t, w)) != 0 {
		t.Error("a push went out")
	}
	// The account is not locked for its owner.
	at(t, toChoice(t, w, signintest.Web), signin.StepSelect, "")
}

func TestPushExpiryAndResend(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberNever)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	v := toPush(t, w, signintest.Web)
	old := pending(t, w, agent)
	late := agent.Answer(t, w, old)
	w.Clock.Advance(301 * time.Second)
	w.Notified()
	if len(agent.Pending(t, w)) != 0 {
		t.Error("an expired push is in the list")
	}
	refused(t, w, old, late, okta.CodeValidation, 400)
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, "countersign.authenticator.timed_out")
	if !slices.Equal(w.Notified(), []string{agent.Enrolment.ID}) {
		t.Error("nobody was told of the end")
	}
	v = at(t, must(t)(w.Engine.Resend(ctx, v.StateHandle)), signin.StepChallenge, "")
	first := pending(t, w, agent)
	// Once more while the page waits: the earlier one is withdrawn.
	v = at(t, must(t)(w.Engine.Resend(ctx, v.StateHandle)), signin.StepChallenge, "")
	second := pending(t, w, agent)
	if first == second || first == old {
		t.Error("the same again")
	}
	refused(t, w, first, agent.Answer(t, w, first), okta.CodeValidation, 400)
	// An answer that is there already counts, instead of being thrown away.
	answered(t, w, second, agent.Answer(t, w, second), true)
	at(t, must(t)(w.Engine.Resend(ctx, v.StateHandle)), signin.StepDone, "")

	// The sweep ends what no page asks about any more, and tells.
	v = toPush(t, w, signintest.Web)
	w.Notified()
	w.Clock.Advance(6 * time.Minute)
	w.Start(t, signintest.Web, signin.Redirect)
	if !slices.Equal(w.Notified(), []string{agent.Enrolment.ID}) {
		t.Error("the sweep told nobody")
	}
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepResend, "countersign.authenticator.timed_out")
	// Leaving takes the push back.
	v = must(t)(w.Engine.Resend(ctx, v.StateHandle))
	w.Notified()
	at(t, must(t)(w.Engine.Cancel(ctx, v.StateHandle)), signin.StepIdentify, "")
	if len(agent.Pending(t, w)) != 0 || len(w.Notified()) != 1 {
		t.Error("a cancelled push is still out")
	}
	if v, err := w.Engine.Resend(ctx, v.StateHandle); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("%+v %v", v, err)
	}
}

// Where push is the only way, the person says when it is sent, until they say
// that it need not be asked.
func TestAutoPush(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolPush(t, w.Alice.ID)
	v := at(t, toChoice(t, w, signintest.Web), signin.StepOffer, "")
	if v.AutoPush == nil || *v.AutoPush || len(agent.Pending(t, w)) != 0 {
		t.Fatalf("%+v", v)
	}
	if err := w.Engine.SetAutoPush(ctx, v.StateHandle, true); err != nil {
		t.Fatal(err)
	}
	v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push")), signin.StepChallenge, "")
	if v.AutoPush == nil || !*v.AutoPush {
		t.Errorf("%+v", v.AutoPush)
	}
	pending(t, w, agent)
	v = at(t, toChoice(t, w, signintest.Web), signin.StepChallenge, "")
	if err := w.Engine.SetAutoPush(ctx, v.StateHandle, false); err != nil {
		t.Fatal(err)
	}
	at(t, toChoice(t, w, signintest.Web), signin.StepOffer, "")
	// Nobody changes it for others: at the start nothing is known of anybody.
	s := w.Start(t, signintest.Web, signin.Redirect)
	must(t)(w.Engine.Identify(ctx, s.StateHandle, signintest.AliceLogin))
	if err := w.Engine.SetAutoPush(ctx, s.StateHandle, true); err != nil {
		t.Fatal(err)
	}
	at(t, toChoice(t, w, signintest.Web), signin.StepOffer, "")
	if err := w.Engine.SetAutoPush(ctx, "nothing", true); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("%v", err)
	}
	// With another method there is a choice, and the switch has no place.
	w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	if v := toPush(t, w, signintest.Web); v.AutoPush != nil {
		t.Error("a switch where it does nothing")
	}
}
