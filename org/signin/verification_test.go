package signin_test

import (
	"slices"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
)

const (
	notSetUp     = "oie.authenticator.oktaverify.method.fastpass.verify.enable.biometrics.desktop"
	pushNotSetUp = "oie.authenticator.app.method.push.verify.enable.biometrics"
	unavailable  = "countersign.verification.unavailable"
	cancelled    = "countersign.verification.cancelled"
)

// demo-uv: password and a key that verifies the user, by either way and of
// either role; why a device could not is said to the person. Once the device
// can, the same sign-in goes on.
func TestVerifiedSignIn(t *testing.T) {
	report := func(c okta.Consent) edit { return func(r *signintest.Reply) { r.Context.UserConsent = c } }
	for name, enrol := range map[string]func(*signintest.World) *signintest.Agent{
		"biometric": func(w *signintest.World) *signintest.Agent { return w.EnrolAll(t, w.Alice.ID, "SOFTWARE") },
		"pin":       func(w *signintest.World) *signintest.Agent { return w.EnrolPIN(t, w.Alice.ID, true) },
	} {
		w := signintest.New(t)
		numbering(t, w, directory.NumberNever)
		agent := enrol(w)
		for _, method := range []string{"signed_nonce", "push"} {
			missing := map[string]string{"signed_nonce": notSetUp, "push": pushNotSetUp}[method]
			back := map[string]signin.Step{"signed_nonce": signin.StepSelect, "push": signin.StepResend}[method]
			v := at(t, toChoice(t, w, signintest.UV), signin.StepSelect, "")
			if !slices.Equal(v.Choices[0].Methods, []string{"signed_nonce", "push"}) {
				t.Fatalf("%s: offered %v", name, v.Choices[0].Methods)
			}
			ask := func() string {
				w.Clock.Advance(2 * time.Minute) // spare the throttle
				v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, method)), signin.StepChallenge, "")
				token := v.Challenge.Token
				if method == "push" {
					token = pending(t, w, agent)
				}
				c := signintest.Claims(t, token)
				if c.UserVerification != okta.NeedRequired || c.UserMediation != okta.NeedRequired ||
					!slices.Equal(c.KeyTypes, []string{"userVerification", "userVerificationBioOrPin", "proofOfPossession"}) {
					t.Fatalf("%s by %s: asks %+v", name, method, c)
				}
				return token
			}
			for _, c := range []struct {
				consent okta.Consent
				key     string
			}{
				{okta.ConsentCancelledUserVerification, cancelled},
				{okta.ConsentUVTemporarilyUnavailable, unavailable},
				{okta.ConsentUVPermanentlyUnavailable, missing},
				{okta.ConsentApproved, missing},
			} {
				token := ask()
				refused(t, w, token, agent.Answer(t, w, token, report(c.consent)), okta.CodeUVRequired, 400)
				v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), back, c.key)
				if v.Message.Text == "" || v.Message.Class != signin.ClassError {
					t.Errorf("%+v", v.Message)
				}
			}
			token := ask()
			answered(t, w, token, agent.Answer(t, w, token, agent.Verify), true)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
			w.Clock.Advance(11 * time.Minute)
		}
	}
}

// What cannot verify the user is neither offered nor rung, method by method.
func TestVerificationIsOfferedWhereItCanBe(t *testing.T) {
	w := signintest.New(t)
	silent := w.EnrolPush(t, w.Alice.ID)
	at(t, toChoice(t, w, signintest.UV), signin.StepFailed, "countersign.no_authenticator")
	agent := w.EnrolPIN(t, w.Alice.ID, false) // verifies over loopback alone
	v := at(t, toChoice(t, w, signintest.UV), signin.StepChallenge, "")
	if v.Challenge.Method != okta.MethodSignedNonce {
		t.Errorf("%+v", v.Challenge)
	}
	if _, err := w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push"); err == nil {
		t.Error("a push that nobody can answer well enough")
	}
	both := w.EnrolPIN(t, w.Alice.ID, true)
	v = at(t, toChoice(t, w, signintest.UV), signin.StepSelect, "")
	at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push")), signin.StepChallenge, "")
	for who, n := range map[*signintest.Agent]int{silent: 0, agent: 0, both: 1} {
		if got := len(who.Pending(t, w)); got != n {
			t.Errorf("%s: %d pushes, want %d", who.Enrolment.ID, got, n)
		}
	}
}

// C3: malware with the silent key says that it verified the user. Whatever it
// flips, the key that signed is what counts.
func TestC3FlippedFlags(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberNever)
	agent := w.EnrolPIN(t, w.Alice.ID, true)
	for _, method := range []okta.Method{okta.MethodSignedNonce, okta.MethodPush} {
		m, _ := agent.Enrolment.Method(method)
		key := func(role okta.KeyType) device.Key { k, _ := m.Key(role); return k }
		uv := key(okta.KeyUserVerificationBioOrPIN).JWK.KeyID
		claim := func(r *signintest.Reply) {
			r.Context.UserConsent, r.AMR = okta.ConsentApprovedUserVerification, []string{"pin", "fpt"}
		}
		flips := []struct {
			name string
			flip edit
			code okta.ErrorCode
			ends bool // authentic: it ends the challenge
		}{
			{"the consent", claim, okta.CodeUVRequired, true},
			{"the key's role", func(r *signintest.Reply) { claim(r); r.KeyType = okta.KeyUserVerificationBioOrPIN }, okta.CodeValidation, false},
			{"the key's role, as biometric", func(r *signintest.Reply) { claim(r); r.KeyType = okta.KeyUserVerification }, okta.CodeValidation, false},
			{"role and kid", func(r *signintest.Reply) { claim(r); r.KeyType, r.KID = okta.KeyUserVerificationBioOrPIN, uv }, okta.CodeValidation, false},
			{"the kid", func(r *signintest.Reply) { claim(r); r.KID = uv }, okta.CodeValidation, false},
			{"a PIN as a fingerprint", func(r *signintest.Reply) { agent.Verify(r); r.KeyType = okta.KeyUserVerification }, okta.CodeValidation, false},
			{"a role of its own", func(r *signintest.Reply) { claim(r); r.KeyType = "hardwareVerification" }, okta.CodeValidation, false},
		}
		for _, f := range flips {
			w.Clock.Advance(11 * time.Minute)
			v := at(t, toChoice(t, w, signintest.UV), signin.StepSelect, "")
			v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, string(method))), signin.StepChallenge, "")
			token := v.Challenge.Token
			if method == okta.MethodPush {
				token = pending(t, w, agent)
			}
			refused(t, w, token, agent.Answer(t, w, token, f.flip), f.code, 400)
			if f.ends {
				if v := must(t)(w.Engine.Poll(ctx, v.StateHandle)); v.Step == signin.StepDone || v.Message == nil {
					t.Errorf("%s, %s: %+v", method, f.name, v)
				}
				continue
			}
			// A forgery ends nothing: the honest answer still counts.
			answered(t, w, token, agent.Answer(t, w, token, agent.Verify), true)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
		}
	}
}
