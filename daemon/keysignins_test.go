package daemon

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/securitykey/securitykeytest"
	"countersign.dev/ipc/api"
	"countersign.dev/okta/oktatest"
)

// keyOrg is an org that lets people in by a key, and enrols one. Its words are
// those of the recorded pages in okta/client/testdata.
type keyOrg struct {
	*oktatest.Org
	mu         sync.Mutex
	credential []byte // the key's; nil while none is enrolled
	verify     string // userVerification
	rpID       string // instead of the host
}

func newKeyOrg(t testing.TB) *keyOrg {
	o := &keyOrg{Org: oktatest.NewOrg(t), verify: "required"}
	o.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1)
	o.SignsIn(oktatest.SignIn{Login: "bob@example.com", Claims: func(c map[string]any) { c["amr"] = []string{"pwd", "hwk"} }})
	o.Steps(o.answer)
	return o
}

func (o *keyOrg) answer(s oktatest.Step) (int, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	const handle = `{"name":"stateHandle","value":"h","mutable":false}`
	form := func(name, path, fields, more string) (int, string) {
		return 200, fmt.Sprintf(`{"remediation":{"value":[{"name":%q,"href":"ORG/idp/idx/%s","method":"POST","relatesTo":["$.currentAuthenticator"],"value":[%s,%s]}]}%s}`, name, path, fields, handle, more)
	}
	credentials, _ := s.Body["credentials"].(map[string]any)
	text := func(name string) string { v, _ := credentials[name].(string); return v }
	switch s.Path {
	case "introspect":
		return form("identify", "identify", `{"name":"identifier"}`, "")
	case "identify":
		return form("challenge-authenticator", "password", `{"name":"credentials","form":{"value":[{"name":"passcode"}]}}`, `,"currentAuthenticator":{"value":{"key":"okta_password"}}`)
	case "password":
		if text("passcode") != "Secret-1" {
			return 401, `{"messages":{"value":[{"message":"Password is incorrect","i18n":{"key":"incorrectPassword"},"class":"ERROR"}]}}`
		}
		if o.credential == nil {
			return form("enroll-authenticator", "activate", `{"name":"credentials","form":{"value":[]}}`, `,"currentAuthenticator":{"value":{"key":"webauthn","contextualData":{"activationData":{
				"rp":{"name":"Org"},"user":{"id":"AQID","name":"bob@example.com"},"challenge":"AAECAwQFBgcICQoLDA0ODxAREhM","pubKeyCredParams":[{"type":"public-key","alg":-7}],
				"authenticatorSelection":{"userVerification":"`+o.verify+`"}}}}}`)
		}
		rp := ""
		if o.rpID != "" {
			rp = `"rpId":"` + o.rpID + `",`
		}
		return form("challenge-authenticator", "sign", `{"name":"credentials","form":{"value":[]}}`, `,"currentAuthenticator":{"value":{"key":"webauthn","contextualData":{"challengeData":{`+rp+`
			"challenge":"AAECAwQFBgcICQoLDA0ODxAREhM","userVerification":"`+o.verify+`"}}}},"authenticatorEnrollments":{"value":[{"key":"webauthn","credentialId":"`+base64.RawURLEncoding.EncodeToString(o.credential)+`"}]}`)
	case "activate", "sign":
		var data struct{ Type, Challenge, Origin string }
		raw, err := base64.StdEncoding.DecodeString(text("clientData"))
		if err != nil || json.Unmarshal(raw, &data) != nil || data.Origin != o.URL || data.Challenge != "AAECAwQFBgcICQoLDA0ODxAREhM" {
			return 400, `{"messages":{"value":[{"message":"Not for this place","class":"ERROR"}]}}`
		}
		return 200, `{"successWithInteractionCode":{"value":[{"name":"interaction_code","value":"CODE"}]}}`
	}
	return 404, `{}`
}

// withSecurityKey is an agent with a security key plugged in.
func withSecurityKey(t *testing.T, tokens ...*securitykeytest.Token) (*agent, *securitykeytest.Keys) {
	keys := &securitykeytest.Keys{}
	c := testConfig(t)
	c.securityKeys = keys
	a := startAgent(t, c)
	for _, token := range tokens {
		keys.Plug(token)
	}
	return a, keys
}

