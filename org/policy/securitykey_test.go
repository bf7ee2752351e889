package policy

import (
	"testing"
	"time"

	"countersign.dev/okta"
)

// What the proof of a security key is worth, against rules as an administrator
// writes them. Each is Okta's document; only the possession part differs.
func TestSecurityKeysInRules(t *testing.T) {
	const (
		touched  = DeviceBound | PhishingResistant | UserPresence // a key that did not verify the person
		verified = touched | UserVerification
		passkey  = PhishingResistant | UserPresence | UserVerification // may be copied to other devices
	)
	key := func(traits Traits) Proof { return Proof{Method: WebAuthn, Traits: traits, At: now} }
	capable, u2f, synced := Candidate{WebAuthn, verified}, Candidate{WebAuthn, touched}, Candidate{WebAuthn, passkey}
	asks := func(need okta.Need) Decision {
		return Decision{Outcome: Incomplete, Methods: WebAuthn, KeyVerification: need}
	}
	satisfied, stuck := Decision{Outcome: Satisfied}, Decision{Reason: NoAuthenticator}

	for possession, cases := range map[string][]struct {
		name  string
		facts Facts
		want  Decision
	}{
		`{}`: {
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, satisfied},
			{"asked", Facts{Proofs: proofs(pwd()), Candidates: []Candidate{u2f}}, asks(okta.NeedNone)},
			{"without the password", Facts{Proofs: proofs(key(verified))}, stuck},
		},
		`{"phishingResistant":"REQUIRED"}`: {
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, satisfied},
			{"passkey", Facts{Proofs: proofs(pwd(), key(passkey))}, satisfied},
			{"asked", Facts{Proofs: proofs(pwd()), Candidates: []Candidate{synced}}, asks(okta.NeedNone)},
			{"a push does not do instead", Facts{Proofs: proofs(pwd(), Proof{Method: Push, Traits: allTraits &^ PhishingResistant, At: now}), Candidates: []Candidate{u2f}}, asks(okta.NeedNone)},
		},
		`{"phishingResistant":"REQUIRED","userPresence":"OPTIONAL"}`: {
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, satisfied},
			{"a code", Facts{Proofs: proofs(pwd(), Proof{Method: TOTP, Traits: UserPresence, At: now})}, stuck},
		},
		`{"deviceBound":"REQUIRED"}`: {
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, satisfied},
			{"passkey", Facts{Proofs: proofs(pwd(), key(passkey)), Candidates: []Candidate{synced}}, stuck},
		},
		`{"phishingResistant":"REQUIRED","deviceBound":"REQUIRED"}`: {
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, satisfied},
			{"passkey", Facts{Proofs: proofs(pwd(), key(passkey)), Candidates: []Candidate{synced}}, stuck},
		},
		`{"hardwareProtection":"REQUIRED"}`: { // nobody has proven that to the org
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, stuck},
			{"verified", Facts{Proofs: proofs(pwd(), key(verified)), Candidates: []Candidate{capable}}, stuck},
		},
		`{"userVerification":"REQUIRED"}`: {
			{"verified", Facts{Proofs: proofs(pwd(), key(verified))}, satisfied},
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, stuck},
			{"asked", Facts{Proofs: proofs(pwd(), key(touched)), Candidates: []Candidate{capable}}, asks(okta.NeedRequired)},
			{"not asked of one that cannot", Facts{Proofs: proofs(pwd()), Candidates: []Candidate{u2f}}, stuck},
		},
		`{"types":["SECURITY_KEY"]}`: {
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, satisfied},
			{"a device", Facts{Proofs: proofs(pwd(), nonce(allTraits)), Candidates: []Candidate{can(SignedNonce), can(Push)}}, stuck},
		},
		`{"methods":["webauthn"]}`: {
			{"touched", Facts{Proofs: proofs(pwd(), key(touched))}, satisfied},
			{"a device", Facts{Proofs: proofs(pwd(), nonce(allTraits))}, stuck},
		},
		`{"types":["APP"]}`: {
			{"a key is no app", Facts{Proofs: proofs(pwd(), key(verified)), Candidates: []Candidate{capable}}, stuck},
		},
		`{"reauthenticateIn":"PT0S"}`: {
			{"of before", Facts{Proofs: proofs(pwd(), Proof{WebAuthn, verified, now.Add(-time.Minute)}), Candidates: []Candidate{capable}}, asks(okta.NeedNone)},
		},
	} {
		doc := `{"name":"x","actions":{"appSignOn":{"access":"ALLOW","verificationMethod":{"type":"ASSURANCE","factorMode":"2FA","constraints":[
			{"knowledge":{"types":["PASSWORD"]},"possession":` + possession + `}]}}}}`
		r, err := Parse([]byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", possession, err)
		}
		for _, c := range cases {
			f := c.facts
			f.Now, f.Started, f.Enrolled = now, now.Add(-time.Second), true
			if got := Evaluate(compiled(t, r), &f); got != c.want {
				t.Errorf("%s: %s: got %+v, want %+v", possession, c.name, got, c.want)
			}
		}
	}

	// Without a constraint two factors are any two classes: a key that verifies the
	// person is possession and inherence, one that is touched is possession.
	for name, c := range map[string]struct {
		facts Facts
		want  Decision
	}{
		"verified":           {Facts{Proofs: proofs(key(verified))}, satisfied},
		"touched":            {Facts{Proofs: proofs(key(touched))}, stuck},
		"touched, can more":  {Facts{Proofs: proofs(key(touched)), Candidates: []Candidate{capable}}, asks(okta.NeedRequired)},
		"touched, and a pin": {Facts{Proofs: proofs(key(touched), pwd())}, satisfied},
		"a key and a device": {Facts{Proofs: proofs(key(touched), nonce(touched))}, stuck},
		"nothing, a U2F key": {Facts{Candidates: []Candidate{u2f}}, stuck},
	} {
		any := Rule{Actions: Actions{AppSignOn{Allow, &VerificationMethod{Type: "ASSURANCE", FactorMode: "2FA"}}}}
		f := c.facts
		f.Now, f.Started, f.Enrolled = now, now.Add(-time.Second), true
		if got := Evaluate(compiled(t, any), &f); got != c.want {
			t.Errorf("any two: %s: got %+v, want %+v", name, got, c.want)
		}
	}
}
