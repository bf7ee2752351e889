package signin_test

import (
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

type edit = func(*signintest.Reply)

// Answers that are refused and leave the challenge as it was: after all of
// them the honest answer still counts.
func TestForgedAnswers(t *testing.T) {
	w, agent := world(t)
	other, bobs := w.Enrol(t, w.Alice.ID, jose.ProtectionSoftware), w.Enrol(t, w.Bob.ID, jose.ProtectionSoftware)
	method := func(a *signintest.Agent) device.Method { m, _ := a.Enrolment.Method(okta.MethodSignedNonce); return m }
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	for name, e := range map[string]edit{
		"another key":                 func(r *signintest.Reply) { r.Key = other.PoP },
		"unknown kid":                 func(r *signintest.Reply) { r.KID = "unknown" },
		"method of another enrolment": func(r *signintest.Reply) { r.MethodEnrolmentID = method(other).ID },
		"no method":                   func(r *signintest.Reply) { r.MethodEnrolmentID = "" },
		"sub is another user":         func(r *signintest.Reply) { r.Subject = w.Bob.ID },
		"another enrolment, own key":  func(r *signintest.Reply) { r.Issuer = other.Enrolment.ID },
		"push token type":             func(r *signintest.Reply) { r.Type = okta.TypePushBind },
		"update token type":           func(r *signintest.Reply) { r.Type = okta.TypeEnrolmentUpdate },
		"no type":                     func(r *signintest.Reply) { r.Type = "" },
		"aud with a slash":            func(r *signintest.Reply) { r.Audience += "/" },                    // E5
		"aud of another org":          func(r *signintest.Reply) { r.Audience = "https://other.example" }, // E5
		"tx of another challenge":     func(r *signintest.Reply) { r.TransactionID = "ft0" },
		"another nonce":               func(r *signintest.Reply) { r.Nonce = strings.Repeat("x", 32) },
		"no nonce":                    func(r *signintest.Reply) { r.Nonce = "" },
		"no jti":                      func(r *signintest.Reply) { r.ID = "" },
		"huge jti":                    func(r *signintest.Reply) { r.ID = strings.Repeat("j", 129) },
		"expired":                     func(r *signintest.Reply) { r.ExpiresAt -= 361 },
		"not yet":                     func(r *signintest.Reply) { r.NotBefore += 361; r.ExpiresAt += 361 },
		"for ever":                    func(r *signintest.Reply) { r.ExpiresAt += 1 << 30 },
		"no exp":                      func(r *signintest.Reply) { r.ExpiresAt = 0 },
		"CIBA":                        func(r *signintest.Reply) { r.Context.TransactionType = okta.TransactionCIBA },
		"no consent":                  func(r *signintest.Reply) { r.Context.UserConsent = "" },
		"unknown role":                func(r *signintest.Reply) { r.KeyType = "root" },
		"no role":                     func(r *signintest.Reply) { r.KeyType = "" },
		"C3: PoP key claims the UV role": func(r *signintest.Reply) {
			r.KeyType = okta.KeyUserVerification
			r.Context.UserConsent = okta.ConsentApprovedUserVerification
		},
		"C3: PoP key under the UV key's id": func(r *signintest.Reply) { agent.Verify(r); r.Key = agent.PoP },
		"another user's enrolment": func(r *signintest.Reply) {
			pop, _ := method(bobs).Key(okta.KeyProofOfPossession)
			r.Issuer, r.Subject, r.MethodEnrolmentID, r.KID, r.Key = bobs.Enrolment.ID, w.Bob.ID, method(bobs).ID, pop.JWK.KeyID, bobs.PoP
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, e), okta.CodeValidation, 400)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepChallenge, "")
		})
	}
	honest := agent.Answer(t, w, v.Challenge.Token)
	for name, req := range map[string]okta.AnswerRequest{
		"nothing":            {},
		"no token":           {Method: okta.MethodSignedNonce},
		"not a token":        {Method: okta.MethodSignedNonce, ChallengeResponse: "a.b.c"},
		"cut signature":      {Method: okta.MethodSignedNonce, ChallengeResponse: honest.ChallengeResponse[:len(honest.ChallengeResponse)-4]},
		"as a push":          {Method: okta.MethodPush, ChallengeResponse: honest.ChallengeResponse},
		"oversized":          {Method: okta.MethodSignedNonce, ChallengeResponse: honest.ChallengeResponse + strings.Repeat("A", 20<<10)},
		"of another sign-in": agent.Answer(t, w, toChallenge(t, w, signintest.Web, signin.Redirect).Challenge.Token),
	} {
		t.Run(name, func(t *testing.T) { refused(t, w, v.Challenge.Token, req, okta.CodeValidation, 400) })
	}
	if _, err := w.Engine.AnswerChallenge(ctx, "ft0", honest); !errors.Is(err, okta.NewError(okta.CodeNotFound)) {
		t.Errorf("unknown challenge: %v", err)
	}
	unknown := agent.Answer(t, w, v.Challenge.Token, func(r *signintest.Reply) { r.Issuer = "pfd0" })
	refused(t, w, v.Challenge.Token, unknown, okta.CodeNotFound, 404)
	itself := okta.AnswerRequest{Method: okta.MethodSignedNonce, ChallengeResponse: v.Challenge.Token}
	refused(t, w, v.Challenge.Token, itself, okta.CodeNotFound, 404)

	answered(t, w, v.Challenge.Token, honest, true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
}

