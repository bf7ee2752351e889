package software

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"golang.org/x/crypto/argon2"

	"countersign.dev/authenticators/devicekey"
)

// sealed is a private key under the secret that it demands, with all that is
// needed to open it but the secret. Every key has a salt of its own, so the
// same PIN for two keys is guessed twice.
type sealed struct {
	KDF       string `json:"kdf"` // "argon2id"
	Salt      []byte `json:"salt"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Passes    uint32 `json:"passes"`
	Lanes     uint8  `json:"lanes"`
	Public    []byte `json:"public"`  // PKIX; a handle needs it without the secret
	Private   []byte `json:"private"` // AES-256-GCM: nonce, PKCS #8, tag
}

func (*sealed) String() string       { return "[sealed]" }
func (*sealed) GoString() string     { return "[sealed]" }
func (*sealed) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// The cost of a new seal: some 70 ms of a desktop's processor, and twice the
// memory that OWASP asks for at least (19 MiB, 2 passes). A sign-in with a PIN
// pays it twice, for the PIN's anchor and the account's key. Tests make it
// cheaper.
//
// Random secrets (32 bytes, from package verification) would need no slow
// derivation. They get the same one: a store cannot tell them from a PIN, and a
// flag that makes a seal cheap is a flag to get wrong.
var (
	newMemoryKiB uint32 = 38 << 10
	newPasses    uint32 = 3
	newLanes     uint8  = 1
)

// The largest costs that are still taken for ours: a room that somebody else
// made must not eat the machine.
const (
	maxMemoryKiB = 1 << 20
	maxPasses    = 64
	maxLanes     = 64
	saltSize     = 16
	maxSealed    = 1024
)

func (b *sealed) check() error {
	switch {
	case b.KDF != "argon2id":
		return errors.New("unknown key derivation")
	case len(b.Salt) != saltSize:
		return errors.New("salt of the wrong size")
	case b.Passes < 1 || b.Passes > maxPasses || b.Lanes < 1 || b.Lanes > maxLanes,
		b.MemoryKiB < 8*uint32(b.Lanes) || b.MemoryKiB > maxMemoryKiB:
		return errors.New("costs of the key derivation out of bounds")
	case len(b.Private) > maxSealed:
		return errors.New("sealed key of the wrong size")
	}
	return nil
}

// label is the associated data: one key's seal opens as no other's, and a key
// keeps its role.
func (k *key) label() []byte {
	return fmt.Appendf(nil, "countersign software key v1 %s %s", k.ref.ID, k.role)
}

// aead derives the sealing key. One derivation runs at a time, and the memory
// it needed goes back to the system before the next: otherwise an idle agent
// would keep it.
func (s *Store) aead(ctx context.Context, b *sealed, secret devicekey.Secret) (cipher.AEAD, error) {
	select {
	case s.deriving <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.deriving }()
	if err := ctx.Err(); err != nil {
		return nil, err // both were ready
	}
	key := argon2.IDKey(secret, b.Salt, b.Passes, b.MemoryKiB, b.Lanes, 32)
	defer clear(key)
	debug.FreeOSMemory()
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal puts a private key under a secret that is not empty.
func (s *Store) seal(ctx context.Context, k *key, private *ecdsa.PrivateKey, secret devicekey.Secret) (*sealed, error) {
	public, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return nil, errors.New("encode public key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, errors.New("encode key") // the cause might quote the key
	}
	defer clear(der)
	b := &sealed{KDF: "argon2id", Salt: make([]byte, saltSize), MemoryKiB: newMemoryKiB, Passes: newPasses, Lanes: newLanes, Public: public}
	rand.Read(b.Salt)
	aead, err := s.aead(ctx, b, secret)
	if err != nil {
		return nil, err
	}
	b.Private = aead.Seal(nil, nil, der, k.label())
	return b, nil
}

// unseal returns the private key. The caller overwrites it.
func (s *Store) unseal(ctx context.Context, k *key, secret devicekey.Secret) (*ecdsa.PrivateKey, error) {
	if len(secret) == 0 {
		return nil, devicekey.ErrUnauthorised
	}
	aead, err := s.aead(ctx, k.sealed, secret)
	if err != nil {
		return nil, err
	}
	der, err := aead.Open(nil, nil, k.sealed.Private, k.label())
	if err != nil {
		return nil, devicekey.ErrUnauthorised
	}
	defer clear(der)
	private, err := parsePrivate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: key %s: %w", devicekey.ErrUnavailable, k.ref.ID, err)
	}
	if !private.PublicKey.Equal(k.public) {
		overwrite(private)
		return nil, fmt.Errorf("%w: key %s: its halves do not belong together", devicekey.ErrUnavailable, k.ref.ID)
	}
	return private, nil
}

func (k *key) signSealed(ctx context.Context, digest []byte, secret devicekey.Secret) ([]byte, error) {
	private, err := k.store.unseal(ctx, k, secret)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k, err)
	}
	defer overwrite(private)
	// That took a while, in which the vault may have been locked, the key
	// deleted, or its secret changed.
	now, err := k.store.find(k.ref)
	if err != nil {
		return nil, err
	}
	if !now.sealedAs(k) {
		return nil, fmt.Errorf("sign with %s: %w", k, devicekey.ErrUnauthorised)
	}
	return ecdsa.SignASN1(rand.Reader, private, digest)
}

// sealedAs says whether both handles show the same seal.
func (k *key) sealedAs(other *key) bool {
	return k.sealed != nil && other.sealed != nil && bytes.Equal(k.sealed.Private, other.sealed.Private)
}

// Reauthorise seals keys under another secret: all of them in one change of the
// room, or none.
func (s *Store) Reauthorise(ctx context.Context, refs []devicekey.Ref, from, to devicekey.Authorisation) error {
	if len(refs) == 0 {
		return nil
	}
	if len(from.Secret) == 0 || len(to.Secret) == 0 {
		return fmt.Errorf("change what software keys demand: %w", devicekey.ErrUnauthorised)
	}
	// Derived without holding the lock: silent keys sign meanwhile.
	before, after := make([]*key, 0, len(refs)), make([]*key, 0, len(refs))
	seen := map[devicekey.Ref]bool{}
	for _, ref := range refs {
		if seen[ref] {
			continue
		}
		seen[ref] = true
		k, err := s.find(ref)
		if err != nil {
			return err
		}
		if k.sealed == nil {
			return fmt.Errorf("change what %s demands, a silent key: %w", k, devicekey.ErrUnsupported)
		}
		changed, err := s.reseal(ctx, k, from.Secret, to.Secret)
		if err != nil {
			return fmt.Errorf("change what %s demands: %w", k, err)
		}
		before, after = append(before, k), append(after, changed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	for _, k := range before {
		now, ok := s.keys[k.ref.ID]
		if !ok {
			return fmt.Errorf("%s: %w", k, devicekey.ErrNotFound)
		}
		if !now.sealedAs(k) { // another change came first
			return fmt.Errorf("change what %s demands: %w", k, devicekey.ErrUnauthorised)
		}
	}
	for _, k := range after {
		s.keys[k.ref.ID] = k
	}
	if err := s.save(); err != nil {
		return s.reauthorised(after, err)
	}
	return nil
}

// reauthorised looks at how a save ended that failed: the room is the old one
// or the new one, and "none" has to be true of an error. The caller holds mu.
func (s *Store) reauthorised(after []*key, failed error) error {
	s.forget()
	if err := s.load(); err != nil {
		return fmt.Errorf("save software keys: %w", errors.Join(failed, err))
	}
	for _, k := range after {
		if now, ok := s.keys[k.ref.ID]; !ok || !now.sealedAs(k) {
			return fmt.Errorf("save software keys: %w", failed)
		}
	}
	return nil
}

func (s *Store) reseal(ctx context.Context, k *key, from, to devicekey.Secret) (*key, error) {
	private, err := s.unseal(ctx, k, from)
	if err != nil {
		return nil, err
	}
	defer overwrite(private)
	changed := &key{store: s, ref: k.ref, role: k.role, public: k.public}
	if changed.sealed, err = s.seal(ctx, changed, private, to); err != nil {
		return nil, err
	}
	return changed, nil
}

func (s *Store) parseSealed(e entry) (*key, error) {
	if err := e.Sealed.check(); err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(e.Sealed.Public)
	if err != nil {
		return nil, errors.New("unreadable public key")
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("no P-256 key")
	}
	return &key{
		store: s, ref: devicekey.Ref{Kind: devicekey.KindSoftware, ID: e.ID},
		role: e.Role, public: public, sealed: e.Sealed,
	}, nil
}
