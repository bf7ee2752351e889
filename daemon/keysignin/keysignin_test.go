package keysignin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/daemon/idtoken"
	"countersign.dev/okta/client"
	"countersign.dev/okta/oktatest"
)

// withKey is the usual way: name, password, key.
var withKey = map[string]string{"introspect": identify, "identify": password1, "password": choose, "challenge": challenge, "answer": succeeded}

// toEnrol is the way of somebody who has no key there.
var toEnrol = map[string]string{"introspect": identify, "identify": password1, "password": enrolOne, "enroll": activate, "activate": succeeded}

func with(script map[string]string, path, document string) map[string]string {
	script = maps.Clone(script)
	script[path] = document
	return script
}

// The whole way, with the tokens bound to a key and without.
func TestSignInWithKey(t *testing.T) {
	for _, bound := range []bool{false, true} {
		f := newFixture(t, withKey)
		if bound {
			f.org.BindTokens("n")
			f.o.Proof, _ = client.NewProofKey()
		}
		f.org.SignsIn(oktatest.SignIn{Login: "bob@example.com", UserID: "00u1", Claims: func(c map[string]any) { c["amr"] = []string{"pwd", "hwk", "mfa"} }})
		var heard []securitykey.Event
		f.o.Progress = func(e securitykey.Event) { heard = append(heard, e) }
		r, err := f.run()
		if err != nil || r.UserID != "00u1" || r.Username != "bob@example.com" || fmt.Sprint(r.Methods) != "[pwd hwk mfa]" || r.Key.Product != "Soft Key" || r.Enrolled || r.At.IsZero() {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := f.paths(); got != "introspect identify password challenge answer" {
			t.Errorf("steps: %s", got)
		}
		for path, want := range map[string]string{
			"identify":  `{"identifier":"bob@example.com","stateHandle":"02h"}`,
			"password":  `{"credentials":{"passcode":"secret-password"},"stateHandle":"02h"}`,
			"challenge": `{"authenticator":{"id":"aut-webauthn","methodType":"webauthn"},"stateHandle":"02h"}`,
			"answer":    `{"credentials":{"authenticatorData":"YXV0aCBkYXRh","clientData":"Y2xpZW50IGRhdGE=","signatureData":"c2lnbmF0dXJl"},"stateHandle":"02h"}`,
		} {
			if got := f.body(path); got != want {
				t.Errorf("%s: %s", path, got)
			}
		}
		a := f.keys.asserted[0]
		if a.Origin != f.org.URL || a.RPID != "localhost" || len(a.Challenge) != 20 || string(a.Allow[0]) != "\x01\x02\x03" || a.Verification != securitykey.Required || string(a.PIN) != "secret-pin" || a.Key != "k1" {
			t.Errorf("%+v", a)
		}
		if len(heard) != 1 || heard[0].State != securitykey.Touch {
			t.Errorf("heard %+v", heard)
		}
		asked, redeemed := f.org.Authorizations()[0], f.org.TokenRequests()[len(f.org.TokenRequests())-1]
		if asked.Get("scope") != "openid profile" || asked.Get("code_challenge_method") != "S256" || len(asked.Get("nonce")) != 43 || asked.Get("redirect_uri") != f.o.RedirectURI ||
			redeemed.Get("grant_type") != "interaction_code" || len(redeemed.Get("code_verifier")) != 43 {
			t.Errorf("%v %v", asked, redeemed)
		}
		if len(f.org.Revoked()) != 1 {
			t.Errorf("%d tokens revoked", len(f.org.Revoked()))
		}
	}
}

func TestEnrolmentOnTheWay(t *testing.T) {
	f := newFixture(t, toEnrol)
	r, err := f.run()
	if err != nil || !r.Enrolled || r.Key.ID != "k1" || f.paths() != "introspect identify password enroll activate" {
		t.Fatalf("%+v, %v after %s", r, err, f.paths())
	}
	if got := f.body("activate"); got != `{"credentials":{"attestation":"YXR0ZXN0YXRpb24=","clientData":"Y2xpZW50IGRhdGE=","clientExtensions":"{}","transports":"[\"usb\"]"},"stateHandle":"02h"}` {
		t.Error(got)
	}
	made := f.keys.registered[0]
	if made.Origin != f.org.URL || made.RPID != "localhost" || made.RPName != "Org" || made.User.Name != "bob@example.com" || fmt.Sprint(made.Algorithms) != "[-7]" || made.Resident {
		t.Errorf("%+v", made)
	}
}

// The org wants the key to keep the credential: that needs a key that can, and the
// person verified. One that is only preferred gives way when the key is full.
func TestKeptOnTheKey(t *testing.T) {
	able := map[string]bool{"rk": true, "clientPin": true}
	for name, row := range map[string]struct {
		asked   string
		options map[string]bool
		pin     string
		full    bool
		want    string
	}{
		"preferred":                {"preferred", able, "2580", false, "[true]"},
		"preferred, by a finger":   {"preferred", map[string]bool{"rk": true, "uv": true}, "", false, "[true]"},
		"preferred, no PIN given":  {"preferred", able, "", false, "[false]"},
		"preferred, no PIN set":    {"preferred", map[string]bool{"rk": true}, "2580", false, "[false]"},
		"preferred, keeps nothing": {"preferred", map[string]bool{"clientPin": true}, "2580", false, "[false]"},
		"preferred, full":          {"preferred", able, "2580", true, "[true false]"},
		"required":                 {"required", nil, "", false, "[true]"},
		"required, full":           {"required", able, "2580", true, "[true]"},
		"discouraged":              {"discouraged", able, "2580", false, "[false]"},
	} {
		t.Run(name, func(t *testing.T) {
			script := maps.Clone(toEnrol)
			f := newFixture(t, script)
			script["enroll"] = strings.Replace(activate, `"userVerification":"required"`, `"userVerification":"preferred","residentKey":"`+row.asked+`"`, 1)
			f.keys.plugged[0].Options, f.keys.full = row.options, row.full
			f.o.PIN = devicekey.Secret(row.pin)
			_, err := f.run()
			if lost := row.want == "[true]" && row.full; lost != errors.Is(err, securitykey.ErrFull) || !lost && err != nil {
				t.Fatal(err)
			}
			var got []bool
			for _, r := range f.keys.registered {
				got = append(got, r.Resident)
			}
			if fmt.Sprint(got) != row.want {
				t.Errorf("kept: %v", got)
			}
		})
	}
}

// What was enrolled is told also when the sign-in fails afterwards; what the org
// did not take was not.
func TestEnrolledAndThenFailed(t *testing.T) {
	for name, row := range map[string]struct {
		document string
		enrolled bool
	}{
		"a step unknown here": {doc(forms(form("consent", "x"))), true},
		"no step":             {`{}`, false}, // nobody knows
		"refused":             {doc(forms(form("enroll-authenticator", "activate", enrolFields)), activationData, says("ERROR", "x", "Not this one.")), false},
	} {
		f := newFixture(t, with(toEnrol, "activate", row.document))
		if r, err := f.run(); err == nil || r.Enrolled != row.enrolled || row.enrolled != (r.Key.ID == "k1") || r.UserID != "" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	f := newFixture(t, toEnrol)
	f.org.SignsIn(oktatest.SignIn{Claims: func(c map[string]any) { c["nonce"] = "x" }})
	if r, err := f.run(); !errors.Is(err, idtoken.ErrInvalid) || !r.Enrolled || r.UserID != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// Orgs differ in what they ask for, and in which order.
func TestOtherOrders(t *testing.T) {
	onePage := doc(forms(form("identify", "identify", `{"name":"identifier"}`, passcode)))
	ask := doc(forms(form("challenge-authenticator", "password", passcode), selection("select-authenticator-authenticate", "challenge", "webauthn")), aboutPassword, authenticators)
	onlyPassword := doc(forms(selection("select-authenticator-authenticate", "challenge", "okta_password", "okta_verify")), authenticators)
	offered := doc(forms(selection("select-authenticator-enroll", "enroll", "okta_verify"), form("skip", "skip")), authenticators)
	for name, row := range map[string]struct {
		script   map[string]string
		password string
		want     string
	}{
		"key alone":             {map[string]string{"introspect": identify, "identify": choose, "challenge": challenge, "answer": succeeded}, "", "introspect identify challenge answer"},
		"key without password":  {map[string]string{"introspect": identify, "identify": ask, "challenge": challenge, "answer": succeeded}, "", "introspect identify challenge answer"},
		"straight to the key":   {map[string]string{"introspect": identify, "identify": challenge, "answer": succeeded}, "", "introspect identify answer"},
		"name and password":     {map[string]string{"introspect": onePage, "identify": challenge, "answer": succeeded}, "p", "introspect identify answer"},
		"key, then password":    {map[string]string{"introspect": identify, "identify": challenge, "answer": password1, "password": succeeded}, "p", "introspect identify answer password"},
		"key, then a choice":    {map[string]string{"introspect": identify, "identify": challenge, "answer": onlyPassword, "challenge": password1, "password": succeeded}, "p", "introspect identify answer challenge password"},
		"offers are passed":     {map[string]string{"introspect": identify, "identify": challenge, "answer": offered, "skip": succeeded}, "", "introspect identify answer skip"},
		"enrolled, then signed": {map[string]string{"introspect": identify, "identify": activate, "activate": challenge, "answer": succeeded}, "", "introspect identify activate answer"},
		"a word beside":         {with(withKey, "password", doc(forms(selection("select-authenticator-authenticate", "challenge", "webauthn")), authenticators, says("INFO", "hello", "Hello."))), "p", "introspect identify password challenge answer"},
	} {
		f := newFixture(t, row.script)
		if f.o.Password = devicekey.Secret(row.password); row.password == "" {
			f.o.Password = nil
		}
		if _, err := f.run(); err != nil || f.paths() != row.want {
			t.Errorf("%s: %v after %s", name, err, f.paths())
		}
	}
}

// What is missing is said by its name, and nothing further is sent.
func TestWhatIsMissing(t *testing.T) {
	onlyVerify := doc(forms(selection("select-authenticator-authenticate", "challenge", "okta_verify")), authenticators)
	for name, row := range map[string]struct {
		script map[string]string
		change func(*fixture)
		want   error
		paths  string
	}{
		"password":           {withKey, func(f *fixture) { f.o.Password = nil }, ErrPasswordNeeded, "introspect identify"},
		"password as choice": {with(withKey, "identify", doc(forms(selection("select-authenticator-authenticate", "challenge", "okta_password")), authenticators)), func(f *fixture) { f.o.Password = nil }, ErrPasswordNeeded, "introspect identify"},
		"password at once":   {with(withKey, "introspect", doc(forms(form("identify", "identify", `{"name":"identifier"}`, passcode)))), func(f *fixture) { f.o.Password = nil }, ErrPasswordNeeded, "introspect"},
		"leave to enrol":     {toEnrol, func(f *fixture) { f.o.Enrol = false }, ErrEnrolmentNeeded, "introspect identify password"},
		"leave, no choice":   {with(withKey, "identify", activate), func(f *fixture) { f.o.Enrol = false }, ErrEnrolmentNeeded, "introspect identify"},
		"any key":            {withKey, func(f *fixture) { f.keys.plugged = nil }, securitykey.ErrNoKey, "introspect identify password challenge"},
		"that key":           {withKey, func(f *fixture) { f.o.Key = "k9" }, securitykey.ErrOtherKey, "introspect identify password challenge"},
		"PIN":                {withKey, func(f *fixture) { f.keys.err = &securitykey.PINNeededError{Left: 8} }, securitykey.ErrPINNeeded, "introspect identify password challenge"},
		"right PIN":          {withKey, func(f *fixture) { f.keys.err = &securitykey.PINError{Left: 7} }, securitykey.ErrPIN, "introspect identify password challenge"},
		"the plug":           {withKey, func(f *fixture) { f.keys.err = securitykey.ErrRemoved }, securitykey.ErrRemoved, "introspect identify password challenge"},
		"a credential":       {withKey, func(f *fixture) { f.keys.err = securitykey.ErrNoCredential }, securitykey.ErrNoCredential, "introspect identify password challenge"},
		"one of two keys":    {withKey, func(f *fixture) { f.keys.plugged = append(f.keys.plugged, securitykey.Key{ID: "k2"}) }, ErrWhichKey, "introspect identify password challenge"},
		"key for new one":    {toEnrol, func(f *fixture) { f.keys.err = securitykey.ErrExcluded }, securitykey.ErrExcluded, "introspect identify password enroll"},
		"a key at the org":   {with(withKey, "password", onlyVerify), nil, &StepError{"select-authenticator-authenticate", "The okta_verify"}, "introspect identify password"},
		"use of the key":     {with(withKey, "password", succeeded), nil, ErrNoKeyWanted, "introspect identify password"},
		"a key, unasked":     {with(withKey, "password", succeeded), func(f *fixture) { f.o.Enrol = false }, ErrNotAsked, "introspect identify password"},
		"a portable key":     {with(toEnrol, "enroll", strings.Replace(activate, `{"userVerification":"required"}`, `{"authenticatorAttachment":"platform"}`, 1)), nil, ErrBuiltIn, "introspect identify password enroll"},
	} {
		f := newFixture(t, row.script)
		if row.change != nil {
			row.change(f)
		}
		r, err := f.run()
		var step *StepError
		if want, ok := row.want.(*StepError); ok && (!errors.As(err, &step) || *step != *want) || !ok && !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
		if r.UserID != "" || f.paths() != row.paths {
			t.Errorf("%s: %+v after %s", name, r, f.paths())
		}
		if len(f.keys.asserted)+len(f.keys.registered) > 1 {
			t.Errorf("%s: the key was asked %d times", name, len(f.keys.asserted))
		}
		var of *KeyError
		if f.keys.err != nil && (!errors.As(err, &of) || of.Key.ID != "k1") {
			t.Errorf("%s: the error does not name the key: %v", name, err)
		}
	}
}

// Of several keys the one that is enrolled is asked. Where they do not tell, the
// touched one; but then a PIN has to come with the name of its key.
func TestOneOfSeveralKeys(t *testing.T) {
	for name, row := range map[string]struct {
		holds  map[string]bool
		change func(*fixture)
		key    string
		err    error
	}{
		"touched":               {nil, func(f *fixture) { f.o.PIN = nil }, "k2", nil},
		"named":                 {map[string]bool{"k1": true}, func(f *fixture) { f.o.Key = "k2" }, "k2", nil},
		"enrolled":              {map[string]bool{"k1": true, "k2": false}, nil, "k1", nil},
		"enrolled, one silent":  {map[string]bool{"k1": true}, nil, "k1", nil},
		"neither":               {map[string]bool{"k1": false, "k2": false}, nil, "", ErrNoneEnrolled},
		"both":                  {map[string]bool{"k1": true, "k2": true}, nil, "", ErrWhichKey},
		"both, and touched":     {map[string]bool{"k1": true, "k2": true}, func(f *fixture) { f.o.PIN = nil }, "k2", nil},
		"one silent":            {map[string]bool{"k2": false}, nil, "", ErrWhichKey},
		"the other has trouble": {nil, func(f *fixture) { f.keys.plugged[0].Problem = securitykey.ErrInUse }, "k2", nil},
	} {
		f := newFixture(t, withKey)
		f.keys.plugged = append(f.keys.plugged, securitykey.Key{ID: "k2", Product: "Second"})
		f.keys.holds = row.holds
		if row.change != nil {
			row.change(f)
		}
		r, err := f.run()
		if !errors.Is(err, row.err) || r.Key.ID != row.key || row.key == "" && len(f.keys.asserted) > 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// The org's refusals are told in its words, and nothing is tried again.
func TestRefusals(t *testing.T) {
	again := doc(forms(form("challenge-authenticator", "password", passcode)), aboutPassword, says("ERROR", "incorrectPassword", "Password is \x1b[31mincorrect\u202e"))
	for name, row := range map[string]struct {
		script map[string]string
		want   RefusedError
		paths  string
	}{
		"password": {with(withKey, "password", again), RefusedError{"Password is [31mincorrect", "incorrectPassword", true, false}, "introspect identify password"},
		"user":     {with(withKey, "identify", doc(forms(form("identify", "identify", `{"name":"identifier"}`)), says("ERROR", "idx.unknown.user", "There is no account."))), RefusedError{"There is no account.", "idx.unknown.user", false, false}, "introspect identify"},
		"key":      {with(withKey, "answer", doc(says("ERROR", "authfactor.webauthn.error", "Not this key."))), RefusedError{"Not this key.", "authfactor.webauthn.error", false, true}, "introspect identify password challenge answer"},
		"denied":   {with(withKey, "password", doc(says("INFO", "no", "Come back tomorrow."))), RefusedError{"Come back tomorrow.", "no", false, false}, "introspect identify password"},
		"expired":  {with(withKey, "password", doc(says("ERROR", "idx.session.expired", "Too late."))), RefusedError{"Too late.", "idx.session.expired", false, false}, "introspect identify password"},
		"endless":  {with(withKey, "introspect", doc(says("ERROR", strings.Repeat("k", 900), strings.Repeat("x", 900)))), RefusedError{strings.Repeat("x", 199) + "…", strings.Repeat("k", 63) + "…", false, false}, "introspect"},
	} {
		f := newFixture(t, row.script)
		_, err := f.run()
		var got *RefusedError
		if !errors.As(err, &got) || *got != row.want || f.paths() != row.paths {
			t.Errorf("%s: %+v after %s", name, err, f.paths())
		}
	}
}

// E12: an org that leads in circles, or to where nobody should go.
func TestE12HostileSteps(t *testing.T) {
	f2 := func(name string) string { return doc(forms(form(name, "x", `{"name":"code"}`))) }
	onePage := doc(forms(form("identify", "identify", `{"name":"identifier"}`, passcode)))
	for name, script := range map[string]map[string]string{
		"the name again":             with(withKey, "identify", identify),
		"the password again":         with(withKey, "password", password1),
		"the password in two places": with(withKey, "introspect", onePage),
		"the key again":              with(withKey, "answer", challenge),
		"the choice again":           with(withKey, "challenge", choose),
		"skipping for ever":          with(with(withKey, "answer", doc(forms(form("skip", "skip")))), "skip", doc(forms(form("skip", "skip")))),
		"enrolling again":            with(toEnrol, "activate", activate),
		"a code by mail":             with(withKey, "identify", f2("challenge-authenticator")),
		"a new password":             with(withKey, "identify", f2("reset-authenticator")),
		"a profile":                  with(withKey, "identify", f2("enroll-profile")),
		"consent":                    with(withKey, "identify", f2("consent\x1b[2J")),
		"a device challenge":         with(withKey, "introspect", f2("device-challenge-poll")),
		"a phone to be set up":       with(toEnrol, "enroll", strings.ReplaceAll(activate, `"webauthn"`, `"phone_number"`)),
		"a captcha":                  with(withKey, "introspect", doc(forms(form("identify", "identify", `{"name":"identifier"}`, `{"name":"captcha","required":true}`)))),
		"a name of its own choosing": with(withKey, "introspect", doc(forms(form("identify", "identify", `{"name":"identifier","value":"eve","mutable":false}`)))),
	} {
		f := newFixture(t, script)
		_, err := f.run()
		var step *StepError
		if !errors.As(err, &step) || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%s: %v after %s", name, err, f.paths())
		}
		if n := strings.Count(f.paths(), "password"); n > 1 {
			t.Errorf("%s: the password was sent %d times", name, n)
		}
		if len(f.keys.asserted) > 1 || len(f.keys.registered) > 1 || len(f.org.TokenRequests()) > 0 {
			t.Errorf("%s: the key was asked %d and %d times", name, len(f.keys.asserted), len(f.keys.registered))
		}
	}
	for name, script := range map[string]map[string]string{
		"the password elsewhere": with(withKey, "identify", strings.ReplaceAll(password1, "ORG/idp", "https://evil.example/idp")),
		"a script":               with(withKey, "identify", strings.ReplaceAll(password1, "ORG/idp/idx/password", "javascript:alert(1)")),
		"the signature":          with(withKey, "challenge", strings.ReplaceAll(challenge, "ORG/idp", "ORG.evil.example/idp")),
	} {
		f := newFixture(t, script)
		if _, err := f.run(); !errors.Is(err, client.ErrForeignURL) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var odd *client.UnexpectedAnswer
	for name, document := range map[string]string{"nothing": `{}`, "wrong types": `{"remediation":7}`, "no JSON": `x`, "huge": `"` + strings.Repeat("x", 2<<20) + `"`} {
		f := newFixture(t, with(withKey, "identify", document))
		if _, err := f.run(); !errors.As(err, &odd) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var data = map[string]string{"no challenge": `"challenge":""`, "a short one": `"challenge":"AAEC"`}
	for name, c := range data {
		f := newFixture(t, with(withKey, "challenge", strings.Replace(challenge, `"challenge":"AAECAwQFBgcICQoLDA0ODxAREhM"`, c, 1)))
		f.o.Keys = securitykey.New(securitykey.Options{Helper: "/nonexistent"})
		if _, err := f.run(); err == nil {
			t.Errorf("%s: signed in", name)
		}
	}
}

// A5: a key signs for the origin that the agent reached and for no other,
// whatever the org says that it is.
func TestA5KeySignsForTheOriginReached(t *testing.T) {
	for _, rp := range []string{"id.example.com", "example.com", "com", "localhost.evil.example", "evil.localhost", "ocalhost", "LOCALHOST", ".localhost", "127.0.0.1", "https://localhost"} {
		for _, script := range []map[string]string{
			with(withKey, "challenge", strings.Replace(challenge, `"userVerification"`, `"rpId":"`+rp+`","userVerification"`, 1)),
			with(toEnrol, "enroll", strings.Replace(activate, `"rp":{`, `"rp":{"id":"`+rp+`",`, 1)),
		} {
			f := newFixture(t, script)
			_, err := f.run()
			var origin *securitykey.OriginError
			if !errors.As(err, &origin) || len(f.keys.asserted)+len(f.keys.registered)+f.keys.chosen > 0 {
				t.Errorf("%s: %v", rp, err)
			}
		}
	}
	// An address, or plain http, is where no browser would use a key: nothing is sent.
	f := newFixture(t, withKey)
	for _, orgURL := range []string{strings.Replace(f.org.URL, "localhost", "127.0.0.1", 1), "http://[::1]:1", "https://192.0.2.1"} {
		var err error
		if f.o.Org, err = client.New(orgURL, client.Options{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.run(); !errors.Is(err, ErrInsecure) || f.paths() != "" || len(f.org.Authorizations()) != 0 {
			t.Errorf("%s: %v", orgURL, err)
		}
	}
}

// E5: the org's word on who signed in is checked, and the token revoked.
func TestE5KeySignInIsProven(t *testing.T) {
	for name, spoil := range map[string]func(map[string]any){
		"another org":     func(c map[string]any) { c["iss"] = "https://evil.example" },
		"another app":     func(c map[string]any) { c["aud"] = "other" },
		"another sign-in": func(c map[string]any) { c["nonce"] = "x" },
		"nobody":          func(c map[string]any) { c["sub"] = "" },
		"expired":         func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"odd methods":     func(c map[string]any) { c["amr"] = "pwd" },
	} {
		f := newFixture(t, withKey)
		f.org.SignsIn(oktatest.SignIn{Claims: spoil})
		if r, err := f.run(); !errors.Is(err, idtoken.ErrInvalid) || r.UserID != "" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if len(f.org.Revoked()) != 1 {
			t.Errorf("%s: the token lives on", name)
		}
	}
	f := newFixture(t, withKey)
	f.org.SignsIn(oktatest.SignIn{Login: "a\x1b[2Jb\u202e", Claims: func(c map[string]any) { c["amr"] = []string{strings.Repeat("x", 99), "\x00", "hwk"} }})
	if r, err := f.run(); err != nil || r.Username != "a[2Jb" || len(r.Methods) != 2 || r.Methods[1] != "hwk" {
		t.Errorf("%+v, %v", r, err)
	}
}

// Who gives up while the key blinks is not signed in, and nothing goes on.
func TestCancelledWhileItBlinks(t *testing.T) {
	f := newFixture(t, withKey)
	ctx, cancel := context.WithCancel(t.Context())
	f.keys.touch = func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return securitykey.ErrCancelled
	}
	if r, err := Run(ctx, f.o); !errors.Is(err, ErrCancelled) || r.UserID != "" || strings.Contains(f.paths(), "answer") {
		t.Errorf("%+v, %v after %s", r, err, f.paths())
	}
}

// A key that is never touched does not hold the sign-in for ever.
func TestSignInHasItsTime(t *testing.T) {
	f := newFixture(t, withKey)
	f.o.lifetime = 300 * time.Millisecond
	f.keys.touch = func(ctx context.Context) error {
		<-ctx.Done()
		return securitykey.ErrTimedOut
	}
	if _, err := f.run(); !errors.Is(err, ErrTimedOut) {
		t.Error(err)
	}
}

// An org is asked that a key may be enrolled, and an org that does not know how
// that is asked is asked without.
func TestOrgIsAskedToEnrol(t *testing.T) {
	f := newFixture(t, toEnrol)
	if _, err := f.run(); err != nil || f.org.Authorizations()[0].Get("prompt") != "enroll_authenticator" {
		t.Errorf("%v, %v", f.org.Authorizations(), err)
	}
	f = newFixture(t, withKey)
	f.o.Enrol = false
	if _, err := f.run(); err != nil || f.org.Authorizations()[0].Has("prompt") {
		t.Errorf("%v, %v", f.org.Authorizations(), err)
	}
	f = newFixture(t, withKey)
	f.org.RefusePrompts()
	if _, err := f.run(); err != nil || len(f.org.Authorizations()) != 2 || f.org.Authorizations()[1].Has("prompt") {
		t.Errorf("%v, %v", f.org.Authorizations(), err)
	}
}