// A5: a page on another origin relays the challenge. The agent told the truth
// about the page that called it; the sign-in ends for both ends.
func TestPhishing(t *testing.T) {
	w, agent := world(t)
	for name, c := range map[string]struct {
		mode signin.Mode
		edit edit
	}{
		"relayed":                  {signin.Redirect, func(r *signintest.Reply) { r.Context.OriginHeader = "https://login.evil.example" }},
		"the embedder's, not ours": {signin.Redirect, func(r *signintest.Reply) { r.Context.OriginHeader = signintest.PageOrigin }},
		"ours, not the embedder's": {signin.InteractionCode, func(r *signintest.Reply) { r.Context.OriginHeader = signintest.BaseURL }},
		"lookalike":                {signin.Redirect, func(r *signintest.Reply) { r.Context.OriginHeader = signintest.BaseURL + ".evil.example" }},
		"trailing slash":           {signin.Redirect, func(r *signintest.Reply) { r.Context.OriginHeader += "/" }},
		"missing on loopback":      {signin.Redirect, func(r *signintest.Reply) { r.Context.OriginHeader = "" }},
		"missing everywhere":       {signin.Redirect, func(r *signintest.Reply) { r.Context.OriginHeader, r.Context.BindingType = "", "" }},
		"null":                     {signin.Redirect, func(r *signintest.Reply) { r.Context.OriginHeader = "null" }},
		"denied there":             {signin.Redirect, func(r *signintest.Reply) { signintest.Deny(r); r.Context.OriginHeader = "https://login.evil.example" }},
	} {
		t.Run(name, func(t *testing.T) {
			v := toChallenge(t, w, signintest.Web, c.mode)
			told := strings.Count(w.Log.String(), "phishing attempt declined")
			refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token, c.edit), okta.CodeOriginMismatch, 403)
			if strings.Count(w.Log.String(), "phishing attempt declined") != told+1 {
				t.Error("the log is silent")
			}
			// Not even the honest answer counts any more.
			refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), okta.CodeValidation, 400)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepFailed, "countersign.phishing")
			at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "signed_nonce")), signin.StepFailed, "countersign.phishing")
		})
	}
}

