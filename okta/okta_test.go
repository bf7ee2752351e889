package okta_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

func challenge() okta.Challenge {
	return okta.Challenge{
		Issuer: "https://id.example.com", Audience: "agent", IssuedAt: 1000, ExpiresAt: 1300,
		OrgID: "00o", Nonce: "n", TransactionID: "ft1", VerificationURI: "https://id.example.com/verify",
	}
}

func TestChallengeValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  string
		mod  func(*okta.Challenge)
		want error
	}{
		{"good", okta.TypeDeviceBind, func(*okta.Challenge) {}, nil},
		{"development org", okta.TypeDeviceBind, func(c *okta.Challenge) { c.VerificationURI = "http://localhost:7878/verify" }, nil},
		{"no issuer", okta.TypeDeviceBind, func(c *okta.Challenge) { c.Issuer = "" }, okta.ErrClaimMissing},
		{"no audience", okta.TypeDeviceBind, func(c *okta.Challenge) { c.Audience = "" }, okta.ErrClaimMissing},
		{"no iat", okta.TypeDeviceBind, func(c *okta.Challenge) { c.IssuedAt = 0 }, okta.ErrClaimMissing},
		{"no exp", okta.TypeDeviceBind, func(c *okta.Challenge) { c.ExpiresAt = 0 }, okta.ErrClaimMissing},
		{"zero", okta.TypeDeviceBind, func(c *okta.Challenge) { *c = okta.Challenge{} }, okta.ErrClaimMissing},
		{"transaction of 128", okta.TypeDeviceBind, func(c *okta.Challenge) { c.TransactionID = strings.Repeat("x", 128) }, nil},
		{"transaction of 129", okta.TypeDeviceBind, func(c *okta.Challenge) { c.TransactionID = strings.Repeat("x", 129) }, okta.ErrClaimInvalid},
		{"nonce of 256", okta.TypeDeviceBind, func(c *okta.Challenge) { c.Nonce = strings.Repeat("x", 256) }, nil},
		{"nonce of 257", okta.TypeDeviceBind, func(c *okta.Challenge) { c.Nonce = strings.Repeat("x", 257) }, okta.ErrClaimInvalid},
		{"file", okta.TypeDeviceBind, func(c *okta.Challenge) { c.VerificationURI = "file:///etc/passwd" }, okta.ErrClaimInvalid},
		{"javascript", okta.TypeDeviceBind, func(c *okta.Challenge) { c.VerificationURI = "javascript:alert(1)" }, okta.ErrClaimInvalid},
		{"no scheme", okta.TypeDeviceBind, func(c *okta.Challenge) { c.VerificationURI = "//id.example.com/verify" }, okta.ErrClaimInvalid},
		{"path only", okta.TypeDeviceBind, func(c *okta.Challenge) { c.VerificationURI = "/verify" }, okta.ErrClaimInvalid},
		{"user information", okta.TypeDeviceBind, func(c *okta.Challenge) { c.VerificationURI = "https://id.example.com@evil.example/" }, okta.ErrClaimInvalid},
		{"opaque", okta.TypeDeviceBind, func(c *okta.Challenge) { c.VerificationURI = "https:id.example.com" }, okta.ErrClaimInvalid},
		{"push without enrolment", okta.TypePushBind, func(*okta.Challenge) {}, okta.ErrClaimMissing},
		{"push without context", okta.TypePushBind, func(c *okta.Challenge) { c.AuthenticatorEnrolmentID = "pfd" }, okta.ErrContextRequired},
		{"push", okta.TypePushBind, func(c *okta.Challenge) { c.AuthenticatorEnrolmentID, c.Context = "pfd", &okta.ChallengeContext{} }, nil},
	} {
		ch := challenge()
		c.mod(&ch)
		if err := ch.Validate(c.typ); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestChallengeCheckTime(t *testing.T) {
	const leeway = time.Minute
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	for _, c := range []struct {
		name string
		now  time.Time
		mod  func(*okta.Challenge)
		want error
	}{
		{"in time", at(1100), nil, nil},
		{"last moment", at(1360), nil, nil},
		{"a nanosecond later", at(1360).Add(1), nil, okta.ErrExpired},
		{"first moment", at(940), nil, nil},
		{"a nanosecond earlier", at(940).Add(-1), nil, okta.ErrIssuedInFuture},
		{"nbf reached", at(1040), func(c *okta.Challenge) { c.NotBefore = 1100 }, nil},
		{"nbf ahead", at(1040).Add(-1), func(c *okta.Challenge) { c.NotBefore = 1100 }, okta.ErrIssuedInFuture},
		{"lives an hour", at(1100), func(c *okta.Challenge) { c.ExpiresAt = 1000 + 3600 }, nil},
		{"lives longer", at(1100), func(c *okta.Challenge) { c.ExpiresAt = 1000 + 3601 }, okta.ErrLivesTooLong},
		{"lives for ever", at(1100), func(c *okta.Challenge) { c.ExpiresAt = 1<<53 - 1 }, okta.ErrLivesTooLong},
		{"from the dawn of time", at(1100), func(c *okta.Challenge) { c.IssuedAt, c.ExpiresAt = -(1<<53 - 1), 1<<53-1 }, okta.ErrLivesTooLong},
		{"zero", at(1100), func(c *okta.Challenge) { *c = okta.Challenge{} }, okta.ErrExpired},
	} {
		ch := challenge()
		if c.mod != nil {
			c.mod(&ch)
		}
		if err := ch.CheckTime(c.now, leeway); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestNumericDate(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "-5": -5, "1664198776": 1664198776, "1664198776.9": 1664198776, "1e3": 1000, "9007199254740991": 1<<53 - 1} {
		var d okta.NumericDate
		if err := json.Unmarshal([]byte(text), &d); err != nil || int64(d) != want {
			t.Errorf("%s: %d, %v", text, d, err)
		}
	}
	for _, text := range []string{`"1"`, `null`, `true`, `{}`, `[1]`, `1e300`, `9007199254740992`, `-9007199254740992`, `99999999999999999999`, `1e999999`} {
		var d okta.NumericDate
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			t.Errorf("%s is taken as %d", text, d)
		}
	}
}

// A time that is accepted is the number that was written, cut to seconds.
func FuzzNumericDate(f *testing.F) {
	for _, s := range []string{"0", "-1", "1664198776", "1.5", "1e9", "9007199254740992", `"1"`, "null", "-0.9", "0x10", "1_000"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d okta.NumericDate
		if json.Unmarshal(data, &d) != nil {
			return
		}
		var want float64
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q is %d, but no number: %v", data, d, err)
		}
		if got := float64(d); got != math.Trunc(want) || math.Abs(got) >= 1<<53 {
			t.Fatalf("%q is %d", data, d)
		}
	})
}

