package idx

import (
	"strconv"

	"countersign.dev/okta"
	"countersign.dev/org/signin"
)

const (
	accepts  = "application/json; okta-version=1.0.0"
	produces = "application/ion+json; okta-version=1.0.0"

	refresh            = 2000 // milliseconds between polls
	probeTimeoutMillis = 500
	loopbackDomain     = "http://localhost"

	labelPassword = "Password"
	labelVerify   = "Okta Verify" // what the okta_verify authenticator is called in this API
	labelWebAuthn = "Security Key or Biometric Authenticator"
)

// renderer draws documents for one org.
type renderer struct{ base string }

func (r renderer) form(v *signin.View, name, path string, own ...field) form {
	return form{
		Rel: []string{"create-form"}, Name: name, Href: r.base + path, Method: "POST", Accepts: accepts, Produces: produces,
		Value: append(own, hidden("stateHandle", v.StateHandle.Reveal())),
	}
}

func (r renderer) cancel(v *signin.View) *form {
	f := r.form(v, "cancel", "/idp/idx/cancel")
	return &f
}

// document draws the step that v is at.
func (r renderer) document(v *signin.View) document {
	d := document{
		Version: "1.0.0", StateHandle: v.StateHandle.Reveal(), ExpiresAt: okta.Timestamp(v.ExpiresAt), Intent: "LOGIN",
		App:    objectOf(app{Name: "oidc_client", Label: v.App.Label, ID: v.App.ClientID}),
		Cancel: r.cancel(v),
	}
	if m := v.Message; m != nil {
		d.Messages = arrayOf(message{Message: m.Text, I18n: i18n{Key: m.Key, Params: []string{}}, Class: string(m.Class)})
	}
	if v.Step != signin.StepIdentify && v.Step != signin.StepFastPass && v.Identifier != "" {
		d.User = objectOf(user{ID: v.UserID, Identifier: v.Identifier})
	}
	switch v.Step {
	case signin.StepIdentify:
		r.identify(&d, v)
	case signin.StepFastPass:
		poll := r.form(v, "device-challenge-poll", "/idp/idx/authenticators/poll")
		poll.RelatesTo, poll.Refresh = []string{"authenticatorChallenge"}, refresh
		d.Remediation = arrayOf(poll)
		c := r.challenge(v)
		c.Cancel = r.cancelPoll(v)
		d.Challenge = objectOf(c)
	case signin.StepPassword:
		r.password(&d, v)
	case signin.StepSelect:
		d.Remediation = arrayOf(r.selection(v))
		r.listChoices(&d, v)
	case signin.StepChallenge:
		if v.Challenge.Method == okta.MethodPush {
			r.push(&d, v)
		} else {
			r.signedNonce(&d, v)
		}
	case signin.StepOffer:
		r.offer(&d, v)
	case signin.StepResend:
		r.resendStep(&d, v)
	case signin.StepCode:
		r.code(&d, v)
	case signin.StepKey:
		r.key(&d, v)
	case signin.StepSetUp:
		r.setUp(&d, v)
	case signin.StepEnrol:
		r.enrol(&d, v)
	case signin.StepDone:
		r.success(&d, v)
	}
	return d
}

func (r renderer) identify(d *document, v *signin.View) {
	d.Remediation = arrayOf(
		r.form(v, "identify", "/idp/idx/identify",
			field{Name: "identifier", Label: "Username", Required: yes(), Value: text(v.Identifier)},
			field{Name: "rememberMe", Type: "boolean", Label: "Remember this device"}),
		r.form(v, "launch-authenticator", "/idp/idx/authenticators/okta-verify/launch"),
	)
}

func (r renderer) password(d *document, v *signin.View) {
	answer := r.form(v, "challenge-authenticator", "/idp/idx/challenge/answer", field{
		Name: "credentials", Type: "object", Required: yes(),
		Form: &fields{[]field{{Name: "passcode", Label: labelPassword, Secret: true}}},
	})
	answer.RelatesTo = []string{"$.currentAuthenticatorEnrollment"}
	d.Remediation = arrayOf(answer)
	enrolment := passwordOf(v.PasswordID)
	enrolment.AuthenticatorID = v.PasswordID
	d.CurrentEnrolment = objectOf(enrolment)
	d.Authenticators, d.Enrolments = arrayOf(passwordOf(v.PasswordID)), arrayOf(enrolment)
}

func (r renderer) signedNonce(d *document, v *signin.View) {
	poll := r.form(v, "challenge-poll", "/idp/idx/authenticators/poll")
	poll.RelatesTo, poll.Refresh = []string{"$.currentAuthenticator"}, refresh
	current := verifyOf(v.VerifyID, []string{string(okta.MethodSignedNonce)})
	current.Cancel = r.cancelPoll(v)
	current.ContextualData = &contextualData{Challenge: objectOf(r.challenge(v))}
	r.verify(d, v, poll, current)
}

