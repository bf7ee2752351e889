package daemon

import (
	"context"
	"errors"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/daemon/challenge"
	"countersign.dev/daemon/vault"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

const testPIN, wrongPIN = "314159", "271828"

func refusalOf(t *testing.T, err error) *api.Error {
	t.Helper()
	var refused *api.Error
	if !errors.As(err, &refused) {
		t.Fatalf("%v is no refusal", err)
	}
	return refused
}

// withPIN is an agent with a PIN and an account whose methods have keys that the
// PIN unlocks.
func withPIN(t *testing.T, org *oktatest.Org, c Config) *agent {
	t.Helper()
	a := startAgent(t, c)
	added := a.enrol(t, org)
	set, err := a.client.SetPIN(t.Context(), api.PIN(testPIN), nil)
	if err != nil || set.Changed || set.State.State != "ready" || len(set.Without) != 1 || set.Without[0].ID != added.ID {
		t.Fatalf("%+v, %v", set, err)
	}
	return a.withKeys(t)
}

// withKeys starts the agent again, with keys for the PIN in its accounts.
func (a *agent) withKeys(t *testing.T) *agent {
	t.Helper()
	core := a.core.Load()
	v, err := core.verification.Verify(t.Context(), verification.Request{Purpose: "make keys", PIN: devicekey.Secret(testPIN), Method: verification.PIN})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Wipe()
	auth, _ := v.Authorise(okta.KeyUserVerificationBioOrPIN)
	makeKey := func() devicekey.Ref {
		k, _, err := core.store.Create(t.Context(), devicekey.Spec{Role: okta.KeyUserVerificationBioOrPIN, UserVerification: true, Authorisation: auth})
		if err != nil {
			t.Fatal(err)
		}
		return k.Ref()
	}
	return a.given(t, makeKey(), makeKey())
}

// given starts the agent again, with these keys in its one account.
func (a *agent) given(t *testing.T, refs ...devicekey.Ref) *agent {
	t.Helper()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	state, err := vault.Open(t.Context(), a.config.StateDir, vault.Options{Key: "file"})
	if err != nil {
		t.Fatal(err)
	}
	var book map[string]any
	if err := state.Load("accounts", &book); err != nil {
		t.Fatal(err)
	}
	for _, acc := range book["accounts"].([]any) {
		n := 0
		for _, m := range acc.(map[string]any)["methods"].([]any) {
			if m := m.(map[string]any); m["type"] != "totp" {
				m["userVerificationBioOrPin"] = refs[n]
				n++
			}
		}
	}
	if err := errors.Join(state.Save("accounts", book), state.Close()); err != nil {
		t.Fatal(err)
	}
	return startAgent(t, a.config)
}

// either finds keys in a quick store, or in the agent's.
type either struct{ quick, own challenge.DeviceKeys }

func (e either) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	k, err := e.quick.Open(ctx, ref)
	if errors.Is(err, devicekey.ErrNotFound) {
		return e.own.Open(ctx, ref)
	}
	return k, err
}

// quickly is an agent like withPIN's, whose PIN is checked without the slow
// derivation.
func quickly(t *testing.T, org *oktatest.Org, c Config) (*agent, *verificationtest.Rooms) {
	t.Helper()
	o := verificationtest.Options()
	o.Now, o.Grace = c.Now, c.VerificationGrace
	service, err := verification.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := service.SetPIN(t.Context(), devicekey.Secret(testPIN), nil); err != nil {
		t.Fatal(err)
	}
	v, err := service.Verify(t.Context(), verification.Request{Purpose: "make keys", Method: verification.PIN, PIN: devicekey.Secret(testPIN)})
	if err != nil {
		t.Fatal(err)
	}
	auth, _ := v.Authorise(okta.KeyUserVerificationBioOrPIN)
	k, _, err := o.Keys.Create(t.Context(), devicekey.Spec{Role: okta.KeyUserVerificationBioOrPIN, UserVerification: true, Authorisation: auth})
	if err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, c)
	a.enrol(t, org)
	a = a.given(t, k.Ref(), k.Ref())
	core := *a.core.Load() // a new one: whoever serves has seen the old
	core.verification, core.pipeline.Verification = service, service
	core.pipeline.Keys = either{o.Keys, core.pipeline.Keys}
	a.core.Store(&core)
	return a, o.Rooms.(*verificationtest.Rooms)
}

// asks has a page bring a challenge and returns the prompt that comes of it.
func (a *agent) asks(t *testing.T, org *oktatest.Org, events <-chan api.Event, need okta.Need) (api.Prompt, <-chan int) {
	t.Helper()
	status := make(chan int, 1)
	go func() {
		status <- a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.UserVerification, c.UserMediation = need, okta.NeedRequired }))
	}()
	return nextPrompt(t, events), status
}

func lastClaims(t *testing.T, org *oktatest.Org) okta.Answer {
	t.Helper()
	all := org.Answers()
	token, err := jose.Parse(all[len(all)-1].ChallengeResponse, jose.Answer)
	if err != nil {
		t.Fatal(err)
	}
	var claims okta.Answer
	if err := token.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func (a *agent) pin(t *testing.T) api.Verification {
	t.Helper()
	list, err := a.client.Verification(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list.Verification[0]
}
