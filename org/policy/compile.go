package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign.dev/okta"
)

// ErrRule says that a rule cannot be evaluated, and therefore not be used.
var ErrRule = errors.New("rule not understood")

// Set is a compiled policy. The zero value denies.
type Set struct{ rules []rule }

type rule struct {
	name           string
	users, groups  Selection
	allow          bool
	classes        int // how many classes of factors: 1 or 2
	reauthenticate freshness
	alternatives   []alternative
}

// alternative is one compiled constraint.
type alternative struct{ knowledge, possession part }

// part is what one class must be.
type part struct {
	required     bool
	methods      Methods
	traits       Traits
	fresh        freshness
	whenEnrolled bool
	verification okta.Need // asked of a signed nonce or a push
	mediation    okta.Need
}

// freshness bounds the age of a proof; the zero value does not.
type freshness struct {
	set    bool
	within time.Duration // 0: proven in this sign-in
}

// Compile checks rules, in the order of their priority, and prepares them for
// Evaluate.
func Compile(rules []Rule) (*Set, error) {
	s := &Set{rules: make([]rule, 0, len(rules))}
	for i, r := range rules {
		c, err := compile(r)
		if err != nil {
			return nil, fmt.Errorf("rule %d (%s): %w", i, r.Name, err)
		}
		s.rules = append(s.rules, c)
	}
	return s, nil
}

func compile(r Rule) (rule, error) {
	c := rule{name: r.Name}
	if r.Conditions != nil && r.Conditions.People != nil {
		c.users, c.groups = r.Conditions.People.Users, r.Conditions.People.Groups
	}
	on := r.Actions.AppSignOn
	switch strings.ToUpper(on.Access) {
	case Deny:
		return c, nil
	case Allow:
		c.allow = true
	default:
		return rule{}, fmt.Errorf("%w: access %q", ErrRule, on.Access)
	}
	v := on.VerificationMethod
	if v == nil || !strings.EqualFold(v.Type, "ASSURANCE") {
		return rule{}, fmt.Errorf("%w: verification method is not ASSURANCE", ErrRule)
	}
	switch strings.ToUpper(v.FactorMode) {
	case "1FA":
		c.classes = 1
	case "2FA":
		c.classes = 2
	default:
		return rule{}, fmt.Errorf("%w: factor mode %q", ErrRule, v.FactorMode)
	}
	var err error
	if c.reauthenticate, err = parseFreshness(v.ReauthenticateIn); err != nil {
		return rule{}, err
	}
	constraints := v.Constraints
	if len(constraints) == 0 {
		constraints = []Constraint{{}}
	}
	for _, con := range constraints {
		a, err := compileAlternative(con, c.reauthenticate)
		if err != nil {
			return rule{}, err
		}
		if a.knowledge.required && a.possession.required && c.classes < 2 {
			return rule{}, fmt.Errorf("%w: two classes asked of one factor", ErrRule)
		}
		c.alternatives = append(c.alternatives, a)
	}
	return c, nil
}

func compileAlternative(c Constraint, fresh freshness) (alternative, error) {
	a := alternative{
		knowledge:  part{methods: knowledge, fresh: fresh},
		possession: part{methods: possession, fresh: fresh, verification: okta.NeedNone, mediation: okta.NeedRequired, traits: UserPresence},
	}
	if k := c.Knowledge; k != nil {
		if err := a.knowledge.narrow(k); err != nil {
			return a, fmt.Errorf("knowledge: %w", err)
		}
		if k.HardwareProtection != "" || k.DeviceBound != "" || k.PhishingResistant != "" || k.UserPresence != "" || k.UserVerification != "" || k.WhenEnrolled {
			return a, fmt.Errorf("%w: knowledge has no device", ErrRule)
		}
	}
	p := c.Possession
	if p == nil {
		return a, nil
	}
	if err := a.possession.narrow(p); err != nil {
		return a, fmt.Errorf("possession: %w", err)
	}
	a.possession.whenEnrolled = p.WhenEnrolled
	for _, d := range [...]struct {
		name, value string
		traits      Traits
	}{
		{"hardwareProtection", p.HardwareProtection, Hardware | DeviceBound}, // hardware binds to the device
		{"deviceBound", p.DeviceBound, DeviceBound},
		// Okta says that resistance binds, too, and counts every passkey as bound. Here
		// one that may be copied is not, and resists all the same: who wants both asks
		// for both.
		{"phishingResistant", p.PhishingResistant, PhishingResistant},
		{"userVerification", p.UserVerification, UserVerification},
	} {
		switch strings.ToUpper(d.value) {
		case Required:
			a.possession.traits |= d.traits
		case Optional, "":
		default:
			return a, fmt.Errorf("%w: %s %q", ErrRule, d.name, d.value)
		}
	}
	switch strings.ToUpper(p.UserPresence) {
	case Required, "":
	case Optional:
		a.possession.traits &^= UserPresence
		a.possession.mediation = okta.NeedNone
	default:
		return a, fmt.Errorf("%w: userPresence %q", ErrRule, p.UserPresence)
	}
	if a.possession.traits&UserVerification != 0 {
		a.possession.verification = okta.NeedRequired
	}
	return a, nil
}

