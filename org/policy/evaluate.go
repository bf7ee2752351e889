package policy

import (
	"math/bits"
	"slices"
	"time"

	"countersign.dev/okta"
)

// Methods is a set of methods.
type Methods uint8

// The methods that can be proven.
const (
	Password Methods = 1 << iota
	SignedNonce
	Push
	TOTP
	WebAuthn // a security key

	knowledge  = Password
	possession = SignedNonce | Push | TOTP | WebAuthn
)

// Has says whether all of m are in the set.
func (s Methods) Has(m Methods) bool { return m != 0 && s&m == m }

// Count says how many methods are in the set.
func (s Methods) Count() int { return bits.OnesCount8(uint8(s)) }

// Traits are the properties of a proof that rules ask for.
type Traits uint8

// The traits. A proof has a trait only if the org saw it for itself.
const (
	DeviceBound       Traits = 1 << iota // the key cannot leave the device by design
	Hardware                             // attested to be in hardware
	PhishingResistant                    // bound to the origin of the page
	UserPresence                         // a person approved in this very proof
	UserVerification                     // a PIN or biometrics
)

// Proof is something that was proven.
type Proof struct {
	Method Methods // exactly one
	Traits Traits
	At     time.Time
}

// Candidate is something the user could prove next, at best with these traits.
type Candidate struct {
	Method Methods
	Traits Traits
}

// Facts is all that Evaluate looks at.
type Facts struct {
	Now     time.Time
	Started time.Time // proofs since then belong to this sign-in
	UserID  string    // "" while unknown
	Groups  []string
	Proofs  []Proof
	// Candidates are the methods that can be asked for here and now.
	Candidates []Candidate
	// Enrolled says that the user has a possession factor, usable or not.
	Enrolled bool
}

// Outcome is the heart of a decision. The zero value denies.
type Outcome int

// The outcomes.
const (
	Denied     Outcome = iota
	Incomplete         // something more must be proven
	Satisfied
)

// Reason says why a decision denies.
type Reason int

// The reasons.
const (
	NoRule          Reason = iota // no rule is for this user
	Refused                       // the rule says DENY
	NoAuthenticator               // the rule asks for what the user cannot prove
)

// Decision is what the policy says to the facts.
type Decision struct {
	Outcome Outcome
	Reason  Reason // of a denial
	// Methods may bring the sign-in forward; only these may be offered.
	Methods Methods
	// UserVerification and UserMediation go into a signed-nonce challenge.
	UserVerification, UserMediation okta.Need
	// PushVerification goes into a push, whose mediation is always required.
	PushVerification okta.Need
	// KeyVerification is what a security key must do.
	KeyVerification okta.Need
}

// Evaluate decides by the first rule that is for the user. It allocates nothing.
func Evaluate(s *Set, f *Facts) Decision {
	if s == nil {
		return Decision{}
	}
	for i := range s.rules {
		r := &s.rules[i]
		if !r.isFor(f) {
			continue
		}
		if !r.allow {
			return Decision{Reason: Refused}
		}
		return r.decide(f)
	}
	return Decision{}
}

// isFor tests the conditions. A rule for certain people is not for somebody
// yet unknown; until the user is known it decides nothing, and it is asked
// again when the user is.
func (r *rule) isFor(f *Facts) bool {
	if slices.Contains(r.users.Exclude, f.UserID) || overlap(r.groups.Exclude, f.Groups) {
		return false
	}
	if len(r.users.Include) == 0 && len(r.groups.Include) == 0 {
		return true
	}
	return slices.Contains(r.users.Include, f.UserID) || overlap(r.groups.Include, f.Groups)
}

func (r *rule) decide(f *Facts) Decision {
	d := Decision{Reason: NoAuthenticator}
	for i := range r.alternatives {
		a := &r.alternatives[i]
		o := r.try(a, f)
		if o.satisfied {
			return Decision{Outcome: Satisfied}
		}
		if o.next == 0 {
			continue
		}
		d.Outcome, d.Reason = Incomplete, 0
		// The first alternative that leads on says how a challenge is asked.
		if o.next&SignedNonce != 0 && d.Methods&SignedNonce == 0 {
			d.UserVerification, d.UserMediation = o.verification, a.possession.mediation
		}
		if o.next&Push != 0 && d.Methods&Push == 0 {
			d.PushVerification = o.verification
		}
		if o.next&WebAuthn != 0 && d.Methods&WebAuthn == 0 {
			d.KeyVerification = o.verification
		}
		d.Methods |= o.next
	}
	return d
}

type attempt struct {
	satisfied    bool
	next         Methods
	verification okta.Need
}

// try measures one alternative: which classes are proven, which are missing,
// and whether the candidates could fill what is missing.
func (r *rule) try(a *alternative, f *Facts) attempt {
	need, possessionRequired := r.classes, a.possession.required
	if a.possession.whenEnrolled && !f.Enrolled {
		if possessionRequired {
			need = max(1, need-1)
		}
		possessionRequired = false
	}

	// Proven: a possession proof with user verification proves two classes at
	// once, possession and inherence (okta-policy, 5).
	var k, p, i bool
	for j := range f.Proofs {
		proof := &f.Proofs[j]
		switch {
		case a.knowledge.admits(proof.Method, proof.Traits) && a.knowledge.fresh.holds(proof.At, f):
			k = true
		case a.possession.admits(proof.Method, proof.Traits) && a.possession.fresh.holds(proof.At, f):
			p = true
			i = i || proof.Traits&UserVerification != 0
		}
	}
	missing := need - count(k) - count(p) - count(i)
	missingK := a.knowledge.required && !k
	missingP := possessionRequired && !p
	if missing <= 0 && !missingK && !missingP {
		return attempt{satisfied: true}
	}

	// Provable: what of the rest the candidates could prove.
	var canK, canP, canVerify Methods
	for j := range f.Candidates {
		c := &f.Candidates[j]
		if !k && a.knowledge.admits(c.Method, c.Traits) {
			canK |= c.Method
		}
		if a.possession.admits(c.Method, c.Traits) {
			if !p {
				canP |= c.Method
			}
			if !i && c.Traits&UserVerification != 0 {
				canVerify |= c.Method
			}
		}
	}
	reachable := need - count(k) - count(p) - count(i) - count(canK != 0) - count(canP != 0)
	verification := a.possession.verification
	if reachable > 0 {
		// Only inherence can be the class that is still missing.
		if canVerify == 0 || reachable > 1 {
			return attempt{}
		}
		canP, verification = canVerify, okta.NeedRequired
	}
	if (missingK && canK == 0) || (missingP && canP == 0) {
		return attempt{}
	}
	// Required classes come first; beyond them any missing class will do.
	next := Methods(0)
	if missingK {
		next |= canK
	}
	if missingP || reachable > 0 {
		next |= canP
	}
	if missing > count(missingK)+count(missingP) {
		next |= canK | canP
	}
	return attempt{next: next, verification: verification}
}

func (p *part) admits(m Methods, t Traits) bool {
	return p.methods&m != 0 && t&p.traits == p.traits
}

func (fr freshness) holds(at time.Time, f *Facts) bool {
	switch {
	case !fr.set:
		return true
	case fr.within == 0:
		return !at.Before(f.Started)
	default:
		return f.Now.Sub(at) < fr.within
	}
}

func overlap(a, b []string) bool {
	for _, s := range a {
		if slices.Contains(b, s) {
			return true
		}
	}
	return false
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
