package signin_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

// toPassword takes a person through their password.
func toPassword(t *testing.T, w *signintest.World, login, app string, mode signin.Mode) signin.View {
	t.Helper()
	v := at(t, w.Start(t, app, mode), signin.StepIdentify, "")
	v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, login)), signin.StepPassword, "")
	return must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
}

// toEnrol takes bob, who has nothing but a password, to where a new key is asked.
func toEnrol(t *testing.T, w *signintest.World, app string) signin.View {
	t.Helper()
	v := at(t, toPassword(t, w, signintest.BobLogin, app, signin.Redirect), signin.StepSetUp, "")
	if len(v.SetUp) != 1 || v.SetUp[0].AuthenticatorID != w.Org.Authenticators.WebAuthn || v.MayWait {
		t.Fatalf("offered %+v, may wait %v", v.SetUp, v.MayWait)
	}
	return at(t, must(t)(w.Engine.SetUp(ctx, v.StateHandle, v.SetUp[0].AuthenticatorID)), signin.StepEnrol, "")
}

// withKey makes a world in which bob has a security key.
func withKey(t *testing.T, edits ...func(*directory.WebAuthnSettings)) (*signintest.World, *signintest.SoftKey) {
	t.Helper()
	w, k := signintest.New(t).TakeKeys(t, edits...), signintest.NewSoftKey()
	enrolKey(t, w, k)
	return w, k
}

func enrolKey(t *testing.T, w *signintest.World, k *signintest.SoftKey) {
	t.Helper()
	v := toEnrol(t, w, signintest.Web)
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, k.Make(v.Key, signintest.BaseURL))), signin.StepDone, "")
}

// toKey takes bob through his password to where his key is asked.
func toKey(t *testing.T, w *signintest.World, app string) signin.View {
	t.Helper()
	return at(t, toPassword(t, w, signintest.BobLogin, app, signin.Redirect), signin.StepKey, "")
}

func keysOf(t *testing.T, w *signintest.World, userID string) (keys []factor.SecurityKey) {
	t.Helper()
	if err := w.DB.Read(ctx, func(tx store.Tx) (err error) {
		keys, err = factor.KeysOfUser(ctx, tx, userID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestSecurityKeyStory(t *testing.T) {
	w, k := signintest.New(t).TakeKeys(t), signintest.NewSoftKey()
	v := toEnrol(t, w, signintest.Web)
	if v.Key.RPID != "localhost" || v.Key.UserName != signintest.BobLogin || v.Key.UserVerification != okta.NeedPreferred || len(v.Key.Keys) != 0 ||
		v.Key.UserHandle != base64.RawURLEncoding.EncodeToString([]byte(w.Bob.ID)) || !slices.Equal(v.Key.Algorithms, []int{-7, -257}) {
		t.Errorf("a new key is asked %+v", v.Key)
	}
	if b, err := base64.RawURLEncoding.DecodeString(v.Key.Challenge); err != nil || len(b) != 32 {
		t.Errorf("challenge %q", v.Key.Challenge)
	}
	v = at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, k.Make(v.Key, signintest.BaseURL))), signin.StepDone, "")
	done, err := w.Engine.Complete(ctx, v.Success.StateToken)
	if err != nil || done.UserID != w.Bob.ID || !slices.Equal(done.AMR, []string{"pwd", "pop", "mfa"}) {
		t.Fatalf("completed %+v, %v", done, err)
	}
	keys := keysOf(t, w, w.Bob.ID)
	if len(keys) != 1 || keys[0].Attestation != "none" || keys[0].Name() != "Security key" || !slices.Equal(keys[0].Transports, []string{"usb"}) ||
		keys[0].VerifiedAt.IsZero() || done.EnrolmentID != keys[0].ID {
		t.Fatalf("stored %+v", keys)
	}

	// From now on it is asked, also where the password sufficed before.
	for _, app := range []string{signintest.Web, signintest.Strict, signintest.Enrol, signintest.Resist, signintest.UV} {
		v := toKey(t, w, app)
		if len(v.Key.Keys) != 1 || v.Key.Keys[0].CredentialID != base64.RawURLEncoding.EncodeToString(k.ID) {
			t.Errorf("%s: keys %+v", app, v.Key.Keys)
		}
		k.UserHandle = v.Key.UserHandle // none: the credential does not know its person
		v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL))), signin.StepDone, "")
		if done, err := w.Engine.Complete(ctx, v.Success.StateToken); err != nil || !slices.Equal(done.AMR, []string{"pwd", "pop", "mfa"}) {
			t.Errorf("%s: completed %+v, %v", app, done, err)
		}
	}
	// Attested hardware is more than a key says of itself.
	v = toPassword(t, w, signintest.BobLogin, signintest.Hardware, signin.Redirect)
	at(t, v, signin.StepFailed, "countersign.no_authenticator")
}

