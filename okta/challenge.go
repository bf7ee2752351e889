package okta

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"
)

// Values of the "typ" header of the tokens of this protocol.
const (
	TypeDeviceBind        = "okta-devicebind+jwt"       // challenge over loopback, and its answer
	TypePushBind          = "okta-pushbind+jwt"         // push challenge, and its answer
	TypeEnrolmentUpdate   = "okta-enrollmentupdate+jwt" // agent authenticates by an enrolment key ("SSWS")
	TypeClientInstance    = "JWT"                       // client instance attestation
	TypeMaintenanceGrant  = "JWT"                       // assertion of the jwt-bearer grant
	MaintenanceIssuer     = "urn:okta:devices:app:authenticator"
	ChallengeLifetime     = 300 * time.Second // exp - iat in every recorded challenge
	DeviceBindLeeway      = 60 * time.Second  // tolerated clock difference, loopback
	PushLeeway            = 300 * time.Second // tolerated clock difference, push
	MaxChallengeTokenSize = 16 << 10          // bytes; the largest recorded token has 1950
)

// Method is the way an authenticator answers.
type Method string

// The methods of an app authenticator.
const (
	MethodPush        Method = "push"
	MethodSignedNonce Method = "signed_nonce"
	MethodTOTP        Method = "totp"
)

// Need says how much the org wants something: user verification
// (NONE, DISCOURAGED, PREFERRED, REQUIRED) or user mediation (NONE, OPTIONAL,
// REQUIRED). Unknown values are kept as they came.
type Need string

// The values of Need.
const (
	NeedNone        Need = "NONE"
	NeedDiscouraged Need = "DISCOURAGED"
	NeedOptional    Need = "OPTIONAL"
	NeedPreferred   Need = "PREFERRED"
	NeedRequired    Need = "REQUIRED"
)

// NumericDate is a JWT time: whole seconds since 1970-01-01 UTC.
type NumericDate int64

// Time returns d as a time.
func (d NumericDate) Time() time.Time { return time.Unix(int64(d), 0).UTC() }

// DateOf returns t in whole seconds.
func DateOf(t time.Time) NumericDate { return NumericDate(t.Unix()) }

