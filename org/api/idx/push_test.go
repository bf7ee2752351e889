package idx_test

import (
	"regexp"
	"testing"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

// choose picks a method of okta_verify.
func (p *page) choose(method string) {
	p.t.Helper()
	p.post("/idp/idx/challenge", `{"authenticator":{"id":"`+p.w.Org.Authenticators.OktaVerify+`","methodType":"`+method+`"},"stateHandle":"HANDLE"}`, 200)
}

// waiting returns the newest push that waits for the agent.
func (p *page) waiting() string {
	p.t.Helper()
	list := p.agent.Pending(p.t, p.w)
	if len(list) == 0 {
		p.t.Fatal("no push waits")
	}
	return list[len(list)-1]
}

func numbering(p *page, n directory.NumberChallenge) {
	p.w.Write(p.t, func(tx store.Tx) error { return directory.SetNumberChallenge(p.t.Context(), tx, n) })
}

func TestPushDocuments(t *testing.T) {
	w := signintest.New(t)
	p := openWith(t, w, w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), signintest.Strict, signin.Redirect)
	numbering(p, directory.NumberNever)
	p.post("/idp/idx/identify", identify, 200)
	p.post("/idp/idx/challenge/answer", password, 200)
	p.golden("select-method")
	p.choose("push")
	p.golden("push")
	p.post("/idp/idx/challenge/poll", bare, 200)
	p.golden("push") // the same again

	numbering(p, directory.NumberAlways)
	p.post("/idp/idx/challenge/resend", bare, 200)
	number, _ := p.at("currentAuthenticator", "value", "contextualData", "correctAnswer").(string)
	if !regexp.MustCompile(`^[1-9][0-9]$`).MatchString(number) {
		t.Fatalf("correctAnswer %q", number)
	}
	p.last["currentAuthenticator"].(map[string]any)["value"].(map[string]any)["contextualData"] = map[string]any{"correctAnswer": "NUMBER"}
	p.golden("push-number")
	p.verify(p.waiting(), 400, signintest.Pick("00"))
	if p.at("errorCode") != "E0000001" {
		t.Errorf("%v", p.last)
	}
	p.post("/idp/idx/challenge/poll", bare, 200) // not 400: the widget would hide the way on
	p.golden("push-rejected")

	p.post("/idp/idx/challenge/resend", bare, 200)
	w.Clock.Advance(6 * time.Minute)
	p.post("/idp/idx/challenge/poll", bare, 200)
	p.golden("push-expired")

	w.Clock.Advance(5 * time.Minute) // the wrong number is forgotten
	p.post("/idp/idx/challenge/resend", bare, 200)
	p.verify(p.waiting(), 204, signintest.Report)
	p.post("/idp/idx/challenge/poll", bare, 403)
	p.golden("push-reported")
}

func TestPushThrottledDocument(t *testing.T) {
	w := signintest.New(t)
	p := openWith(t, w, w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), signintest.Web, signin.Redirect)
	p.post("/idp/idx/identify", identify, 200)
	p.post("/idp/idx/challenge/answer", password, 200)
	for range 5 {
		p.choose("push")
		p.verify(p.waiting(), 204, signintest.Deny)
		p.post("/idp/idx/challenge/poll", bare, 200)
	}
	p.post("/idp/idx/challenge/resend", bare, 200)
	p.golden("push-throttled")
}

func TestAutoChallengeDocuments(t *testing.T) {
	w := signintest.New(t)
	p := openWith(t, w, w.EnrolPush(t, w.Alice.ID), signintest.Web, signin.Redirect)
	numbering(p, directory.NumberNever)
	start := func() {
		p.introspect(signintest.Web, signin.Redirect, 200)
		p.post("/idp/idx/identify", identify, 200)
		p.post("/idp/idx/challenge/answer", password, 200)
	}
	start()
	p.golden("push-offer")
	p.post("/idp/idx/challenge", `{"authenticator":{"id":"`+w.Org.Authenticators.OktaVerify+`","methodType":"push","autoChallenge":true},"stateHandle":"HANDLE"}`, 200)
	p.golden("push-auto")
	start()
	if p.at("remediation", "value", 0, "name") != "challenge-poll" {
		t.Errorf("asked again: %v", p.last)
	}
	// Unticked while the page waits.
	p.post("/idp/idx/challenge/poll", `{"autoChallenge":false,"stateHandle":"HANDLE"}`, 200)
	start()
	p.golden("push-offer")
}

func TestCodeDocuments(t *testing.T) {
	w := signintest.New(t)
	p := openWith(t, w, w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware), signintest.Web, signin.Redirect)
	p.post("/idp/idx/identify", identify, 200)
	p.post("/idp/idx/challenge/answer", password, 200)
	p.choose("totp")
	p.golden("code")
	code := p.agent.Code(t, w.Clock.Now()).Reveal()
	p.post("/idp/idx/challenge/answer", `{"credentials":{"totp":""},"stateHandle":"HANDLE"}`, 401)
	p.golden("code-incorrect")
	p.post("/idp/idx/challenge/answer", `{"credentials":{"totp":"`+code[:3]+" "+code[3:]+`"},"stateHandle":"HANDLE"}`, 200)
	p.golden("success-redirect")
}