// E12: nothing but the org's own word in the right place makes an enrolment
// gone: not a status alone, not a code alone.
func TestErrorGone(t *testing.T) {
	gone := map[okta.ErrorCode]bool{okta.CodeDeviceDeleted: true, okta.CodeEnrolmentDeleted: true, okta.CodeUserDeleted: true}
	codes := []okta.ErrorCode{
		"", okta.CodeValidation, okta.CodeAuthentication, okta.CodeNotFound, okta.CodePathNotFound, okta.CodeInternal, okta.CodeInvalidToken,
		okta.CodeDeviceSuspended, okta.CodeDeviceDeleted, okta.CodeEnrolmentDeleted, okta.CodeUserSuspended, okta.CodeUserDeleted,
		okta.CodeEnrolmentSuspended, okta.CodeOriginMismatch, "E9999999",
	}
	for status := range 600 {
		for _, code := range codes {
			e := okta.Error{HTTPStatus: status, Code: code}
			if want := status == 410 && gone[code]; e.Gone() != want {
				t.Errorf("%d %s: Gone is %v", status, code, !want)
			}
			if e.Gone() && e.Suspended() {
				t.Errorf("%d %s is gone and suspended", status, code)
			}
		}
	}
}

func TestError(t *testing.T) {
	err := fmt.Errorf("asking: %w", okta.NewError(okta.CodeOriginMismatch, "http://evil.example"))
	if !errors.Is(err, okta.NewError(okta.CodeOriginMismatch)) || errors.Is(err, okta.NewError(okta.CodeForbidden)) {
		t.Error("Is does not compare codes")
	}
	if want := "asking: 403 E0000212 Origin validation failed: http://evil.example"; err.Error() != want {
		t.Errorf("%q", err)
	}
	if e := okta.NewError("nonsense"); e.Code != okta.CodeInternal || e.HTTPStatus != 500 {
		t.Errorf("unknown code: %+v", e)
	}
	encoded, _ := json.Marshal(okta.NewError(okta.CodeInternal))
	if !bytes.Contains(encoded, []byte(`"errorCauses":[]`)) || bytes.Contains(encoded, []byte("RetryAt")) {
		t.Errorf("%s", encoded)
	}
}

