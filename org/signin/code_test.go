package signin_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

const wrongCode = "api.authn.error.PASSCODE_INVALID"

// toCode takes alice to the step that takes a code.
func toCode(t *testing.T, w *signintest.World, app string) signin.View {
	t.Helper()
	v := at(t, toChoice(t, w, app), signin.StepSelect, "")
	return at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "totp")), signin.StepCode, "")
}

func TestCode(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	v := toCode(t, w, signintest.Strict)
	if !slices.Equal(v.Choices[0].Methods, []string{"signed_nonce", "push", "totp"}) {
		t.Errorf("%+v", v.Choices)
	}
	code := agent.Code(t, w.Clock.Now()).Reveal()
	v = at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, okta.Secret(" "+code[:3]+" "+code[3:]+"\t"))), signin.StepDone, "")
	done, err := w.Engine.Complete(ctx, v.Success.StateToken)
	if err != nil || !slices.Equal(done.AMR, []string{"pwd", "okta_verify", "otp", "mfa"}) || done.EnrolmentID != agent.Enrolment.ID ||
		done.DeviceID != agent.Enrolment.Device.ID || done.KeyID != "" || done.KeyProtection != "" {
		t.Errorf("%+v %v", done, err)
	}
	if strings.Contains(w.Log.String(), code) {
		t.Error("the code is in the log")
	}
}

// E13: which codes count, by how far the device's clock is off.
func TestCodeDrift(t *testing.T) {
	for steps, good := range map[int]bool{-3: false, -2: false, -1: true, 0: true, 1: true, 2: false, 3: false} {
		w := signintest.New(t)
		agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
		v := toCode(t, w, signintest.Web)
		v = must(t)(w.Engine.Code(ctx, v.StateHandle, agent.Code(t, w.Clock.Now().Add(time.Duration(steps)*30*time.Second))))
		if (v.Step == signin.StepDone) != good {
			t.Errorf("%d steps off: at %s", steps, v.Step)
		}
	}
}

// E13: a code is good once, and so is every earlier one.
func TestCodeReuse(t *testing.T) {
	w := signintest.New(t)
	agent, other := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	now := w.Clock.Now()
	try := func(code okta.Secret, step signin.Step, key string) {
		t.Helper()
		v := toCode(t, w, signintest.Web)
		at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, code)), step, key)
	}
	try(agent.Code(t, now), signin.StepDone, "")
	try(agent.Code(t, now), signin.StepCode, wrongCode)
	try(agent.Code(t, now.Add(-30*time.Second)), signin.StepCode, wrongCode) // of the step before, never used
	try(other.Code(t, now), signin.StepDone, "")                             // each device has steps of its own
	try(agent.Code(t, now.Add(30*time.Second)), signin.StepDone, "")
	try(agent.Code(t, now.Add(30*time.Second)), signin.StepCode, wrongCode)
	w.Clock.Advance(30 * time.Second)
	try(agent.Code(t, w.Clock.Now()), signin.StepCode, wrongCode) // it was taken ahead of time
	w.Clock.Advance(30 * time.Second)
	try(agent.Code(t, w.Clock.Now()), signin.StepDone, "")
}

// E13: of many tries of one right code at once, one counts.
func TestParallelCodes(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	var views []signin.View
	for range 5 {
		views = append(views, toCode(t, w, signintest.Web))
	}
	code := agent.Code(t, w.Clock.Now())
	var done atomic.Int32
	parallel(len(views), func(i int) {
		v, err := w.Engine.Code(ctx, views[i].StateHandle, code)
		if err != nil {
			t.Error(err)
		}
		if v.Step == signin.StepDone {
			done.Add(1)
		}
	})
	if done.Load() != 1 {
		t.Errorf("one code signed in %d times", done.Load())
	}
}

