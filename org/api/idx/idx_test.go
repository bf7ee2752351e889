package idx_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/api/idx"
	"countersign.dev/org/device"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

var updateGolden = flag.Bool("update", false, "rewrite testdata/*.json")

// page is a page that talks to the API as the widget does.
type page struct {
	t      testing.TB
	w      *signintest.World
	agent  *signintest.Agent
	h      http.Handler
	handle string
	last   map[string]any
}

func open(t testing.TB, app string, mode signin.Mode) *page {
	t.Helper()
	w := signintest.New(t)
	return openWith(t, w, w.Enrol(t, w.Alice.ID, jose.ProtectionSoftware), app, mode)
}

func openWith(t testing.TB, w *signintest.World, agent *signintest.Agent, app string, mode signin.Mode) *page {
	t.Helper()
	p := &page{t: t, w: w, agent: agent, h: idx.New(w.Engine, signintest.BaseURL, nil)}
	p.introspect(app, mode, 200)
	return p
}

func (p *page) introspect(app string, mode signin.Mode, want int) {
	p.t.Helper()
	member := "stateToken"
	if mode == signin.InteractionCode {
		member = "interactionHandle"
	}
	p.post("/idp/idx/introspect", `{"`+member+`":"`+p.w.Entry(p.t, app, mode).Reveal()+`"}`, want)
}

// post sends a body and keeps the answer. HANDLE in the body stands for the
// state handle.
func (p *page) post(path, body string, want int) map[string]any {
	p.t.Helper()
	r := httptest.NewRequest("POST", path, strings.NewReader(strings.ReplaceAll(body, "HANDLE", p.handle)))
	r.Header.Set("Content-Type", "application/json")
	if strings.HasSuffix(path, "introspect") {
		r.Header.Set("Content-Type", "application/ion+json; okta-version=1.0.0")
	}
	rec := httptest.NewRecorder()
	p.h.ServeHTTP(rec, r)
	if rec.Code != want {
		p.t.Fatalf("%s: %d, want %d: %s", path, rec.Code, want, rec.Body)
	}
	p.last = nil
	if rec.Body.Len() > 0 {
		if err := json.Unmarshal(rec.Body.Bytes(), &p.last); err != nil {
			p.t.Fatal(err)
		}
	}
	if h, ok := p.last["stateHandle"].(string); ok {
		p.handle = h
	}
	if p.last["version"] != nil {
		if ct := rec.Header().Get("Content-Type"); ct != "application/ion+json; okta-version=1.0.0" {
			p.t.Errorf("content type %q", ct)
		}
		checkDocument(p.t, p.last)
	}
	return p.last
}

// at walks the last answer by member names and indexes.
func (p *page) at(path ...any) any { return walk(p.last, path...) }

func walk(v any, path ...any) any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[s]
		case int:
			l, _ := v.([]any)
			if s >= len(l) {
				return nil
			}
			v = l[s]
		}
	}
	return v
}

// checkDocument holds what the widget cannot do without (loopback-and-idx 2.6)
// against a document.
func checkDocument(t testing.TB, d map[string]any) {
	t.Helper()
	forms, _ := walk(d, "remediation", "value").([]any)
	for _, path := range [][]any{{"cancel"}, {"currentAuthenticator", "value", "cancel"}, {"currentAuthenticator", "value", "resend"}, {"authenticatorChallenge", "value", "cancel"}} {
		if f := walk(d, path...); f != nil {
			forms = append(forms, f)
		}
	}
	for _, f := range forms {
		name := walk(f, "name")
		if walk(f, "rel", 0) != "create-form" || walk(f, "method") != "POST" || walk(f, "accepts") == nil || walk(f, "produces") == nil ||
			!strings.HasPrefix(walk(f, "href").(string), signintest.BaseURL+"/idp/idx/") {
			t.Errorf("form %v: %v", name, f)
		}
		handle := false
		fields, _ := walk(f, "value").([]any)
		for _, field := range fields {
			handle = handle || walk(field, "name") == "stateHandle" && walk(field, "value") == d["stateHandle"] && walk(field, "mutable") == false
			options, _ := walk(field, "options").([]any)
			for _, o := range options {
				if to, ok := walk(o, "relatesTo").(string); !ok || resolve(d, to) == nil {
					t.Errorf("form %v: option relates to nothing: %v", name, o)
				}
			}
		}
		if !handle {
			t.Errorf("form %v carries no state handle", name)
		}
		if to := walk(f, "relatesTo", 0); to != nil && resolve(d, to.(string)) == nil {
			t.Errorf("form %v relates to nothing: %v", name, to)
		}
		if strings.HasSuffix(name.(string), "-poll") && walk(f, "refresh") == nil {
			t.Errorf("form %v has no refresh", name)
		}
	}
}

