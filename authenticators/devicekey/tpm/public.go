package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// template is the public part that a key of ours has, but for its point: it was
// made in this TPM, never leaves it, and signs what it is given. A silent key is
// outside the dictionary-attack protection, so that somebody else's wrong PINs
// do not switch it off; a key that demands a secret is inside.
func template(silent bool) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, SignEncrypt: true, NoDA: silent,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// parsePublic reads a key's public part and says why it is not one of ours.
func parsePublic(b []byte, silent bool) (*tpm2.TPMTPublic, *ecdsa.PublicKey, error) {
	public, err := unmarshal(b)
	if err != nil {
		return nil, nil, err
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, nil, errors.New("not an ECC key")
	}
	same, want := *public, template(silent)
	same.Unique = want.Unique
	if !bytes.Equal(tpm2.Marshal(same), tpm2.Marshal(want)) {
		return nil, nil, errors.New("not a key of this agent's kind")
	}
	key, err := publicKey(point)
	return public, key, err
}

// unmarshal reads a public part, which go-tpm trusts more than we do.
func unmarshal(b []byte) (public *tpm2.TPMTPublic, err error) {
	defer func() {
		if r := recover(); r != nil {
			public, err = nil, errors.New("unreadable")
		}
	}()
	public, err = tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil || !bytes.Equal(tpm2.Marshal(*public), b) {
		return nil, errors.New("unreadable")
	}
	return public, nil
}

// publicKey is a P-256 point as Go has it. A TPM may leave out leading zeros.
func publicKey(p *tpm2.TPMSECCPoint) (*ecdsa.PublicKey, error) {
	const size = 32
	b := make([]byte, 1, 1+2*size)
	b[0] = 4 // uncompressed (SEC 1, 2.3.4)
	for _, coordinate := range [][]byte{p.X.Buffer, p.Y.Buffer} {
		trimmed := bytes.TrimLeft(coordinate, "\x00")
		if len(trimmed) > size {
			return nil, errors.New("a coordinate is too long")
		}
		b = append(append(b, make([]byte, size-len(trimmed))...), trimmed...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b)
	if err != nil {
		return nil, fmt.Errorf("not a point of P-256: %w", err)
	}
	return key, nil
}
