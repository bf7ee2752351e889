package policy

import (
	"errors"
	"testing"
	"time"

	"countersign.dev/okta"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const allTraits = DeviceBound | Hardware | PhishingResistant | UserPresence | UserVerification

func pwd() Proof                { return Proof{Method: Password, At: now} }
func nonce(t Traits) Proof      { return Proof{Method: SignedNonce, Traits: t, At: now} }
func can(m Methods) Candidate   { return Candidate{m, allTraits} }
func proofs(p ...Proof) []Proof { return p }

func compiled(t testing.TB, rules ...Rule) *Set {
	t.Helper()
	s, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func with(edit func(*ClassConstraint)) Rule {
	r := TwoFactors(Optional)
	edit(r.Actions.AppSignOn.VerificationMethod.Constraints[0].Possession)
	return r
}

func TestEvaluate(t *testing.T) {
	both := []Candidate{can(Password), can(SignedNonce)}
	oneFactor := Rule{Actions: Actions{AppSignOn{Allow, &VerificationMethod{Type: "ASSURANCE", FactorMode: "1FA"}}}}
	anyTwo := Rule{Actions: Actions{AppSignOn{Allow, &VerificationMethod{Type: "ASSURANCE", FactorMode: "2FA"}}}}
	resistant := with(func(c *ClassConstraint) { c.PhishingResistant = Required })
	hardware := with(func(c *ClassConstraint) { c.HardwareProtection = Required })
	verified := with(func(c *ClassConstraint) { c.UserVerification = Required })
	fresh := TwoFactors(Optional)
	fresh.Actions.AppSignOn.VerificationMethod.ReauthenticateIn = "PT0S"
	hourly := TwoFactors(Optional)
	hourly.Actions.AppSignOn.VerificationMethod.ReauthenticateIn = "PT1H"
	possessionOnly := Rule{Actions: Actions{AppSignOn{Allow, &VerificationMethod{Type: "ASSURANCE", FactorMode: "2FA",
		Constraints: []Constraint{{Knowledge: &ClassConstraint{Required: new(bool), Types: []string{"SECURITY_QUESTION"}},
			Possession: &ClassConstraint{UserPresence: Optional}}}}}}}
	denyBob := Rule{Conditions: &Conditions{People: &People{Users: Selection{Include: []string{"bob"}}}}, Actions: Actions{AppSignOn{Access: Deny}}}
	notGuests := TwoFactors(Optional)
	notGuests.Conditions = &Conditions{People: &People{Groups: Selection{Exclude: []string{"guests"}}}}

	incomplete := func(m Methods, uv, um okta.Need) Decision {
		return Decision{Outcome: Incomplete, Methods: m, UserVerification: uv, UserMediation: um}
	}
	// withPush is incomplete where a push may be sent too.
	withPush := func(d Decision, uv okta.Need) Decision { d.PushVerification = uv; return d }
	push := func(t Traits) Proof { return Proof{Method: Push, Traits: t, At: now} }
	code := Proof{Method: TOTP, Traits: UserPresence, At: now}
	all := []Candidate{can(Password), {SignedNonce, DeviceBound | PhishingResistant | UserPresence}, {Push, DeviceBound | UserPresence}, {TOTP, UserPresence}}
	approver := []Candidate{{Push, DeviceBound | UserPresence}, {Push, DeviceBound | UserPresence | UserVerification}, {TOTP, UserPresence}}
	verifier := Candidate{SignedNonce, DeviceBound | PhishingResistant | UserPresence | UserVerification}
	bound := with(func(c *ClassConstraint) { c.DeviceBound = Required })
	satisfied, stuck := Decision{Outcome: Satisfied}, Decision{Reason: NoAuthenticator}
	weak := Candidate{SignedNonce, DeviceBound | PhishingResistant | UserPresence} // a software key without verification

	for _, c := range []struct {
		name  string
		rules []Rule
		facts Facts
		want  Decision
	}{
		{"no rules", nil, Facts{Proofs: proofs(pwd(), nonce(allTraits))}, Decision{}},
		{"two factors, nothing yet", []Rule{TwoFactors(Optional)}, Facts{Candidates: both}, incomplete(Password|SignedNonce, okta.NeedNone, okta.NeedNone)},
		{"two factors, password", []Rule{TwoFactors(Optional)}, Facts{Candidates: both, Proofs: proofs(pwd())}, incomplete(SignedNonce, okta.NeedNone, okta.NeedNone)},
		{"two factors, presence asked", []Rule{TwoFactors(Required)}, Facts{Candidates: both, Proofs: proofs(pwd())}, incomplete(SignedNonce, okta.NeedNone, okta.NeedRequired)},
		{"two factors, nonce first", []Rule{TwoFactors(Optional)}, Facts{Candidates: both, Proofs: proofs(nonce(DeviceBound))}, incomplete(Password, "", "")},
		{"two factors, done", []Rule{TwoFactors(Optional)}, Facts{Proofs: proofs(pwd(), nonce(DeviceBound))}, satisfied},
		{"password twice is one class", []Rule{anyTwo}, Facts{Proofs: proofs(pwd(), pwd())}, stuck},
		{"two possessions are one class", []Rule{TwoFactors(Optional)}, Facts{Proofs: proofs(nonce(DeviceBound), nonce(DeviceBound))}, stuck},
		{"silent nonce where presence is asked", []Rule{TwoFactors(Required)}, Facts{Candidates: both, Proofs: proofs(pwd(), nonce(DeviceBound))}, incomplete(SignedNonce, okta.NeedNone, okta.NeedRequired)},
		{"nothing to possess", []Rule{TwoFactors(Optional)}, Facts{Candidates: both[:1], Proofs: proofs(pwd())}, stuck},
		{"nothing to possess is told before the password", []Rule{TwoFactors(Optional)}, Facts{Candidates: both[:1]}, stuck},

		{"until enrolled: password", []Rule{PasswordUntilEnrolled()}, Facts{Candidates: both[:1], Proofs: proofs(pwd())}, satisfied},
		{"until enrolled: nothing", []Rule{PasswordUntilEnrolled()}, Facts{Candidates: both[:1]}, incomplete(Password, "", "")},
		{"enrolled: more", []Rule{PasswordUntilEnrolled()}, Facts{Enrolled: true, Candidates: both, Proofs: proofs(pwd())}, incomplete(SignedNonce, okta.NeedNone, okta.NeedNone)},
		{"enrolled but suspended: no", []Rule{PasswordUntilEnrolled()}, Facts{Enrolled: true, Candidates: both[:1], Proofs: proofs(pwd())}, stuck},
		{"until enrolled: a nonce is no password", []Rule{PasswordUntilEnrolled()}, Facts{Proofs: proofs(nonce(allTraits))}, stuck},

		// A7: where resistance is asked, weaker methods are not offered.
		{"resistant offers no push or code", []Rule{resistant}, Facts{Proofs: proofs(pwd()), Candidates: []Candidate{
			{Push, DeviceBound | UserPresence}, {TOTP, DeviceBound}, weak}}, incomplete(SignedNonce, okta.NeedNone, okta.NeedNone)},
		{"resistant without a resistant one", []Rule{resistant}, Facts{Proofs: proofs(pwd()), Candidates: []Candidate{{Push, DeviceBound | UserPresence}, {TOTP, DeviceBound}}}, stuck},
		{"resistant takes no other proof", []Rule{resistant}, Facts{Proofs: proofs(pwd(), Proof{Method: Push, Traits: DeviceBound, At: now})}, stuck},
		{"hardware refuses software", []Rule{hardware}, Facts{Proofs: proofs(pwd()), Candidates: []Candidate{weak}}, stuck},
		{"verification asked", []Rule{verified}, Facts{Proofs: proofs(pwd()), Candidates: both}, incomplete(SignedNonce, okta.NeedRequired, okta.NeedNone)},
		{"verification refuses possession alone", []Rule{verified}, Facts{Proofs: proofs(pwd(), nonce(DeviceBound|UserPresence))}, stuck},

		{"all methods", []Rule{TwoFactors(Required)}, Facts{Proofs: proofs(pwd()), Candidates: all}, withPush(incomplete(SignedNonce|Push|TOTP, okta.NeedNone, okta.NeedRequired), okta.NeedNone)},
		{"a push approves", []Rule{TwoFactors(Required)}, Facts{Proofs: proofs(pwd(), push(DeviceBound|UserPresence))}, satisfied},
		{"a code approves", []Rule{TwoFactors(Required)}, Facts{Proofs: proofs(pwd(), code)}, satisfied},
		{"a code is bound to no device", []Rule{bound}, Facts{Proofs: proofs(pwd(), code), Candidates: all}, withPush(incomplete(SignedNonce|Push, okta.NeedNone, okta.NeedNone), okta.NeedNone)},
		{"a push resists no phishing", []Rule{resistant}, Facts{Proofs: proofs(pwd(), push(DeviceBound|UserPresence|UserVerification|Hardware))}, stuck},
		{"a push with verification", []Rule{verified}, Facts{Proofs: proofs(pwd()), Candidates: approver}, withPush(incomplete(Push, "", ""), okta.NeedRequired)},
		{"verified by push", []Rule{verified}, Facts{Proofs: proofs(pwd(), push(DeviceBound|UserPresence|UserVerification))}, satisfied},
		{"the verified rule: nothing yet", []Rule{TwoFactorsVerified()}, Facts{Candidates: []Candidate{can(Password), verifier}}, incomplete(Password|SignedNonce, okta.NeedRequired, okta.NeedRequired)},
		{"the verified rule: password", []Rule{TwoFactorsVerified()}, Facts{Proofs: proofs(pwd()), Candidates: append(approver, verifier)},
			withPush(incomplete(SignedNonce|Push, okta.NeedRequired, okta.NeedRequired), okta.NeedRequired)},
		{"the verified rule: keys that do not verify are not asked", []Rule{TwoFactorsVerified()}, Facts{Proofs: proofs(pwd()), Candidates: all}, stuck},
		{"the verified rule: possession never does", []Rule{TwoFactorsVerified()}, Facts{Proofs: proofs(pwd(), nonce(allTraits&^UserVerification), push(allTraits&^UserVerification), code)}, stuck},
		{"the verified rule: done by nonce", []Rule{TwoFactorsVerified()}, Facts{Proofs: proofs(pwd(), nonce(DeviceBound|PhishingResistant|UserPresence|UserVerification))}, satisfied},
		{"the verified rule: done by push", []Rule{TwoFactorsVerified()}, Facts{Proofs: proofs(pwd(), push(DeviceBound|UserPresence|UserVerification))}, satisfied},
		{"the verified rule: the password is due all the same", []Rule{TwoFactorsVerified()}, Facts{Proofs: proofs(nonce(allTraits)), Candidates: both}, incomplete(Password, "", "")},
		{"push and code are one class", []Rule{TwoFactors(Optional)}, Facts{Proofs: proofs(push(DeviceBound|UserPresence), code)}, stuck},
		{"one possession factor: a push is asked for", []Rule{OnePossessionFactor()}, Facts{Candidates: approver}, withPush(incomplete(Push|TOTP, "", ""), okta.NeedNone)},
		{"one possession factor: approved", []Rule{OnePossessionFactor()}, Facts{Proofs: proofs(push(DeviceBound | UserPresence))}, satisfied},
		{"one possession factor: silent", []Rule{OnePossessionFactor()}, Facts{Proofs: proofs(nonce(DeviceBound | PhishingResistant))}, stuck},
		{"one possession factor: a password is none", []Rule{OnePossessionFactor()}, Facts{Proofs: proofs(pwd()), Candidates: all[:1]}, stuck},

		{"possession and inherence", []Rule{possessionOnly}, Facts{Proofs: proofs(nonce(allTraits))}, satisfied},
		{"inherence is asked for", []Rule{possessionOnly}, Facts{Candidates: both}, incomplete(SignedNonce, okta.NeedRequired, okta.NeedNone)},
		{"no inherence to be had", []Rule{possessionOnly}, Facts{Candidates: []Candidate{weak}}, stuck},

		{"one factor, any", []Rule{oneFactor}, Facts{Proofs: proofs(pwd())}, satisfied},
		{"old proof", []Rule{hourly}, Facts{Proofs: proofs(Proof{Password, 0, now.Add(-2 * time.Hour)}, nonce(DeviceBound)), Candidates: both}, incomplete(Password, "", "")},
		{"young proof", []Rule{hourly}, Facts{Proofs: proofs(Proof{Password, 0, now.Add(-30 * time.Minute)}, nonce(DeviceBound))}, satisfied},
		{"proof of before", []Rule{fresh}, Facts{Proofs: proofs(Proof{Password, 0, now.Add(-2 * time.Second)}, nonce(DeviceBound)), Candidates: both}, incomplete(Password, "", "")},

		{"denied by name", []Rule{denyBob, TwoFactors(Optional)}, Facts{UserID: "bob", Proofs: proofs(pwd(), nonce(allTraits))}, Decision{Reason: Refused}},
		{"another is not bob", []Rule{denyBob, TwoFactors(Optional)}, Facts{UserID: "alice", Proofs: proofs(pwd(), nonce(allTraits))}, satisfied},
		{"excluded group", []Rule{notGuests}, Facts{UserID: "x", Groups: []string{"guests"}, Proofs: proofs(pwd(), nonce(allTraits))}, Decision{Reason: NoRule}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.facts
			f.Now, f.Started = now, now.Add(-time.Second)
			if got := Evaluate(compiled(t, c.rules...), &f); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if got := Evaluate(nil, &Facts{}); got.Outcome != Denied {
		t.Errorf("no policy at all: %+v", got)
	}
}

func TestEvaluateAllocatesNothing(t *testing.T) {
	s := compiled(t, TwoFactors(Required))
	f := Facts{Now: now, Candidates: []Candidate{can(Password), can(SignedNonce)}, Proofs: proofs(pwd())}
	if n := testing.AllocsPerRun(100, func() { Evaluate(s, &f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, doc := range []string{
		``, `[]`, `null{}`, `{"conditions":{"network":{"connection":"ZONE"}},"actions":{"appSignOn":{"access":"DENY"}}}`,
		`{"conditions":{"people":{"user":{"include":["x"]}}},"actions":{"appSignOn":{"access":"ALLOW"}}}`,
		`{"actions":{"appSignOn":{"access":"ALLOW","access":"DENY"}}}`,
	} {
		if _, err := Parse([]byte(doc)); !errors.Is(err, ErrRule) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	rule := func(access, kind, mode, fresh string, c ...Constraint) Rule {
		return Rule{Actions: Actions{AppSignOn{access, &VerificationMethod{kind, mode, fresh, c}}}}
	}
	for name, r := range map[string]Rule{
		"zero":              {},
		"no method":         {Actions: Actions{AppSignOn{Access: Allow}}},
		"unknown access":    rule("MAYBE", "ASSURANCE", "1FA", ""),
		"unknown kind":      rule(Allow, "AUTH_METHOD_CHAIN", "1FA", ""),
		"unknown mode":      rule(Allow, "ASSURANCE", "3FA", ""),
		"bad duration":      rule(Allow, "ASSURANCE", "1FA", "soon"),
		"months":            rule(Allow, "ASSURANCE", "1FA", "P1M"),
		"unknown type":      rule(Allow, "ASSURANCE", "1FA", "", Constraint{Knowledge: &ClassConstraint{Types: []string{"TEA"}}}),
		"unknown method":    rule(Allow, "ASSURANCE", "1FA", "", Constraint{Possession: &ClassConstraint{Methods: []string{"TEA"}}}),
		"unknown demand":    rule(Allow, "ASSURANCE", "1FA", "", Constraint{Possession: &ClassConstraint{UserVerification: "SOMETIMES"}}),
		"unknown presence":  rule(Allow, "ASSURANCE", "1FA", "", Constraint{Possession: &ClassConstraint{UserPresence: "SOMETIMES"}}),
		"hardware password": rule(Allow, "ASSURANCE", "1FA", "", Constraint{Knowledge: &ClassConstraint{HardwareProtection: Required}}),
		"two of one":        rule(Allow, "ASSURANCE", "1FA", "", Constraint{Knowledge: &ClassConstraint{}, Possession: &ClassConstraint{}}),
	} {
		if _, err := Compile([]Rule{r}); !errors.Is(err, ErrRule) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"PT0S": 0, "PT12H": 12 * time.Hour, "P1DT2H": 26 * time.Hour, "PT1H30M": 90 * time.Minute, "PT43800H": 43800 * time.Hour, "P2D": 48 * time.Hour,
	} {
		if f, err := parseFreshness(s); err != nil || !f.set || f.within != want {
			t.Errorf("%s: %+v %v", s, f, err)
		}
	}
	for _, s := range []string{"P", "PT", "P1", "PT5", "1H", "PTH", "PT1H1H", "PT1M1H", "P1H", "PT-1S", "PT1.5S", "P1DT", "PT99999999H"} {
		if _, err := parseFreshness(s); err == nil {
			t.Errorf("%s: accepted", s)
		}
	}
}

// FuzzPolicy: whatever a stored rule says, nothing proven never satisfies it,
// and what is offered is always something that could be proven.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"name":"x","actions":{"appSignOn":{"access":"ALLOW","verificationMethod":{"type":"ASSURANCE","factorMode":"2FA","constraints":[{"knowledge":{"types":["PASSWORD"]},"possession":{"userPresence":"OPTIONAL","whenEnrolled":true}}]}}}}`), uint8(3), false)
	f.Add([]byte(`{"name":"x","actions":{"appSignOn":{"access":"ALLOW","verificationMethod":{"type":"ASSURANCE","factorMode":"1FA","reauthenticateIn":"PT2H","constraints":[{"possession":{"required":false,"methods":["PUSH"]}},{}]}}}}`), uint8(15), true)
	f.Fuzz(func(t *testing.T, doc []byte, offered uint8, enrolled bool) {
		r, err := Parse(doc)
		if err != nil {
			return
		}
		s, err := Compile([]Rule{r})
		if err != nil {
			return
		}
		facts := Facts{Now: now, Started: now, Enrolled: enrolled}
		for m := Password; m <= TOTP; m <<= 1 {
			if Methods(offered)&m != 0 {
				facts.Candidates = append(facts.Candidates, can(m))
			}
		}
		d := Evaluate(s, &facts)
		if d.Outcome == Satisfied {
			t.Fatalf("satisfied by nothing: %s", doc)
		}
		if d.Methods&^Methods(offered) != 0 || (d.Outcome == Incomplete) != (d.Methods != 0) {
			t.Fatalf("offers %b of %b: %+v %s", d.Methods, offered, d, doc)
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	rules := make([]Rule, 100)
	for i := range rules {
		rules[i] = TwoFactors(Optional)
		rules[i].Conditions = &Conditions{People: &People{Users: Selection{Include: []string{"nobody"}}}}
	}
	rules[99].Conditions = nil
	s := compiled(b, rules...)
	f := Facts{Now: now, UserID: "alice", Candidates: []Candidate{can(Password), can(SignedNonce)}, Proofs: proofs(pwd())}
	for b.Loop() {
		Evaluate(s, &f)
	}
}
