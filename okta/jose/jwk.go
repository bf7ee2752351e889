package jose

import "crypto"

// Protection is the "okta:kpr" member of a key: where its private part lives,
// as its owner says. Nothing but attestation proves it.
type Protection string

// The values of Protection.
const (
	ProtectionHardware Protection = "HARDWARE"
	ProtectionSoftware Protection = "SOFTWARE"
)

// JWK is a public key on the wire: P-256 or RSA of 2048 to 4096 bits. Members
// are base64url without padding; P-256 coordinates are 32 bytes each.
type JWK struct {
	KeyType   string     `json:"kty"`
	Curve     string     `json:"crv,omitempty"`
	X         string     `json:"x,omitempty"`
	Y         string     `json:"y,omitempty"`
	N         string     `json:"n,omitempty"`
	E         string     `json:"e,omitempty"`
	KeyID     string     `json:"kid"`
	Algorithm string     `json:"alg,omitempty"`
	Use       string     `json:"use,omitempty"`
	KPR       Protection `json:"okta:kpr,omitempty"`
}

// NewJWK describes a public key. It refuses any key PublicKey would refuse.
func NewJWK(kid string, pub crypto.PublicKey, protection Protection) (JWK, error) {
	return newJWK(kid, pub, protection)
}

// PublicKey returns the key, checked: a known type, a point on the curve, a
// modulus of sane size, fixed-length coordinates.
func (k JWK) PublicKey() (crypto.PublicKey, error) { return k.publicKey() }

// Thumbprint is the RFC 7638 SHA-256 thumbprint, base64url without padding.
func (k JWK) Thumbprint() (string, error) { return k.thumbprint() }