func TestWrongCodes(t *testing.T) {
	w := signintest.New(t)
	agent, bobs := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), w.EnrolAll(t, w.Bob.ID, jose.ProtectionSoftware)
	right := agent.Code(t, w.Clock.Now())
	for name, code := range map[string]okta.Secret{
		"empty": "", "short": right[:5], "long": right + "0", "letters": "abcdef", "somebody else's": bobs.Code(t, w.Clock.Now()),
		"other digits": "１２３４５６", "huge": okta.Secret(strings.Repeat("1", 10000)), "signed": "+" + right,
	} {
		w.Clock.Advance(16 * time.Minute)
		v := toCode(t, w, signintest.Web)
		v = at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, code)), signin.StepCode, wrongCode)
		if v.Message.Kind != signin.KindUnauthorized {
			t.Errorf("%s: %+v", name, v.Message)
		}
	}
}

// Guesses slow down per user, over all sign-ins; a right code forgets them.
func TestCodesAreThrottled(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	for range 5 {
		v := toCode(t, w, signintest.Web)
		at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, "000000x")), signin.StepCode, wrongCode)
	}
	v := toCode(t, w, signintest.Web)
	held := at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, agent.Code(t, w.Clock.Now()))), signin.StepCode, "countersign.code.throttled")
	if held.Message.Kind != signin.KindUnauthorized {
		t.Errorf("%+v", held.Message)
	}
	w.Clock.Advance(31 * time.Second)
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, agent.Code(t, w.Clock.Now()))), signin.StepDone, "")
	w.Clock.Advance(30 * time.Second)
	v = toCode(t, w, signintest.Web)
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, "1")), signin.StepCode, wrongCode)
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, agent.Code(t, w.Clock.Now()))), signin.StepDone, "")
}

// E13: who has learnt a password gets few guesses at the code, however long they
// keep at it, and whether they pause or not.
func TestPatientGuesses(t *testing.T) {
	for name, pause := range map[string]time.Duration{"at once": time.Minute, "with pauses": 16 * time.Minute} {
		w := signintest.New(t)
		w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
		v := toCode(t, w, signintest.Web)
		looked := 0
		for start := w.Clock.Now(); w.Clock.Now().Sub(start) < 24*time.Hour; {
			if w.Clock.Now().Sub(start)%(48*time.Minute) == 0 { // before the sign-in expires
				v = toCode(t, w, signintest.Web) // the sweep comes by
			}
			for range 1 + pause/(4*time.Minute) {
				if v = must(t)(w.Engine.Code(ctx, v.StateHandle, "000000x")); v.Message.Key == wrongCode {
					looked++
				}
			}
			w.Clock.Advance(pause)
		}
		if looked > 120 {
			t.Errorf("%s: %d guesses in a day", name, looked)
		}
	}
}

// Secrets of enrolments that may not be used make no codes.
func TestCodeOfASuspendedDevice(t *testing.T) {
	w := signintest.New(t)
	agent, other := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	v := toCode(t, w, signintest.Web)
	w.Write(t, func(tx store.Tx) error {
		return device.SetStatus(ctx, tx, agent.Enrolment.ID, device.StatusSuspended, w.Clock.Now())
	})
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, agent.Code(t, w.Clock.Now()))), signin.StepCode, wrongCode)
	w.Write(t, func(tx store.Tx) error {
		return device.SetDeviceStatus(ctx, tx, other.Enrolment.Device.ID, device.StatusSuspended, w.Clock.Now())
	})
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, other.Code(t, w.Clock.Now()))), signin.StepCode, wrongCode)
}

// A code at any other step changes nothing.
func TestCodeOutOfTurn(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	v := toChoice(t, w, signintest.Web)
	code := agent.Code(t, w.Clock.Now())
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, code)), signin.StepSelect, "")
	s := w.Start(t, signintest.Web, signin.Redirect)
	at(t, must(t)(w.Engine.Code(ctx, s.StateHandle, code)), signin.StepIdentify, "")
	// and uses nothing up
	v = toCode(t, w, signintest.Web)
	at(t, must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password)), signin.StepCode, "")
	at(t, must(t)(w.Engine.Code(ctx, v.StateHandle, code)), signin.StepDone, "")
}
