package signin

import (
	"countersign.dev/okta"
	"countersign.dev/org/factor"
)

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
	pushThrottled     = Message{"countersign.push.throttled", "Too many requests were sent to your devices. Wait a few minutes, or choose another way.", ClassError, KindNotice}
	reportedByUser    = Message{"countersign.push.reported", "This sign-in was reported as not theirs by the owner of the account. It ends here.", ClassError, KindForbidden}
	incorrectCode     = Message{"api.authn.error.PASSCODE_INVALID", "Invalid code. Try again.", ClassError, KindUnauthorized}
	tooManyCodes      = Message{"countersign.code.throttled", "Too many attempts. Wait a while, then try again, or choose another way.", ClassError, KindUnauthorized}
	invalidDevice     = Message{"core.auth.factor.signedNonce.error.invalidDevice", "Your device or account was invalidated. If this is unexpected, contact your administrator for help.", ClassError, KindInvalid}
	needsVerification = Message{"oie.authenticator.oktaverify.method.fastpass.verify.enable.biometrics.desktop", "Your response was received, but this app requires that your authenticator verifies you, by a PIN or a fingerprint. Yours has that not set up, or has lost it. Set it up in your authenticator, then try again.", ClassError, KindInvalid}
	needsPushUV       = Message{"oie.authenticator.app.method.push.verify.enable.biometrics", "Your response was received, but this app requires that your authenticator verifies you, by a PIN or a fingerprint. Yours has that not set up, or has lost it. Set it up in your authenticator, then try again.", ClassError, KindInvalid}
	cancelledUV       = Message{"countersign.verification.cancelled", "You were not signed in: this app requires that your authenticator verifies you, and that was cancelled there. Try again, and give your PIN or fingerprint when it asks.", ClassError, KindInvalid}
	temporarilyNoUV   = Message{"countersign.verification.unavailable", "You were not signed in: this app requires that your authenticator verifies you, and it cannot do that at the moment. Open it to see why and until when, then try again.", ClassError, KindInvalid}
	needsConsent      = Message{"countersign.authenticator.consent", "Your response was received, but this app asks for your approval. Try again and approve the prompt.", ClassError, KindInvalid}
	keyRefused        = Message{"authfactor.webauthn.error.assertion_validation_failure", "This security key is not one of yours here, or its answer was not right. Try again, or use another key.", ClassError, KindUnauthorized}
	keyOver           = Message{"authfactor.webauthn.error.expired", "The question to your security key is no longer open. Try again.", ClassError, KindNotice}
	keyUnverified     = Message{"authfactor.webauthn.error.user_verification", "This app requires that your security key verifies you, by its PIN or your fingerprint, and it did not. Set a PIN on the key, then try again.", ClassError, KindInvalid}
	keyCounter        = Message{"authfactor.webauthn.error.counter", "This security key has counted backwards, as a copy of it would. It was not accepted. Contact your administrator for help.", ClassError, KindForbidden}
	keyUntrusted      = Message{"authfactor.webauthn.error.attestation", "This security key did not prove what it is, and was not enrolled.", ClassError, KindInvalid}
	keyModel          = Message{"authfactor.webauthn.error.model", "Your organisation takes other models of security keys. Use one of those.", ClassError, KindInvalid}
	keyKnown          = Message{"authfactor.webauthn.error.factor_already_registered", "This security key is enrolled already. Use another one.", ClassError, KindInvalid}
	keyTooMany        = Message{"authfactor.webauthn.error.too_many", "You have as many security keys as you may have. Ask your administrator to remove one.", ClassError, KindInvalid}
	phishing          = Message{"countersign.phishing", "This sign-in was stopped: the page you came from is not one of your organisation's. Close it, and do not enter your password there.", ClassError, KindForbidden}
)

// problem is the message of a failed sign-in.
func problem(key string) *Message {
	for _, m := range [...]*Message{&accessDenied, &notAssigned, &noAuthenticator, &phishing, &reportedByUser} {
		if m.Key == key {
			return m
		}
	}
	return &accessDenied
}

// failure is the message of an answer that was not good enough. Why a device
// did not verify the user is its own word, and good enough to say what to do.
func failure(m okta.Method, r factor.Result) *Message {
	switch r.Reason {
	case factor.WrongNumber: // the page says no more than that it was rejected
		return &deniedByUser
	case factor.NoUserVerification:
		switch {
		case r.Consent == okta.ConsentCancelledUserVerification:
			return &cancelledUV
		case r.Consent == okta.ConsentUVTemporarilyUnavailable:
			return &temporarilyNoUV
		case m == okta.MethodPush:
			return &needsPushUV
		}
		return &needsVerification
	case factor.NoConsent:
		return &needsConsent
	default:
		return &invalidDevice
	}
}
