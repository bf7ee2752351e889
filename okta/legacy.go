package okta

import "encoding/json"

// The older shape of the protocol, which Okta Verify speaks (2.8): paths below
// /api/v1/authenticators and /idp/authenticators, methods in an array, PUT in
// place of PATCH.

// Paths of the legacy API.
const (
	LegacyAuthenticatorsPath = "/api/v1/authenticators" // GET ?key=okta_verify&expand=methods
	LegacyEnrolmentsPath     = "/idp/authenticators"    // POST; PUT and DELETE …/{enrolmentId}
)

// Scopes of the legacy API. Those of the app-authenticator API stand in for
// them: ScopeManage for all three.
const (
	ScopeAuthenticatorsRead       = "okta.authenticators.read"
	ScopeAuthenticatorsManage     = "okta.authenticators.manage"
	ScopeAuthenticatorsManageSelf = "okta.authenticators.manage.self"
)

// LegacyAuthenticator is one element of the legacy listing (1.2, L1). Only
// entries whose Status is ACTIVE count.
type LegacyAuthenticator struct {
	ID       string          `json:"id"`
	Key      string          `json:"key"`  // okta_verify or custom_app
	Type     string          `json:"type"` // app
	Status   string          `json:"status"`
	Name     string          `json:"name"`
	Settings *LegacySettings `json:"settings,omitempty"`
	Links    struct {
		Enrol *Link `json:"enroll,omitempty"`
	} `json:"_links"`
	Embedded struct {
		Methods []SupportedMethod `json:"methods,omitempty"`
	} `json:"_embedded"`
	// LoopbackOrigins as in AuthenticatorConfiguration (extension).
	LoopbackOrigins []string `json:"loopbackOrigins,omitempty"`
}

// LegacySettings are the settings of an authenticator in the legacy listing.
type LegacySettings struct {
	ConfigSettings
	AppInstanceID string `json:"appInstanceId,omitempty"`
}

// LegacyEnrolmentRequest creates (POST) or replaces (PUT) an enrolment.
type LegacyEnrolmentRequest struct {
	AuthenticatorID string                `json:"authenticatorId"`
	Key             string                `json:"key"`
	Device          Device                `json:"device"`
	AppSignals      map[string]any        `json:"appSignals,omitempty"`
	Methods         []LegacyMethodRequest `json:"methods"`
	KeyChange       string                `json:"keyChange,omitempty"` // of a replacement (extension)
}

// LegacyMethodRequest describes one method.
type LegacyMethodRequest struct {
	Type                    Method        `json:"type"`
	PushToken               *string       `json:"pushToken,omitempty"`
	APSEnvironment          string        `json:"apsEnvironment,omitempty"`
	SupportUserVerification *bool         `json:"supportUserVerification,omitempty"`
	FIPSCompliant           *bool         `json:"isFipsCompliant,omitempty"`
	Keys                    *MethodKeys   `json:"keys,omitempty"`
	Capabilities            *Capabilities `json:"capabilities,omitempty"`
}

// LegacyEnrolment is the answer to create and replace.
type LegacyEnrolment struct {
	ID              string          `json:"id"`
	AuthenticatorID string          `json:"authenticatorId"`
	Key             string          `json:"key"`
	Status          string          `json:"status"`
	Type            string          `json:"type"`
	CreatedDate     string          `json:"createdDate"`
	LastUpdated     string          `json:"lastUpdated"`
	User            EnrolmentUser   `json:"user"`
	Device          EnrolmentDevice `json:"device"`
	Methods         []LegacyMethod  `json:"methods"`
	Links           map[string]Link `json:"links,omitempty"`
}

// LegacyMethod is one enrolled method. SharedSecret is base32, of totp only.
type LegacyMethod struct {
	ID           string          `json:"id"`
	Type         Method          `json:"type"`
	Status       string          `json:"status"`
	CreatedDate  string          `json:"createdDate,omitempty"`
	LastUpdated  string          `json:"lastUpdated,omitempty"`
	SharedSecret SharedSecret    `json:"sharedSecret,omitempty"`
	Links        map[string]Link `json:"links,omitempty"`
	Settings     json.RawMessage `json:"settings,omitempty"`
}
