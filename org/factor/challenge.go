// Package factor checks what people prove: a password, a one-time code, or a
// challenge that an authenticator signs.
//
// A signed-nonce challenge is a token the org signs, a browser carries to the
// agent on the same machine, and the agent answers with a key that was
// registered at enrolment. Four parties meet: the org, which believes only what
// it stored itself; the agent, which vouches for its user and for the origin of
// the page that called it; the browser, which is a mere carrier; and whoever
// relays, replays or forges. Answer holds every check that keeps the last one
// out (devices protocol 3.4), in one place.
//
// A push is a challenge without a browser in between: the org leaves it in the
// pending list of each of the user's devices, and the first device that answers
// ends it for all. Nothing ties it to a page, so it resists no phishing; what
// it has instead is a person who must say yes, and a number to pick.
//
// A challenge is answered once. It leaves PENDING in the same write transaction
// that finds it PENDING, so of any number of parallel answers one counts.
package factor

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
)

// AgentClientID is the client id of the agent, the audience of every challenge.
const AgentClientID = "countersign-agent"

// Status is where a challenge stands. Only Approved proves anything.
type Status string

// The statuses of a challenge.
const (
	Pending   Status = "PENDING"
	Approved  Status = "APPROVED"
	Denied    Status = "DENIED"    // the person said no
	Failed    Status = "FAILED"    // answered, but not well enough; Result.Reason says why
	Withdrawn Status = "WITHDRAWN" // the sign-in went another way
	Expired   Status = "EXPIRED"   // nobody answered, and the sweep came by
)

// Reason says why an answer failed.
type Reason string

// The reasons.
const (
	NoUserVerification Reason = "USER_VERIFICATION" // asked for, and answered without
	NoConsent          Reason = "CONSENT"           // a person had to approve, and none did
	InvalidDevice      Reason = "DEVICE"            // device, enrolment or user may not be used
	Phishing           Reason = "PHISHING"          // the page was not the one that started the sign-in
	WrongNumber        Reason = "NUMBER"            // the number of the page was not picked
)

// Challenge is a challenge as stored.
type Challenge struct {
	ID, SigninID     string
	Method           okta.Method
	UserID           string // "": the answer tells who it is
	Issuer, Nonce    string
	PageOrigin       string
	UserVerification okta.Need
	UserMediation    okta.Need
	Token            string // the signed challenge, for the browser to carry; pushes have Targets
	Targets          []Target
	Number           string // the one to pick; "" when a push asks for none
	TransactionType  string // LOGIN or CIBA
	Status           Status
	Result           Result
	CreatedAt        time.Time
	ExpiresAt        time.Time
	AnsweredAt       time.Time
}

// Target is an enrolment that may answer a push, with the token that its
// pending list shows.
type Target struct{ EnrolmentID, Token string }

// Result is what an answer showed.
type Result struct {
	Reason      Reason          `json:"reason,omitempty"`
	UserID      string          `json:"userId,omitempty"`
	EnrolmentID string          `json:"enrolmentId,omitempty"`
	DeviceID    string          `json:"deviceId,omitempty"`
	KeyID       string          `json:"keyId,omitempty"`
	KeyType     okta.KeyType    `json:"keyType,omitempty"`
	Protection  jose.Protection `json:"protection,omitempty"`
	Attested    bool            `json:"attested,omitempty"`
	Consent     okta.Consent    `json:"consent,omitempty"`
	Reported    bool            `json:"reported,omitempty"` // "this wasn't me"
}

// Proof is what an approved challenge proves. Only what the org checked becomes
// a trait: the origin, the key that signed, the consent it signed.
func (c Challenge) Proof() (policy.Proof, bool) {
	if c.Status != Approved {
		return policy.Proof{}, false
	}
	m, t := policy.Methods(0), policy.DeviceBound
	switch c.Method {
	case okta.MethodSignedNonce:
		m, t = policy.SignedNonce, t|policy.PhishingResistant
	case okta.MethodPush:
		m = policy.Push
	default:
		return policy.Proof{}, false
	}
	if c.Result.Protection == jose.ProtectionHardware && c.Result.Attested {
		t |= policy.Hardware
	}
	switch {
	case c.Result.KeyType.VerifiesUser():
		t |= policy.UserVerification | policy.UserPresence
	case c.Result.Consent == okta.ConsentApproved:
		t |= policy.UserPresence
	}
	return policy.Proof{Method: m, Traits: t, At: c.AnsweredAt}, true
}

