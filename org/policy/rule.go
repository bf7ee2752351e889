// Package policy decides what a sign-in must prove.
//
// A policy is a list of rules shaped like those of an Okta ACCESS_POLICY:
// conditions that say whom a rule is for, and an action that denies or names
// the assurance that is asked. Rules are stored as JSON, compiled once, and
// evaluated without looking at a database: the caller collects the facts (who,
// what was proven, what could still be proven) and gets a decision.
//
// The zero value of everything denies: a policy without rules, a rule whose
// access is empty, a decision nobody filled in. A rule that says anything this
// package does not understand does not compile, so that no condition is ever
// silently left out.
package policy

// Rule is one rule of an ACCESS_POLICY.
type Rule struct {
	Name       string      `json:"name"`
	System     bool        `json:"system,omitempty"`
	Conditions *Conditions `json:"conditions,omitempty"`
	Actions    Actions     `json:"actions"`
}

// Conditions say whom a rule is for; all present ones must hold.
type Conditions struct {
	People *People `json:"people,omitempty"`
}

// People selects users by id and groups by name.
type People struct {
	Users  Selection `json:"users"`
	Groups Selection `json:"groups"`
}

// Selection includes and excludes. An empty include list includes all.
type Selection struct {
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
}

// Actions is what a rule does.
type Actions struct {
	AppSignOn AppSignOn `json:"appSignOn"`
}

// The values of AppSignOn.Access.
const (
	Allow = "ALLOW"
	Deny  = "DENY"
)

// AppSignOn lets in or not, and names the price.
type AppSignOn struct {
	Access             string              `json:"access"`
	VerificationMethod *VerificationMethod `json:"verificationMethod,omitempty"`
}

// VerificationMethod is the assurance a rule asks for. The constraints are
// alternatives; within one of them everything must hold.
type VerificationMethod struct {
	Type             string       `json:"type"`                       // ASSURANCE
	FactorMode       string       `json:"factorMode"`                 // 1FA or 2FA
	ReauthenticateIn string       `json:"reauthenticateIn,omitempty"` // ISO 8601; PT0S: at every sign-in
	Constraints      []Constraint `json:"constraints,omitempty"`
}

// Constraint is one alternative.
type Constraint struct {
	Knowledge  *ClassConstraint `json:"knowledge,omitempty"`
	Possession *ClassConstraint `json:"possession,omitempty"`
}

// The values of the demands of a ClassConstraint.
const (
	Required = "REQUIRED"
	Optional = "OPTIONAL"
)

// ClassConstraint narrows what counts for one class of factors. The last five
// members and WhenEnrolled have a meaning for possession only.
type ClassConstraint struct {
	Types            []string `json:"types,omitempty"`
	Methods          []string `json:"methods,omitempty"`
	ReauthenticateIn string   `json:"reauthenticateIn,omitempty"`
	Required         *bool    `json:"required,omitempty"` // default true; false: only filters

	HardwareProtection string `json:"hardwareProtection,omitempty"`
	DeviceBound        string `json:"deviceBound,omitempty"`
	PhishingResistant  string `json:"phishingResistant,omitempty"`
	UserPresence       string `json:"userPresence,omitempty"` // default REQUIRED
	UserVerification   string `json:"userVerification,omitempty"`
	// WhenEnrolled waives the class while the user has enrolled no possession
	// factor at all, and asks for it from the first one on (extension). A
	// suspended factor counts as enrolled: losing a device opens no door.
	WhenEnrolled bool `json:"whenEnrolled,omitempty"`
}

// TwoFactors is the rule "password and one possession factor"; presence says
// whether the person must approve (Required) or may stay unasked (Optional).
func TwoFactors(presence string) Rule {
	return assurance("Password and a possession factor", ClassConstraint{UserPresence: presence})
}

// TwoFactorsVerified is the rule "password and one possession factor that
// verifies the user": the device asks for a PIN or a fingerprint, and signs with
// the key that demands it. One that only has the device in hand does not pass.
func TwoFactorsVerified() Rule {
	return assurance("Password and a possession factor that verifies the user",
		ClassConstraint{UserPresence: Required, UserVerification: Required})
}

// PasswordUntilEnrolled is the rule for enrolling the first authenticator: the
// password suffices while the user has no possession factor, afterwards an
// existing one is required too.
func PasswordUntilEnrolled() Rule {
	return assurance("Password, and a possession factor once there is one",
		ClassConstraint{UserPresence: Optional, WhenEnrolled: true})
}

// OnePossessionFactor is the rule "a possession factor that a person approves",
// for clients that ask a device over the back channel (CIBA): no page is there
// to ask for a password.
func OnePossessionFactor() Rule {
	return Rule{Name: "A possession factor", Actions: Actions{AppSignOn: AppSignOn{
		Access: Allow,
		VerificationMethod: &VerificationMethod{
			Type: "ASSURANCE", FactorMode: "1FA",
			Constraints: []Constraint{{Possession: &ClassConstraint{UserPresence: Required}}},
		},
	}}}
}

func assurance(name string, possession ClassConstraint) Rule {
	return Rule{Name: name, Actions: Actions{AppSignOn: AppSignOn{
		Access: Allow,
		VerificationMethod: &VerificationMethod{
			Type: "ASSURANCE", FactorMode: "2FA",
			Constraints: []Constraint{{
				Knowledge:  &ClassConstraint{Types: []string{"PASSWORD"}},
				Possession: &possession,
			}},
		},
	}}}
}
