package keysignin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/okta/client"
	"countersign.dev/okta/oktatest"
)

// keys are security keys that do as they are told.
type keys struct {
	plugged []securitykey.Key
	err     error                       // of each use
	full    bool                        // keeps nothing more
	holds   map[string]bool             // by id; one that is not there does not say
	touch   func(context.Context) error // waits for the touch; nil is touched at once

	mu         sync.Mutex
	asserted   []securitykey.Assertion
	registered []securitykey.Registration
	chosen     int
}

func onekey() *keys { return &keys{plugged: []securitykey.Key{{ID: "k1", Product: "Soft Key"}}} }

func (k *keys) List(context.Context) ([]securitykey.Key, error) { return k.plugged, nil }

func (k *keys) Choose(_ context.Context, id string, _ securitykey.Progress) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.chosen++
	if len(k.plugged) == 0 {
		return "", securitykey.ErrNoKey
	}
	return k.plugged[len(k.plugged)-1].ID, nil
}

func (k *keys) used(ctx context.Context, id string, progress securitykey.Progress) (securitykey.Key, error) {
	var key securitykey.Key
	for _, p := range k.plugged {
		if p.ID == id {
			key = p
		}
	}
	if progress != nil {
		progress(securitykey.Event{Key: key, State: securitykey.Touch})
	}
	if k.touch != nil {
		if err := k.touch(ctx); err != nil {
			return key, err
		}
	}
	return key, k.err
}

func (k *keys) Holds(_ context.Context, id, _ string, _ [][]byte) (bool, error) {
	has, says := k.holds[id]
	if !says {
		return false, securitykey.ErrUnsupported
	}
	return has, nil
}

func (k *keys) Assert(ctx context.Context, a securitykey.Assertion) (securitykey.Asserted, error) {
	k.mu.Lock()
	k.asserted = append(k.asserted, a)
	k.mu.Unlock()
	key, err := k.used(ctx, a.Key, a.Progress)
	return securitykey.Asserted{Key: key, CredentialID: a.Allow[0], ClientDataJSON: []byte("client data"), AuthData: []byte("auth data"), Signature: []byte("signature"), UserID: []byte("user")}, err
}

func (k *keys) Register(ctx context.Context, r securitykey.Registration) (securitykey.Registered, error) {
	k.mu.Lock()
	k.registered = append(k.registered, r)
	k.mu.Unlock()
	key, err := k.used(ctx, r.Key, r.Progress)
	if k.full && r.Resident {
		err = securitykey.ErrFull
	}
	return securitykey.Registered{Key: key, ClientDataJSON: []byte("client data"), AttestationObject: []byte("attestation")}, err
}

// fixture is an org with a script, and a person with keys.
type fixture struct {
	t    testing.TB
	org  *oktatest.Org
	keys *keys
	o    Options
}

func newFixture(t testing.TB, script map[string]string) *fixture {
	t.Helper()
	org := oktatest.NewOrg(t)
	org.URL = strings.Replace(org.URL, "127.0.0.1", "localhost", 1) // an address is no domain
	org.Steps(func(s oktatest.Step) (int, string) {
		document, ok := script[s.Path]
		if !ok {
			return 404, `{"errorCode":"E0000008","errorSummary":"no such path"}`
		}
		status := 200
		if strings.Contains(document, `"ERROR"`) {
			status = 401
		}
		return status, document
	})
	c, err := client.New(org.URL, client.Options{ClientID: org.ClientID})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := c.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, org: org, keys: onekey()}
	f.o = Options{Org: c, Metadata: meta, ClientID: org.ClientID, RedirectURI: "http://127.0.0.1:1/callback", Username: "bob@example.com",
		Password: devicekey.Secret("secret-password"), PIN: devicekey.Secret("secret-pin"), Enrol: true, Keys: f.keys}
	return f
}

func (f *fixture) run() (Result, error) { return Run(f.t.Context(), f.o) }

// paths are the steps that were taken.
func (f *fixture) paths() string {
	var p []string
	for _, s := range f.org.Stepped() {
		p = append(p, s.Path)
	}
	return strings.Join(p, " ")
}

