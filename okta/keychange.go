package okta

// TypeKeyChange is the typ of a token by which a key of an enrolment agrees to a
// change of its keys (extension).
const TypeKeyChange = "countersign-keychange+jwt"

// KeyChange holds the claims of that token. It stands as member "keyChange" in
// the body of a PATCH of an enrolment, beside the new keys, and is signed by a
// key that the enrolment has: by one that demands user verification if there is
// any, else by a proof-of-possession key.
type KeyChange struct {
	Issuer    string      `json:"iss"` // authenticator enrolment id
	Subject   string      `json:"sub"` // user id
	Audience  string      `json:"aud"` // the org's URL
	ID        string      `json:"jti"`
	IssuedAt  NumericDate `json:"iat"`
	ExpiresAt NumericDate `json:"exp"`
	NotBefore NumericDate `json:"nbf"`
	// Keys are the RFC 7638 thumbprints (SHA-256, base64url) of all new keys by
	// place: "push.proofOfPossession", "device.clientInstanceKey", …
	Keys map[string]string `json:"keys"`
}

// PlaceClientInstance is the place of the device's own key in KeyChange.Keys.
const PlaceClientInstance = "device.clientInstanceKey"

// KeyPlace is the place of a method's key in KeyChange.Keys.
func KeyPlace(m Method, role KeyType) string { return string(m) + "." + string(role) }

// Notice tells a device of what happened to another enrolment of the same user
// (extension): its keys changed, or it is new. People should hear of that on
// the devices that they had before.
type Notice struct {
	ID          int64  `json:"id"`    // ascending
	Event       string `json:"event"` // NoticeEnrolled, …
	EnrolmentID string `json:"enrollmentId"`
	Device      string `json:"device"` // its display name
	Created     string `json:"created"`
}

// The events of notices. Unknown ones are shown as they are.
const (
	NoticeEnrolled             = "ENROLLED"
	NoticeKeysReplaced         = "KEYS_REPLACED"
	NoticeVerificationAdded    = "USER_VERIFICATION_ADDED"
	NoticeVerificationReplaced = "USER_VERIFICATION_REPLACED"
	NoticeVerificationRemoved  = "USER_VERIFICATION_REMOVED"
	NoticeSecurityKeyEnrolled  = "SECURITY_KEY_ENROLLED" // of which the enrolment is the key, and the device its name
)

// Notices are fetched from NoticesPath below an enrolment, ?after=ID gives the
// newer ones. HeaderNotice on a pending list says the id of the newest.
const (
	NoticesPath  = "/notices"
	HeaderNotice = "Countersign-Notice"
)
