package jose_test

import (
	"encoding/json"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
	gojson "github.com/go-jose/go-jose/v4/json"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// The strict path (form, duplicates, signature, claims) beside bare go-jose
// (signature, claims) in the same run; the goal is a quotient under 1.3.
func BenchmarkParseVerifyRS256(b *testing.B) { benchmarkVerify(b, rsaKey()) }

func BenchmarkParseVerifyES256(b *testing.B) { benchmarkVerify(b, ecKey()) }

func benchmarkVerify(b *testing.B, signer jose.Signer) {
	token := sign(b, signer, okta.TypeDeviceBind, exampleChallenge())
	jwk := jwkOf(b, signer)
	b.Run("strict", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			parsed, err := jose.Parse(token, jose.DeviceChallenge)
			if err != nil {
				b.Fatal(err)
			}
			var c okta.Challenge
			if err := parsed.Claims(&c); err != nil {
				b.Fatal(err)
			}
			if err := parsed.Verify(jwk); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, unmarshal := range map[string]func([]byte, any) error{
		"go-jose":               json.Unmarshal,
		"go-jose-refusing-twos": gojson.Unmarshal,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			algorithms := []gojose.SignatureAlgorithm{gojose.RS256, gojose.ES256}
			pub := signer.Public()
			for b.Loop() {
				parsed, err := gojose.ParseSignedCompact(token, algorithms)
				if err != nil {
					b.Fatal(err)
				}
				payload, err := parsed.Verify(pub)
				if err != nil {
					b.Fatal(err)
				}
				var c okta.Challenge
				if err := unmarshal(payload, &c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	token := sign(b, ecKey(), okta.TypeDeviceBind, exampleChallenge())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jose.Parse(token, jose.DeviceChallenge); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignES256(b *testing.B) {
	signer, claims := ecKey(), exampleChallenge()
	b.ReportAllocs()
	for b.Loop() {
		sign(b, signer, okta.TypeDeviceBind, claims)
	}
}
