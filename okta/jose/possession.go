package jose

import (
	"encoding/json"
	"fmt"
)

// typProof is the type of a proof of possession, and of nothing else.
const typProof = "dpop+jwt"

// possession is the use of proofs of possession. It stays in here: what brings
// its own key along is no token of any other use, and Parse reads none.
var possession = Use{[]string{typProof}, deviceAlgorithms, 8 << 10}

// ProofAlgorithms are the algorithms that OpenProof takes.
func ProofAlgorithms() []string {
	var out []string
	for _, a := range possession.Algorithms {
		out = append(out, string(a))
	}
	return out
}

// OpenProof reads a proof of possession (DPoP, RFC 9449, 4.2), verifies it with
// the public key in its own header and returns that key. This proves that its
// sender holds the key, and nothing about who that is: the caller compares the
// claims with the request, and the key with one that it knows.
//
// It is the one place where a key in a header counts. The header has the
// members typ, alg and jwk and no others; the key has no private member.
func OpenProof(proof string) (*Token, JWK, error) {
	var key JWK
	t, err := parse(proof, possession, func(data []byte) (h Header, err error) {
		h, key, err = parseProofHeader(data)
		return h, err
	})
	if err != nil {
		return nil, JWK{}, err
	}
	if err := t.Verify(key); err != nil {
		return nil, JWK{}, err
	}
	return t, key, nil
}

func parseProofHeader(data []byte) (Header, JWK, error) {
	var h Header
	var key JWK
	members, err := object(data)
	if err != nil {
		return h, key, fmt.Errorf("header: %w", err)
	}
	for name, value := range members {
		var dst any
		switch name {
		case "alg":
			dst = &h.Algorithm
		case "typ":
			dst = &h.Type
		case "jwk":
			if key, err = parseProofKey(value); err != nil {
				return Header{}, JWK{}, err
			}
			continue
		default:
			return Header{}, JWK{}, fmt.Errorf("%w: member %.40q", ErrHeader, name)
		}
		if err := json.Unmarshal(value, dst); err != nil {
			return Header{}, JWK{}, fmt.Errorf("%w: header member %s is not a string", ErrMalformed, name)
		}
	}
	if _, err := key.PublicKey(); err != nil { // before any other reader sees it
		return Header{}, JWK{}, err
	}
	return h, key, nil
}

// parseProofKey reads the key in a header. Whoever sends a private one has
// given it away: it proves nothing any more.
func parseProofKey(data []byte) (JWK, error) {
	var key JWK
	members, err := object(data)
	if err != nil {
		return JWK{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	for name, value := range members {
		var dst any
		switch name {
		case "kty":
			dst = &key.KeyType
		case "crv":
			dst = &key.Curve
		case "x":
			dst = &key.X
		case "y":
			dst = &key.Y
		case "n":
			dst = &key.N
		case "e":
			dst = &key.E
		case "kid":
			dst = &key.KeyID
		case "alg":
			dst = &key.Algorithm
		case "use":
			dst = &key.Use
		case "ext", "key_ops": // a browser says them of a key that it made
			continue
		default: // d, p, q, k and whatever else may be private
			return JWK{}, fmt.Errorf("%w: member %.40q in the header's key", ErrKey, name)
		}
		if err := json.Unmarshal(value, dst); err != nil {
			return JWK{}, fmt.Errorf("%w: member %s of the header's key is not a string", ErrKey, name)
		}
	}
	return key, nil
}

// object reads the members of a JSON object under their exact names.
func object(data []byte) (map[string]json.RawMessage, error) {
	if err := checkObject(data); err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return members, nil
}