// A page of the app, on another port of the same host, and its interaction code.
func TestSecurityKeyOnAnAppsPage(t *testing.T) {
	w, k := withKey(t)
	v := at(t, toPassword(t, w, signintest.BobLogin, signintest.Web, signin.InteractionCode), signin.StepKey, "")
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.PageOrigin))), signin.StepFailed, "countersign.phishing")
	if v.Message == nil {
		t.Error("no word about it")
	}
	// signintest's page is trusted by nobody; with trust it goes through.
	w.Write(t, func(tx store.Tx) error {
		return directory.AddTrustedOrigin(ctx, tx, "http://localhost:*", w.Clock.Now())
	})
	v = at(t, toPassword(t, w, signintest.BobLogin, signintest.Web, signin.InteractionCode), signin.StepKey, "")
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.PageOrigin))), signin.StepDone, "")
	if v.Success.InteractionCode == "" || len(w.Codes()) != 1 {
		t.Errorf("success %+v", v.Success)
	}
}

// C5: whatever is wrong with an answer, nothing is proven by it, and the next
// one is to a new challenge.
func TestC5SecurityKeyAnswers(t *testing.T) {
	type edit = func(*signintest.KeyAnswer)
	flip := func(f byte) edit { return func(a *signintest.KeyAnswer) { a.Flags ^= f } }
	for name, c := range map[string]struct {
		app  string
		edit edit
		bend func(*signintest.SoftKey)
		want string
		step signin.Step
	}{
		"another request":     {edit: func(a *signintest.KeyAnswer) { a.Type = "webauthn.create" }},
		"another challenge":   {edit: func(a *signintest.KeyAnswer) { a.Challenge = strings.Repeat("A", 43) }},
		"no challenge":        {edit: func(a *signintest.KeyAnswer) { a.Challenge = "" }},
		"another rp":          {edit: func(a *signintest.KeyAnswer) { a.RPID = "evil.example" }},
		"shown in a frame":    {edit: func(a *signintest.KeyAnswer) { a.CrossOrigin = true }},
		"another page":        {edit: func(a *signintest.KeyAnswer) { a.Origin = "http://localhost:9999" }, want: "countersign.phishing", step: signin.StepFailed},
		"nobody touched it":   {edit: flip(signintest.FlagUP)},
		"not verified":        {app: signintest.UV, edit: flip(signintest.FlagUV), want: "authfactor.webauthn.error.user_verification"},
		"a copy that is none": {edit: flip(signintest.FlagBS)},
		"another kind of key": {edit: flip(signintest.FlagBE)},
		"no signature":        {edit: func(a *signintest.KeyAnswer) { a.Signature = []byte{0} }},
		"another key":         {bend: func(k *signintest.SoftKey) { k.Private = signintest.NewSoftKey().Private }},
		"another person": {bend: func(k *signintest.SoftKey) {
			k.UserHandle = base64.StdEncoding.EncodeToString([]byte("00uAnotherPerson0000"))
		}},
		"garbage for a person": {bend: func(k *signintest.SoftKey) { k.UserHandle = "%" }},
		"counter as before":    {bend: func(k *signintest.SoftKey) { k.Frozen = true }, want: "authfactor.webauthn.error.counter"},
		"counter gone back":    {bend: func(k *signintest.SoftKey) { k.Count -= 2 }, want: "authfactor.webauthn.error.counter"},
		"counter at nought":    {bend: func(k *signintest.SoftKey) { k.Count, k.Frozen = 0, true }, want: "authfactor.webauthn.error.counter"},
		"a duplicate member": {edit: func(a *signintest.KeyAnswer) {
			a.ClientDataText = `{"type":"webauthn.get","challenge":"` + a.Challenge + `","origin":"http://evil.example","origin":"` + a.Origin + `"}`
		}},
		"not JSON": {edit: func(a *signintest.KeyAnswer) { a.ClientDataText = "x" }},
	} {
		t.Run(name, func(t *testing.T) {
			w, k := signintest.New(t).TakeKeys(t), signintest.NewSoftKey()
			k.Count = 5
			enrolKey(t, w, k)
			v := toKey(t, w, signintest.Web)
			if c.app != "" {
				v = toKey(t, w, c.app)
			}
			first, good := v.Key.Challenge, *k
			if c.bend != nil {
				c.bend(k)
			}
			var edits []edit
			if c.edit != nil {
				edits = append(edits, c.edit)
			}
			want, step := c.want, c.step
			if want == "" {
				want = "authfactor.webauthn.error.assertion_validation_failure"
			}
			if step == "" {
				step = signin.StepKey
			}
			v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL, edits...))), step, want)
			suspect := !keysOf(t, w, w.Bob.ID)[0].SuspectAt.IsZero()
			if suspect != strings.HasPrefix(name, "counter") {
				t.Errorf("suspect: %v", suspect)
			}
			if step == signin.StepFailed {
				return
			}
			if v.Key.Challenge == first {
				t.Error("the challenge may be answered again")
			}
			good.Count += 10
			at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, good.Assert(v.Key, signintest.BaseURL))), signin.StepDone, "")
		})
	}
}

