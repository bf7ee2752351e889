package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

const (
	typeEC    = "EC"
	typeRSA   = "RSA"
	curveP256 = "P-256"

	coordinateSize = 32 // bytes of a P-256 coordinate, and of each half of an ES256 signature
	minRSABits     = 2048
	maxRSABits     = 4096
)

var (
	ecAlgorithms  = []Algorithm{ES256}
	rsaAlgorithms = []Algorithm{RS256, RS384, RS512}
)

func newJWK(kid string, pub crypto.PublicKey, protection Protection) (JWK, error) {
	k := JWK{KeyID: kid, KPR: protection}
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return JWK{}, fmt.Errorf("%w: curve is not P-256", ErrKey)
		}
		point, err := pub.Bytes()
		if err != nil {
			return JWK{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		k.KeyType, k.Curve = typeEC, curveP256
		k.X = base64url.EncodeToString(point[1 : 1+coordinateSize])
		k.Y = base64url.EncodeToString(point[1+coordinateSize:])
	case *rsa.PublicKey:
		k.KeyType = typeRSA
		k.N = base64url.EncodeToString(pub.N.Bytes())
		k.E = base64url.EncodeToString(big.NewInt(int64(pub.E)).Bytes())
	default:
		return JWK{}, fmt.Errorf("%w: type %T", ErrKey, pub)
	}
	if _, err := k.publicKey(); err != nil {
		return JWK{}, err
	}
	return k, nil
}

func (k JWK) publicKey() (crypto.PublicKey, error) {
	pub, _, err := k.verifier()
	return pub, err
}

// verifier returns the checked key and the algorithms it may verify.
func (k JWK) verifier() (crypto.PublicKey, []Algorithm, error) {
	var (
		pub        crypto.PublicKey
		algorithms []Algorithm
		err        error
	)
	switch k.KeyType {
	case typeEC:
		algorithms = ecAlgorithms
		pub, err = k.ec()
	case typeRSA:
		algorithms = rsaAlgorithms
		pub, err = k.rsa()
	default:
		err = fmt.Errorf("unknown kty %.16q", k.KeyType)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if k.Use != "" && k.Use != "sig" {
		return nil, nil, fmt.Errorf("%w: use %.16q", ErrKey, k.Use)
	}
	if k.Algorithm != "" {
		i := slices.Index(algorithms, Algorithm(k.Algorithm))
		if i < 0 {
			return nil, nil, fmt.Errorf("%w: alg %.16q with kty %s", ErrKey, k.Algorithm, k.KeyType)
		}
		algorithms = algorithms[i : i+1]
	}
	return pub, algorithms, nil
}

func (k JWK) ec() (*ecdsa.PublicKey, error) {
	if k.Curve != curveP256 {
		return nil, fmt.Errorf("unknown crv %.16q", k.Curve)
	}
	var room [1 + 2*coordinateSize]byte
	point := append(room[:0], 4) // uncompressed
	for _, c := range [...]string{k.X, k.Y} {
		size := len(point)
		var err error
		if point, err = decodeMember(point, c, coordinateSize); err != nil {
			return nil, err
		}
		if len(point)-size != coordinateSize {
			return nil, errors.New("coordinate is not 32 bytes")
		}
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("not a point on P-256")
	}
	return pub, nil
}

func (k JWK) rsa() (*rsa.PublicKey, error) {
	n, err := decodeMember(nil, k.N, maxRSABits/8)
	if err != nil {
		return nil, err
	}
	e, err := decodeMember(nil, k.E, 4)
	if err != nil {
		return nil, err
	}
	if len(n) == 0 || n[0] == 0 || len(e) == 0 || e[0] == 0 {
		return nil, errors.New("modulus or exponent empty or with leading zeros")
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n)}
	for _, b := range e {
		pub.E = pub.E<<8 | int(b)
	}
	if bits := pub.N.BitLen(); bits < minRSABits || bits > maxRSABits || pub.N.Bit(0) == 0 {
		return nil, fmt.Errorf("modulus of %d bits, or even", bits)
	}
	if pub.E < 3 || pub.E&1 == 0 || pub.E > 1<<31-1 {
		return nil, fmt.Errorf("exponent %d", pub.E)
	}
	return pub, nil
}

// decodeMember appends the bytes of a base64url member of at most size bytes.
func decodeMember(dst []byte, s string, size int) ([]byte, error) {
	if len(s) > base64url.EncodedLen(size) {
		return nil, errors.New("member too long")
	}
	for i := range len(s) {
		if s[i] == '\r' || s[i] == '\n' {
			return nil, errors.New("member is not base64url")
		}
	}
	dst, err := base64url.AppendDecode(dst, []byte(s))
	if err != nil {
		return nil, errors.New("member is not base64url")
	}
	return dst, nil
}

// thumbprint hashes the required members in lexical order. They are base64url,
// so nothing needs escaping.
func (k JWK) thumbprint() (string, error) {
	if _, err := k.publicKey(); err != nil {
		return "", err
	}
	var canonical string
	switch k.KeyType {
	case typeEC:
		canonical = `{"crv":"P-256","kty":"EC","x":"` + k.X + `","y":"` + k.Y + `"}`
	case typeRSA:
		canonical = `{"e":"` + k.E + `","kty":"RSA","n":"` + k.N + `"}`
	}
	sum := sha256.Sum256([]byte(canonical))
	return base64url.EncodeToString(sum[:]), nil
}
