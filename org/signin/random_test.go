package signin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

// E8: however the steps are mixed, success needs what the policy asks for: a
// model remembers what was really proven since the last fresh start.
func TestRandomOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := signintest.New(t)
	agent, bobs := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), w.EnrolAll(t, w.Bob.ID, jose.ProtectionSoftware)
	apps := []string{signintest.Web, signintest.Strict, signintest.Verified, signintest.Enrol, signintest.Resist, signintest.Keyed}
	finished := map[string]int{}
	for range 20 {
		app := apps[rng.IntN(len(apps))]
		v := w.Start(t, app, signin.Redirect)
		handle := v.StateHandle
		var user string // who was named
		var password bool
		proven := map[string][]string{} // user -> how: "signed_nonce silent", "push approved", "totp"
		var trail []string
		for range 25 {
			a, owner := agent, w.Alice.ID
			if rng.IntN(4) == 0 {
				a, owner = bobs, w.Bob.ID
			}
			var err error
			before := v
			op := rng.IntN(11)
			if rng.IntN(10) < 6 { // mostly what the page would do next
				op = map[signin.Step]int{signin.StepIdentify: 0, signin.StepPassword: 2, signin.StepSelect: 3, signin.StepResend: 9, signin.StepCode: 10,
					signin.StepChallenge: 8 - 3*rng.IntN(2), signin.StepFastPass: 8 - 3*rng.IntN(2)}[v.Step]
			}
			switch op {
			case 0, 1:
				login := []string{signintest.AliceLogin, signintest.AliceLogin, signintest.BobLogin, "nobody"}[rng.IntN(4)]
				v, err = w.Engine.Identify(ctx, handle, login)
				if before.Step == signin.StepIdentify || before.Step == signin.StepFastPass {
					user = map[string]string{signintest.AliceLogin: w.Alice.ID, signintest.BobLogin: w.Bob.ID}[login]
					password, proven = false, map[string][]string{}
				}
				trail = append(trail, "identify "+login)
			case 2:
				right := rng.IntN(3) > 0
				pw := signintest.Password
				if !right {
					pw = "wrong"
				}
				w.Clock.Advance(31 * time.Second)
				v, err = w.Engine.Password(ctx, handle, pw)
				password = password || (right && before.Step == signin.StepPassword && (user != "" || len(proven) > 0))
				trail = append(trail, fmt.Sprint("password ", right))
			case 3:
				v, err = w.Engine.Select(ctx, handle, []string{v.VerifyID, v.VerifyID, v.PasswordID}[rng.IntN(3)], []string{"signed_nonce", "password", "push", "totp", ""}[rng.IntN(5)])
				trail = append(trail, "select")
			case 4:
				v, err = w.Engine.Launch(ctx, handle)
				trail = append(trail, "launch")
			case 5, 6:
				v, err = w.Engine.Poll(ctx, handle)
				trail = append(trail, "poll")
			case 7:
				v, err = w.Engine.CancelPoll(ctx, handle, []signin.CancelReason{signin.Unreachable, signin.UserCanceled, signin.AgentError}[rng.IntN(3)])
				trail = append(trail, "cancel poll")
			case 8:
				if before.Challenge == nil {
					continue
				}
				token := before.Challenge.Token
				if before.Challenge.Method == okta.MethodPush {
					list := a.Pending(t, w)
					if len(list) == 0 {
						continue
					}
					token = list[len(list)-1]
				}
				kind := []string{"silent", "approved", "verified", "denied"}[rng.IntN(4)]
				edits := map[string][]edit{"silent": {silently}, "approved": {signintest.Approve}, "verified": {a.Verify}, "denied": {signintest.Deny}}[kind]
				if rng.IntN(4) > 0 { // else a number is missing
					edits = append(edits, signintest.Pick(before.Challenge.Number))
				}
				ok, err := w.Engine.AnswerChallenge(ctx, signintest.Claims(t, token).TransactionID, a.Answer(t, w, token, edits...))
				if err == nil && ok {
					proven[owner] = append(proven[owner], fmt.Sprint(before.Challenge.Method, " ", kind))
				}
				trail = append(trail, fmt.Sprint("answer ", kind, " by ", owner, " ", ok))
				continue
			case 9:
				w.Clock.Advance(2 * time.Minute)
				v, err = w.Engine.Resend(ctx, handle)
				trail = append(trail, "resend")
			case 10:
				w.Clock.Advance(31 * time.Second)
				v, err = w.Engine.Code(ctx, handle, a.Code(t, w.Clock.Now()))
				if before.Step == signin.StepCode && v.Step != signin.StepCode {
					proven[owner] = append(proven[owner], "totp")
				}
				trail = append(trail, "code of "+owner)
			}
			if err != nil && !errors.Is(err, signin.ErrRequest) {
				t.Fatalf("%v: %v", trail, err)
			}
			if err != nil {
				v = before
				continue
			}
			if v.Step == signin.StepDone {
				done, err := w.Engine.Complete(ctx, v.Success.StateToken)
				if err != nil {
					t.Fatal(err)
				}
				how := proven[done.UserID]
				has := func(names ...string) bool {
					return slices.ContainsFunc(how, func(h string) bool { return slices.Contains(names, h) })
				}
				enough := len(how) > 0
				switch app {
				case signintest.Strict:
					enough = has("signed_nonce approved", "signed_nonce verified", "push approved", "push verified", "totp")
				case signintest.Verified:
					enough = has("signed_nonce verified", "push verified")
				case signintest.Resist:
					enough = has("signed_nonce silent", "signed_nonce approved", "signed_nonce verified")
				}
				if wrongUser := user != "" && done.UserID != user; wrongUser || !password && app != signintest.Keyed || !enough || has("push silent") {
					t.Fatalf("%s reached success with user %q password %v proven %v (%s): %v", app, user, password, proven, done.UserID, trail)
				}
				finished[how[len(how)-1]]++
				break
			}
		}
	}
	t.Logf("finished by %v", finished)
}

