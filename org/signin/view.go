package signin

import (
	"net/url"
	"strconv"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/factor"
	"countersign.dev/org/policy"
)

// View is what a page may know about a sign-in: enough to draw the next step,
// and nothing that tells whether a user exists before something is proven.
type View struct {
	StateHandle okta.Secret
	ExpiresAt   time.Time
	Step        Step
	Identifier  string // as typed, or the login hint before that
	UserID      string // only once something is proven
	App         App
	PasswordID  string // id of the password authenticator
	VerifyID    string // id of the okta_verify authenticator
	// Choices is what may be chosen instead or next; the policy admits each.
	Choices   []Choice
	Challenge *Challenge
	Message   *Message
	Success   *Success
}

// App is the app that is signed in to.
type App struct{ ClientID, Label, AuthorizationServer string }

// Choice is an authenticator with the methods of it that may be chosen.
type Choice struct {
	AuthenticatorID string
	Key             string // okta_password or okta_verify
	EnrolmentID     string
	DeviceName      string
	Methods         []string
}

// Challenge is what the page carries to the agent.
type Challenge struct {
	Token string
	Ports []string
}

// Success is how a finished sign-in leaves: by state token or by code.
type Success struct {
	StateToken      okta.Secret // Redirect
	InteractionCode okta.Secret
}

// RedirectURL is where a Redirect sign-in goes on.
func (s Success) RedirectURL(base string) string {
	return base + "/login/token/redirect?stateToken=" + url.QueryEscape(s.StateToken.Reveal())
}

// The keys of authenticators.
const (
	KeyPassword = "okta_password"
	KeyVerify   = okta.AuthenticatorKeyOktaVerify
)

func (e *Engine) view(t *transaction, m *Message) View {
	v := View{
		StateHandle: t.handle, ExpiresAt: t.expiresAt, Step: t.state.Step, Message: m,
		Identifier: t.state.Identifier,
		App:        App{ClientID: t.app.ClientID, Label: t.app.Label, AuthorizationServer: t.intent.AuthorizationServer},
		PasswordID: t.org.Authenticators.Password,
		VerifyID:   t.org.Authenticators.OktaVerify,
	}
	if len(t.state.Proofs) > 0 {
		v.UserID = t.state.UserID
	}
	switch t.state.Step {
	case StepIdentify:
		v.Identifier = t.intent.LoginHint
	case StepFastPass:
		v.Challenge = e.challengeView(t)
	case StepChallenge:
		v.Challenge = e.challengeView(t)
		v.Choices = t.choices(e.decide(t).Methods)
	case StepSelect:
		v.Choices = t.choices(e.decide(t).Methods)
		if len(v.Choices) == 0 { // what there was to choose is gone
			v.Step = StepFailed
			if m == nil || m.Kind == KindNotice {
				v.Message = &noAuthenticator
			}
		}
	case StepFailed:
		v.Message = problem(t.state.Problem)
	case StepDone:
		v.Success = &t.issued
	}
	return v
}

func (e *Engine) challengeView(t *transaction) *Challenge {
	c := &Challenge{Token: t.challenge.Token}
	for _, p := range e.d.LoopbackPorts {
		c.Ports = append(c.Ports, strconv.Itoa(p))
	}
	return c
}

// choices lists the authenticators behind a set of methods. It names one
// enrolment for okta_verify, since any of the user's devices may answer.
func (t *transaction) choices(m policy.Methods) []Choice {
	var list []Choice
	switch {
	case !m.Has(policy.SignedNonce):
	case len(t.state.Proofs) == 0: // which devices a typed name has is nobody's business
		list = append(list, Choice{AuthenticatorID: t.org.Authenticators.OktaVerify, Key: KeyVerify,
			EnrolmentID: t.org.Authenticators.OktaVerify, Methods: []string{string(okta.MethodSignedNonce)}})
	default:
		for _, en := range t.enrolments {
			if method, ok := en.Method(okta.MethodSignedNonce); ok && method.Status == device.StatusActive && en.Active() {
				list = append(list, Choice{
					AuthenticatorID: t.org.Authenticators.OktaVerify, Key: KeyVerify, EnrolmentID: en.ID,
					DeviceName: en.Device.Profile.DisplayName, Methods: []string{string(okta.MethodSignedNonce)},
				})
				break
			}
		}
	}
	if m.Has(policy.Password) {
		list = append(list, Choice{
			AuthenticatorID: t.org.Authenticators.Password, Key: KeyPassword,
			EnrolmentID: t.org.Authenticators.Password, Methods: []string{"password"},
		})
	}
	return list
}

