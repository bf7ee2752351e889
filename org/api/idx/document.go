package idx

// The documents of the IDX API ("ion"): what a page needs to draw the next step
// of a sign-in, and the forms that take it there. The shapes are Okta's; which
// members the Sign-In Widget cannot do without is measured in the widget's
// specification (loopback-and-idx 2.6), but all of them are sent.

type document struct {
	Version     string                   `json:"version"`
	StateHandle string                   `json:"stateHandle,omitempty"`
	ExpiresAt   string                   `json:"expiresAt,omitempty"`
	Intent      string                   `json:"intent"`
	Messages    *array[message]          `json:"messages,omitempty"`
	Remediation *array[form]             `json:"remediation,omitempty"`
	Challenge   *object[deviceChallenge] `json:"authenticatorChallenge,omitempty"`

	CurrentAuthenticator *object[authenticator] `json:"currentAuthenticator,omitempty"`
	CurrentEnrolment     *object[authenticator] `json:"currentAuthenticatorEnrollment,omitempty"`
	Authenticators       *array[authenticator]  `json:"authenticators,omitempty"`
	Enrolments           *array[authenticator]  `json:"authenticatorEnrollments,omitempty"`

	User            *object[user] `json:"user,omitempty"`
	App             *object[app]  `json:"app,omitempty"`
	Cancel          *form         `json:"cancel,omitempty"`
	Success         *success      `json:"success,omitempty"`
	InteractionCode *form         `json:"successWithInteractionCode,omitempty"`
}

type array[T any] struct {
	Type  string `json:"type"`
	Value []T    `json:"value"`
}

type object[T any] struct {
	Type  string `json:"type"`
	Value T      `json:"value"`
}

func arrayOf[T any](v ...T) *array[T] { return &array[T]{"array", v} }
func objectOf[T any](v T) *object[T]  { return &object[T]{"object", v} }

type message struct {
	Message string `json:"message"`
	I18n    i18n   `json:"i18n"`
	Class   string `json:"class"`
}

type i18n struct {
	Key    string   `json:"key"`
	Params []string `json:"params"`
}

type form struct {
	Rel       []string `json:"rel"`
	Name      string   `json:"name"`
	RelatesTo []string `json:"relatesTo,omitempty"`
	Href      string   `json:"href"`
	Method    string   `json:"method"`
	Produces  string   `json:"produces,omitempty"`
	Refresh   int      `json:"refresh,omitempty"` // milliseconds between polls
	Value     []field  `json:"value"`
	Accepts   string   `json:"accepts"`
}

type field struct {
	Name     string   `json:"name,omitempty"`
	Type     string   `json:"type,omitempty"`
	Label    string   `json:"label,omitempty"`
	Form     *fields  `json:"form,omitempty"`
	Options  []option `json:"options,omitempty"`
	Required *bool    `json:"required,omitempty"`
	Value    any      `json:"value,omitempty"` // a string or a boolean
	Secret   bool     `json:"secret,omitempty"`
	Visible  *bool    `json:"visible,omitempty"`
	Mutable  *bool    `json:"mutable,omitempty"`
}

type fields struct {
	Value []field `json:"value"`
}

type option struct {
	Label     string `json:"label"`
	Value     any    `json:"value"` // a string, or a formValue
	RelatesTo string `json:"relatesTo,omitempty"`
}

type formValue struct {
	Form fields `json:"form"`
}

type authenticator struct {
	Type            string          `json:"type"`
	Key             string          `json:"key"`
	ID              string          `json:"id"`
	AuthenticatorID string          `json:"authenticatorId,omitempty"` // of an enrolment
	CredentialID    string          `json:"credentialId,omitempty"`    // of a security key
	Transports      []string        `json:"transports,omitempty"`
	DisplayName     string          `json:"displayName"`
	Methods         []method        `json:"methods"`
	Profile         *profile        `json:"profile,omitempty"`
	Cancel          *form           `json:"cancel,omitempty"`
	Resend          *form           `json:"resend,omitempty"`
	ContextualData  *contextualData `json:"contextualData,omitempty"`
}

type method struct {
	Type string `json:"type"`
}

type profile struct {
	DeviceName string `json:"deviceName"`
}

type contextualData struct {
	Challenge     *object[deviceChallenge] `json:"challenge,omitempty"`
	CorrectAnswer string                   `json:"correctAnswer,omitempty"` // the number to pick on the device
	ChallengeData *challengeData           `json:"challengeData,omitempty"` // for a security key
	Activation    *activationData          `json:"activationData,omitempty"`
}

type deviceChallenge struct {
	ChallengeMethod    string   `json:"challengeMethod"`
	ChallengeRequest   string   `json:"challengeRequest"`
	Domain             string   `json:"domain"`
	Ports              []string `json:"ports"`
	ProbeTimeoutMillis int      `json:"probeTimeoutMillis"`
	// LocalNetworkAccess tells the widget to explain a browser that forbids
	// pages to call loopback; without it that looks like an absent agent.
	LocalNetworkAccess localNetworkAccess `json:"chromeLocalNetworkAccessDetails"`
	Cancel             *form              `json:"cancel,omitempty"`
}

type localNetworkAccess struct {
	HelpLink string `json:"chromeLNAHelpLink"`
}

type user struct {
	ID         string `json:"id,omitempty"`
	Identifier string `json:"identifier,omitempty"`
}

type app struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	ID    string `json:"id"`
}

// success has no rel on purpose: auth-js takes whatever has one for an action
// and would not see it.
type success struct {
	Name string `json:"name"`
	Href string `json:"href"`
}

// text is the value of a field, or nil: an empty one is left out.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }

// hidden is a field that the page sends back as it is.
func hidden(name, value string) field {
	return field{Name: name, Value: text(value), Required: yes(), Visible: no(), Mutable: no()}
}