func silently(r *signintest.Reply) { r.Context.UserConsent = okta.ConsentNone }

// FuzzAnswerClaims: whatever an answer claims, in whatever kind of token, it
// ends nothing without a signature of a key that was enrolled for it; and with
// one, nothing that is not said of this very challenge.
func FuzzAnswerClaims(f *testing.F) {
	w := signintest.New(f)
	w.Write(f, func(tx store.Tx) error { return directory.SetNumberChallenge(ctx, tx, directory.NumberNever) })
	agent := w.EnrolAll(f, w.Alice.ID, jose.ProtectionSoftware)
	stranger := w.Enrol(f, w.Bob.ID, jose.ProtectionSoftware)
	v := w.Start(f, signintest.Web, signin.Redirect)
	for _, err := range []error{
		second(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin)),
		second(w.Engine.Password(ctx, v.StateHandle, signintest.Password)),
		second(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push")),
	} {
		if err != nil {
			f.Fatal(err)
		}
	}
	token := agent.Pending(f, w)[0]
	c := signintest.Claims(f, token)
	m, _ := agent.Enrolment.Method(okta.MethodPush)
	pop, _ := m.Key(okta.KeyProofOfPossession)
	var honest okta.Answer
	agent.Answer(f, w, token, func(r *signintest.Reply) { honest = r.Answer })
	for _, edit := range []func(*okta.Answer){
		func(*okta.Answer) {}, func(a *okta.Answer) { a.Nonce = "x" }, func(a *okta.Answer) { a.Context.UserConsent = okta.ConsentNone },
		func(a *okta.Answer) { a.KeyType = okta.KeyUserVerification }, func(a *okta.Answer) { a.Issuer = stranger.Enrolment.ID },
	} {
		a := honest
		edit(&a)
		claims, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(claims, okta.TypePushBind, pop.JWK.KeyID, "push", false)
		f.Add(claims, okta.TypeDeviceBind, pop.JWK.KeyID, "signed_nonce", true)
	}
	f.Fuzz(func(t *testing.T, claims []byte, typ, kid, method string, enrolled bool) {
		if !json.Valid(claims) {
			return
		}
		key := stranger.PoP
		if enrolled {
			key = agent.PoP
		}
		signed, err := jose.Sign(ctx, jose.SoftwareSigner(kid, key), typ, json.RawMessage(claims))
		if err != nil {
			return
		}
		var a okta.Answer
		_ = json.Unmarshal(claims, &a)
		mine := enrolled && kid == pop.JWK.KeyID && typ == okta.TypePushBind && method == "push" && a.Nonce == c.Nonce && a.TransactionID == c.ID &&
			a.Issuer == agent.Enrolment.ID && a.Subject == w.Alice.ID && a.Audience == c.Issuer && a.MethodEnrolmentID == m.ID && a.KeyType == okta.KeyProofOfPossession
		if mine {
			return // it may well be taken: that is what the holder of the key said
		}
		approved, err := w.Engine.AnswerChallenge(ctx, c.ID, okta.AnswerRequest{Method: okta.Method(method), ChallengeResponse: signed})
		var refusal *okta.Error
		if approved || !errors.As(err, &refusal) || refusal.HTTPStatus >= 500 {
			t.Fatalf("%v, %v: %s", approved, err, claims)
		}
		if p, err := w.Engine.Poll(ctx, v.StateHandle); err != nil || p.Step != signin.StepChallenge {
			t.Fatalf("the sign-in is at %s, %v, after %s", p.Step, err, claims)
		}
	})
}
