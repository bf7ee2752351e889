package jose_test

import (
	"context"
	"crypto/ed25519"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"countersign.dev/okta/jose"
)

// brokenSigner has a good public key and a signature of its own making.
type brokenSigner struct {
	jose.Signer
	sig []byte
	err error
}

func (s brokenSigner) SignDigest(context.Context, []byte) ([]byte, error) { return s.sig, s.err }

// E4: whatever a key store returns, nothing but r and s of 32 bytes leaves.
func TestE4SignerOutput(t *testing.T) {
	der := func(r, s *big.Int) []byte {
		b, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	small, huge := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 256)
	for name, sig := range map[string][]byte{
		"nothing": nil, "raw": make([]byte, 64), "r = 0": der(new(big.Int), small), "negative": der(big.NewInt(-1), small),
		"too large": der(small, huge), "with a tail": append(der(small, small), 0),
	} {
		if token, err := jose.Sign(t.Context(), brokenSigner{Signer: ecKey(), sig: sig}, "JWT", struct{}{}); err == nil {
			t.Errorf("%s: %s", name, token)
		}
	}
	token, err := jose.Sign(t.Context(), brokenSigner{Signer: ecKey(), sig: der(small, small)}, "JWT", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b64.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	if err != nil || len(raw) != 64 || raw[31] != 1 || raw[63] != 1 {
		t.Errorf("short r and s are not filled up: %x, %v", raw, err)
	}
}

func TestSignRefuses(t *testing.T) {
	gone := errors.New("token unplugged")
	if _, err := jose.Sign(t.Context(), brokenSigner{Signer: ecKey(), err: gone}, "JWT", struct{}{}); !errors.Is(err, gone) {
		t.Errorf("cause lost: %v", err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jose.Sign(t.Context(), jose.SoftwareSigner("k", private), "JWT", struct{}{}); !errors.Is(err, jose.ErrKey) {
		t.Errorf("Ed25519: %v", err)
	}
	for _, claims := range []any{nil, 1, "x", []int{1}} {
		if _, err := jose.Sign(t.Context(), ecKey(), "JWT", claims); !errors.Is(err, jose.ErrMalformed) {
			t.Errorf("claims %v: %v", claims, err)
		}
	}
	if _, err := jose.Sign(t.Context(), ecKey(), "JWT", func() {}); err == nil {
		t.Error("claims that are no JSON")
	}
}

// An empty typ is left out, and both spellings of nothing are one.
func TestEmptyType(t *testing.T) {
	token := sign(t, ecKey(), "", struct{}{})
	header, err := b64.DecodeString(token[:strings.IndexByte(token, '.')])
	if err != nil || string(header) != `{"alg":"ES256","kid":"ec-1"}` {
		t.Errorf("header %s, %v", header, err)
	}
	for _, token := range []string{
		token,
		sign(t, ecKey(), "JWT", struct{}{}),
		forge(`{"alg":"ES256","typ":""}`, `{}`, constant(0)), // as Apple's client sends it
	} {
		if _, err := jose.Parse(token, jose.ClientInstance); err != nil {
			t.Error(err)
		}
	}
}