// UnmarshalJSON accepts a JSON number. A fraction is cut off; a number outside
// ±2^53 is refused, since no clock shows it.
func (d *NumericDate) UnmarshalJSON(b []byte) error {
	if i, err := strconv.ParseInt(string(b), 10, 64); err == nil && i > -1<<53 && i < 1<<53 {
		*d = NumericDate(i)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil || len(b) == 0 || b[0] == '"' {
		return fmt.Errorf("time %.32q is not a number of seconds", b)
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || math.Abs(f) >= 1<<53 {
		return fmt.Errorf("time %.32q is out of range", b)
	}
	*d = NumericDate(f)
	return nil
}

// Challenge holds the claims that an org signs when it asks an authenticator
// to prove something (devices protocol 3.1). Absent members are zero.
type Challenge struct {
	Issuer    string      `json:"iss"`
	Audience  string      `json:"aud"` // OAuth client id of the authenticator app
	IssuedAt  NumericDate `json:"iat"`
	ExpiresAt NumericDate `json:"exp"`
	NotBefore NumericDate `json:"nbf,omitempty"`
	ID        string      `json:"jti,omitempty"` // equals TransactionID

	Nonce           string `json:"nonce"`
	TransactionID   string `json:"transactionId"`
	OrgID           string `json:"orgId"`
	VerificationURI string `json:"verificationUri"`

	Method                   Method   `json:"method,omitempty"`
	AuthenticatorEnrolmentID string   `json:"authenticatorEnrollmentId,omitempty"`
	MethodEnrolmentID        string   `json:"methodEnrollmentId,omitempty"`
	UserID                   string   `json:"userId,omitempty"`
	LoginHint                string   `json:"loginHint,omitempty"`
	KeyID                    string   `json:"kid,omitempty"`
	KeyType                  KeyType  `json:"keyType,omitempty"`  // legacy
	KeyTypes                 []string `json:"keyTypes,omitempty"` // legacy preference list
	FactorType               string   `json:"factorType,omitempty"`

	UserVerification            Need  `json:"userVerification,omitempty"`
	UserMediation               Need  `json:"userMediation,omitempty"`
	UserVerificationRequirement *bool `json:"userVerificationRequirement,omitempty"` // 2019 and 2020 only

	Signals         []string         `json:"signals,omitempty"`
	SignalProviders []SignalProvider `json:"signalProviders,omitempty"`
	Integrations    []Integration    `json:"integrations,omitempty"`

	MDMAttestationIssuers []MDMIssuer `json:"mdmAttestationIssuers,omitempty"`
	CASubjectNames        []string    `json:"caSubjectNames,omitempty"`

	AppInstanceName       string            `json:"appInstanceName,omitempty"`
	RequestReferrer       string            `json:"requestReferrer,omitempty"`
	AuthorizationServerID string            `json:"authorizationServerId,omitempty"`
	Context               *ChallengeContext `json:"challengeContext,omitempty"`
	Version               int               `json:"ver"`
}

// SignalProvider names an app-level source of device signals.
type SignalProvider struct {
	Name    string `json:"name"`
	Collect string `json:"collect,omitempty"` // REQUIRED, or empty
}

// Integration names an endpoint security product whose word is asked for.
type Integration struct {
	Name string `json:"name"`
}

// MDMIssuer names a certificate authority that may vouch for device management.
type MDMIssuer struct {
	IssuerDN       string `json:"issuerDN"` // base64 of the DER distinguished name
	AuthorityKeyID string `json:"aki"`      // base64 of 20 bytes
}

// ChallengeContext tells the person what a push is about (3.2).
type ChallengeContext struct {
	ShowUserLocation   bool     `json:"showUserLocationInNotification,omitempty"`
	ClientOS           string   `json:"clientOS,omitempty"`
	ClientLocation     string   `json:"clientLocation,omitempty"`
	ClientIP           string   `json:"clientIp,omitempty"` // extension: the browser's address, as the org saw it
	TransactionTime    string   `json:"transactionTime,omitempty"`
	TransactionType    string   `json:"transactionType,omitempty"` // LOGIN or CIBA; anything else counts as LOGIN
	BindingMessage     string   `json:"bindingMessage,omitempty"`  // percent-encoded
	UnusualActivities  []string `json:"unusualActivitiesTextItems,omitempty"`
	ChallengeTextItems []string `json:"challengeTextItems,omitempty"` // the numbers to pick from
	RiskLevel          string   `json:"riskLevel,omitempty"`
}

// Errors of Challenge.Validate and Challenge.CheckTime. They are matched with
// errors.Is; the text names the claim.
var (
	ErrClaimMissing    = errors.New("required claim missing")
	ErrClaimInvalid    = errors.New("claim invalid")
	ErrExpired         = errors.New("challenge expired")
	ErrIssuedInFuture  = errors.New("challenge issued in the future")
	ErrLivesTooLong    = errors.New("challenge lives longer than allowed")
	ErrContextRequired = errors.New("push challenge without challengeContext")
)

// MaxChallengeLifetime bounds exp - iat: a challenge that lives longer would
// have to be remembered longer than the record of answered ones is kept.
const MaxChallengeLifetime = time.Hour

// Validate checks the shape of the claims for a token of type typ: the eight
// claims that every client requires, an absolute verification URI, and for a
// push the enrolment and the context. It compares nothing with an account.
func (c *Challenge) Validate(typ string) error {
	for _, m := range [...]struct {
		name    string
		missing bool
	}{
		{"iss", c.Issuer == ""}, {"aud", c.Audience == ""},
		{"iat", c.IssuedAt == 0}, {"exp", c.ExpiresAt == 0},
		{"orgId", c.OrgID == ""}, {"nonce", c.Nonce == ""},
		{"transactionId", c.TransactionID == ""}, {"verificationUri", c.VerificationURI == ""},
	} {
		if m.missing {
			return fmt.Errorf("%w: %s", ErrClaimMissing, m.name)
		}
	}
	if len(c.TransactionID) > 128 || len(c.Nonce) > 256 {
		return fmt.Errorf("%w: transactionId or nonce too long", ErrClaimInvalid)
	}
	if err := absoluteURL(c.VerificationURI); err != nil {
		return fmt.Errorf("%w: verificationUri: %w", ErrClaimInvalid, err)
	}
	if err := absoluteURL(c.Issuer); err != nil {
		return fmt.Errorf("%w: iss: %w", ErrClaimInvalid, err)
	}
	if typ == TypePushBind {
		if c.AuthenticatorEnrolmentID == "" {
			return fmt.Errorf("%w: authenticatorEnrollmentId", ErrClaimMissing)
		}
		if c.Context == nil {
			return ErrContextRequired
		}
	}
	return nil
}

// CheckTime says whether the challenge may be answered at now: not expired,
// not issued in the future, and of bounded lifetime, each with the leeway.
func (c *Challenge) CheckTime(now time.Time, leeway time.Duration) error {
	switch {
	case now.After(c.ExpiresAt.Time().Add(leeway)):
		return ErrExpired
	case now.Add(leeway).Before(c.IssuedAt.Time()):
		return ErrIssuedInFuture
	case c.NotBefore != 0 && now.Add(leeway).Before(c.NotBefore.Time()):
		return ErrIssuedInFuture
	case c.ExpiresAt.Time().Sub(c.IssuedAt.Time()) > MaxChallengeLifetime:
		return ErrLivesTooLong
	}
	return nil
}

func absoluteURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("not a URL")
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.Opaque != "" {
		return errors.New("not an absolute http(s) URL")
	}
	return nil
}