var index = regexp.MustCompile(`^(.*)\[(\d+)\]$`)

func resolve(d map[string]any, path string) any {
	var v any = d
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "$."), ".") {
		if m := index.FindStringSubmatch(part); m != nil {
			n, _ := strconv.Atoi(m[2])
			v = walk(v, m[1], n)
			continue
		}
		v = walk(v, part)
	}
	return v
}

// golden compares the last answer with testdata/name.json, after what differs
// from run to run has been replaced.
func (p *page) golden(name string) {
	p.t.Helper()
	b, err := json.MarshalIndent(p.last, "", "  ")
	if err != nil {
		p.t.Fatal(err)
	}
	text := strings.NewReplacer(p.handle, "STATE-HANDLE", p.w.Org.Authenticators.Password, "PASSWORD-ID", p.w.Org.Authenticators.OktaVerify, "VERIFY-ID",
		p.w.Alice.ID, "USER-ID", p.agent.Enrolment.ID, "ENROLMENT-ID").Replace(string(b))
	text = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`).ReplaceAllString(text, "CHALLENGE")
	text = regexp.MustCompile(`stateToken=[\w-]+`).ReplaceAllString(text, "stateToken=EXIT") + "\n"
	file := filepath.Join("testdata", name+".json")
	if *updateGolden {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	if text != string(want) {
		p.t.Errorf("%s differs (run with -update to accept):\n%s", file, text)
	}
}

const (
	identify = `{"identifier":"` + signintest.AliceLogin + `","rememberMe":true,"stateHandle":"HANDLE"}`
	password = `{"credentials":{"passcode":"` + string(signintest.Password) + `"},"stateHandle":"HANDLE"}`
	bare     = `{"stateHandle":"HANDLE"}`
)

func (p *page) challenge() string {
	p.t.Helper()
	p.post("/idp/idx/identify", identify, 200)
	p.post("/idp/idx/challenge/answer", password, 200)
	return p.at("currentAuthenticator", "value", "contextualData", "challenge", "value", "challengeRequest").(string)
}

func (p *page) verify(challenge string, want int, edits ...func(*signintest.Reply)) {
	p.t.Helper()
	handle := p.handle
	body, _ := json.Marshal(p.agent.Answer(p.t, p.w, challenge, edits...))
	c := signintest.Claims(p.t, challenge)
	p.post(strings.TrimPrefix(c.VerificationURI, signintest.BaseURL), string(body), want)
	p.handle = handle
}

func TestDocuments(t *testing.T) {
	p := open(t, signintest.Web, signin.Redirect)
	p.golden("identify")
	p.post("/idp/idx/identify", identify, 200)
	p.golden("password")
	p.post("/idp/idx/challenge/answer", `{"credentials":{"passcode":"wrong"},"stateHandle":"HANDLE"}`, 401)
	p.golden("password-incorrect")
	p.post("/idp/idx/challenge/answer", password, 200)
	p.golden("signed-nonce")
	p.post("/idp/idx/authenticators/poll", bare, 200)
	p.golden("signed-nonce") // the same again
	p.post("/idp/idx/authenticators/poll/cancel", `{"reason":"OV_UNREACHABLE_BY_LOOPBACK","statusCode":null,"stateHandle":"HANDLE"}`, 200)
	p.golden("select-unreachable")
	p.post("/idp/idx/challenge", `{"authenticator":{"id":"`+p.w.Org.Authenticators.OktaVerify+`","methodType":"signed_nonce"},"stateHandle":"HANDLE"}`, 200)
	challenge := p.at("currentAuthenticator", "value", "contextualData", "challenge", "value", "challengeRequest").(string)
	p.verify(challenge, 204, signintest.Deny)
	p.post("/idp/idx/authenticators/poll", bare, 200) // not 400: the widget would hide the way on
	p.golden("denied")
	p.post("/idp/idx/challenge", `{"authenticator":{"id":"`+p.w.Org.Authenticators.OktaVerify+`","methodType":"signed_nonce"},"stateHandle":"HANDLE"}`, 200)
	challenge = p.at("currentAuthenticator", "value", "contextualData", "challenge", "value", "challengeRequest").(string)
	p.verify(challenge, 200)
	p.post("/idp/idx/challenge/poll", bare, 200)
	p.golden("success-redirect")

	p.introspect(signintest.Web, signin.InteractionCode, 200)
	p.post("/idp/idx/authenticators/okta-verify/launch", `{"rememberMe":true,"stateHandle":"HANDLE"}`, 200)
	p.golden("device-challenge")
	p.post("/idp/idx/authenticators/poll/cancel", `{"reason":"USER_CANCELED","statusCode":null,"stateHandle":"HANDLE"}`, 200)
	p.golden("identify-interaction")
	p.verify(p.challenge(), 200)
	p.post("/idp/idx/authenticators/poll", bare, 200)
	p.golden("success-interaction-code")

	p.introspect(signintest.Private, signin.Redirect, 200)
	p.post("/idp/idx/identify", identify, 200)
	p.post("/idp/idx/challenge/answer", password, 403)
	p.golden("not-assigned")
	p.post("/idp/idx/cancel", bare, 200)
	if p.at("remediation", "value", 0, "name") != "identify" {
		t.Error("cancel does not lead back to the start")
	}
	p.w.Clock.Advance(2 * time.Hour)
	p.post("/idp/idx/authenticators/poll", bare, 401)
	p.golden("session-expired")
}

func TestPhishingEndsWithAMessage(t *testing.T) {
	p := open(t, signintest.Web, signin.InteractionCode)
	p.verify(p.challenge(), 403, func(r *signintest.Reply) { r.Context.OriginHeader = "https://evil.example" })
	if p.at("errorCode") != "E0000212" {
		t.Errorf("%v", p.last)
	}
	p.post("/idp/idx/authenticators/poll", bare, 403)
	p.golden("phishing")
}

func TestReload(t *testing.T) {
	p := open(t, signintest.Web, signin.Redirect)
	challenge := p.challenge()
	// auth-js brings the state handle it kept as a state token.
	p.post("/idp/idx/introspect", `{"stateToken":"HANDLE"}`, 200)
	if got := p.at("currentAuthenticator", "value", "contextualData", "challenge", "value", "challengeRequest"); got != challenge {
		t.Error("another challenge after a reload")
	}
}

func TestRefusals(t *testing.T) {
	p := open(t, signintest.Web, signin.Redirect)
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{"/idp/idx/introspect", `{}`, 400},
		{"/idp/idx/introspect", `{"stateToken":"unknown"}`, 401},
		{"/idp/idx/introspect", `{"stateToken":1}`, 400},
		{"/idp/idx/introspect", ``, 400},
		{"/idp/idx/identify", `{"identifier":"a","identifier":"b","stateHandle":"HANDLE"}`, 400},
		{"/idp/idx/identify", `{"identifier":"` + strings.Repeat("a", 300) + `","stateHandle":"HANDLE"}`, 400},
		{"/idp/idx/identify", `{"identifier":" ","stateHandle":"HANDLE"}`, 400},
		{"/idp/idx/identify", `{"identifier":"a"}`, 401},
		{"/idp/idx/identify", `{"identifier":"a","stateHandle":"HANDLE"}` + strings.Repeat(" ", 20<<10), 413},
		{"/idp/idx/authenticators/poll/cancel", `{"reason":"BECAUSE","stateHandle":"HANDLE"}`, 400},
		{"/idp/idx/credential/nothing", bare, 404},
		{"/idp/idx/challenge/resend", bare, 200}, // no push to send again: the step as it is
		{"/idp/idx/challenge/resend", `{}`, 401},
		{"/idp/idx/challenge/poll", `{"autoChallenge":"yes","stateHandle":"HANDLE"}`, 400},
		{"/idp/idx/challenge/poll", `{"autoChallenge":true}`, 401},
		{"/idp/idx/challenge", `{"authenticator":{"autoChallenge":1},"stateHandle":"HANDLE"}`, 400},
		{"/idp/idx/challenge/answer", `{"credentials":{"totp":123456},"stateHandle":"HANDLE"}`, 400},
		{"/idp/authenticators/aut/transactions/ft0/verify", `{"method":"signed_nonce","challengeResponse":"x"}`, 400},
		{"/idp/myaccount/app-authenticators/challenge/ft0/verify", `{"method":"signed_nonce"}`, 400},
	} {
		p.post(c.path, c.body, c.want)
	}
	for method, want := range map[string]int{"GET": 405, "PUT": 405} {
		rec := httptest.NewRecorder()
		p.h.ServeHTTP(rec, httptest.NewRequest(method, "/idp/idx/introspect", nil))
		if rec.Code != want {
			t.Errorf("%s: %d", method, rec.Code)
		}
	}
	for _, ct := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		r := httptest.NewRequest("POST", "/idp/idx/introspect", strings.NewReader(`{}`))
		r.Header.Set("Content-Type", ct)
		rec := httptest.NewRecorder()
		p.h.ServeHTTP(rec, r)
		if rec.Code != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %d", ct, rec.Code)
		}
	}
}

func TestVerifyGone(t *testing.T) {
	p := open(t, signintest.Web, signin.Redirect)
	challenge := p.challenge()
	p.w.Write(t, func(tx store.Tx) error {
		return device.SetStatus(t.Context(), tx, p.agent.Enrolment.ID, device.StatusDeleted, p.w.Clock.Now())
	})
	p.verify(challenge, 410)
	if p.at("errorCode") != "E0000154" {
		t.Errorf("%v", p.last)
	}
	p.post("/idp/idx/authenticators/poll", bare, 400)
	p.golden("invalid-device") // it was the last one: there is nothing to choose
	p.post("/idp/idx/authenticators/poll", bare, 403)
	p.golden("no-authenticator")
}

// FuzzSteps: no body of any step takes a sign-in that has proven nothing
// anywhere near success, and none makes the server fail.
func FuzzSteps(f *testing.F) {
	paths := []string{"introspect", "identify", "challenge", "challenge/answer", "challenge/poll", "challenge/resend", "authenticators/poll",
		"authenticators/poll/cancel", "authenticators/okta-verify/launch", "cancel"}
	for i := range paths {
		f.Add(uint8(i), []byte(identify))
		f.Add(uint8(i), []byte(`{"credentials":{"passcode":"x"},"stateHandle":"HANDLE"}`))
		f.Add(uint8(i), []byte(`{"authenticator":{"id":"aut","methodType":"signed_nonce"},"stateHandle":"HANDLE"}`))
		f.Add(uint8(i), []byte(`{"credentials":{"totp":"123456"},"authenticator":{"autoChallenge":true},"autoChallenge":true,"stateHandle":"HANDLE"}`))
		f.Add(uint8(i), []byte(`{"reason":"OV_RETURNED_ERROR","statusCode":0,"stateHandle":"HANDLE"}`))
	}
	p := open(f, signintest.Web, signin.Redirect)
	f.Fuzz(func(t *testing.T, step uint8, body []byte) {
		p.t = t
		r := httptest.NewRequest("POST", "/idp/idx/"+paths[int(step)%len(paths)], bytes.NewReader(bytes.ReplaceAll(body, []byte("HANDLE"), []byte(p.handle))))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		p.h.ServeHTTP(rec, r)
		var d map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &d); err != nil {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		if rec.Code >= 500 || d["success"] != nil || d["successWithInteractionCode"] != nil {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		if h, ok := d["stateHandle"].(string); ok {
			p.handle = h
			checkDocument(t, d)
		}
		if rec.Code == 401 && walk(d, "messages", "value", 0, "i18n", "key") == "idx.session.expired" {
			p.introspect(signintest.Web, signin.Redirect, 200)
		}
	})
}

// FuzzAnswer: only the very answer that the agent signed is taken.
func FuzzAnswer(f *testing.F) {
	p := open(f, signintest.Web, signin.Redirect)
	challenge := p.challenge()
	honest, _ := json.Marshal(p.agent.Answer(f, p.w, challenge, func(r *signintest.Reply) { r.Nonce = "wrong" }))
	f.Add(honest)
	f.Add([]byte(`{"method":"signed_nonce","challengeResponse":"` + challenge + `"}`))
	f.Add([]byte(`{"method":"signed_nonce","challengeResponse":"eyJhbGciOiJub25lIn0.e30."}`))
	f.Add([]byte(`{"method":"push"}`))
	path := strings.TrimPrefix(signintest.Claims(f, challenge).VerificationURI, signintest.BaseURL)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		p.h.ServeHTTP(rec, r)
		if rec.Code < 400 || rec.Code >= 500 {
			t.Fatalf("%d for %q", rec.Code, body)
		}
		p.t = t
		p.post("/idp/idx/authenticators/poll", bare, 200) // still pending
	})
}

// BenchmarkVerify measures the endpoint that agents answer to.
func BenchmarkVerify(b *testing.B) {
	p := open(b, signintest.Web, signin.Redirect)
	type answer struct{ path, body string }
	answers := make([]answer, b.N)
	for i := range answers {
		p.introspect(signintest.Web, signin.Redirect, 200)
		p.post("/idp/idx/authenticators/okta-verify/launch", bare, 200)
		c := p.at("authenticatorChallenge", "value", "challengeRequest").(string)
		body, _ := json.Marshal(p.agent.Answer(b, p.w, c))
		answers[i] = answer{strings.TrimPrefix(signintest.Claims(b, c).VerificationURI, signintest.BaseURL), string(body)}
	}
	b.ResetTimer()
	for _, a := range answers {
		r := httptest.NewRequest("POST", a.path, strings.NewReader(a.body))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		p.h.ServeHTTP(rec, r)
		if rec.Code != 200 {
			body, _ := io.ReadAll(rec.Body)
			b.Fatalf("%d %s", rec.Code, body)
		}
	}
}
