package okta

// KeyType is the role of a key within a method, as the wire names it.
type KeyType string

// The roles of a method's keys.
const (
	KeyProofOfPossession           KeyType = "proofOfPossession"
	KeyUserVerification            KeyType = "userVerification"
	KeyUserVerificationBioOrPIN    KeyType = "userVerificationBioOrPin"
	BindingLoopback                        = "LOOPBACK"
	TransactionLogin                       = "LOGIN"
	TransactionCIBA                        = "CIBA"
	PayloadVersion                         = "IDXv1"
	AuthenticatorKeyOktaVerify             = "okta_verify"
	AuthenticatorKeyCustomApp              = "custom_app"
	DeviceSDK                              = "Countersign 1"
	AcceptVersion                          = "application/json; okta-version=1.0.0"
	MergePatchVersion                      = "application/merge-patch+json; okta-version=1.0.0"
	OrganizationPath                       = "/.well-known/okta-organization"
	AuthenticatorConfigurationPath         = "/.well-known/app-authenticator-configuration"
	AppAuthenticatorsPath                  = "/idp/myaccount/app-authenticators"
)

// VerifiesUser says whether keys of this role demand that the user is verified.
// Unknown ones do not.
func (t KeyType) VerifiesUser() bool {
	return t == KeyUserVerification || t == KeyUserVerificationBioOrPIN
}

// Consent says what the person did (3.3.1). The zero value approves nothing.
type Consent string

// The values of Consent.
const (
	ConsentNone                      Consent = "NONE" // no user interaction took place
	ConsentApproved                  Consent = "APPROVED_CONSENT_PROMPT"
	ConsentApprovedUserVerification  Consent = "APPROVED_USER_VERIFICATION"
	ConsentDenied                    Consent = "DENIED_CONSENT_PROMPT"
	ConsentCancelledUserVerification Consent = "CANCELLED_USER_VERIFICATION"
	ConsentUVTemporarilyUnavailable  Consent = "UV_TEMPORARILY_UNAVAILABLE"
	ConsentUVPermanentlyUnavailable  Consent = "UV_PERMANENTLY_UNAVAILABLE"
	ConsentUserAbandoned             Consent = "USER_ABANDONED"
)

// Answer holds the claims that an authenticator signs in reply to a challenge
// (devices protocol 3.3).
type Answer struct {
	Issuer    string      `json:"iss"` // authenticator enrolment id
	Subject   string      `json:"sub"` // user id
	Audience  string      `json:"aud"` // the challenge's iss, byte for byte
	ID        string      `json:"jti"`
	IssuedAt  NumericDate `json:"iat"`
	ExpiresAt NumericDate `json:"exp"`
	NotBefore NumericDate `json:"nbf"`

	TransactionID     string   `json:"tx"`
	Nonce             string   `json:"nonce"`
	MethodEnrolmentID string   `json:"methodEnrollmentId"`
	KeyType           KeyType  `json:"keyType"`
	AMR               []string `json:"amr"`

	DeviceSignals   DeviceSignals  `json:"deviceSignals"`
	Context         AnswerContext  `json:"challengeResponseContext"`
	Integrations    []SignalResult `json:"integrations"`
	SignalProviders []SignalResult `json:"signalProviders"`
}

// AnswerContext tells under which circumstances the answer was given.
type AnswerContext struct {
	UserConsent     Consent `json:"userConsent"`
	TransactionType string  `json:"transactionType,omitempty"`
	OriginHeader    string  `json:"originHeader,omitempty"` // the browser's Origin header, HTTP transports only
	BindingType     string  `json:"bindingType,omitempty"`
	// SelectedChallengeItem is the number the person picked (extension).
	SelectedChallengeItem string `json:"selectedChallengeItem,omitempty"`
	// Reported says that the person reported the request as not theirs; only
	// with ConsentDenied (extension).
	Reported bool `json:"reported,omitempty"`
}

// SignalResult is the word of one integration or signal provider, or the
// reason why there is none (5.3). A requested name is never left out.
type SignalResult struct {
	Name          string               `json:"name"`
	Configuration *SignalConfiguration `json:"configuration,omitempty"`
	Signal        string               `json:"signal,omitempty"`
	TimeCollected int64                `json:"timeCollected,omitempty"` // unix seconds
	Error         string               `json:"error,omitempty"`
	ErrorCode     string               `json:"errorCode,omitempty"`
}

// SignalConfiguration says how a signal was collected.
type SignalConfiguration struct {
	Type   string `json:"type"`
	Format string `json:"format"`
}

// DeviceSignals are the facts about the device that a challenge asked for
// (5.1). ID and ClientInstanceID are always present; the rest only on request.
type DeviceSignals struct {
	ID                    string `json:"id"`
	ClientInstanceID      string `json:"clientInstanceId"`
	DisplayName           string `json:"displayName,omitempty"`
	Platform              string `json:"platform,omitempty"`
	Manufacturer          string `json:"manufacturer,omitempty"`
	Model                 string `json:"model,omitempty"`
	OSVersion             string `json:"osVersion,omitempty"`
	SerialNumber          string `json:"serialNumber,omitempty"`
	UDID                  string `json:"udid,omitempty"`
	SID                   string `json:"sid,omitempty"`  // Windows security id
	IMEI                  string `json:"imei,omitempty"` // mobile
	MEID                  string `json:"meid,omitempty"` // mobile
	TPMPublicKeyHash      string `json:"tpmPublicKeyHash,omitempty"`
	SecureHardwarePresent *bool  `json:"secureHardwarePresent,omitempty"`
	HardwareProtection    *bool  `json:"isHardwareProtectionEnabled,omitempty"` // Android
	ScreenLockType        string `json:"screenLockType,omitempty"`
	DiskEncryptionType    string `json:"diskEncryptionType,omitempty"`
	BundleID              string `json:"clientInstanceBundleId,omitempty"`
	Version               string `json:"clientInstanceVersion,omitempty"`
	SDKVersion            string `json:"clientInstanceDeviceSdkVersion,omitempty"`
	AuthenticatorAppKey   string `json:"authenticatorAppKey,omitempty"`

	Attestation *DeviceAttestation `json:"deviceAttestation,omitempty"`
}

// AnswerRequest is the body that carries an answer to the verification URI (4.3).
type AnswerRequest struct {
	Method            Method `json:"method"`
	ChallengeResponse string `json:"challengeResponse"`
}

// PendingChallenge is one element of the pending list, and the payload of a push (4.1).
type PendingChallenge struct {
	PayloadVersion string `json:"payloadVersion"`
	Challenge      string `json:"challenge"`
}
