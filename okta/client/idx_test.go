package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// page is a recorded answer of an org, with its address in it.
func page(t testing.TB, name, orgURL string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "ORG", orgURL)
}

// answers serves one answer to every step.
func answers(t testing.TB, status int, body string) *client.Org {
	return handler(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/ion+json; okta-version=1.0.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "ORG", "http://"+r.Host))
	})
}

// The requests of a sign-in as they go over the wire, against recorded pages.
func TestIDXCalls(t *testing.T) {
	var got []string
	next := []string{"idx-identify", "idx-select", "idx-challenge", "idx-success"}
	org := handler(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s [%s] [%s] %s", r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Accept"), body))
		w.Header().Set("Content-Type", "application/ion+json; okta-version=1.0.0")
		if strings.HasSuffix(r.URL.Path, "/interact") {
			_, _ = io.WriteString(w, `{"interaction_handle":"the-handle"}`)
			return
		}
		_, _ = io.WriteString(w, page(t, next[0], "http://"+r.Host))
		next = next[1:]
	})
	ctx := t.Context()
	handle, err := org.Interact(ctx, url.Values{"client_id": {"countersign-agent"}, "scope": {"openid"}})
	if err != nil || handle.Reveal() != "the-handle" {
		t.Fatal(handle.Reveal(), err)
	}
	step, err := org.Introspect(ctx, handle)
	if err != nil || len(step.Forms) != 2 || step.Form("identify") == nil || step.Form("x") != nil {
		t.Fatalf("%+v, %v", step, err)
	}
	if f := step.Form("identify"); !f.Has("identifier") || f.Has("credentials", "passcode") || f.Has() {
		t.Errorf("%+v", f)
	}
	if step, err = org.Proceed(ctx, step.Form("identify"), map[string]any{"identifier": "bob@example.com"}); err != nil {
		t.Fatal(err)
	}
	choose := step.Form("select-authenticator-authenticate")
	value, ok := choose.Choose(client.KeyWebAuthn)
	if !ok || len(choose.Choices) != 2 || choose.Choices[0].Key != client.KeyPassword || choose.Choices[1].Label != "Security Key or Biometric Authenticator" {
		t.Fatalf("%+v", choose.Choices)
	}
	if step, err = org.Proceed(ctx, choose, value); err != nil {
		t.Fatal(err)
	}
	form := step.Form("challenge-authenticator")
	challenge, err := form.Challenge("id.example.com")
	if err != nil || form.Key != client.KeyWebAuthn || len(challenge.Challenge) != 20 || challenge.RPID != "id.example.com" || challenge.Verification != "preferred" ||
		len(challenge.Allow) != 2 || string(challenge.Allow[1]) != "\x08\x07\x06\x05\x04\x03\x02\x01" || form.Has("credentials", "userHandle") || !form.Has("credentials", "signatureData") {
		t.Fatalf("%+v, %v", challenge, err)
	}
	if step, err = org.Proceed(ctx, form, map[string]any{"credentials": map[string]string{"clientData": "a"}}); err != nil || step.Code.Reveal() != "the-code" || len(step.Forms) != 0 {
		t.Fatalf("%+v, %v", step, err)
	}
	const ion, plain = "[application/ion+json; okta-version=1.0.0]", "[application/json]"
	for i, want := range []string{
		"POST /oauth2/v1/interact [application/x-www-form-urlencoded] [application/json] client_id=countersign-agent&scope=openid",
		"POST /idp/idx/introspect " + ion + " " + ion + ` {"interactionHandle":"the-handle"}`,
		"POST /idp/idx/identify " + plain + " " + ion + ` {"identifier":"bob@example.com","stateHandle":"02handle"}`,
		"POST /idp/idx/challenge " + plain + " " + ion + ` {"authenticator":{"id":"autWebAuthn","methodType":"webauthn"},"stateHandle":"02handle"}`,
		"POST /idp/idx/challenge/answer " + plain + " " + ion + ` {"credentials":{"clientData":"a"},"stateHandle":"02handle"}`,
	} {
		if i >= len(got) || got[i] != want {
			t.Fatalf("request %d: %q\nwant %q", i, got, want)
		}
	}
	if printed := fmt.Sprintf("%+v %#v %v", step, step, handle); strings.Contains(printed, "the-code") || strings.Contains(printed, "the-handle") {
		t.Errorf("prints %s", printed)
	}
}

