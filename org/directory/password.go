package directory

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/crypto/argon2"

	"countersign.dev/okta"
)

// The cost of one password check, OWASP's first choice for Argon2id.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	saltSize     = 16
	hashSize     = 32
	maxPassword  = 1024 // bytes; longer ones are refused before any work
)

// PasswordHash is an Argon2id hash in the PHC string format. It does not print.
type PasswordHash string

func (PasswordHash) String() string       { return "[redacted]" }
func (PasswordHash) GoString() string     { return "[redacted]" }
func (PasswordHash) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Hasher hashes and checks passwords. A number of slots bounds how many run at
// once, and with it the memory they take; others wait or give up with their
// context.
type Hasher struct {
	slots chan struct{}
	dummy PasswordHash
}

// NewHasher makes a hasher that works on at most slots passwords at once.
func NewHasher(slots int) *Hasher {
	h := &Hasher{slots: make(chan struct{}, max(1, slots))}
	// What an unknown user's password is checked against. Nothing matches it:
	// it is not the hash of anything.
	salt, sum := make([]byte, saltSize), make([]byte, hashSize)
	rand.Read(salt)
	rand.Read(sum)
	h.dummy = encode(salt, sum)
	return h
}

// Hash makes the hash to store for a password.
func (h *Hasher) Hash(ctx context.Context, password okta.Secret) (PasswordHash, error) {
	if n := len(password.Reveal()); n == 0 || n > maxPassword {
		return "", fmt.Errorf("hashing password: want 1 to %d bytes", maxPassword)
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	sum, err := h.derive(ctx, password, salt)
	if err != nil {
		return "", err
	}
	return encode(salt, sum), nil
}

// Verify says whether password belongs to hash. An empty hash, which is what a
// look-up of an unknown user leaves, costs as much as any other and matches
// nothing, so that the time tells no one who has an account.
func (h *Hasher) Verify(ctx context.Context, hash PasswordHash, password okta.Secret) (bool, error) {
	known := hash != ""
	if !known {
		hash = h.dummy
	}
	salt, want, err := decode(hash)
	if err != nil {
		return false, err
	}
	if len(password.Reveal()) > maxPassword {
		password, known = "", false
	}
	got, err := h.derive(ctx, password, salt)
	if err != nil {
		return false, err
	}
	same := subtle.ConstantTimeCompare(got, want) == 1
	return same && known, nil
}

func (h *Hasher) derive(ctx context.Context, password okta.Secret, salt []byte) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to check a password: %w", ctx.Err())
	}
	return argon2.IDKey([]byte(password.Reveal()), salt, argonTime, argonMemory, argonThreads, hashSize), nil
}

// prefix states algorithm, version and cost. There is one cost, so a stored
// hash with another one is damage, not an instruction to spend memory.
var prefix = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, argonMemory, argonTime, argonThreads)

func encode(salt, sum []byte) PasswordHash {
	b64 := base64.RawStdEncoding.EncodeToString
	return PasswordHash(prefix + b64(salt) + "$" + b64(sum))
}

var errHash = errors.New("stored password hash has an unknown form")

func decode(hash PasswordHash) (salt, sum []byte, err error) {
	rest, ok := strings.CutPrefix(string(hash), prefix)
	if !ok {
		return nil, nil, errHash
	}
	a, b, ok := strings.Cut(rest, "$")
	if !ok {
		return nil, nil, errHash
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(a)
	sum, err2 := base64.RawStdEncoding.DecodeString(b)
	if err1 != nil || err2 != nil || len(salt) != saltSize || len(sum) != hashSize {
		return nil, nil, errHash
	}
	return salt, sum, nil
}
