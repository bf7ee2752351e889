package jose

import (
	"crypto"

	gojose "github.com/go-jose/go-jose/v4"
)

// verify checks the signature of a token whose form Parse has already passed.
// go-jose parses it once more: that costs some microseconds and buys that the
// bytes it verifies are the ones it read itself. alg is the only algorithm it
// may find, and pub decides whether that algorithm fits.
func verify(pub crypto.PublicKey, alg Algorithm, token string) bool {
	parsed, err := gojose.ParseSignedCompact(token, []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(alg)})
	if err != nil {
		return false
	}
	_, err = parsed.Verify(pub)
	return err == nil
}
