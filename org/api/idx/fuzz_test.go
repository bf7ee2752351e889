package idx_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/org/api/idx"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
)

// FuzzSecurityKeyAnswer: whatever a page sends in place of what a security key
// said, nobody is signed in by it, the org does not fail, and the sign-in goes on.
func FuzzSecurityKeyAnswer(f *testing.F) {
	w, k := signintest.New(f).TakeKeys(f), signintest.NewSoftKey()
	ctx, h := f.Context(), idx.New(w.Engine, signintest.BaseURL, nil)
	must := func(v signin.View, err error) signin.View {
		if err != nil {
			f.Fatal(err)
		}
		return v
	}
	to := func(login string) signin.View {
		v := must(w.Engine.Introspect(ctx, w.Entry(f, signintest.Web, signin.Redirect), ""))
		v = must(w.Engine.Identify(ctx, v.StateHandle, login))
		return must(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	}
	enrolling := func(login string) signin.View {
		return must(w.Engine.SetUp(ctx, to(login).StateHandle, w.Org.Authenticators.WebAuthn))
	}
	v := enrolling(signintest.BobLogin)
	if v = must(w.Engine.EnrolKey(ctx, v.StateHandle, k.Make(v.Key, signintest.BaseURL))); v.Step != signin.StepDone {
		f.Fatalf("the good one led to %s", v.Step)
	}
	using, fresh := to(signintest.BobLogin), enrolling(signintest.AliceLogin)
	steps := map[bool]struct {
		handle okta.Secret
		step   signin.Step
	}{false: {using.StateHandle, signin.StepKey}, true: {fresh.StateHandle, signin.StepEnrol}}

	// What would be right but for the challenge, which another answer has used up.
	a, m := k.Assert(using.Key, signintest.BaseURL), k.Make(fresh.Key, signintest.BaseURL)
	for _, handle := range []okta.Secret{using.StateHandle, fresh.StateHandle} {
		answer(h, handle, []byte(`{"clientData":"e30","attestation":"","signatureData":"AA"}`))
		answer(h, handle, []byte(`{"clientData":"e30","attestation":"AA"}`))
	}
	for _, c := range []any{
		map[string]string{"clientData": a.ClientData, "authenticatorData": a.AuthenticatorData, "signatureData": a.Signature, "userHandle": ""},
		map[string]any{"clientData": m.ClientData, "attestation": m.Attestation, "transports": `["usb"]`, "clientExtensions": `{"credProps":{"rk":false}}`},
		map[string]any{"clientData": m.ClientData, "attestation": m.Attestation, "transports": []any{"usb", 7, nil, map[string]any{}}},
		map[string]any{"clientData": m.ClientData, "attestation": m.ClientData, "transports": strings.Repeat("[", 500)},
	} {
		b, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(false, b)
		f.Add(true, b)
	}
	for _, c := range []string{`{}`, `null`, `[]`, `{"clientData":null}`, `{"clientData":"e30","clientData":"e30"}`, `{"passcode":"x"}`, `{"totp":"1"}`, `{"clientData":"e30"},"stateHandle":"x"`} {
		f.Add(false, []byte(c))
		f.Add(true, []byte(c))
	}
	if status, _ := answer(h, using.StateHandle, []byte(`{"clientData":"`+strings.Repeat("A", 70<<10)+`"}`)); status != http.StatusRequestEntityTooLarge {
		f.Errorf("70 KiB: %d", status)
	}
	f.Fuzz(func(t *testing.T, enrols bool, credentials []byte) {
		at := steps[enrols]
		status, body := answer(h, at.handle, credentials)
		if status != 200 && status/100 != 4 || !json.Valid(body) {
			t.Fatalf("%d %s", status, body)
		}
		if strings.Contains(string(body), "success-redirect") {
			t.Fatalf("signed in by %q", credentials)
		}
		v, err := w.Engine.Poll(t.Context(), at.handle)
		if err != nil || v.Step != at.step || v.Success != nil || v.Key == nil {
			t.Fatalf("led to %s: %v", v.Step, err)
		}
	})
}

// answer posts credentials, JSON or not, as the answer to a challenge.
func answer(h http.Handler, handle okta.Secret, credentials []byte) (int, []byte) {
	r := httptest.NewRequest("POST", "/idp/idx/challenge/answer", strings.NewReader(`{"stateHandle":"`+handle.Reveal()+`","credentials":`+string(credentials)+`}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}