// Signer signs a token with the org's current key.
type Signer interface {
	Sign(ctx context.Context, typ string, claims any) (string, error)
}

// Request says what a challenge is about.
type Request struct {
	SigninID string
	Org      directory.OrgInfo
	User     directory.User // zero while unknown
	// Typed is set while User is only what somebody typed. The token then says
	// no more than that, whether there is such a user or not; the answer is
	// measured against User all the same.
	Typed            string
	AppLabel         string
	PageOrigin       string // of the page that started the sign-in
	UserVerification okta.Need
	UserMediation    okta.Need
}

// signals are what the org wants to know about the device.
var signals = []string{
	"id", "displayName", "platform", "manufacturer", "model", "osVersion", "serialNumber", "udid",
	"secureHardwarePresent", "screenLockType", "diskEncryptionType",
	"clientInstanceBundleId", "clientInstanceVersion", "clientInstanceDeviceSdkVersion",
}

// challengeClaims adds the lists that Okta sends even when they are empty.
type challengeClaims struct {
	okta.Challenge
	MDMAttestationIssuers []okta.MDMIssuer `json:"mdmAttestationIssuers"`
	CASubjectNames        []string         `json:"caSubjectNames"`
}

// NewSignedNonce makes and signs a challenge. It belongs outside of any
// transaction; Insert stores it.
func (f *Factors) NewSignedNonce(ctx context.Context, r Request) (Challenge, error) {
	now := f.d.Now()
	c := Challenge{
		ID: ids.Transaction(), SigninID: r.SigninID, Method: okta.MethodSignedNonce,
		UserID: r.User.ID, Issuer: f.d.BaseURL, Nonce: nonce(), PageOrigin: r.PageOrigin,
		UserVerification: r.UserVerification, UserMediation: r.UserMediation, TransactionType: okta.TransactionLogin,
		Status: Pending, CreatedAt: now, ExpiresAt: now.Add(okta.ChallengeLifetime),
	}
	userID, hint := r.User.ID, r.User.Login
	if r.Typed != "" {
		userID, hint = "", r.Typed
	}
	claims := challengeClaims{
		Challenge: okta.Challenge{
			Issuer: c.Issuer, Audience: AgentClientID, ID: c.ID,
			IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now) + okta.NumericDate(okta.ChallengeLifetime/time.Second),
			Nonce: c.Nonce, TransactionID: c.ID, OrgID: r.Org.ID,
			VerificationURI:  f.d.BaseURL + "/idp/authenticators/" + r.Org.Authenticators.OktaVerify + "/transactions/" + c.ID + "/verify",
			Method:           c.Method,
			UserID:           userID,
			LoginHint:        hint,
			KeyTypes:         keyTypes(c.UserVerification),
			FactorType:       string(c.Method),
			UserVerification: c.UserVerification,
			UserMediation:    c.UserMediation,
			Signals:          signals,
			AppInstanceName:  r.AppLabel,
			RequestReferrer:  r.PageOrigin + "/",
		},
		MDMAttestationIssuers: []okta.MDMIssuer{},
		CASubjectNames:        []string{},
	}
	var err error
	if c.Token, err = f.d.Signer.Sign(ctx, okta.TypeDeviceBind, claims); err != nil {
		return Challenge{}, fmt.Errorf("signing a challenge: %w", err)
	}
	return c, nil
}

// keyTypes lists the keys that may answer, in the order of preference. The last
// one stands there even where verification is required: that the agent cannot
// verify it signs with that key (4.4). Clients of today go by userVerification;
// live orgs still say both.
func keyTypes(verification okta.Need) []string {
	if verification != okta.NeedPreferred && verification != okta.NeedRequired {
		return []string{string(okta.KeyProofOfPossession)}
	}
	return []string{string(okta.KeyUserVerification), string(okta.KeyUserVerificationBioOrPIN), string(okta.KeyProofOfPossession)}
}

// nonce makes 32 characters.
func nonce() string {
	b := make([]byte, 24)
	rand.Read(b) // never fails: the process ends instead
	return base64.RawURLEncoding.EncodeToString(b)
}