// body is what the last request to a path brought.
func (f *fixture) body(path string) string {
	for _, s := range f.org.Stepped() {
		if s.Path == path {
			b, _ := json.Marshal(s.Body)
			return string(b)
		}
	}
	return ""
}

// The documents of a sign-in, as an org makes them.

func doc(parts ...string) string {
	return `{"version":"1.0.0","stateHandle":"02h",` + strings.Join(parts, ",") + `}`
}

func forms(list ...string) string {
	return `"remediation":{"type":"array","value":[` + strings.Join(list, ",") + `]}`
}

const handleField = `{"name":"stateHandle","required":true,"value":"02h","mutable":false}`

func form(name, path string, fields ...string) string {
	return fmt.Sprintf(`{"rel":["create-form"],"name":%s,"relatesTo":["$.currentAuthenticator"],"href":"ORG/idp/idx/%s","method":"POST","value":[%s]}`,
		quoted(name), path, strings.Join(append(fields, handleField), ","))
}

func selection(name, path string, kinds ...string) string {
	var options []string
	for _, kind := range kinds {
		options = append(options, fmt.Sprintf(`{"label":"The %s","value":{"form":{"value":[{"name":"id","value":"aut-%s"},{"name":"methodType","value":%q}]}},"relatesTo":"$.authenticators.value[%d]"}`,
			kind, kind, kind, map[string]int{"okta_password": 0, "webauthn": 1, "okta_verify": 2}[kind]))
	}
	return form(name, path, `{"name":"authenticator","type":"object","options":[`+strings.Join(options, ",")+`]}`)
}

const (
	authenticators = `"authenticators":{"value":[{"key":"okta_password"},{"key":"webauthn"},{"key":"okta_verify"}]}`
	passcode       = `{"name":"credentials","type":"object","required":true,"form":{"value":[{"name":"passcode","secret":true}]}}`
	answerFields   = `{"name":"credentials","type":"object","required":true,"form":{"value":[{"name":"clientData"},{"name":"authenticatorData"},{"name":"signatureData"}]}}`
	enrolFields    = `{"name":"credentials","type":"object","required":true,"form":{"value":[{"name":"clientData"},{"name":"attestation"},{"name":"transports"},{"name":"clientExtensions"}]}}`
	challengeData  = `"currentAuthenticator":{"value":{"key":"webauthn","displayName":"Security key","contextualData":{"challengeData":{"challenge":"AAECAwQFBgcICQoLDA0ODxAREhM","userVerification":"required"}}}},
		"authenticatorEnrollments":{"value":[{"key":"webauthn","credentialId":"AQID"}]}`
	activationData = `"currentAuthenticator":{"value":{"key":"webauthn","displayName":"Security key","contextualData":{"activationData":{"rp":{"name":"Org"},"user":{"id":"AQID","name":"bob@example.com","displayName":"Bob"},
		"challenge":"AAECAwQFBgcICQoLDA0ODxAREhM","pubKeyCredParams":[{"type":"public-key","alg":-7}],"authenticatorSelection":{"userVerification":"required"}}}}},"authenticatorEnrollments":{"value":[]}`
	aboutPassword = `"currentAuthenticator":{"value":{"key":"okta_password","displayName":"Password"}}`
	succeeded     = `{"successWithInteractionCode":{"value":[{"name":"interaction_code","value":"CODE"}]}}`
)

var (
	identify  = doc(forms(form("identify", "identify", `{"name":"identifier"}`, `{"name":"rememberMe","type":"boolean"}`)))
	password1 = doc(forms(form("challenge-authenticator", "password", passcode)), aboutPassword)
	choose    = doc(forms(selection("select-authenticator-authenticate", "challenge", "okta_verify", "okta_password", "webauthn")), authenticators)
	challenge = doc(forms(form("challenge-authenticator", "answer", answerFields)), challengeData)
	enrolOne  = doc(forms(selection("select-authenticator-enroll", "enroll", "webauthn"), form("skip", "skip")), authenticators)
	activate  = doc(forms(form("enroll-authenticator", "activate", enrolFields)), activationData)
)

func says(class, key, text string) string {
	return fmt.Sprintf(`"messages":{"value":[{"message":%s,"i18n":{"key":%s},"class":%q}]}`, quoted(text), quoted(key), class)
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