// C3: consent that the key cannot vouch for, or that is not what was asked.
func TestConsentMustFit(t *testing.T) {
	w, agent := world(t)
	consent := func(c okta.Consent) edit { return func(r *signintest.Reply) { r.Context.UserConsent = c } }
	verifiedWith := func(c okta.Consent) edit {
		return func(r *signintest.Reply) { agent.Verify(r); r.Context.UserConsent = c }
	}
	for _, c := range []struct {
		app  string
		edit edit
		code okta.ErrorCode // "" accepted
	}{
		{signintest.Web, consent(okta.ConsentNone), ""},
		{signintest.Web, consent(okta.ConsentApproved), ""},
		{signintest.Web, agent.Verify, ""},
		{signintest.Web, consent(okta.ConsentApprovedUserVerification), okta.CodeValidation},
		{signintest.Web, consent(okta.ConsentCancelledUserVerification), okta.CodeValidation},
		{signintest.Web, consent("MAYBE"), okta.CodeValidation},
		{signintest.Web, verifiedWith(okta.ConsentNone), okta.CodeValidation},
		{signintest.Strict, consent(okta.ConsentApproved), ""},
		{signintest.Strict, agent.Verify, ""},
		{signintest.Strict, consent(okta.ConsentNone), okta.CodeValidation},
		{signintest.Strict, consent(okta.ConsentApprovedUserVerification), okta.CodeValidation},
		{signintest.Verified, agent.Verify, ""},
		{signintest.Verified, consent(okta.ConsentApproved), okta.CodeUVRequired},
		{signintest.Verified, consent(okta.ConsentApprovedUserVerification), okta.CodeUVRequired},
		{signintest.Verified, consent(okta.ConsentUVTemporarilyUnavailable), okta.CodeUVRequired},
	} {
		v := toChallenge(t, w, c.app, signin.Redirect)
		req := agent.Answer(t, w, v.Challenge.Token, c.edit)
		if c.code == "" {
			answered(t, w, v.Challenge.Token, req, true)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
			continue
		}
		refused(t, w, v.Challenge.Token, req, c.code, 400)
		if v := must(t)(w.Engine.Poll(ctx, v.StateHandle)); v.Step != signin.StepSelect || v.Success != nil {
			t.Errorf("%s: %+v", c.app, v)
		}
	}
}

func TestRefusedStatuses(t *testing.T) {
	enrolment := func(status string) func(*signintest.World, *signintest.Agent, store.Tx) error {
		return func(w *signintest.World, a *signintest.Agent, tx store.Tx) error {
			return device.SetStatus(ctx, tx, a.Enrolment.ID, status, w.Clock.Now())
		}
	}
	machine := func(status string) func(*signintest.World, *signintest.Agent, store.Tx) error {
		return func(w *signintest.World, a *signintest.Agent, tx store.Tx) error {
			return device.SetDeviceStatus(ctx, tx, a.Enrolment.Device.ID, status, w.Clock.Now())
		}
	}
	user := func(status string) func(*signintest.World, *signintest.Agent, store.Tx) error {
		return func(w *signintest.World, _ *signintest.Agent, tx store.Tx) error {
			return directory.SetUserStatus(ctx, tx, w.Alice.ID, status, w.Clock.Now())
		}
	}
	for name, c := range map[string]struct {
		change func(*signintest.World, *signintest.Agent, store.Tx) error
		code   okta.ErrorCode
		status int
	}{
		"enrolment deleted":   {enrolment(device.StatusDeleted), okta.CodeEnrolmentDeleted, 410},
		"enrolment suspended": {enrolment(device.StatusSuspended), okta.CodeEnrolmentSuspended, 423},
		"device deleted":      {machine(device.StatusDeleted), okta.CodeDeviceDeleted, 410},
		"device suspended":    {machine(device.StatusSuspended), okta.CodeDeviceSuspended, 403},
		"user suspended":      {user(directory.StatusSuspended), okta.CodeUserSuspended, 423},
		"user deleted":        {user(directory.StatusDeprovisioned), okta.CodeUserDeleted, 410},
	} {
		t.Run(name, func(t *testing.T) {
			w, agent := world(t)
			v := w.Start(t, signintest.Web, signin.Redirect)
			v = must(t)(w.Engine.Launch(ctx, v.StateHandle))
			w.Write(t, func(tx store.Tx) error { return c.change(w, agent, tx) })
			refused(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), c.code, c.status)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepIdentify, "core.auth.factor.signedNonce.error.invalidDevice")
		})
	}
}

