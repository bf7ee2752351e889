package signin_test

import (
	"slices"
	"testing"

	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
)

// What a key says of itself when it is enrolled and when it signs decides which
// rules it meets, and what the tokens say of it.
func TestWhatASecurityKeyProves(t *testing.T) {
	const (
		uv      = signintest.FlagUP | signintest.FlagUV
		passkey = uv | signintest.FlagBE | signintest.FlagBS
	)
	for name, c := range map[string]struct {
		app            string
		enrolled, says byte
		want           string // the message of a refusal
		amr            []string
	}{
		"a key that resists phishing":             {app: signintest.Resist, enrolled: uv, says: uv, amr: []string{"pwd", "pop", "mfa"}},
		"resists without verification, too":       {app: signintest.Resist, enrolled: signintest.FlagUP, says: signintest.FlagUP, amr: []string{"pwd", "pop", "mfa"}},
		"and so does a passkey":                   {app: signintest.Resist, enrolled: passkey, says: passkey, amr: []string{"pwd", "pop", "mfa"}},
		"that was copied since":                   {app: signintest.Resist, enrolled: uv | signintest.FlagBE, says: passkey, amr: []string{"pwd", "pop", "mfa"}},
		"a passkey verifies":                      {app: signintest.UV, enrolled: passkey, says: passkey, amr: []string{"pwd", "pop", "mfa"}},
		"a key that has verified the person":      {app: signintest.UV, enrolled: signintest.FlagUP, says: uv, amr: []string{"pwd", "pop", "mfa"}},
		"one that did so when it was enrolled":    {app: signintest.UV, enrolled: uv, says: signintest.FlagUP, want: "authfactor.webauthn.error.user_verification"},
		"presence alone, where that is asked":     {app: signintest.Strict, enrolled: signintest.FlagUP, says: signintest.FlagUP, amr: []string{"pwd", "pop", "mfa"}},
		"not even presence":                       {app: signintest.Web, enrolled: uv, says: 0, want: "authfactor.webauthn.error.assertion_validation_failure"},
		"verification is no presence":             {app: signintest.Web, enrolled: uv, says: signintest.FlagUV, want: "authfactor.webauthn.error.assertion_validation_failure"},
		"a credential that turned into a passkey": {app: signintest.Resist, enrolled: uv, says: passkey, want: "authfactor.webauthn.error.assertion_validation_failure"},
	} {
		t.Run(name, func(t *testing.T) {
			says := func(flags byte) func(*signintest.KeyAnswer) {
				return func(a *signintest.KeyAnswer) { a.Flags = a.Flags&signintest.FlagAT | flags }
			}
			w, k := signintest.New(t).TakeKeys(t), signintest.NewSoftKey()
			v := toEnrol(t, w, signintest.Web)
			at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, k.Make(v.Key, signintest.BaseURL, says(c.enrolled)))), signin.StepDone, "")
			v = toKey(t, w, c.app)
			v = must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL, says(c.says))))
			if c.want != "" {
				at(t, v, signin.StepKey, c.want)
				return
			}
			at(t, v, signin.StepDone, "")
			done, err := w.Engine.Complete(ctx, v.Success.StateToken)
			if err != nil || !slices.Equal(done.AMR, c.amr) {
				t.Errorf("completed %+v, %v", done, err)
			}
		})
	}
}

// A weaker key that is enrolled beside a stronger one takes nothing from what the
// stronger one has just proven.
func TestWeakerKeyBesideAStronger(t *testing.T) {
	w, strong := withKey(t)
	first := keysOf(t, w, w.Bob.ID)[0].ID
	h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.UV, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, Prompt: signin.PromptEnrol})
	if err != nil {
		t.Fatal(err)
	}
	v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
	v = must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.BobLogin))
	v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepKey, "")
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, strong.Assert(v.Key, signintest.BaseURL))), signin.StepSetUp, "")
	v = at(t, must(t)(w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn)), signin.StepEnrol, "")
	weak := signintest.NewSoftKey()
	v = at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, weak.Make(v.Key, signintest.BaseURL, func(a *signintest.KeyAnswer) { a.Flags &^= signintest.FlagUV }))), signin.StepDone, "")
	keys := keysOf(t, w, w.Bob.ID)
	done, err := w.Engine.Complete(ctx, v.Success.StateToken)
	if err != nil || len(keys) != 2 || done.EnrolmentID != first || !slices.Equal(done.AMR, []string{"pwd", "pop", "mfa"}) {
		t.Errorf("completed %+v with %d keys, %v", done, len(keys), err)
	}
}
