package signin_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

// toSecondKey takes bob, who has a key and an app that lets him enrol another, to
// where that is asked.
func toSecondKey(t *testing.T, w *signintest.World, k *signintest.SoftKey) signin.View {
	t.Helper()
	v := asking(t, w)
	v = at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL))), signin.StepSetUp, "")
	return at(t, must(t)(w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn)), signin.StepEnrol, "")
}

// asking takes bob to where his key is asked, in a sign-in whose client asks that
// he may enrol another.
func asking(t *testing.T, w *signintest.World) signin.View {
	t.Helper()
	h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.Web, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, Prompt: signin.PromptEnrol})
	if err != nil {
		t.Fatal(err)
	}
	v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
	v = must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.BobLogin))
	return at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepKey, "")
}

// C2: whether a key may be enrolled is asked again where it is stored. What
// happens while the answer is being checked counts.
func TestC2EnrolmentIsDecidedWhereItIsStored(t *testing.T) {
	// The first key of bob is enrolled by two sign-ins at the same moment.
	w := signintest.New(t).TakeKeys(t)
	slow, quick := toEnrol(t, w, signintest.Web), toEnrol(t, w, signintest.Web)
	w.Clock.Meanwhile(func() {
		at(t, must(t)(w.Engine.EnrolKey(ctx, quick.StateHandle, signintest.NewSoftKey().Make(quick.Key, signintest.BaseURL))), signin.StepDone, "")
	})
	at(t, must(t)(w.Engine.EnrolKey(ctx, slow.StateHandle, signintest.NewSoftKey().Make(slow.Key, signintest.BaseURL))), signin.StepKey, "")
	if n := len(keysOf(t, w, w.Bob.ID)); n != 1 {
		t.Errorf("the password enrolled %d keys", n)
	}
	// A device is added at that moment.
	w = signintest.New(t).TakeKeys(t)
	v := toEnrol(t, w, signintest.Web)
	w.Clock.Meanwhile(func() { w.Enrol(t, w.Bob.ID, jose.ProtectionSoftware) })
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, signintest.BaseURL))), signin.StepChallenge, "")
	if n := len(keysOf(t, w, w.Bob.ID)); n != 0 {
		t.Errorf("the password enrolled %d keys beside a device", n)
	}

	for name, happens := range map[string]func(tx store.Tx, w *signintest.World) error{
		"the key that was shown is removed": func(tx store.Tx, w *signintest.World) error {
			return factor.RemoveKey(ctx, tx, w.Bob.ID, keysOf(t, w, w.Bob.ID)[0].ID)
		},
		"security keys are switched off": func(tx store.Tx, w *signintest.World) error {
			return directory.SetWebAuthnStatus(ctx, tx, directory.AuthenticatorInactive, w.Clock.Now())
		},
		"bob is suspended": func(tx store.Tx, w *signintest.World) error {
			_, err := tx.ExecContext(ctx, `UPDATE users SET status = 'SUSPENDED' WHERE id = ?`, w.Bob.ID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, k := withKey(t)
			w.Clock.Advance(time.Second)
			v := toSecondKey(t, w, k) // and has another one, which was not shown
			at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, signintest.BaseURL))), signin.StepDone, "")
			v = toSecondKey(t, w, k)
			before := len(keysOf(t, w, w.Bob.ID))
			w.Clock.Meanwhile(func() {
				w.Write(t, func(tx store.Tx) error { return happens(tx, w) })
				before = len(keysOf(t, w, w.Bob.ID))
			})
			v = must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, signintest.BaseURL)))
			if v.Success != nil || len(keysOf(t, w, w.Bob.ID)) != before {
				t.Errorf("at %s with %d keys, %d before", v.Step, len(keysOf(t, w, w.Bob.ID)), before)
			}
		})
	}
}

