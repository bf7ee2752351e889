package idx_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// asked reads what the page would hand to the browser, from activationData or
// challengeData.
func (p *page) asked(name string) *signin.KeyView {
	p.t.Helper()
	data, _ := p.at("currentAuthenticator", "value", "contextualData", name).(map[string]any)
	if data == nil {
		p.t.Fatalf("no %s in %v", name, p.last)
	}
	rp, _ := data["rpId"].(string)
	if name == "activationData" {
		rp, _ = walk(data, "rp", "id").(string)
	}
	return &signin.KeyView{Challenge: data["challenge"].(string), RPID: rp}
}

// answer posts credentials as the widget does: transports and extensions are
// JSON inside strings.
func (p *page) credentials(want int, c map[string]any) {
	p.t.Helper()
	b, err := json.Marshal(map[string]any{"credentials": c, "stateHandle": p.handle})
	if err != nil {
		p.t.Fatal(err)
	}
	p.post("/idp/idx/challenge/answer", string(b), want)
}

func (p *page) enrolKey(k *signintest.SoftKey, want int, edits ...func(*signintest.KeyAnswer)) {
	p.t.Helper()
	a := k.Make(p.asked("activationData"), signintest.BaseURL, edits...)
	p.credentials(want, map[string]any{"clientData": a.ClientData, "attestation": a.Attestation, "transports": `["usb"]`, "clientExtensions": `{"credProps":{"rk":false}}`})
}

func (p *page) useKey(k *signintest.SoftKey, want int, edits ...func(*signintest.KeyAnswer)) {
	p.t.Helper()
	a := k.Assert(p.asked("challengeData"), signintest.BaseURL, edits...)
	p.credentials(want, map[string]any{"clientData": a.ClientData, "authenticatorData": a.AuthenticatorData, "signatureData": a.Signature, "userHandle": ""})
}

var identifyBob = strings.Replace(identify, signintest.AliceLogin, signintest.BobLogin, 1)

func (p *page) maskedGolden(name string, k *signintest.SoftKey) {
	p.t.Helper()
	b, err := json.Marshal(p.last)
	if err != nil {
		p.t.Fatal(err)
	}
	pairs := []string{p.w.Org.Authenticators.WebAuthn, "WEBAUTHN-ID", p.w.Bob.ID, "USER-ID",
		base64.RawURLEncoding.EncodeToString([]byte(p.w.Bob.ID)), "USER-HANDLE", base64.RawURLEncoding.EncodeToString(k.ID), "CREDENTIAL"}
	for _, path := range [][]any{
		{"currentAuthenticator", "value", "contextualData", "activationData", "challenge"},
		{"currentAuthenticator", "value", "contextualData", "challengeData", "challenge"},
	} {
		if c, ok := p.at(path...).(string); ok {
			pairs = append(pairs, c, "CHALLENGE")
		}
	}
	list, _ := p.at("authenticatorEnrollments", "value").([]any)
	for _, e := range list {
		if id, _ := walk(e, "id").(string); strings.HasPrefix(id, "fwf") {
			pairs = append(pairs, id, "KEY-ID")
		}
	}
	p.last = nil
	if err := json.Unmarshal([]byte(strings.NewReplacer(pairs...).Replace(string(b))), &p.last); err != nil {
		p.t.Fatal(err)
	}
	p.golden(name)
}