// A sign-in with a key over the local API: each thing that is missing by its
// name, the enrolment, the touch as an event, and the record.
func TestSignInWithSecurityKey(t *testing.T) {
	org := newKeyOrg(t)
	a, keys := withSecurityKey(t, securitykeytest.New("Soft Key", "1234"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := a.client.Subscribe(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	in := api.KeySignIn{Org: org.URL, Username: "bob@example.com"}
	refused := func(code string) *api.Error {
		t.Helper()
		_, err := a.client.SignInWithKey(t.Context(), in)
		e := refusalOf(t, err)
		if e.Code != code {
			t.Fatalf("%s (%s), want %s", e.Code, e.Message, code)
		}
		return e
	}
	refused("password_needed")
	in.Password = api.PIN("secret-1")
	if e := refused("wrong_password"); e.Message != "the org refused the sign-in: Password is incorrect" {
		t.Error(e.Message)
	}
	in.Password = api.PIN("Secret-1")
	refused("enrolment_needed")
	in.Enrol = true
	if e := refused("key_pin_needed"); e.Product != "Soft Key" || e.Key == "" {
		t.Errorf("%+v", e)
	}
	in.PIN = api.PIN("4321")
	if e := refused("wrong_key_pin"); e.TriesLeft != 7 || e.Key == "" {
		t.Errorf("%+v", e)
	}
	in.PIN = api.PIN("1234")
	got, err := a.client.SignInWithKey(t.Context(), in)
	if err != nil || !got.Enrolled || got.User != "bob@example.com" || got.UserID != oktatest.UserID || got.Key != "Soft Key" || got.Org != org.URL || fmt.Sprint(got.AMR) != "[pwd hwk]" {
		t.Fatalf("%+v, %v", got, err)
	}
	var states []string
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		if e.Key != nil {
			states = append(states, e.Key.State)
		}
		if len(states) > 0 && states[len(states)-1] == "done" {
			break
		}
	}
	if fmt.Sprint(states) != "[touch done]" {
		t.Errorf("told %v", states)
	}
	if n := len(org.Revoked()); n != 1 {
		t.Errorf("%d tokens revoked", n)
	}
	var outcomes []string
	for _, r := range a.audit(t) {
		if r.Event == "key_sign_in" {
			outcomes = append(outcomes, r.Outcome)
			if strings.Contains(r.Reason, "1234") || strings.Contains(r.Reason, "ecret-1") {
				t.Errorf("on record: %s", r.Reason)
			}
		}
	}
	if fmt.Sprint(outcomes) != "[wrong wrong done]" {
		t.Errorf("on record: %v", outcomes)
	}
	asked := 0
	for _, operation := range keys.Asked() {
		if strings.HasPrefix(operation, "register") {
			asked++
		}
	}
	if asked != 3 {
		t.Errorf("the key was asked %v", keys.Asked())
	}
}

// What goes wrong with an org or a key is said in one sentence, by its name.
func TestKeySignInRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*keyOrg, *securitykeytest.Keys, *api.KeySignIn)
		code   string
	}{
		"nobody":     {func(_ *keyOrg, _ *securitykeytest.Keys, in *api.KeySignIn) { in.Username = "" }, "username_needed"},
		"a drawing":  {func(_ *keyOrg, _ *securitykeytest.Keys, in *api.KeySignIn) { in.Username = "a\x1b[2J" }, "username_needed"},
		"no address": {func(_ *keyOrg, _ *securitykeytest.Keys, in *api.KeySignIn) { in.Org = "http://" }, "bad_org_url"},
		"plain http": {func(_ *keyOrg, _ *securitykeytest.Keys, in *api.KeySignIn) { in.Org = "http://id.example.com" }, "org_insecure"},
		"an address": {func(o *keyOrg, _ *securitykeytest.Keys, in *api.KeySignIn) {
			in.Org = strings.Replace(o.URL, "localhost", "127.0.0.1", 1)
		}, "org_insecure"},
		"another client":     {func(_ *keyOrg, _ *securitykeytest.Keys, in *api.KeySignIn) { in.Client = "other" }, "client_refused"},
		"no key":             {func(_ *keyOrg, k *securitykeytest.Keys, _ *api.KeySignIn) { k.Unplug() }, "no_key"},
		"a key of before":    {func(_ *keyOrg, _ *securitykeytest.Keys, in *api.KeySignIn) { in.Key = "gone" }, "other_key"},
		"two keys":           {func(_ *keyOrg, k *securitykeytest.Keys, _ *api.KeySignIn) { k.Plug(securitykeytest.New("Second", "1")) }, "key_needed"},
		"a key of elsewhere": {func(o *keyOrg, _ *securitykeytest.Keys, _ *api.KeySignIn) { o.credential = []byte("other") }, "key_not_enrolled"},
		"a copy of the org": {func(o *keyOrg, _ *securitykeytest.Keys, _ *api.KeySignIn) {
			o.credential, o.rpID = []byte("x"), "id.example.com"
		}, "wrong_origin"},
		"a step unknown here": {func(o *keyOrg, _ *securitykeytest.Keys, _ *api.KeySignIn) {
			o.Steps(func(oktatest.Step) (int, string) { return 200, `{"remediation":{"value":[{"name":"enroll-profile"}]}}` })
		}, "sign_in_not_possible"},
		"an org without keys": {func(o *keyOrg, _ *securitykeytest.Keys, _ *api.KeySignIn) {
			o.Steps(func(oktatest.Step) (int, string) {
				return 200, `{"successWithInteractionCode":{"value":[{"name":"interaction_code","value":"CODE"}]}}`
			})
		}, "key_not_wanted"},
		"a page": {func(o *keyOrg, _ *securitykeytest.Keys, _ *api.KeySignIn) {
			o.Reply("/idp/idx/introspect", oktatest.Reply{Status: 200, ContentType: "text/html", Body: "<html>"})
		}, "org_unexpected_answer"},
		"nobody there": {func(o *keyOrg, _ *securitykeytest.Keys, _ *api.KeySignIn) { o.Close() }, "org_unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			org := newKeyOrg(t)
			a, keys := withSecurityKey(t, securitykeytest.New("Soft Key", "1234"))
			in := api.KeySignIn{Org: org.URL, Username: "bob@example.com", Password: api.PIN("Secret-1"), PIN: api.PIN("1234"), Enrol: true}
			row.change(org, keys, &in)
			_, err := a.client.SignInWithKey(t.Context(), in)
			if e := refusalOf(t, err); e.Code != row.code || e.Message == "" || strings.Contains(e.Message, "\n") {
				t.Errorf("%s: %s, want %s", e.Code, e.Message, row.code)
			} else if e.Code == "key_not_wanted" && !strings.Contains(e.Hint, "switched security keys on") { // as in an org that is new
				t.Errorf("hint %q", e.Hint)
			}
		})
	}
}