// narrow applies what both classes know.
func (p *part) narrow(c *ClassConstraint) error {
	p.required = c.Required == nil || *c.Required
	if len(c.Types) > 0 {
		var m Methods
		for _, t := range c.Types {
			of, ok := methodsOfType[strings.ToUpper(t)]
			if !ok {
				return fmt.Errorf("%w: type %q", ErrRule, t)
			}
			m |= of
		}
		p.methods &= m
	}
	if len(c.Methods) > 0 {
		var m Methods
		for _, name := range c.Methods {
			of, ok := methodsByName[strings.ToUpper(name)]
			if !ok {
				return fmt.Errorf("%w: method %q", ErrRule, name)
			}
			m |= of
		}
		p.methods &= m
	}
	if c.ReauthenticateIn == "" {
		return nil
	}
	var err error
	p.fresh, err = parseFreshness(c.ReauthenticateIn)
	return err
}

// The kinds of methods a rule may name. Those this org cannot verify yet map
// to nothing: naming them is no mistake, but nobody can satisfy them.
var (
	methodsOfType = map[string]Methods{
		"PASSWORD": Password, "APP": SignedNonce | Push | TOTP,
		"SECURITY_KEY": WebAuthn, "PHONE": 0, "EMAIL": 0, "SECURITY_QUESTION": 0, "FEDERATED": 0,
	}
	methodsByName = map[string]Methods{
		"PASSWORD": Password, "SIGNED_NONCE": SignedNonce, "PUSH": Push, "TOTP": TOTP,
		"WEBAUTHN": WebAuthn, "OTP": 0, "SMS": 0, "VOICE": 0, "EMAIL": 0, "SECURITY_QUESTION": 0, "DUO": 0, "IDP": 0, "CERT": 0,
	}
)

// parseFreshness reads an ISO 8601 duration of days, hours, minutes and
// seconds ("PT12H", "P1DT2H", "PT0S"); "" sets no bound.
func parseFreshness(s string) (freshness, error) {
	if s == "" {
		return freshness{}, nil
	}
	bad := fmt.Errorf("%w: duration %.40q", ErrRule, s)
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" || rest == "T" {
		return freshness{}, bad
	}
	f := freshness{set: true}
	units := []byte{'D', 'T', 'H', 'M', 'S'} // in this order, each at most once
	scale := map[byte]time.Duration{'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}
	inTime := false
	for rest != "" {
		if rest[0] == 'T' && !inTime {
			inTime, rest, units = true, rest[1:], []byte{'H', 'M', 'S'}
			if rest == "" {
				return freshness{}, bad
			}
			continue
		}
		n, digits := time.Duration(0), 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' && digits < 7 {
			n = n*10 + time.Duration(rest[digits]-'0')
			digits++
		}
		if digits == 0 || digits == len(rest) {
			return freshness{}, bad
		}
		i := slices.Index(units, rest[digits])
		if i < 0 || (rest[digits] != 'D' && !inTime) {
			return freshness{}, bad
		}
		f.within += n * scale[rest[digits]]
		rest, units = rest[digits+1:], units[i+1:]
	}
	return f, nil
}
