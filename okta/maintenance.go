package okta

// Scopes of the app-authenticator API. The maintenance scopes are what a
// device gets by its own key; the full one takes a person who signs in.
const (
	ScopeManage            = "okta.myAccount.appAuthenticator.manage"
	ScopeMaintenanceManage = "okta.myAccount.appAuthenticator.maintenance.manage"
	ScopeMaintenanceRead   = "okta.myAccount.appAuthenticator.maintenance.read"
)

// GrantJWTBearer is the grant type by which a device turns an assertion signed
// with its proof-of-possession key into a maintenance token (3.6, RFC 7523).
const GrantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// MaintenanceAssertion holds the claims of that assertion (3.5). Its issuer is
// MaintenanceIssuer, its audience the org's URL.
type MaintenanceAssertion struct {
	Issuer            string      `json:"iss"`
	Subject           string      `json:"sub"` // user id
	Audience          string      `json:"aud"`
	ID                string      `json:"jti"`
	IssuedAt          NumericDate `json:"iat"`
	ExpiresAt         NumericDate `json:"exp"`
	NotBefore         NumericDate `json:"nbf"`
	MethodEnrolmentID string      `json:"methodEnrollmentId"` // of the method whose key signs
}

// How an agent waits for pushes (4.2). PreferWait in a "Prefer" header asks the
// org to hold the pending list back until it has something to say (RFC 7240);
// one that does echoes it in "Preference-Applied". The list then has an ETag,
// and with "If-None-Match" the org waits until the list has changed, and says
// 304 when it has not. Plain orgs know none of it and answer at once.
const (
	PreferWait        = "wait=55" // seconds
	PreferWaitSeconds = 55
)

// GrantCIBA is the grant type by which a client fetches the outcome of a
// request over the back channel (4.5, OpenID Connect CIBA Core).
const GrantCIBA = "urn:openid:params:grant-type:ciba"
