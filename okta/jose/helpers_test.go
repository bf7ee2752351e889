package jose_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"sync"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

var b64 = base64.RawURLEncoding

var rsaKey = sync.OnceValue(func() jose.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return jose.SoftwareSigner("rsa-1", key)
})

var ecKey = sync.OnceValue(func() jose.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return jose.SoftwareSigner("ec-1", key)
})

func jwkOf(t testing.TB, s jose.Signer) jose.JWK {
	t.Helper()
	k, err := jose.NewJWK(s.KeyID(), s.Public(), jose.ProtectionSoftware)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, s jose.Signer, typ string, claims any) string {
	t.Helper()
	token, err := jose.Sign(t.Context(), s, typ, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// exampleChallenge has the members, and about the size, of a recorded one.
func exampleChallenge() okta.Challenge {
	return okta.Challenge{
		Issuer: "https://id.example.com", Audience: "countersign-agent",
		IssuedAt: 1664198776, ExpiresAt: 1664199076,
		ID: "ftfwX8KtsG1BI2L0QegPefkwynhu_scJfl", TransactionID: "ftfwX8KtsG1BI2L0QegPefkwynhu_scJfl",
		Nonce: "BdDzaz1yGd9WT1flNgIE", OrgID: "00o2h3ffoaTwKW0EM1d7",
		VerificationURI: "https://id.example.com/idp/authenticators/aut2h3fft4y9pDPCS1d7/transactions/ftfwX8KtsG1BI2L0QegPefkwynhu_scJfl/verify",
		Method:          okta.MethodSignedNonce, KeyType: okta.KeyProofOfPossession, FactorType: "signed_nonce",
		KeyTypes:         []string{"userVerification", "proofOfPossession"},
		UserVerification: okta.NeedPreferred, UserMediation: okta.NeedRequired,
		Signals:         []string{"id", "displayName", "platform", "manufacturer", "model", "osVersion", "serialNumber", "udid", "secureHardwarePresent"},
		AppInstanceName: "Payroll", RequestReferrer: "https://id.example.com",
	}
}
