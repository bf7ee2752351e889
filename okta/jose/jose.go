// Package jose reads, checks and makes the tokens of the devices protocol:
// compact JWS with a public-key signature, and the JWKs that verify them.
//
// The package refuses first. [Parse] knows for each kind of token ([Use]) how
// large it may be, which "typ" it carries and which algorithms may sign it, and
// turns away everything else (unknown header members above all) before any
// signature is computed. What Parse returns is still only a claim: nothing in
// a [Token] may be believed until [Token.Verify] has succeeded with a key that
// the caller trusts for another reason than the token's word.
//
// Three parties meet here: the org that signs challenges, the agent that signs
// answers, and the page in between that can write any bytes it likes.
package jose

import (
	"errors"
	"slices"
)

// Algorithm is a signature algorithm, as the "alg" header names it.
type Algorithm string

// The algorithms that can be verified. There is no constant for any other on
// purpose: "none" and the HMAC family never verify.
const (
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	ES256 Algorithm = "ES256"
)

// Errors of this package; match them with errors.Is.
var (
	ErrMalformed = errors.New("token malformed")                 // not three strict base64url segments of JSON objects
	ErrTooLarge  = errors.New("token too large")                 // over the size of its use
	ErrHeader    = errors.New("token header not allowed")        // a member besides alg, typ, kid
	ErrAlgorithm = errors.New("token algorithm not allowed")     // not in the list of its use, or not the key's
	ErrType      = errors.New("token type not allowed")          // typ differs from its use
	ErrDuplicate = errors.New("duplicate member")                // same member twice in one JSON object
	ErrSignature = errors.New("token signature does not verify") // wrong key or changed token
	ErrKey       = errors.New("key not usable")                  // unknown kind, wrong size, not on the curve
)

// Use says what one kind of token must look like. The zero value admits no
// token at all.
type Use struct {
	Types      []string    // allowed "typ" values; "" stands for an absent or empty one
	Algorithms []Algorithm // allowed "alg" values
	MaxSize    int         // bytes of the whole compact token
}

// maxToken is far above every recorded token (1950 bytes) and far below
// anything that costs time to refuse.
const maxToken = 16 << 10

// The literals of okta.TypeDeviceBind and its siblings: package okta imports
// this one for its JWKs, so they cannot be imported here.
const (
	typDeviceBind      = "okta-devicebind+jwt"
	typPushBind        = "okta-pushbind+jwt"
	typEnrolmentUpdate = "okta-enrollmentupdate+jwt"
	typKeyChange       = "countersign-keychange+jwt"
)

var (
	orgAlgorithms    = []Algorithm{RS256, RS384, RS512, ES256}
	deviceAlgorithms = []Algorithm{ES256, RS256}
	plainTypes       = []string{"", "JWT"}
)

// The kinds of token of this protocol. They are read-only.
var (
	// DeviceChallenge is a challenge that comes over loopback.
	DeviceChallenge = Use{[]string{typDeviceBind}, orgAlgorithms, maxToken}
	// PushChallenge is a challenge from the pending list or a push.
	PushChallenge = Use{[]string{typPushBind}, orgAlgorithms, maxToken}
	// AnyChallenge is either of the two.
	AnyChallenge = Use{[]string{typDeviceBind, typPushBind}, orgAlgorithms, maxToken}
	// Answer is what an authenticator says to a challenge.
	Answer = Use{[]string{typDeviceBind, typPushBind}, deviceAlgorithms, maxToken}
	// EnrolmentUpdate authenticates an agent by an enrolment key ("SSWS").
	EnrolmentUpdate = Use{[]string{typEnrolmentUpdate}, deviceAlgorithms, maxToken}
	// KeyChange is the agreement of an enrolment's key to a change of its keys.
	KeyChange = Use{[]string{typKeyChange}, deviceAlgorithms, maxToken}
	// ClientInstance attests the key of a client instance.
	ClientInstance = Use{plainTypes, deviceAlgorithms, maxToken}
	// MaintenanceAssertion is the assertion of the jwt-bearer grant.
	MaintenanceAssertion = Use{plainTypes, deviceAlgorithms, maxToken}
	// ClientAssertion is by what a client of an org proves itself (private_key_jwt).
	ClientAssertion = Use{plainTypes, orgAlgorithms, maxToken}
	// AccessToken is an org's own access token.
	AccessToken = Use{plainTypes, deviceAlgorithms, maxToken}
	// IDToken is an org's own ID token.
	IDToken = Use{plainTypes, deviceAlgorithms, maxToken}
)

func (u Use) allowsType(typ string) bool { return slices.Contains(u.Types, typ) }

func (u Use) allowsAlgorithm(alg Algorithm) bool {
	return alg != "" && alg != "none" && slices.Contains(u.Algorithms, alg)
}