// B6: an answer is good for the challenge it was given to: not twice, not in
// another sign-in, not late.
func TestB6SecurityKeyReplay(t *testing.T) {
	w, k := withKey(t)
	refused := "authfactor.webauthn.error.assertion_validation_failure"
	v, other := toKey(t, w, signintest.Web), toKey(t, w, signintest.Web)
	answer := k.Assert(v.Key, signintest.BaseURL)
	at(t, must(t)(w.Engine.Key(ctx, other.StateHandle, answer)), signin.StepKey, refused)
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, answer)), signin.StepDone, "")
	if again, err := w.Engine.Key(ctx, v.StateHandle, answer); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("taken twice: %+v, %v", again, err)
	}
	// Nor by a sign-in that starts over.
	v = toKey(t, w, signintest.Web)
	at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, answer)), signin.StepKey, refused)

	v = toKey(t, w, signintest.Web)
	answer = k.Assert(v.Key, signintest.BaseURL)
	w.Clock.Advance(5 * time.Minute)
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, answer)), signin.StepKey, "authfactor.webauthn.error.expired")
	at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL))), signin.StepDone, "")
	// A page that was left open asks anew.
	v = toKey(t, w, signintest.Web)
	w.Clock.Advance(6 * time.Minute)
	if next := must(t)(w.Engine.Poll(ctx, v.StateHandle)); next.Key.Challenge == v.Key.Challenge {
		t.Error("an old challenge is shown")
	}
}

// E7: of a hundred answers at once, all right, one counts.
func TestE7ParallelSecurityKeyAnswers(t *testing.T) {
	w, k := withKey(t)
	v := toKey(t, w, signintest.Web)
	answer := k.Assert(v.Key, signintest.BaseURL)
	ends := race(100, func() (signin.View, error) { return w.Engine.Key(ctx, v.StateHandle, answer) })
	if ends != 1 {
		t.Errorf("%d of 100 succeeded", ends)
	}
	// And of a hundred enrolments of one new key, one.
	w, k = signintest.New(t).TakeKeys(t), signintest.NewSoftKey()
	v = toEnrol(t, w, signintest.Web)
	made := k.Make(v.Key, signintest.BaseURL)
	if ends := race(100, func() (signin.View, error) { return w.Engine.EnrolKey(ctx, v.StateHandle, made) }); ends != 1 || len(keysOf(t, w, w.Bob.ID)) != 1 {
		t.Errorf("%d of 100 succeeded, %d keys", ends, len(keysOf(t, w, w.Bob.ID)))
	}
}