// On update an absent key stays, null deletes it, a value replaces it.
func TestMethodKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys okta.MethodKeys
		want string
	}{
		"absent": {okta.MethodKeys{}, `{}`},
		"null":   {okta.MethodKeys{UserVerification: json.RawMessage("null")}, `{"userVerification":null}`},
		"value":  {okta.MethodKeys{UserVerification: json.RawMessage(`{"kty":"EC","kid":"k"}`)}, `{"userVerification":{"kty":"EC","kid":"k"}}`},
	} {
		encoded, err := json.Marshal(c.keys)
		if err != nil || string(encoded) != c.want {
			t.Errorf("%s: %s, %v", name, encoded, err)
		}
		var back okta.MethodKeys
		if err := json.Unmarshal(encoded, &back); err != nil || string(back.UserVerification) != string(c.keys.UserVerification) {
			t.Errorf("%s comes back as %q, %v", name, back.UserVerification, err)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	const canary = "canary-7f3a"
	s := okta.Secret(canary)
	holder := struct {
		S okta.Secret
		P *okta.Secret
		M map[string]okta.Secret
	}{s, &s, map[string]okta.Secret{"k": s}}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("text", "secret", s, "holder", holder, "pointer", &s)
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "secret", s, "holder", holder)
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v %s %q %x %X %d %v", s, s, s, s, s, s, s, s, holder) + fmt.Sprint(s, &s, []okta.Secret{s}) + log.String() + string(encoded)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(printed, form) {
			t.Errorf("the secret is printed: %s", printed)
		}
	}
	if s.Reveal() != canary {
		t.Error("the secret is lost")
	}
	var back okta.Secret
	if err := json.Unmarshal([]byte(`"x"`), &back); err != nil || back != "x" {
		t.Errorf("decoding: %v", err)
	}
}

// E10: secrets are compared in constant time, and nothing equals no secret.
func TestE10SecretEqual(t *testing.T) {
	for _, c := range []struct {
		a, b okta.Secret
		want bool
	}{{"abc", "abc", true}, {"abc", "abd", false}, {"abc", "abcd", false}, {"abc", "", false}, {"", "abc", false}, {"", "", false}} {
		if c.a.Equal(c.b) != c.want {
			t.Errorf("%q and %q: %v", c.a.Reveal(), c.b.Reveal(), !c.want)
		}
	}
}

// The literals in okta/jose, which cannot import this package, are these.
func TestUsesMatchTypes(t *testing.T) {
	for name, c := range map[string]struct {
		use  jose.Use
		want string
	}{
		"device": {jose.DeviceChallenge, okta.TypeDeviceBind}, "push": {jose.PushChallenge, okta.TypePushBind},
		"update": {jose.EnrolmentUpdate, okta.TypeEnrolmentUpdate},
		"change": {jose.KeyChange, okta.TypeKeyChange},
	} {
		if len(c.use.Types) != 1 || c.use.Types[0] != c.want || c.use.MaxSize != okta.MaxChallengeTokenSize {
			t.Errorf("%s: %+v", name, c.use)
		}
	}
}
