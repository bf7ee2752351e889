package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // RS256, ES256
	_ "crypto/sha512" // RS384, RS512
	"math/big"
)

// verify checks a signature over what was signed, the first two segments as
// they came. It is false for every algorithm but the four it knows, and for a
// key of another kind than the algorithm's.
func verify(pub crypto.PublicKey, alg Algorithm, signed string, signature []byte) bool {
	var hash crypto.Hash
	switch alg {
	case RS256, ES256:
		hash = crypto.SHA256
	case RS384:
		hash = crypto.SHA384
	case RS512:
		hash = crypto.SHA512
	default:
		return false
	}
	h := hash.New()
	h.Write([]byte(signed))
	digest := h.Sum(nil)
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return alg != ES256 && rsa.VerifyPKCS1v15(pub, hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		// Exactly r and s of 32 bytes; crypto/ecdsa refuses zero and anything
		// beyond the order of the curve.
		if alg != ES256 || len(signature) != 2*coordinateSize {
			return false
		}
		r := new(big.Int).SetBytes(signature[:coordinateSize])
		s := new(big.Int).SetBytes(signature[coordinateSize:])
		return ecdsa.Verify(pub, digest, r, s)
	}
	return false
}