// Class is how serious a message is.
type Class string

// The classes.
const (
	ClassError Class = "ERROR"
	ClassInfo  Class = "INFO"
)

// Kind groups messages by what the facade answers with.
type Kind int

// The kinds.
const (
	KindNotice       Kind = iota // told beside the next step; nothing was wrong with the request
	KindInvalid                  // the step did not work out
	KindUnauthorized             // a wrong proof
	KindForbidden
)

// Message is something to tell the person. Key names a text that the widget
// has translated; unknown ones fall back to Text.
type Message struct {
	Key, Text string
	Class     Class
	Kind      Kind
}

var (
	identifierMissing = Message{"idx.identifier.required", "Enter your user name.", ClassError, KindInvalid}
	incorrectPassword = Message{"incorrectPassword", "Password is incorrect", ClassError, KindUnauthorized}
	tooManyTries      = Message{"countersign.password.throttled", "Too many attempts. Wait half a minute, then try again.", ClassError, KindUnauthorized}
	accessDenied      = Message{"security.access_denied", "You do not have permission to perform the requested action.", ClassError, KindForbidden}
	notAssigned       = Message{"idx.error.user.not.assigned.to.app", "User is not assigned to this application.", ClassError, KindForbidden}
	noAuthenticator   = Message{"countersign.no_authenticator", "This app asks for an authenticator that you have not set up or cannot use now. Contact your administrator for help.", ClassError, KindForbidden}
	deniedByUser      = Message{"api.authn.poll.error.push_rejected", "You have chosen to reject this login.", ClassError, KindInvalid}
	timedOut          = Message{"countersign.authenticator.timed_out", "Your authenticator did not answer in time. Try again.", ClassError, KindNotice}
	unreachable       = Message{"countersign.authenticator.unreachable", "No authenticator answered on this device. Make sure that it is running, then try again.", ClassError, KindNotice}
	agentError        = Message{"countersign.authenticator.error", "The authenticator on this device could not answer. Open it to see why, then try again.", ClassError, KindNotice}
	invalidDevice     = Message{"core.auth.factor.signedNonce.error.invalidDevice", "Your device or account was invalidated. If this is unexpected, contact your administrator for help.", ClassError, KindInvalid}
	needsVerification = Message{"oie.authenticator.oktaverify.method.fastpass.verify.enable.biometrics.desktop", "Your response was received, but your organisation requires user verification. Set it up in your authenticator, then try again.", ClassError, KindInvalid}
	needsConsent      = Message{"countersign.authenticator.consent", "Your response was received, but this app asks for your approval. Try again and approve the prompt.", ClassError, KindInvalid}
	phishing          = Message{"countersign.phishing", "This sign-in was stopped: the page you came from is not one of your organisation's. Close it, and do not enter your password there.", ClassError, KindForbidden}
)

// problem is the message of a failed sign-in.
func problem(key string) *Message {
	for _, m := range [...]*Message{&accessDenied, &notAssigned, &noAuthenticator, &phishing} {
		if m.Key == key {
			return m
		}
	}
	return &accessDenied
}

// failure is the message of an answer that was not good enough.
func failure(r factor.Reason) *Message {
	switch r {
	case factor.NoUserVerification:
		return &needsVerification
	case factor.NoConsent:
		return &needsConsent
	default:
		return &invalidDevice
	}
}
