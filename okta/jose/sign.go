package jose

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// Signer is a private key that signs without being given away.
type Signer interface {
	KeyID() string
	Public() crypto.PublicKey
	// SignDigest signs a SHA-256 digest: ECDSA as ASN.1 DER, RSA as PKCS #1 v1.5.
	SignDigest(ctx context.Context, digest []byte) (sig []byte, err error)
}

// Sign makes a compact token of claims: ES256 with a P-256 key, RS256 with an
// RSA key. An empty typ leaves the header member out.
func Sign(ctx context.Context, s Signer, typ string, claims any) (string, error) {
	head := struct {
		Algorithm Algorithm `json:"alg"`
		KeyID     string    `json:"kid,omitempty"`
		Type      string    `json:"typ,omitempty"`
	}{KeyID: s.KeyID(), Type: typ}
	switch pub := s.Public().(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return "", fmt.Errorf("%w: curve is not P-256", ErrKey)
		}
		head.Algorithm = ES256
	case *rsa.PublicKey:
		head.Algorithm = RS256
	default:
		return "", fmt.Errorf("%w: type %T", ErrKey, pub)
	}
	header, err := json.Marshal(head)
	if err != nil {
		return "", fmt.Errorf("encoding the header: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding the claims: %w", err)
	}
	if len(payload) == 0 || payload[0] != '{' {
		return "", fmt.Errorf("%w: claims are not an object", ErrMalformed)
	}
	token := make([]byte, 0, base64url.EncodedLen(len(header)+len(payload)+maxRSABits/8)+8)
	token = base64url.AppendEncode(token, header)
	token = append(token, '.')
	token = base64url.AppendEncode(token, payload)
	digest := sha256.Sum256(token)
	sig, err := s.SignDigest(ctx, digest[:])
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	if head.Algorithm == ES256 {
		if sig, err = rawSignature(sig); err != nil {
			return "", fmt.Errorf("signing: %w", err)
		}
	}
	token = append(token, '.')
	return string(base64url.AppendEncode(token, sig)), nil
}

// rawSignature turns a DER signature into r and s of 32 bytes each, which is
// how JWS carries it.
func rawSignature(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) != 0 {
		return nil, errors.New("signature is not ASN.1 DER")
	}
	for _, n := range [...]*big.Int{sig.R, sig.S} {
		if n.Sign() <= 0 || n.BitLen() > 8*coordinateSize {
			return nil, errors.New("signature out of range")
		}
	}
	raw := make([]byte, 2*coordinateSize)
	sig.R.FillBytes(raw[:coordinateSize])
	sig.S.FillBytes(raw[coordinateSize:])
	return raw, nil
}

// SoftwareSigner signs with a key that is in memory.
func SoftwareSigner(kid string, key crypto.Signer) Signer { return softwareSigner{kid, key} }

type softwareSigner struct {
	kid string
	key crypto.Signer
}

func (s softwareSigner) KeyID() string            { return s.kid }
func (s softwareSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s softwareSigner) SignDigest(_ context.Context, digest []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, digest, crypto.SHA256)
}