// A key that was enrolled is on record also when the sign-in fails afterwards.
func TestEnrolledKeyIsOnRecord(t *testing.T) {
	org := newKeyOrg(t)
	org.SignsIn(oktatest.SignIn{Claims: func(c map[string]any) { c["nonce"] = "x" }})
	a, _ := withSecurityKey(t, securitykeytest.New("Soft Key", "1234"))
	in := api.KeySignIn{Org: org.URL, Username: "bob@example.com", Password: api.PIN("Secret-1"), PIN: api.PIN("1234"), Enrol: true}
	_, err := a.client.SignInWithKey(t.Context(), in)
	if e := refusalOf(t, err); e.Code != "sign_in_not_proven" {
		t.Errorf("%+v", e)
	}
	records := a.audit(t)
	if r := records[len(records)-1]; r.Event != "key_sign_in" || r.Outcome != "failed" || !strings.Contains(r.Reason, ", by Soft Key, which was enrolled: ") {
		t.Errorf("on record: %+v", r)
	}
}

// Behind a locked screen the person's own act goes on.
func TestKeySignInDuringAHold(t *testing.T) {
	org := newKeyOrg(t)
	a, _ := withSecurityKey(t, securitykeytest.New("Soft Key", "1234"))
	if _, err := a.client.Pause(t.Context(), api.Pause{Seconds: 600}); err != nil {
		t.Fatal(err)
	}
	in := api.KeySignIn{Org: org.URL, Username: "bob@example.com", Password: api.PIN("Secret-1"), PIN: api.PIN("1234"), Enrol: true}
	if got, err := a.client.SignInWithKey(t.Context(), in); err != nil || !got.Enrolled {
		t.Errorf("%+v, %v", got, err)
	}
}

// Who gives up while the key blinks is not signed in: the key is asked no longer,
// the org hears of no answer, and that is on record. So many wait at once and no
// more.
func TestKeySignInGivenUp(t *testing.T) {
	org := newKeyOrg(t)
	token := securitykeytest.New("Soft Key", "1234")
	blinks, ended := make(chan struct{}), make(chan struct{})
	token.Touch = func(ctx context.Context) error {
		select {
		case blinks <- struct{}{}:
			<-ctx.Done()
			ended <- struct{}{}
		case <-ctx.Done():
		}
		return securitykey.ErrCancelled
	}
	a, _ := withSecurityKey(t, token)
	in := api.KeySignIn{Org: org.URL, Username: "bob@example.com", Password: api.PIN("Secret-1"), PIN: api.PIN("1234"), Enrol: true}
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	answers := make(chan error, maxKeySignIns)
	for range maxKeySignIns {
		go func() {
			_, err := a.client.SignInWithKey(ctx, in)
			answers <- err
		}()
		<-blinks
	}
	soon, enough := context.WithTimeout(t.Context(), 20*time.Second)
	defer enough()
	_, err := a.client.SignInWithKey(soon, in)
	if e := refusalOf(t, err); e.Code != "too_many_sign_ins" {
		t.Errorf("one more: %s", e.Code)
	}
	giveUp()
	for range maxKeySignIns {
		select {
		case <-ended:
		case <-soon.Done():
			t.Fatal("the key is still asked")
		}
		if err := <-answers; err == nil {
			t.Error("signed in")
		}
	}
	for _, s := range org.Stepped() {
		if s.Path == "activate" {
			t.Error("the org got an answer")
		}
	}
	in.PIN = nil // as soon as the others have gone there is room again
	until(t, "room", func() bool {
		_, err := a.client.SignInWithKey(t.Context(), in)
		return refusalOf(t, err).Code == "key_pin_needed"
	})
	records := 0
	until(t, "the records", func() bool {
		records = 0
		for _, r := range a.audit(t) {
			if r.Event == "key_sign_in" {
				records++
				if r.Outcome != "failed" || !strings.Contains(r.Reason, "cancelled") {
					t.Fatalf("on record: %+v", r)
				}
			}
		}
		return records == maxKeySignIns
	})
}
