package signin

import (
	"net/url"
	"strconv"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
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
	WebAuthnID  string // id of the webauthn authenticator, if there is one
	// Choices is what may be chosen instead or next; the policy admits each.
	Choices   []Choice
	Challenge *Challenge
	// AutoPush is set where push is the only way on: whether the person has it
	// sent without being asked.
	AutoPush *bool
	// Key is what a security key is asked, or a new one.
	Key *KeyView
	// SetUp is what may be enrolled, and MayWait that it may be done later.
	SetUp   []Choice
	MayWait bool
	Message *Message
	Success *Success
}

// App is the app that is signed in to.
type App struct{ ClientID, Label, AuthorizationServer string }

// Choice is an authenticator with the methods of it that may be chosen.
type Choice struct {
	AuthenticatorID string
	Key             string // okta_password, okta_verify or webauthn
	EnrolmentID     string
	DeviceName      string
	SecurityKey     *KeyOfUser // of webauthn: one of the person's
	Methods         []string
}

// Challenge is what the page carries to the agent, or waits for.
type Challenge struct {
	Method okta.Method
	Token  string // of a signed nonce
	Ports  []string
	Number string // to be picked on the device; "" when a push asks for none
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
	KeyWebAuthn = directory.KeyWebAuthn
)

func (e *Engine) view(t *transaction, m *Message) View {
	v := View{
		StateHandle: t.handle, ExpiresAt: t.expiresAt, Step: t.state.Step, Message: m,
		Identifier: t.state.Identifier,
		App:        App{ClientID: t.app.ClientID, Label: t.app.Label, AuthorizationServer: t.intent.AuthorizationServer},
		PasswordID: t.org.Authenticators.Password,
		VerifyID:   t.org.Authenticators.OktaVerify,
		WebAuthnID: t.org.Authenticators.WebAuthn,
	}
	if len(t.state.Proofs) > 0 {
		v.UserID = t.state.UserID
	}
	switch t.state.Step {
	case StepIdentify:
		v.Identifier = t.intent.LoginHint
	case StepFastPass:
		v.Challenge = e.challengeView(t)
	case StepChallenge, StepOffer, StepResend, StepCode, StepKey:
		switch t.state.Step {
		case StepChallenge:
			v.Challenge = e.challengeView(t)
		case StepKey:
			v.Key = e.keyView(t)
		}
		m := e.decide(t).Methods
		v.Choices = t.choices(m)
		if m == policy.Push {
			v.AutoPush = &t.user.AutoPush
		}
	case StepSetUp, StepEnrol:
		v.SetUp, v.MayWait = t.setUps(), e.decide(t).Outcome == policy.Satisfied
		if _, ok := e.mayEnrol(t); !ok && !v.MayWait { // switched off meanwhile
			v.Step, v.Message = StepFailed, &noAuthenticator
			break
		}
		if t.state.Step == StepEnrol {
			v.Key = e.keyView(t)
		}
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
	c := &Challenge{Method: t.challenge.Method, Token: t.challenge.Token, Number: t.challenge.Number}
	if c.Method == okta.MethodPush {
		return c
	}
	for _, p := range e.d.LoopbackPorts {
		c.Ports = append(c.Ports, strconv.Itoa(p))
	}
	return c
}
