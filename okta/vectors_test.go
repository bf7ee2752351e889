package okta_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/internal/vectors"
	"countersign.dev/okta/jose"
)

// expectation says what becomes of one recorded token.
type expectation struct {
	name  string
	parse error // of the real parser for challenges
	// form is the error of a parser that admits HS256 as well, which nothing
	// but this test does: half of the recorded tokens are signed by secrets
	// that were never published, and their claims matter.
	form   error
	claims error  // of the claims of a token whose form is good
	claim  string // which the error names
}

// recorded has one row for every recorded token, in the order of the file.
var recorded = []expectation{
	{name: "validDeviceChallengeRequestJWT", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUserVerificationKey", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithTwoKeys", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUnknownKey", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUnknownFactor", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUserMediationRequired", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUserVerificationPreferred", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUserVerificationRequired", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUserMediationOptional", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUVDiscouraged", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUVRequiredAndUserMediationRequired", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTWithUVPreferredAndUserMediationOptional", parse: jose.ErrAlgorithm},
	{name: "validDeviceChallengeRequestJWTForMacOS"},
	{name: "invalidJWTPayload", parse: jose.ErrAlgorithm, form: jose.ErrMalformed},
	{name: "invalidJWTHeaderJSON", parse: jose.ErrMalformed, form: jose.ErrMalformed},
	{name: "invalidJWTPayloadJSON", parse: jose.ErrAlgorithm, form: jose.ErrMalformed},
	{name: "unexpectedJWTType", parse: jose.ErrAlgorithm, form: jose.ErrType},
	{name: "payloadWithoutOrgId", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "orgId"},
	{name: "payloadWithoutNonce", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "nonce"},
	{name: "payloadWithoutVerificationURI", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "verificationUri"},
	{name: "payloadWithoutIss", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "iss"},
	{name: "payloadWithoutAud", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "aud"},
	{name: "payloadWithoutIat", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "iat"},
	{name: "payloadWithoutExp", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "exp"},
	{name: "payloadWithoutKeyType", parse: jose.ErrAlgorithm}, // legacy claim, nobody needs it
	{name: "payloadWithoutTransactionId", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "transactionId"},
	{name: "payloadWithBadVerifyURI", parse: jose.ErrAlgorithm, claims: okta.ErrClaimInvalid, claim: "verificationUri"},
	{name: "payloadWithInvalidIssClaim", parse: jose.ErrAlgorithm, claims: okta.ErrClaimInvalid, claim: "iss"},
	{name: "payloadWithInvalidVerificationURL", parse: jose.ErrAlgorithm, claims: okta.ErrClaimMissing, claim: "verificationUri"}, // it is ""
	{name: "pushChallengeJWT"},
	{name: "pushChallengeJWT_AuthorizationServerId", parse: jose.ErrAlgorithm, form: jose.ErrType},
	{name: "pushChallengeCIBAJWT"},
	{name: "pushChallengeCIBAJWTSpecialChars"},
	{name: "pushChallengeJWT_WithNoChallengeContext", parse: jose.ErrAlgorithm, claims: okta.ErrContextRequired},
	{name: "validDeviceChallenge_WithUserIdAndLoginHint", parse: jose.ErrAlgorithm},
	{name: "authenticator-verification-nfc-pin-device-challenge.json", parse: jose.ErrType, form: jose.ErrType},
	{name: "identify-with-apple-credential-sso-extension.json"},
	{name: "identify-with-apple-credential-sso-extension.json", parse: jose.ErrType, form: jose.ErrType}, // 2019 and 2020: no typ yet
	{name: "identify-with-device-probing-https-loopback.json", parse: jose.ErrType, form: jose.ErrType},
	{name: "identify-with-device-probing-loopback-2.json", parse: jose.ErrType, form: jose.ErrType},
	{name: "identify-with-device-probing-loopback-3.json", parse: jose.ErrType, form: jose.ErrType},
	{name: "default.json"},
	{name: "error-invalid-username.json"},
	{name: "error-wrong-password.json"},
	{name: "all-enabled-features.json"},
	{name: "identify-with-piv-cac.json"},
	{name: "validSignedDeviceChallengeRequestJWT"},
	{name: "mockDeviceChallengeSignedNonceWithAppInstance"},
}

// verifies is the one recorded token whose key was published.
const verifies = "validSignedDeviceChallengeRequestJWT"

// Every recorded token is verified, parsed or refused as its name says, and
// refused for the reason that its name gives.
func TestRecordedTokens(t *testing.T) {
	set := vectors.Load(t)
	if len(set.Tokens) != 48 || len(recorded) != len(set.Tokens) {
		t.Fatalf("%d recorded tokens and %d expectations, want 48 of both", len(set.Tokens), len(recorded))
	}
	for i, want := range recorded {
		got := set.Tokens[i]
		if got.Name != want.name {
			t.Fatalf("token %d is %s, expected %s", i, got.Name, want.name)
		}
		t.Run(got.Name, func(t *testing.T) { check(t, got.JWT, want, set.JWK) })
	}
}

func check(t *testing.T, jwt string, want expectation, key jose.JWK) {
	token, err := jose.Parse(jwt, jose.AnyChallenge)
	if !errors.Is(err, want.parse) || (err == nil) != (want.parse == nil) {
		t.Fatalf("parsing: got %v, want %v", err, want.parse)
	}
	if want.parse == nil {
		err := token.Verify(key)
		if want.name == verifies && (err != nil || !token.Verified()) {
			t.Errorf("does not verify: %v", err)
		}
		if want.name != verifies && (!errors.Is(err, jose.ErrSignature) || token.Verified()) {
			t.Errorf("verifying with a key that did not sign it: %v", err)
		}
	}
	careless := jose.AnyChallenge
	careless.Algorithms = append(slices.Clone(careless.Algorithms), "HS256")
	token, err = jose.Parse(jwt, careless)
	if !errors.Is(err, want.form) || (err == nil) != (want.form == nil) {
		t.Fatalf("form: got %v, want %v", err, want.form)
	}
	if want.form != nil {
		return
	}
	if token.Header.Algorithm == "HS256" {
		if err := token.Verify(key); !errors.Is(err, jose.ErrAlgorithm) || token.Verified() {
			t.Errorf("HS256 can be verified: %v", err)
		}
	}
	var c okta.Challenge
	if err := token.Claims(&c); err != nil {
		t.Fatal(err)
	}
	err = c.Validate(token.Header.Type)
	if !errors.Is(err, want.claims) || (err == nil) != (want.claims == nil) {
		t.Fatalf("claims: got %v, want %v", err, want.claims)
	}
	if want.claim != "" && !strings.Contains(err.Error(), ": "+want.claim) {
		t.Errorf("%q does not name %s", err, want.claim)
	}
}

// claims returns the claims of the recorded token of that name, unverified.
func claims(t *testing.T, name string) okta.Challenge {
	t.Helper()
	set := vectors.Load(t)
	i := slices.IndexFunc(set.Tokens, func(v vectors.Token) bool { return v.Name == name })
	if i < 0 {
		t.Fatalf("no recorded token %s", name)
	}
	use := jose.AnyChallenge
	use.Algorithms = append(slices.Clone(use.Algorithms), "HS256")
	token, err := jose.Parse(set.Tokens[i].JWT, use)
	if err != nil {
		t.Fatal(err)
	}
	var c okta.Challenge
	if err := token.Claims(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// The claims arrive under the names that the org gives them.
func TestRecordedClaims(t *testing.T) {
	push := claims(t, "pushChallengeCIBAJWTSpecialChars")
	if push.Method != okta.MethodPush || push.KeyID != "001E995F-59CB-4CF8-A500-20EACDD11A66" ||
		push.AuthenticatorEnrolmentID != "pfdg0pfyXPT6E8azd0g4" || push.MethodEnrolmentID != "opfg0phMvRaO9fCw40g4" ||
		push.UserID != "00uflzpcIL1jJvjZR0g4" || push.ID != push.TransactionID ||
		push.Context.TransactionType != okta.TransactionCIBA || push.Context.BindingMessage != "Did you make a $300 purchase%2E?" ||
		!push.Context.ShowUserLocation || push.Context.ClientOS != "UNKNOWN" || push.Context.RiskLevel != "NONE" {
		t.Errorf("push: %+v, %+v", push, push.Context)
	}
	device := claims(t, "error-wrong-password.json")
	if device.Method != okta.MethodSignedNonce || device.OrgID != "00o2h3ffoaTwKW0EM1d7" || device.AppInstanceName != "SIW Next" ||
		device.RequestReferrer != "https://oie-4695462.oktapreview.com" || device.UserMediation != okta.NeedRequired ||
		device.UserVerification != okta.NeedPreferred || len(device.Signals) != 21 || device.Version != 0 ||
		!slices.Equal(device.KeyTypes, []string{"userVerification", "proofOfPossession"}) ||
		device.ExpiresAt.Time().Sub(device.IssuedAt.Time()) != okta.ChallengeLifetime {
		t.Errorf("device: %+v", device)
	}
	mac := claims(t, "validDeviceChallengeRequestJWTForMacOS")
	if len(mac.MDMAttestationIssuers) != 1 || mac.MDMAttestationIssuers[0].AuthorityKeyID != "huJJXH/WoRjSxC38mN2oBvJt2zc=" ||
		len(mac.CASubjectNames) != 1 || mac.UserVerificationRequirement == nil || *mac.UserVerificationRequirement {
		t.Errorf("macOS: %+v", mac)
	}
	hint := claims(t, "validDeviceChallenge_WithUserIdAndLoginHint")
	if hint.LoginHint != "user@domain.com" || hint.UserID != "userId" || len(hint.Integrations) != 1 || hint.Integrations[0].Name != "name_1" {
		t.Errorf("hint: %+v", hint)
	}
	if other := claims(t, "validDeviceChallengeRequestJWTWithUnknownFactor"); other.Method != "unknown" {
		t.Errorf("an unknown method became %q", other.Method)
	}
}

// The recorded token that verifies has expired in 1970 and is issued, in
// milliseconds, far ahead: a good signature is not a good challenge.
func TestRecordedTimes(t *testing.T) {
	c := claims(t, verifies)
	if err := c.CheckTime(time.Unix(1700000000, 0), okta.DeviceBindLeeway); !errors.Is(err, okta.ErrExpired) {
		t.Errorf("got %v", err)
	}
	if err := c.CheckTime(time.Unix(0, 0), okta.DeviceBindLeeway); !errors.Is(err, okta.ErrIssuedInFuture) {
		t.Errorf("got %v", err)
	}
}
