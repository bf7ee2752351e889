package okta

import (
	"encoding/json"
	"time"

	"countersign.dev/okta/jose"
)

// Organization is the answer of /.well-known/okta-organization (1.1).
type Organization struct {
	ID       string `json:"id"`
	Pipeline string `json:"pipeline,omitempty"` // idx or v1
	Links    struct {
		Organization *Link `json:"organization,omitempty"`
		Alternate    *Link `json:"alternate,omitempty"`
	} `json:"_links"`
	// AnsweredAt is what the org's clock said, to the second; zero when it did not.
	AnsweredAt time.Time `json:"-"`
}

// Link is a hypertext reference of the Okta APIs.
type Link struct {
	Href  string     `json:"href"`
	Hints *LinkHints `json:"hints,omitempty"`
}

// LinkHints names the HTTP methods a link allows.
type LinkHints struct {
	Allow []string `json:"allow,omitempty"`
}

// AuthenticatorConfiguration is one element of the answer of
// /.well-known/app-authenticator-configuration (1.2).
type AuthenticatorConfiguration struct {
	AuthenticatorID  string            `json:"authenticatorId"`
	OrgID            string            `json:"orgId"`
	Key              string            `json:"key"`
	Type             string            `json:"type"`
	Name             string            `json:"name,omitempty"`
	CreatedDate      string            `json:"createdDate,omitempty"`
	LastUpdated      string            `json:"lastUpdated,omitempty"`
	Settings         ConfigSettings    `json:"settings"`
	SupportedMethods []SupportedMethod `json:"supportedMethods"`
	EnrolEndpoint    string            `json:"appAuthenticatorEnrollEndpoint"`
	// LoopbackOrigins lists further page origins that may talk to the agent's
	// loopback server; the port may be "*" for localhost only (extension).
	LoopbackOrigins []string `json:"loopbackOrigins,omitempty"`
}

// ConfigSettings are the settings of an app authenticator.
type ConfigSettings struct {
	UserVerification        Need     `json:"userVerification,omitempty"`
	UserVerificationMethods []string `json:"userVerificationMethods,omitempty"` // PIN, BIOMETRICS
	OAuthClientID           string   `json:"oauthClientId,omitempty"`
}

// SupportedMethod is a method that the org lets an app authenticator enrol.
type SupportedMethod struct {
	Type     Method         `json:"type"`
	Status   string         `json:"status"` // ACTIVE or INACTIVE
	Settings MethodSettings `json:"settings"`
}

// MethodSettings are the demands of a method.
type MethodSettings struct {
	Algorithms       []string `json:"algorithms,omitempty"`    // RS256, ES256
	KeyProtection    string   `json:"keyProtection,omitempty"` // ANY or HARDWARE
	TransactionTypes []string `json:"transactionTypes,omitempty"`
	// Of totp only, as in the legacy listing (extension here).
	TimeInterval   int    `json:"timeIntervalInSeconds,omitempty"`
	Encoding       string `json:"encoding,omitempty"`  // Base32
	HMAC           string `json:"algorithm,omitempty"` // HMACSHA1, HMACSHA256, HMACSHA512
	PassCodeLength int    `json:"passCodeLength,omitempty"`
}

// EnrolmentRequest creates an enrolment (2.1).
type EnrolmentRequest struct {
	AuthenticatorID string         `json:"authenticatorId"`
	Device          Device         `json:"device"`
	AppSignals      map[string]any `json:"appSignals,omitempty"`
	Methods         MethodRequests `json:"methods"`
	// KeyChange lets a replacement by the older protocol change keys (extension);
	// to create takes none.
	KeyChange string `json:"keyChange,omitempty"`
}

// MethodRequests holds the methods to enrol, by name. SignedNonce is an
// extension: the published object form knows only push.
type MethodRequests struct {
	Push        *MethodRequest `json:"push,omitempty"`
	SignedNonce *MethodRequest `json:"signed_nonce,omitempty"`
	TOTP        *MethodRequest `json:"totp,omitempty"` // extension
}

// MethodRequest describes one method to enrol.
type MethodRequest struct {
	PushToken      *string       `json:"pushToken,omitempty"`
	APSEnvironment string        `json:"apsEnvironment,omitempty"`
	Keys           *MethodKeys   `json:"keys,omitempty"`
	Capabilities   *Capabilities `json:"capabilities,omitempty"`
}

