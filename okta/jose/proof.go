package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"fmt"

	gojose "github.com/go-jose/go-jose/v4"
)

// SignEmbedded makes a compact ES256 token that brings its own public key along
// in the header member "jwk", as a DPoP proof must (RFC 9449, 4.2). Parse
// refuses every such token: it proves that its sender has a key, and nothing
// about who that is.
func SignEmbedded(key *ecdsa.PrivateKey, typ string, claims any) (string, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return "", fmt.Errorf("%w: curve is not P-256", ErrKey)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding the claims: %w", err)
	}
	options := (&gojose.SignerOptions{EmbedJWK: true}).WithType(gojose.ContentType(typ))
	signer, err := gojose.NewSigner(gojose.SigningKey{Algorithm: gojose.ES256, Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("preparing to sign: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return signed.CompactSerialize()
}
