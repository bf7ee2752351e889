package softkey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

// coseKey is a public key on P-256 or Ed25519 (RFC 9053, 7).
type coseKey struct {
	Type      int    `cbor:"1,keyasint"`
	Algorithm int    `cbor:"3,keyasint"`
	Curve     int    `cbor:"-1,keyasint"`
	X         []byte `cbor:"-2,keyasint"`
	Y         []byte `cbor:"-3,keyasint,omitempty"`
}

const (
	algES256     = -7
	algEdDSA     = -8
	algAgreement = -25 // ECDH-ES + HKDF-256, as CTAP2 calls either protocol's key
)

// secrets are what host and key share under one PIN/UV auth protocol (CTAP 2.1,
// 6.5.6 and 6.5.7).
type secrets struct {
	protocol int
	mac, aes []byte
}

// agreed derives the secrets from the host's public key.
func (k *Key) agreed(protocol int, host coseKey) (secrets, error) {
	if host.Type != 2 || host.Algorithm != algAgreement || host.Curve != 1 || len(host.X) != 32 || len(host.Y) != 32 {
		return secrets{}, InvalidParameter
	}
	public, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, host.X...), host.Y...))
	if err != nil {
		return secrets{}, InvalidParameter
	}
	z, err := k.power.agree.ECDH(public)
	if err != nil {
		return secrets{}, InvalidParameter
	}
	return derived(protocol, z), nil
}

func derived(protocol int, z []byte) secrets {
	if protocol == 1 {
		both := sha256.Sum256(z)
		return secrets{1, both[:], both[:]}
	}
	salt := make([]byte, 32)
	return secrets{
		2, must(hkdf.Key(sha256.New, z, salt, "CTAP2 HMAC key", 32)), must(hkdf.Key(sha256.New, z, salt, "CTAP2 AES key", 32)),
	}
}

// tag authenticates a message.
func tag(protocol int, key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	sum := h.Sum(nil)
	if protocol == 1 {
		return sum[:16]
	}
	return sum
}

func (s secrets) authentic(message, got []byte) bool {
	return hmac.Equal(tag(s.protocol, s.mac, message), got)
}

func (s secrets) open(sealed []byte) ([]byte, error) {
	iv := make([]byte, aes.BlockSize)
	if s.protocol == 2 {
		if len(sealed) < aes.BlockSize {
			return nil, InvalidParameter
		}
		iv, sealed = sealed[:aes.BlockSize], sealed[aes.BlockSize:]
	}
	if len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, InvalidParameter
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(must(aes.NewCipher(s.aes)), iv).CryptBlocks(plain, sealed)
	return plain, nil
}

// seal encrypts whole blocks.
func (s secrets) seal(plain []byte) []byte {
	iv := make([]byte, aes.BlockSize)
	if s.protocol == 2 {
		iv = random(aes.BlockSize)
	}
	sealed := make([]byte, len(plain))
	cipher.NewCBCEncrypter(must(aes.NewCipher(s.aes)), iv).CryptBlocks(sealed, plain)
	if s.protocol == 2 {
		return append(iv, sealed...)
	}
	return sealed
}