// B6: a captured answer is good for nothing, on its own challenge or another.
func TestReplay(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	jti := func(r *signintest.Reply) { r.ID = "one" }
	captured := agent.Answer(t, w, v.Challenge.Token, jti)
	answered(t, w, v.Challenge.Token, captured, true)
	refused(t, w, v.Challenge.Token, captured, okta.CodeValidation, 400)
	next := toChallenge(t, w, signintest.Web, signin.Redirect)
	refused(t, w, next.Challenge.Token, captured, okta.CodeValidation, 400)
	// An id once seen is refused even in an answer that is right otherwise, and
	// the refusal changes nothing.
	refused(t, w, next.Challenge.Token, agent.Answer(t, w, next.Challenge.Token, jti), okta.CodeValidation, 400)
	answered(t, w, next.Challenge.Token, agent.Answer(t, w, next.Challenge.Token), true)
}

// B6, E7: of 100 parallel answers one counts; of parallel polls and
// completions, one completion.
func TestParallel(t *testing.T) {
	w, agent := world(t)
	v := toChallenge(t, w, signintest.Web, signin.Redirect)
	id := signintest.Claims(t, v.Challenge.Token).TransactionID
	reqs := make([]okta.AnswerRequest, 100)
	for i := range reqs {
		reqs[i] = agent.Answer(t, w, v.Challenge.Token)
	}
	var won atomic.Int32
	parallel(100, func(i int) {
		if ok, err := w.Engine.AnswerChallenge(ctx, id, reqs[i]); err == nil && ok {
			won.Add(1)
		}
	})
	if won.Load() != 1 {
		t.Fatalf("%d answers won", won.Load())
	}
	var mu sync.Mutex
	var exits []okta.Secret
	parallel(8, func(int) {
		if p, err := w.Engine.Poll(ctx, v.StateHandle); err == nil && p.Step == signin.StepDone {
			mu.Lock()
			defer mu.Unlock()
			exits = append(exits, p.Success.StateToken)
		}
	})
	if len(exits) == 0 || len(exits) > 4 {
		t.Fatalf("%d polls told the result", len(exits))
	}
	won.Store(0)
	parallel(100, func(i int) {
		if _, err := w.Engine.Complete(ctx, exits[i%len(exits)]); err == nil {
			won.Add(1)
		}
	})
	if won.Load() != 1 {
		t.Fatalf("completed %d times", won.Load())
	}
}

// Parallel guesses at a password count like others.
func TestParallelGuesses(t *testing.T) {
	w, _ := world(t)
	var handles []okta.Secret
	for range 20 {
		v := w.Start(t, signintest.Web, signin.Redirect)
		must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
		handles = append(handles, v.StateHandle)
	}
	var looked atomic.Int32
	parallel(len(handles), func(i int) {
		if v, err := w.Engine.Password(ctx, handles[i], "wrong"); err == nil && v.Message != nil && v.Message.Key == "incorrectPassword" {
			looked.Add(1)
		}
	})
	if looked.Load() != 5 {
		t.Errorf("%d guesses were looked at", looked.Load())
	}
}