// verify draws a step of okta_verify: its form, and the choice of another way.
func (r renderer) verify(d *document, v *signin.View, f form, current authenticator) {
	d.Remediation = arrayOf(f)
	if len(v.Choices) > 0 {
		d.Remediation.Value = append(d.Remediation.Value, r.selection(v))
	}
	d.CurrentAuthenticator = objectOf(current)
	r.listChoices(d, v)
}

func (r renderer) challenge(v *signin.View) deviceChallenge {
	return deviceChallenge{
		ChallengeMethod: okta.BindingLoopback, ChallengeRequest: v.Challenge.Token,
		Domain: loopbackDomain, Ports: v.Challenge.Ports, ProbeTimeoutMillis: probeTimeoutMillis,
		LocalNetworkAccess: localNetworkAccess{HelpLink: r.base + "/"},
	}
}

func (r renderer) cancelPoll(v *signin.View) *form {
	f := r.form(v, "cancel-polling", "/idp/idx/authenticators/poll/cancel")
	return &f
}

// selection is the form that chooses an authenticator; its options relate to
// the list that listChoices makes, in the same order.
func (r renderer) selection(v *signin.View) form {
	var options []option
	for i, c := range v.Choices {
		methodType := field{Name: "methodType", Value: c.Methods[0], Required: no(), Mutable: no()}
		label := labelPassword
		switch c.Key {
		case signin.KeyWebAuthn:
			label = labelWebAuthn
		case signin.KeyVerify:
			// Options even when there is one: the widget then makes a row per method.
			label = labelVerify
			methodType = field{Name: "methodType", Type: "string", Required: no()}
			for _, m := range c.Methods {
				methodType.Options = append(methodType.Options, option{Label: methodLabel(m), Value: m})
			}
		}
		options = append(options, option{
			Label:     label,
			RelatesTo: "$.authenticatorEnrollments.value[" + strconv.Itoa(i) + "]",
			Value:     formValue{fields{[]field{{Name: "id", Value: c.AuthenticatorID, Required: yes(), Mutable: no()}, methodType}}},
		})
	}
	return r.form(v, "select-authenticator-authenticate", "/idp/idx/challenge",
		field{Name: "authenticator", Type: "object", Options: options})
}

func methodLabel(m string) string {
	switch okta.Method(m) {
	case okta.MethodSignedNonce:
		return "Use Okta FastPass"
	case okta.MethodPush:
		return "Get a push notification"
	case okta.MethodTOTP:
		return "Enter a code"
	}
	return m
}

func (r renderer) listChoices(d *document, v *signin.View) {
	d.Authenticators, d.Enrolments = arrayOf[authenticator](), arrayOf[authenticator]()
	d.Authenticators.Value, d.Enrolments.Value = []authenticator{}, []authenticator{}
	for _, c := range v.Choices {
		a := passwordOf(c.AuthenticatorID)
		switch c.Key {
		case signin.KeyVerify:
			a = verifyOf(c.AuthenticatorID, c.Methods)
		case signin.KeyWebAuthn:
			a = webAuthnOf(c.AuthenticatorID)
		}
		d.Authenticators.Value = append(d.Authenticators.Value, a)
		if k := c.SecurityKey; k != nil {
			d.Enrolments.Value = append(d.Enrolments.Value, enrolledKey(c.AuthenticatorID, *k))
			continue
		}
		a.AuthenticatorID, a.ID = c.AuthenticatorID, c.EnrolmentID
		if c.DeviceName != "" {
			a.Profile = &profile{c.DeviceName}
		}
		d.Enrolments.Value = append(d.Enrolments.Value, a)
	}
}

func passwordOf(id string) authenticator {
	return authenticator{Type: "password", Key: signin.KeyPassword, ID: id, DisplayName: labelPassword, Methods: []method{{"password"}}}
}

func verifyOf(id string, methods []string) authenticator {
	a := authenticator{Type: "app", Key: signin.KeyVerify, ID: id, DisplayName: labelVerify}
	for _, m := range methods {
		a.Methods = append(a.Methods, method{m})
	}
	return a
}

func (r renderer) success(d *document, v *signin.View) {
	if v.Success.InteractionCode == "" {
		d.Success = &success{Name: "success-redirect", Href: v.Success.RedirectURL(r.base)}
		return
	}
	issuer := r.base + "/oauth2"
	if as := v.App.AuthorizationServer; as != "" {
		issuer += "/" + as
	}
	d.InteractionCode = &form{
		Rel: []string{"create-form"}, Name: "issue", Href: issuer + "/v1/token", Method: "POST", Accepts: "application/x-www-form-urlencoded",
		Value: []field{
			{Name: "grant_type", Required: yes(), Value: "interaction_code"},
			{Name: "interaction_code", Required: yes(), Value: v.Success.InteractionCode.Reveal()},
			{Name: "client_id", Required: yes(), Value: v.App.ClientID},
			{Name: "code_verifier", Required: yes()},
		},
	}
}