// A person has so many keys and no more. One who has as many is not asked for
// another one; one who gets the last of them meanwhile is told.
func TestAsManyKeysAsThereMayBe(t *testing.T) {
	w, k := withKey(t)
	add := func(n int) {
		w.Write(t, func(tx store.Tx) error {
			for i := range n {
				id := fmt.Sprintf("fwf%d", n*100+i)
				if _, err := tx.ExecContext(ctx, `INSERT INTO security_keys (id, user_id, credential_id, public_key, aaguid, format, attestation, transports,
					sign_count, backup_eligible, verified_at, suspect_at, created_at, last_used_at) VALUES (?, ?, ?, ?, '', 'none', 'none', '[]', 0, 0, 0, 0, 1, 1)`, id, w.Bob.ID, id, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	add(factor.MaxKeys - 2)
	v := toSecondKey(t, w, k)
	add(1)
	v = at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, signintest.BaseURL))), signin.StepEnrol, "authfactor.webauthn.error.too_many")
	at(t, must(t)(w.Engine.Skip(ctx, v.StateHandle)), signin.StepDone, "")
	v = asking(t, w)
	at(t, must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL))), signin.StepDone, "")
	if n := len(keysOf(t, w, w.Bob.ID)); n != factor.MaxKeys {
		t.Errorf("%d keys", n)
	}
}

// C2: a device alone enrols no key: whoever holds it for a moment does not know
// the password.
func TestC2DeviceAloneEnrolsNoKey(t *testing.T) {
	w := signintest.New(t).TakeKeys(t)
	agent := w.Enrol(t, w.Bob.ID, jose.ProtectionSoftware)
	h, err := w.Engine.Start(ctx, signin.Intent{ClientID: signintest.Keyed, Mode: signin.Redirect, PageOrigin: signintest.BaseURL, Prompt: signin.PromptEnrol})
	if err != nil {
		t.Fatal(err)
	}
	v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
	v = at(t, must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.BobLogin)), signin.StepChallenge, "")
	answered(t, w, v.Challenge.Token, agent.Answer(t, w, v.Challenge.Token), true)
	at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
}

// C11: of a key and its copy that answer at the same moment, with one count, one
// is taken. A key that is removed at that moment proves nothing.
func TestC11CopiesAtTheSameMoment(t *testing.T) {
	w, k := withKey(t)
	mine, theirs := toKey(t, w, signintest.Web), toKey(t, w, signintest.Web)
	twin := *k
	w.Clock.Meanwhile(func() {
		at(t, must(t)(w.Engine.Key(ctx, theirs.StateHandle, twin.Assert(theirs.Key, signintest.BaseURL))), signin.StepDone, "")
	})
	at(t, must(t)(w.Engine.Key(ctx, mine.StateHandle, k.Assert(mine.Key, signintest.BaseURL))), signin.StepKey, "authfactor.webauthn.error.counter")
	if keysOf(t, w, w.Bob.ID)[0].SuspectAt.IsZero() {
		t.Error("the copy was not noted")
	}
	v := toKey(t, w, signintest.Web)
	k.Count += 10
	w.Clock.Meanwhile(func() {
		w.Write(t, func(tx store.Tx) error { return factor.RemoveKey(ctx, tx, w.Bob.ID, keysOf(t, w, w.Bob.ID)[0].ID) })
	})
	if v = must(t)(w.Engine.Key(ctx, v.StateHandle, k.Assert(v.Key, signintest.BaseURL))); v.Success != nil {
		t.Error("a key signed in that was removed under way")
	}
}

// What is not stored is not on record.
func TestEnrolmentOnRecordIsStored(t *testing.T) {
	w := signintest.New(t).TakeKeys(t)
	w.Write(t, func(tx store.Tx) error {
		return directory.AddTrustedOrigin(ctx, tx, signintest.PageOrigin, w.Clock.Now())
	})
	enrol := func() signin.View {
		v := at(t, toPassword(t, w, signintest.BobLogin, signintest.Web, signin.InteractionCode), signin.StepSetUp, "")
		v = must(t)(w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn))
		return must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, signintest.NewSoftKey().Make(v.Key, signintest.PageOrigin)))
	}
	w.CodeError = errors.New("assurance not reached")
	at(t, enrol(), signin.StepFailed, "security.access_denied")
	if stored, said := len(keysOf(t, w, w.Bob.ID)), strings.Contains(w.Log.String(), "security key enrolled"); stored != 0 || said {
		t.Errorf("%d keys are stored, and on record: %v", stored, said)
	}
	w.CodeError = nil
	at(t, enrol(), signin.StepDone, "")
	if stored, said := len(keysOf(t, w, w.Bob.ID)), strings.Count(w.Log.String(), "security key enrolled"); stored != 1 || said != 1 {
		t.Errorf("%d keys are stored, and %d on record", stored, said)
	}
}