func parallel(n int, do func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// Where no password is asked for, a typed name is challenged at once. Neither
// the challenge nor what can be chosen instead tells whether anybody has that
// name, which id and which devices: anybody can type it.
func TestTypedNamesTellNothing(t *testing.T) {
	w, agent := world(t) // alice has a device, bob has none
	stranger := w.Enrol(t, w.Alice.ID, jose.ProtectionSoftware)
	type look struct {
		step       signin.Step
		claims     okta.Challenge
		choices    []signin.Choice
		after      signin.Step
		message    string
		then, last []signin.Choice
	}
	looks := map[string]look{}
	for _, login := range []string{signintest.AliceLogin, "ALICE@example.com", signintest.BobLogin, "nobody@example.com"} {
		v := w.Start(t, signintest.Keyed, signin.Redirect)
		v = must(t)(w.Engine.Identify(ctx, v.StateHandle, login))
		if v.Challenge == nil {
			t.Fatalf("%s: at %s", login, v.Step)
		}
		c := signintest.Claims(t, v.Challenge.Token)
		if c.LoginHint != login || c.UserID != "" || v.UserID != "" {
			t.Errorf("%s: hint %q, user %q, %q", login, c.LoginHint, c.UserID, v.UserID)
		}
		c.ID, c.TransactionID, c.Nonce, c.VerificationURI, c.LoginHint = "", "", "", "", ""
		l := look{step: v.Step, claims: c, choices: v.Choices}
		v = must(t)(w.Engine.CancelPoll(ctx, v.StateHandle, signin.Unreachable))
		l.after, l.message, l.then = v.Step, v.Message.Key, v.Choices
		v = must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "signed_nonce"))
		l.last = v.Choices
		looks[login] = l
	}
	for login, l := range looks {
		if !reflect.DeepEqual(l, looks["nobody@example.com"]) {
			t.Errorf("%s: %+v\nnobody: %+v", login, l, looks["nobody@example.com"])
		}
	}
	// It still is for the one who was named.
	v := w.Start(t, signintest.Keyed, signin.Redirect)
	v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.BobLogin)), signin.StepChallenge, "")
	w.Enrol(t, w.Bob.ID, jose.ProtectionSoftware)
	v = w.Start(t, signintest.Keyed, signin.Redirect)
	v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.BobLogin)), signin.StepChallenge, "")
	refused(t, w, v.Challenge.Token, stranger.Answer(t, w, v.Challenge.Token), okta.CodeValidation, 400)
	v = w.Start(t, signintest.Keyed, signin.Redirect)
	v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin)), signin.StepChallenge, "")
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	if v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, ""); v.UserID != w.Alice.ID {
		t.Errorf("signed in as %q", v.UserID)
	}
}

// Session fixation: a state token is bound to no browser, so its maker can hand
// it to somebody else's sign-in page. What that person proves is for the page
// where they prove it: whoever else holds the token starts over.
func TestTokenMakerDoesNotGetTheSignIn(t *testing.T) {
	for _, mode := range []signin.Mode{signin.Redirect, signin.InteractionCode} {
		for name, late := range map[string]bool{"before it is finished": false, "after it was finished": true} {
			w, agent := world(t)
			entry := w.Entry(t, signintest.Web, mode)
			maker := must(t)(w.Engine.Introspect(ctx, entry, "")).StateHandle
			v := must(t)(w.Engine.Introspect(ctx, entry, ""))
			v = must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
			v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepChallenge, "")
			answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
			if late {
				at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
			}
			if got, err := w.Engine.Poll(ctx, maker); !errors.Is(err, signin.ErrSessionExpired) {
				t.Errorf("%s: the maker's page is at %s, %v", name, got.Step, err)
			}
			again, err := w.Engine.Introspect(ctx, entry, "")
			if late && !errors.Is(err, signin.ErrSessionExpired) || !late && (err != nil || again.Step != signin.StepIdentify) {
				t.Errorf("%s: opened again it is at %s, %v", name, again.Step, err)
			}
			if again.Success != nil || again.UserID != "" {
				t.Errorf("%s: %+v", name, again)
			}
			if !late { // and nobody goes on with what was proven
				if got, err := w.Engine.Poll(ctx, v.StateHandle); !errors.Is(err, signin.ErrSessionExpired) {
					t.Errorf("%s: two pages hold one sign-in: %s, %v", name, got.Step, err)
				}
			}
		}
	}
}
