package idx

import (
	"countersign.dev/okta"
	"countersign.dev/org/signin"
)

// push draws the wait for somebody who answers on a device, with the number to
// pick there, if one is asked for.
func (r renderer) push(d *document, v *signin.View) {
	poll := r.form(v, "challenge-poll", "/idp/idx/challenge/poll", autoChallenge(v)...)
	poll.RelatesTo, poll.Refresh = []string{"$.currentAuthenticator"}, refresh
	current := r.pushAuthenticator(v)
	current.Cancel = r.cancelPoll(v)
	if n := v.Challenge.Number; n != "" {
		current.ContextualData = &contextualData{CorrectAnswer: n}
	}
	r.verify(d, v, poll, current)
}

// offer draws the step before a push where that is the only way: the person
// says when, and whether to be asked next time.
func (r renderer) offer(d *document, v *signin.View) {
	f := r.form(v, "authenticator-verification-data", "/idp/idx/challenge", field{
		Name: "authenticator", Type: "object", Label: labelVerify, Form: &fields{append([]field{
			{Name: "id", Value: v.VerifyID, Required: yes(), Mutable: no()},
			{Name: "methodType", Type: "string", Required: yes(), Options: []option{{Label: methodLabel(string(okta.MethodPush)), Value: string(okta.MethodPush)}}},
		}, autoChallenge(v)...)},
	})
	f.RelatesTo = []string{"$.currentAuthenticator"}
	r.verify(d, v, f, verifyOf(v.VerifyID, []string{string(okta.MethodPush)}))
}

// resendStep draws what follows a push that was rejected, or that nobody answered.
func (r renderer) resendStep(d *document, v *signin.View) {
	f := r.resend(v)
	f.RelatesTo = []string{"$.currentAuthenticator"}
	r.verify(d, v, f, r.pushAuthenticator(v))
}

// code draws the step that takes a one-time code.
func (r renderer) code(d *document, v *signin.View) {
	f := r.form(v, "challenge-authenticator", "/idp/idx/challenge/answer", field{
		Name: "credentials", Type: "object", Required: yes(),
		Form: &fields{[]field{{Name: "totp", Label: "Enter code", Required: yes(), Visible: yes()}}},
	})
	f.RelatesTo = []string{"$.currentAuthenticator"}
	r.verify(d, v, f, verifyOf(v.VerifyID, []string{string(okta.MethodTOTP)}))
}

func (r renderer) resend(v *signin.View) form {
	return r.form(v, "resend", "/idp/idx/challenge/resend")
}

func (r renderer) pushAuthenticator(v *signin.View) authenticator {
	a := verifyOf(v.VerifyID, []string{string(okta.MethodPush)})
	again := r.resend(v)
	a.Resend = &again
	return a
}

// autoChallenge is the field by which the person has pushes sent without being
// asked, where push is the only way.
func autoChallenge(v *signin.View) []field {
	if v.AutoPush == nil {
		return nil
	}
	return []field{{Name: "autoChallenge", Type: "boolean", Label: "Send push automatically", Value: *v.AutoPush, Required: no(), Visible: yes(), Mutable: yes()}}
}