func TestIDXCreation(t *testing.T) {
	step, err := answers(t, 200, page(t, "idx-enrol", "ORG")).Introspect(t.Context(), "h")
	if err != nil || len(step.Messages) != 1 || step.Messages[0].Error || step.Messages[0].Key != "setup" {
		t.Fatalf("%+v, %v", step, err)
	}
	f := step.Form("enroll-authenticator")
	c, err := f.Creation("id.example.com")
	if err != nil || f.Key != client.KeyWebAuthn || c.RPID != "id.example.com" || c.RPName != "Example" || string(c.UserID) != "00u1" || c.UserName != "bob@example.com" ||
		c.UserDisplayName != "Bob Example" || fmt.Sprint(c.Algorithms) != "[-7 -257]" || len(c.Exclude) != 2 || c.Verification != "required" || c.Resident != "" || c.Platform {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := f.Challenge("id.example.com"); !errors.Is(err, client.ErrWebAuthn) {
		t.Errorf("a challenge in an enrolment: %v", err)
	}
	for asked, want := range map[string]string{
		`"requireResidentKey":true`:                            "required", // as WebAuthn 1 has it
		`"requireResidentKey":true,"residentKey":"preferred"`:  "required",
		`"requireResidentKey":false,"residentKey":"preferred"`: "preferred",
		`"residentKey":"discouraged"`:                          "discouraged",
	} {
		step, err := answers(t, 200, strings.Replace(page(t, "idx-enrol", "ORG"), `"requireResidentKey":false`, asked, 1)).Introspect(t.Context(), "h")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := step.Form("enroll-authenticator").Creation("id.example.com"); err != nil || c.Resident != want {
			t.Errorf("%s: %q, %v", asked, c.Resident, err)
		}
	}
}

// A refusal is a step with a message; what is no step is an error.
func TestIDXRefusals(t *testing.T) {
	again := strings.Replace(page(t, "idx-identify", "ORG"), `"remediation"`, `"messages":{"value":[{"message":"There is no account.","i18n":{"key":"idx.unknown.user"},"class":"ERROR"}]},"remediation"`, 1)
	step, err := answers(t, 400, again).Introspect(t.Context(), "h")
	if err != nil || step.Status != 400 || len(step.Messages) != 1 || !step.Messages[0].Error || step.Form("identify") == nil {
		t.Errorf("%+v, %v", step, err)
	}
	step, err = answers(t, 401, `{"version":"1.0.0","messages":{"value":[{"message":"m","i18n":{"key":"idx.session.expired"},"class":"ERROR"}]}}`).Introspect(t.Context(), "h")
	if err != nil || len(step.Forms) != 0 || step.Messages[0].Key != "idx.session.expired" {
		t.Errorf("%+v, %v", step, err)
	}
	var refusal *okta.Error
	_, err = answers(t, 429, `{"errorCode":"E0000047","errorSummary":"slow down"}`).Introspect(t.Context(), "h")
	if !errors.As(err, &refusal) || refusal.HTTPStatus != 429 || refusal.Code != okta.CodeTooManyRequests {
		t.Errorf("%v", err)
	}
	var oauth *okta.TokenError
	if _, err = answers(t, 400, `{"error":"invalid_client"}`).Interact(t.Context(), url.Values{}); !errors.As(err, &oauth) || oauth.Code != "invalid_client" {
		t.Errorf("%v", err)
	}
	if _, err = answers(t, 503, `{}`).Introspect(t.Context(), "h"); !errors.As(err, &refusal) || refusal.HTTPStatus != 503 {
		t.Errorf("%v", err)
	}
}

// E12: whatever the org says of where a form goes, what the person typed goes to
// the org's own origin, by POST, or nowhere.
func TestE12IDXForms(t *testing.T) {
	for href, want := range map[string]error{
		"https://evil.example/idp/idx/identify": client.ErrForeignURL, "//evil.example/x": client.ErrForeignURL, "javascript:alert(1)": client.ErrForeignURL,
		"ORG.evil.example/x": client.ErrForeignURL, "file:///etc/passwd": client.ErrForeignURL, "": client.ErrForeignURL, "/idp/idx/identify": client.ErrForeignURL,
		"http://169.254.169.254/x": client.ErrForeignURL, "http://u:p@127.0.0.1/x": client.ErrForeignURL, "data:text/html,x": client.ErrForeignURL,
	} {
		hits := 0
		org := handler(t, func(w http.ResponseWriter, r *http.Request) {
			hits++
			w.Header().Set("Content-Type", "application/json")
			doc := strings.Replace(page(t, "idx-identify", "ORG"), "ORG/idp/idx/identify", href, 1)
			_, _ = io.WriteString(w, strings.ReplaceAll(doc, "ORG", "http://"+r.Host))
		})
		step, err := org.Introspect(t.Context(), "h")
		if err != nil {
			t.Fatalf("%s: %v", href, err)
		}
		if _, err := org.Proceed(t.Context(), step.Form("identify"), map[string]any{"identifier": "bob"}); !errors.Is(err, want) || hits != 1 {
			t.Errorf("%q: %v after %d requests", href, err, hits)
		}
	}
	doc := page(t, "idx-identify", "ORG")
	for name, bad := range map[string]string{
		"GET":                   strings.Replace(doc, `"POST"`, `"GET"`, 1),
		"no method":             strings.Replace(doc, `"method":"POST",`, "", 1),
		"a field of the org's":  strings.Replace(doc, `{"name":"identifier","label":"Username"}`, `{"name":"identifier","value":"eve","mutable":false}`, 1),
		"no such field":         strings.Replace(doc, `{"name":"identifier","label":"Username"},`, "", 1),
		"more than we can give": strings.Replace(doc, `{"name":"rememberMe",`, `{"name":"captcha","required":true,`, 1),
	} {
		org := answers(t, 200, bad)
		step, err := org.Introspect(t.Context(), "h")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := org.Proceed(t.Context(), step.Form("identify"), map[string]any{"identifier": "bob"}); !errors.Is(err, client.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := answers(t, 200, doc).Proceed(t.Context(), nil, nil); !errors.Is(err, client.ErrForm) {
		t.Errorf("no form: %v", err)
	}
}

// E12: answers that are no step of a sign-in.
func TestE12IDXAnswers(t *testing.T) {
	doc := page(t, "idx-identify", "ORG")
	many := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	for name, body := range map[string]string{
		"nothing":                  `{}`,
		"null":                     `null`,
		"a list":                   `[]`,
		"a string":                 `"x"`,
		"an empty body":            ``,
		"a page":                   `<html>`,
		"cut off":                  doc[:len(doc)/2],
		"something behind":         doc + "{}",
		"twice":                    strings.Replace(doc, `"version"`, `"remediation":null,"version"`, 1),
		"forms of the wrong type":  `{"remediation":{"value":{"name":"identify"}}}`,
		"a form that is text":      `{"remediation":{"value":["identify"]}}`,
		"a name that is a number":  `{"remediation":{"value":[{"name":7}]}}`,
		"a form without a name":    `{"remediation":{"value":[{"href":"ORG/x","method":"POST"}]}}`,
		"messages of wrong type":   `{"messages":"x"}`,
		"no code":                  `{"successWithInteractionCode":{"value":[]}}`,
		"an empty code":            `{"successWithInteractionCode":{"value":[{"name":"interaction_code","value":""}]}}`,
		"a code that is a number":  `{"successWithInteractionCode":{"value":[{"name":"interaction_code","value":1}]}}`,
		"a code that is an object": `{"successWithInteractionCode":{"value":[{"name":"interaction_code","value":{}}]}}`,
		"a huge code":              `{"successWithInteractionCode":{"value":[{"name":"interaction_code","value":"` + strings.Repeat("x", 10<<10) + `"}]}}`,
		"too many forms":           `{"remediation":{"value":[` + many(40, `{"name":"x"}`) + `]}}`,
		"too many fields":          `{"remediation":{"value":[{"name":"x","value":[` + many(100, `{"name":"y"}`) + `]}]}}`,
		"too many messages":        `{"messages":{"value":[` + many(300, `{"message":"x"}`) + `]}}`,
		"too many enrolments":      `{"messages":{"value":[{}]},"authenticatorEnrollments":{"value":[` + many(300, `{}`) + `]}}`,
		"too many options":         `{"remediation":{"value":[{"name":"x","value":[{"name":"authenticator","options":[` + many(300, `{}`) + `]}]}]}}`,
		"deep":                     `{"remediation":{"value":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`,
		"huge":                     `{"x":"` + strings.Repeat("x", 2<<20) + `"}`,
	} {
		var odd *client.UnexpectedAnswer
		for _, status := range []int{200, 400} {
			if step, err := answers(t, status, body).Introspect(t.Context(), "h"); !errors.As(err, &odd) {
				t.Errorf("%s, %d: %+v, %v", name, status, step, err)
			}
		}
	}
	// One that succeeded and was refused.
	if _, err := answers(t, 403, page(t, "idx-success", "ORG")).Introspect(t.Context(), "h"); err == nil {
		t.Error("a refusal with a code is taken")
	}
	for _, body := range []string{`{}`, `{"interaction_handle":""}`, `{"interaction_handle":7}`, `[]`, `{"interaction_handle":"` + strings.Repeat("x", 10<<10) + `"}`} {
		if h, err := answers(t, 200, body).Interact(t.Context(), url.Values{}); err == nil {
			t.Errorf("%.40s: %v", body, h)
		}
	}
	// Redirects are not followed: a password would go along.
	led := 0
	org := handler(t, func(w http.ResponseWriter, r *http.Request) {
		if led++; led > 1 {
			t.Errorf("followed to %s", r.URL)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	var odd *client.UnexpectedAnswer
	if _, err := org.Introspect(t.Context(), "h"); !errors.As(err, &odd) || odd.Kind != client.KindRedirect {
		t.Errorf("%v", err)
	}
}

// An org that never answers, or never ends, is given up.
func TestIDXSlowOrg(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"silent": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<10)); err != nil {
					return
				}
			}
		},
	} {
		org := handler(t, h)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := org.Introspect(ctx, "h")
		cancel()
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// E12: what an org wants of a key is WebAuthn, or refused.
func TestE12KeyData(t *testing.T) {
	challenge, enrol := page(t, "idx-challenge", "ORG"), page(t, "idx-enrol", "ORG")
	const c, ids = `"challenge":"AAECAwQFBgcICQoLDA0ODxAREhM"`, `"credentialId":"AQIDBAUGBwg"`
	change := func(doc, from, to string) string {
		if !strings.Contains(doc, from) {
			t.Fatalf("nothing to change: %s", from)
		}
		return strings.ReplaceAll(doc, from, to)
	}
	for name, doc := range map[string]string{
		"no challenge":           change(challenge, c+",", ""),
		"an empty one":           change(challenge, c, `"challenge":""`),
		"one that is a number":   change(challenge, c, `"challenge":7`),
		"not base64":             change(challenge, c, `"challenge":"!!"`),
		"a huge one":             change(challenge, c, `"challenge":"`+strings.Repeat("A", 4096)+`"`),
		"no credentials":         change(challenge, `"key":"webauthn","id":"fwf`, `"key":"other","id":"fwf`),
		"odd credential":         change(challenge, ids, `"credentialId":"*"`),
		"a huge credential":      change(challenge, ids, `"credentialId":"`+strings.Repeat("A", 2000)+`"`),
		"odd verification":       change(challenge, `"preferred"`, `"sometimes"`),
		"verification is a list": change(challenge, `"preferred"`, `[]`),
		"nothing":                change(challenge, `"challengeData"`, `"otherData"`),
		"null":                   change(challenge, `{"challengeData":`, `{"challengeData":null,"x":`),
		"a list":                 change(challenge, `{"challengeData":`, `{"challengeData":[],"x":`),
	} {
		step, err := answers(t, 200, doc).Introspect(t.Context(), "h")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := step.Form("challenge-authenticator").Challenge("h"); !errors.Is(err, client.ErrWebAuthn) || got.Challenge != nil && err == nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, doc := range map[string]string{
		"no challenge":   change(enrol, c, `"x":1`),
		"no user":        change(enrol, `"id":"MDB1MQ"`, `"id":""`),
		"a huge user id": change(enrol, `"MDB1MQ"`, `"`+strings.Repeat("A", 200)+`"`),
		"no user name":   change(enrol, `"name":"bob@example.com"`, `"name":""`),
		"a huge name":    change(enrol, `"Bob Example"`, `"`+strings.Repeat("B", 1000)+`"`),
		"no algorithm":   change(enrol, `"public-key","alg"`, `"other","alg"`),
		"odd algorithm":  change(enrol, `"alg":-7`, `"alg":"ES256"`),
		"odd exclusion":  change(enrol, `"id":"CAcGBQQDAgE"`, `"id":"*"`),
		"odd selection":  change(enrol, `"required"`, `"maybe"`),
	} {
		step, err := answers(t, 200, doc).Introspect(t.Context(), "h")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := step.Form("enroll-authenticator").Creation("h"); !errors.Is(err, client.ErrWebAuthn) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Whatever an org answers: no panic, and a step leads to the org's own origin.
func FuzzIDX(f *testing.F) {
	for _, name := range []string{"identify", "select", "challenge", "enrol", "success"} {
		f.Add(page(f, "idx-"+name, "ORG"), 200)
	}
	f.Add(`{"remediation":{"value":[{"name":"a","href":"ORG/x","method":"POST","value":[{"name":"authenticator","options":[{"relatesTo":"$.authenticators.value[9]","value":{"form":{"value":[{}]}}}]}]}]}}`, 403)
	var body string
	var status int
	var sent []string
	org, err := client.New("http://127.0.0.1:1", client.Options{HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.URL.String())
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
	})}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc string, code int) {
		body, status, sent = strings.ReplaceAll(doc, "ORG", org.URL()), 200+(code&0x1ff)%400, nil
		step, err := org.Introspect(t.Context(), "h")
		if err != nil {
			return
		}
		if step.Code != "" && step.Status/100 != 2 {
			t.Fatalf("a code with status %d", step.Status)
		}
		for _, form := range step.Forms[:min(len(step.Forms), 3)] {
			_, _ = form.Challenge("h")
			_, _ = form.Creation("h")
			value, _ := form.Choose(client.KeyWebAuthn)
			_, _ = org.Proceed(t.Context(), form, value)
			_, _ = org.Proceed(t.Context(), form, map[string]any{"credentials": map[string]string{"passcode": "p"}})
			_, _ = json.Marshal(value)
		}
		for _, to := range sent {
			if !strings.HasPrefix(to, org.URL()+"/") && to != org.URL() && !strings.HasPrefix(to, org.URL()+"?") {
				t.Fatalf("sent to %s", to)
			}
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