// What the org wants of keeping the credential is in the words of both versions of
// WebAuthn.
func TestResidentKeys(t *testing.T) {
	w := signintest.New(t).TakeKeys(t)
	for setting, want := range map[string]string{"": "discouraged false", "PREFERRED": "preferred false", "REQUIRED": "required true"} {
		storetest.Write(t, w.DB, func(tx store.Tx) error {
			return directory.SetWebAuthn(t.Context(), tx, directory.WebAuthnSettings{ResidentKeyRequirement: setting}, time.Now())
		})
		p := openWith(t, w, w.Enrol(t, w.Alice.ID, "SOFTWARE"), signintest.Web, signin.Redirect)
		p.post("/idp/idx/identify", identifyBob, 200)
		p.post("/idp/idx/challenge/answer", password, 200)
		p.post("/idp/idx/credential/enroll", `{"authenticator":{"id":"`+w.Org.Authenticators.WebAuthn+`","methodType":"webauthn"},"stateHandle":"HANDLE"}`, 200)
		selection := p.at("currentAuthenticator", "value", "contextualData", "activationData", "authenticatorSelection")
		if got := fmt.Sprint(walk(selection, "residentKey"), " ", walk(selection, "requireResidentKey")); got != want {
			t.Errorf("%q: %s", setting, got)
		}
	}
}

func TestSecurityKeyDocuments(t *testing.T) {
	w, k := signintest.New(t).TakeKeys(t), signintest.NewSoftKey()
	p := openWith(t, w, w.Enrol(t, w.Alice.ID, "SOFTWARE"), signintest.Web, signin.Redirect)
	p.post("/idp/idx/identify", identifyBob, 200)
	p.post("/idp/idx/challenge/answer", password, 200)
	p.maskedGolden("set-up", k)
	enrol := `{"authenticator":{"id":"` + w.Org.Authenticators.WebAuthn + `","methodType":"webauthn"},"stateHandle":"HANDLE"}`
	p.post("/idp/idx/skip", bare, 400) // the app asks for it
	p.post("/idp/idx/credential/enroll", `{"authenticator":{"id":"autOther"},"stateHandle":"HANDLE"}`, 400)
	p.post("/idp/idx/credential/enroll", enrol, 200)
	p.enrolKey(k, 401, func(a *signintest.KeyAnswer) { a.Challenge = "AAAA" })
	p.enrolKey(k, 400, func(a *signintest.KeyAnswer) { a.RPID = "evil.example" })
	p.post("/idp/idx/credential/enroll", enrol, 200)
	again := p.last
	p.maskedGolden("enrol-key", k)
	p.last = again
	p.enrolKey(k, 200)
	if p.at("success", "name") != "success-redirect" {
		t.Fatalf("not signed in: %v", p.last)
	}

	p.introspect(signintest.Strict, signin.Redirect, 200)
	p.post("/idp/idx/identify", identifyBob, 200)
	p.post("/idp/idx/challenge/answer", password, 200)
	again = p.last
	p.maskedGolden("key", k)
	p.last = again
	p.useKey(k, 401, func(a *signintest.KeyAnswer) { a.RPID = "evil.example" })
	if key := p.at("messages", "value", 0, "i18n", "key"); key != "authfactor.webauthn.error.assertion_validation_failure" {
		t.Errorf("message %v", key)
	}
	if p.at("remediation", "value", 0, "name") != "challenge-authenticator" {
		t.Errorf("no way on: %v", p.last)
	}
	p.useKey(k, 200)
	if p.at("success", "name") != "success-redirect" {
		t.Fatalf("not signed in: %v", p.last)
	}
	// What is no answer at all.
	p.introspect(signintest.Strict, signin.Redirect, 200)
	p.post("/idp/idx/identify", identifyBob, 200)
	p.post("/idp/idx/challenge/answer", password, 200)
	for _, c := range []map[string]any{{"clientData": "x"}, {"clientData": strings.Repeat("A", 9<<10), "authenticatorData": "AA", "signatureData": "AA"}, {"clientData": "e30", "attestation": "AA"}} {
		b, _ := json.Marshal(map[string]any{"credentials": c, "stateHandle": p.handle})
		p.post("/idp/idx/challenge/answer", string(b), map[bool]int{true: 200, false: 401}[c["attestation"] != nil]) // an enrolment is not what was asked
		if p.at("success") != nil {
			t.Fatalf("signed in by %v", c)
		}
	}
}