// race counts the successes.
func race(n int, do func() (signin.View, error)) (ends int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if v, err := do(); err == nil && v.Step == signin.StepDone && v.Success != nil && v.Success.StateToken != "" {
				mu.Lock()
				ends++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return ends
}

// E5: another person's key proves nothing, and nobody enrols it as theirs.
func TestE5SecurityKeyOfAnother(t *testing.T) {
	w, k := withKey(t)
	alices := signintest.NewSoftKey()
	v := at(t, toPassword(t, w, signintest.AliceLogin, signintest.Web, signin.Redirect), signin.StepSetUp, "")
	v = must(t)(w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn))
	// With bob's credential, under his id or with his public key.
	for _, stolen := range []*signintest.SoftKey{k, {Private: alices.Private, ID: k.ID}, {Private: k.Private, ID: alices.ID}} {
		v = at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, stolen.Make(v.Key, signintest.BaseURL))), signin.StepEnrol, "authfactor.webauthn.error.factor_already_registered")
	}
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, alices.Make(v.Key, signintest.BaseURL))), signin.StepDone, "")
	if a, b := len(keysOf(t, w, w.Alice.ID)), len(keysOf(t, w, w.Bob.ID)); a != 1 || b != 1 {
		t.Errorf("%d and %d keys", a, b)
	}
	v = toKey(t, w, signintest.Web)
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, alices.Assert(v.Key, signintest.BaseURL))), signin.StepKey, "authfactor.webauthn.error.assertion_validation_failure")
	if slices.ContainsFunc(v.Key.Keys, func(k signin.KeyOfUser) bool {
		return k.CredentialID == base64.RawURLEncoding.EncodeToString(alices.ID)
	}) {
		t.Error("bob's page lists alice's key")
	}
}

// C5: what is wrong with a new key's answer enrols nothing.
func TestC5SecurityKeyEnrolment(t *testing.T) {
	listed := func(s *directory.WebAuthnSettings) {
		s.AAGUIDGroups = []directory.AAGUIDGroup{{Name: "ours", AAGUIDs: []string{"EE882879-721c-4913-9775-3dfcce97072a"}}}
	}
	required := func(s *directory.WebAuthnSettings) { s.UserVerification = directory.UVRequired }
	const refused, untrusted = "authfactor.webauthn.error.assertion_validation_failure", "authfactor.webauthn.error.attestation"
	for name, c := range map[string]struct {
		settings func(*directory.WebAuthnSettings)
		edit     func(*signintest.KeyAnswer)
		want     string
	}{
		"another request":      {nil, func(a *signintest.KeyAnswer) { a.Type = "webauthn.get" }, refused},
		"another challenge":    {nil, func(a *signintest.KeyAnswer) { a.Challenge = "AAAA" }, refused},
		"another rp":           {nil, func(a *signintest.KeyAnswer) { a.RPID = "evil.example" }, untrusted},
		"nobody touched it":    {nil, func(a *signintest.KeyAnswer) { a.Flags &^= signintest.FlagUP }, refused},
		"not verified":         {required, func(a *signintest.KeyAnswer) { a.Flags &^= signintest.FlagUV }, "authfactor.webauthn.error.user_verification"},
		"no credential":        {nil, func(a *signintest.KeyAnswer) { a.Flags &^= signintest.FlagAT }, refused},
		"a forged statement":   {nil, func(a *signintest.KeyAnswer) { a.SelfAttested, a.Signature = true, make([]byte, 70) }, untrusted},
		"unproven model":       {listed, func(*signintest.KeyAnswer) {}, untrusted},
		"model by its own key": {listed, func(a *signintest.KeyAnswer) { a.SelfAttested = true }, untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			w := signintest.New(t)
			if w.TakeKeys(t); c.settings != nil {
				w.TakeKeys(t, c.settings)
			}
			v := toEnrol(t, w, signintest.Web)
			first := v.Key.Challenge
			v = at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, signintest.BaseURL, c.edit))), signin.StepEnrol, c.want)
			if v.Key.Challenge == first || len(keysOf(t, w, w.Bob.ID)) != 0 {
				t.Error("something was enrolled, or may be tried again")
			}
		})
	}
	w := signintest.New(t).TakeKeys(t)
	v := toEnrol(t, w, signintest.Web)
	// An RSA key that is so large that it could never sign in: {1: 3, 3: -257, -1: n, -2: 65537}.
	huge := signintest.NewSoftKey()
	huge.Public = append([]byte{0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x59, 0x58, 0x00}, bytes.Repeat([]byte{0xff}, 0x5800)...)
	huge.Public = append(huge.Public, 0x21, 0x43, 0x01, 0x00, 0x01)
	v = at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, huge.Make(v.Key, signintest.BaseURL))), signin.StepEnrol, refused)
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, "http://localhost:9999"))), signin.StepFailed, "countersign.phishing")
	v = toEnrol(t, w, signintest.Web)
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, signintest.BaseURL, func(a *signintest.KeyAnswer) { a.SelfAttested = true }))), signin.StepDone, "")
	if k := keysOf(t, w, w.Bob.ID)[0]; k.Format != "packed" || k.Attestation != "basic_surrogate" {
		t.Errorf("stored %+v", k)
	}
}

