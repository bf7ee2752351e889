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

	gojose "github.com/go-jose/go-jose/v4"
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
	var alg gojose.SignatureAlgorithm
	switch pub := s.Public().(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return "", fmt.Errorf("%w: curve is not P-256", ErrKey)
		}
		alg = gojose.ES256
	case *rsa.PublicKey:
		alg = gojose.RS256
	default:
		return "", fmt.Errorf("%w: type %T", ErrKey, pub)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding the claims: %w", err)
	}
	if len(payload) == 0 || payload[0] != '{' {
		return "", fmt.Errorf("%w: claims are not an object", ErrMalformed)
	}
	options := &gojose.SignerOptions{}
	if typ != "" {
		options.WithType(gojose.ContentType(typ))
	}
	signer, err := gojose.NewSigner(gojose.SigningKey{Algorithm: alg, Key: opaque{ctx, s, alg}}, options)
	if err != nil {
		return "", fmt.Errorf("preparing to sign: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return signed.CompactSerialize()
}

// opaque is a key for one call of Sign: it carries the call's context past an
// interface that knows none. go-jose's own adapter (cryptosigner) is not used
// since it panics on a signature out of range, which broken hardware may give.
type opaque struct {
	ctx    context.Context
	signer Signer
	alg    gojose.SignatureAlgorithm
}

func (o opaque) Public() *gojose.JSONWebKey {
	return &gojose.JSONWebKey{Key: o.signer.Public(), KeyID: o.signer.KeyID()}
}

func (o opaque) Algs() []gojose.SignatureAlgorithm { return []gojose.SignatureAlgorithm{o.alg} }

func (o opaque) SignPayload(payload []byte, alg gojose.SignatureAlgorithm) ([]byte, error) {
	if alg != o.alg {
		return nil, gojose.ErrUnsupportedAlgorithm
	}
	digest := sha256.Sum256(payload)
	sig, err := o.signer.SignDigest(o.ctx, digest[:])
	if err != nil || alg != gojose.ES256 {
		return sig, err
	}
	return rawSignature(sig)
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