// Capabilities says which transactions a push method can show.
type Capabilities struct {
	TransactionTypes []string `json:"transactionTypes,omitempty"` // LOGIN, CIBA
}

// MethodKeys are the public keys of a method. On update an absent member
// leaves a key, null deletes it (UserVerification only), a value replaces it;
// hence the pointer to a pointer-like raw form.
type MethodKeys struct {
	ProofOfPossession        *jose.JWK       `json:"proofOfPossession,omitempty"`
	UserVerification         json.RawMessage `json:"userVerification,omitempty"`
	UserVerificationBioOrPIN json.RawMessage `json:"userVerificationBioOrPin,omitempty"`
	// Capabilities stand here in the published schema, and beside the keys in
	// its example and in the SDK; an org reads both.
	Capabilities *Capabilities `json:"capabilities,omitempty"`
}

// Device describes the machine at enrolment (2.2). On a known device ID,
// ClientInstanceID and Attestation stand in for ClientInstanceKey.
type Device struct {
	ID                    string             `json:"id,omitempty"`
	ClientInstanceID      string             `json:"clientInstanceId,omitempty"`
	ClientInstanceKey     *jose.JWK          `json:"clientInstanceKey,omitempty"`
	Attestation           *DeviceAttestation `json:"deviceAttestation,omitempty"`
	Platform              string             `json:"platform"` // LINUX is an extension
	OSVersion             string             `json:"osVersion"`
	DisplayName           string             `json:"displayName"`
	Manufacturer          string             `json:"manufacturer,omitempty"`
	Model                 string             `json:"model,omitempty"`
	SerialNumber          string             `json:"serialNumber,omitempty"`
	UDID                  string             `json:"udid,omitempty"`
	SecureHardwarePresent *bool              `json:"secureHardwarePresent,omitempty"`
	ScreenLockType        string             `json:"screenLockType,omitempty"`
	DiskEncryptionType    string             `json:"diskEncryptionType,omitempty"`
	BundleID              string             `json:"clientInstanceBundleId"`
	Version               string             `json:"clientInstanceVersion"`
	SDKVersion            string             `json:"clientInstanceDeviceSdkVersion"`
	AuthenticatorAppKey   string             `json:"authenticatorAppKey,omitempty"`
}

// DeviceAttestation carries what the client says about its own keys.
type DeviceAttestation struct {
	ClientInstanceKeyAttestation string `json:"clientInstanceKeyAttestation,omitempty"` // JWT, 3.5
	ManagementHint               string `json:"managementHint,omitempty"`               // shared value of a mobile management profile
}

// Enrolment is the answer to create and update (2.4).
type Enrolment struct {
	ID              string                    `json:"id"`
	AuthenticatorID string                    `json:"authenticatorId"`
	CreatedDate     string                    `json:"createdDate"`
	LastUpdated     string                    `json:"lastUpdated"`
	User            EnrolmentUser             `json:"user"`
	Device          EnrolmentDevice           `json:"device"`
	Methods         map[Method]EnrolledMethod `json:"methods"`
	Links           map[string]Link           `json:"links"`
}

// EnrolmentUser names the user of an enrolment.
type EnrolmentUser struct {
	ID       string `json:"id"`
	Username string `json:"username,omitempty"`
}

// EnrolmentDevice is the device as the org registered it.
type EnrolmentDevice struct {
	ID               string  `json:"id"`
	Status           string  `json:"status"`
	ClientInstanceID string  `json:"clientInstanceId"`
	CreatedDate      string  `json:"createdDate,omitempty"`
	LastUpdated      string  `json:"lastUpdated,omitempty"`
	Profile          *Device `json:"profile,omitempty"`
}

// EnrolledMethod is one enrolled method with its links; push has "pending".
type EnrolledMethod struct {
	ID          string          `json:"id"`
	CreatedDate string          `json:"createdDate,omitempty"`
	LastUpdated string          `json:"lastUpdated,omitempty"`
	Links       map[string]Link `json:"links,omitempty"`
	// SharedSecret is base32, of totp only, and only in the answer to create
	// (extension; the legacy answer has it).
	SharedSecret SharedSecret `json:"sharedSecret,omitempty"`
}

// Timestamp formats t as the APIs do: ISO 8601, UTC, milliseconds.
func Timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