// C2: a password alone enrols the first factor and no other, whichever kind.
func TestC2PasswordEnrolsNoSecondKey(t *testing.T) {
	w, agent := world(t)
	w.TakeKeys(t)
	asking := func(login, app string) signin.View {
		h, err := w.Engine.Start(ctx, signin.Intent{ClientID: app, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, Prompt: signin.PromptEnrol})
		if err != nil {
			t.Fatal(err)
		}
		v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
		v = must(t)(w.Engine.Identify(ctx, v.StateHandle, login))
		return must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	}
	// Alice has a device: it comes first, then she may enrol a key, or not.
	v := at(t, asking(signintest.AliceLogin, signintest.Enrol), signin.StepChallenge, "")
	if _, err := w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn); err != nil {
		t.Error(err)
	}
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepChallenge, "")
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepSetUp, "")
	if !v.MayWait {
		t.Error("she must enrol")
	}
	at(t, must(t)(w.Engine.Skip(ctx, v.StateHandle)), signin.StepDone, "")
	if n := len(keysOf(t, w, w.Alice.ID)); n != 0 {
		t.Errorf("%d keys", n)
	}
	// A device that is suspended counts.
	w.Write(t, func(tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE enrolments SET status = 'SUSPENDED' WHERE id = ?`, agent.Enrolment.ID)
		return err
	})
	at(t, toPassword(t, w, signintest.AliceLogin, signintest.Web, signin.Redirect), signin.StepFailed, "countersign.no_authenticator")

	// Two sign-ins of bob with his password: the one that is slower needs the
	// key that the other has enrolled.
	slow, quick := toEnrol(t, w, signintest.Web), toEnrol(t, w, signintest.Web)
	mine, theirs := signintest.NewSoftKey(), signintest.NewSoftKey()
	at(t, must(t)(w.Engine.EnrolKey(ctx, quick.StateHandle, mine.Make(quick.Key, signintest.BaseURL))), signin.StepDone, "")
	slow = at(t, must(t)(w.Engine.EnrolKey(ctx, slow.StateHandle, theirs.Make(slow.Key, signintest.BaseURL))), signin.StepKey, "")
	if n := len(keysOf(t, w, w.Bob.ID)); n != 1 {
		t.Fatalf("%d keys", n)
	}
	// With his key he enrols another one; the same one is refused.
	v = at(t, asking(signintest.BobLogin, signintest.Web), signin.StepKey, "")
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, mine.Assert(v.Key, signintest.BaseURL))), signin.StepSetUp, "")
	v = must(t)(w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn))
	if len(v.Key.Keys) != 1 {
		t.Errorf("to be excluded: %+v", v.Key.Keys)
	}
	v = at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, mine.Make(v.Key, signintest.BaseURL))), signin.StepEnrol, "authfactor.webauthn.error.factor_already_registered")
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, theirs.Make(v.Key, signintest.BaseURL))), signin.StepDone, "")
	// Either is good now, and one that is removed is not.
	for i, k := range []*signintest.SoftKey{theirs, mine} {
		v := toKey(t, w, signintest.Web)
		if i == 1 {
			all := keysOf(t, w, w.Bob.ID)
			at := slices.IndexFunc(all, func(s factor.SecurityKey) bool { return s.CredentialID == base64.RawURLEncoding.EncodeToString(k.ID) })
			w.Write(t, func(tx store.Tx) error { return factor.RemoveKey(ctx, tx, w.Bob.ID, all[at].ID) })
			v = must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL)))
			if v.Step != signin.StepKey || v.Message == nil {
				t.Errorf("a removed key signs in: %s", v.Step)
			}
			continue
		}
		at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL))), signin.StepDone, "")
	}
}

// A key that is enrolled is told to the person's devices, and to nobody else's.
func TestNewSecurityKeyIsTold(t *testing.T) {
	w, agent := world(t)
	w.TakeKeys(t)
	h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.Enrol, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, Prompt: signin.PromptEnrol})
	if err != nil {
		t.Fatal(err)
	}
	v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
	v = must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
	v = at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepChallenge, "")
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	v = at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepSetUp, "")
	v = must(t)(w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn))
	bobs := toEnrol(t, w, signintest.Web)
	notices := func() (list []okta.Notice) {
		w.Write(t, func(tx store.Tx) (err error) {
			list, err = device.Notices(ctx, tx, agent.Enrolment.ID, 0, w.Clock.Now())
			return err
		})
		return list
	}
	before := len(notices())
	w.Notified()
	at(t, must(t)(w.Engine.EnrolKey(ctx, bobs.StateHandle, signintest.NewSoftKey().Make(bobs.Key, signintest.BaseURL))), signin.StepDone, "")
	k := signintest.NewSoftKey()
	v = must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, k.Make(v.Key, signintest.BaseURL, func(a *signintest.KeyAnswer) { a.Challenge = "AAAA" })))
	if n := len(notices()); n != before || slices.Contains(w.Notified(), agent.Enrolment.ID) {
		t.Errorf("told of what does not concern them: %d notices, before %d", n, before)
	}
	v = must(t)(w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn))
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, k.Make(v.Key, signintest.BaseURL))), signin.StepDone, "")
	list, mine := notices(), keysOf(t, w, w.Alice.ID)
	if newest := list[len(list)-1]; len(list) != before+1 || newest.Event != okta.NoticeSecurityKeyEnrolled || newest.EnrolmentID != mine[0].ID || newest.Device != mine[0].Name() {
		t.Errorf("%+v", list)
	}
	if !slices.Contains(w.Notified(), agent.Enrolment.ID) {
		t.Error("who waits is not woken")
	}
}

// A typed name tells nothing about keys, and nothing is enrolled without the
// password, at another host, or where keys are switched off.
func TestSecurityKeysAreNotForStrangers(t *testing.T) {
	w, _ := withKey(t)
	v := must(t)(w.Engine.Identify(ctx, w.Start(t, signintest.Keyed, signin.Redirect).StateHandle, signintest.BobLogin))
	s := must(t)(w.Engine.Identify(ctx, w.Start(t, signintest.Keyed, signin.Redirect).StateHandle, "nobody@example.com"))
	if v.Step != s.Step || v.Key != nil || len(v.Choices) != len(s.Choices) {
		t.Errorf("bob is at %s with %+v, nobody at %s with %+v", v.Step, v.Choices, s.Step, s.Choices)
	}
	page := func(login, origin string) signin.View {
		h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.Web, Mode: signin.InteractionCode, PageOrigin: origin})
		if err != nil {
			t.Fatal(err)
		}
		v := must(t)(w.Engine.Introspect(ctx, h.InteractionHandle, ""))
		v = must(t)(w.Engine.Identify(ctx, v.StateHandle, login))
		return must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	}
	for login, step := range map[string]signin.Step{signintest.BobLogin: signin.StepKey, signintest.AliceLogin: signin.StepSetUp} {
		at(t, page(login, "http://app.localhost:3000"), signin.StepFailed, "countersign.no_authenticator")
		at(t, page(login, "http://localhost:3001"), step, "")
		at(t, page(login, "https://localhost"), step, "")
		at(t, page(login, "https://app.example.com"), signin.StepFailed, "countersign.no_authenticator")
		at(t, page(login, "https://notlocalhost"), signin.StepFailed, "countersign.no_authenticator")
	}
	w.Write(t, func(tx store.Tx) error {
		return directory.SetWebAuthnStatus(ctx, tx, directory.AuthenticatorInactive, w.Clock.Now())
	})
	at(t, toPassword(t, w, signintest.BobLogin, signintest.Web, signin.Redirect), signin.StepFailed, "countersign.no_authenticator")
	at(t, toPassword(t, w, signintest.AliceLogin, signintest.Web, signin.Redirect), signin.StepFailed, "countersign.no_authenticator")
}

// A session that a key began is good as long as the key is there; presence and
// phishing resistance are asked for anew.
func TestSessionOfASecurityKey(t *testing.T) {
	w, _ := withKey(t)
	key := keysOf(t, w, w.Bob.ID)[0]
	id := okta.Secret("session")
	w.Sessions[id] = signin.SessionFacts{UserID: w.Bob.ID, AMR: []string{"pwd", "pop", "mfa"}, AuthTime: w.Clock.Now(), EnrolmentID: key.ID}
	prompt := ""
	start := func(app string) bool {
		h, err := w.Engine.Start(ctx, signin.Intent{ClientID: app, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, SessionID: id, Prompt: prompt})
		if err != nil {
			t.Fatal(err)
		}
		return h.Satisfied
	}
	if !start(signintest.Web) || start(signintest.Strict) || start(signintest.Resist) || start(signintest.UV) {
		t.Error("the session is worth less, or more")
	}
	if prompt = signin.PromptEnrol; start(signintest.Web) {
		t.Error("the session enrols")
	}
	prompt = ""
	w.Write(t, func(tx store.Tx) error { return factor.RemoveKey(ctx, tx, w.Bob.ID, key.ID) })
	if start(signintest.Web) {
		t.Error("the session outlives its key")
	}
	// Nor does it tell another app of the key, for which its password would do.
	if start(signintest.Enrol) {
		t.Error("the session tells of a key that is gone")
	}
	w.Sessions[id] = signin.SessionFacts{UserID: w.Bob.ID, AMR: []string{"pwd"}, AuthTime: w.Clock.Now()}
	if !start(signintest.Enrol) {
		t.Error("a session by password alone is worth less")
	}
}

// A password and a device beside a key: each is offered, each counts.
func TestSecurityKeyBesideADevice(t *testing.T) {
	w, k := withKey(t)
	agent := w.Enrol(t, w.Bob.ID, jose.ProtectionSoftware)
	v := at(t, toPassword(t, w, signintest.BobLogin, signintest.Web, signin.Redirect), signin.StepSelect, "")
	if len(v.Choices) != 2 || v.Choices[0].Key != signin.KeyVerify || v.Choices[1].Key != signin.KeyWebAuthn {
		t.Fatalf("offered %+v", v.Choices)
	}
	v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn, "webauthn")), signin.StepKey, "")
	v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, w.Org.Authenticators.OktaVerify, "")), signin.StepChallenge, "")
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
	v = toPassword(t, w, signintest.BobLogin, signintest.Web, signin.Redirect)
	v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn, "")), signin.StepKey, "")
	at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL))), signin.StepDone, "")
}
