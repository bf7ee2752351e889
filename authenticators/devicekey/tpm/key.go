package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta/jose"
)

// key is a handle; a change of what the key demands makes a new one.
type key struct {
	store  *Store
	ref    devicekey.Ref
	entry  entry
	area   *tpm2.TPMTPublic
	public *ecdsa.PublicKey
}

func (k *key) String() string              { return "TPM key " + k.ref.ID }
func (k *key) GoString() string            { return k.String() }
func (k *key) LogValue() slog.Value        { return slog.StringValue(k.String()) }
func (k *key) Ref() devicekey.Ref          { return k.ref }
func (k *key) Public() crypto.PublicKey    { return k.public }
func (k *key) Protection() jose.Protection { return jose.ProtectionHardware }

// silent says whether the key demands nothing.
func (k *key) silent() bool { return len(k.entry.Salt) == 0 }

// Sign has the TPM sign a SHA-256 digest. A wrong secret is counted by the TPM,
// for all programs of this computer together; a try that would lock it is not
// made.
func (k *key) Sign(ctx context.Context, digest []byte, auth devicekey.Authorisation) ([]byte, error) {
	signature, err := k.sign(ctx, digest, auth.Secret)
	if err != nil {
		return nil, fmt.Errorf("sign with TPM key: %w", err)
	}
	return signature, nil
}

func (k *key) sign(ctx context.Context, digest []byte, secret devicekey.Secret) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("digest of %d bytes", len(digest))
	}
	// What it demands may have been changed: ask the store who we are now.
	now, err := k.store.find(k.ref)
	if err != nil {
		return nil, err
	}
	var auth []byte
	if !now.silent() {
		if len(secret) == 0 {
			return nil, devicekey.ErrUnauthorised // not a try
		}
		auth = derive(secret, now.entry.Salt)
	}
	digest = bytes.Clone(digest) // the caller may leave before we do
	signature, err := run(ctx, k.store.tpm, op[[]byte]{
		do:   func(l *link) ([]byte, error) { return l.sign(now, digest, auth) },
		done: func() { clear(auth) },
	})
	k.store.learn(now, err)
	return signature, err
}

// sign is the part of Sign that holds the TPM.
func (l *link) sign(k *key, digest, auth []byte) ([]byte, error) {
	o, err := l.loadKey(k)
	if err != nil {
		return nil, err
	}
	if !k.silent() {
		if err := l.mayTry(); err != nil {
			return nil, err
		}
	}
	// Waiting took a while, in which the vault may have been locked, the key
	// deleted, or its secret changed.
	if err := k.current(); err != nil {
		return nil, err
	}
	s, err := l.session()
	if err != nil {
		return nil, err
	}
	l.tried = !k.silent()
	rsp, err := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: s.with(auth, plain)},
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   ecdsaSHA256,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck}, // not a restricted key: none needed
	}.Execute(l)
	if err != nil {
		return nil, l.unauthorised(k, err)
	}
	return k.signature(digest, rsp.Signature)
}

var ecdsaSHA256 = tpm2.TPMTSigScheme{
	Scheme:  tpm2.TPMAlgECDSA,
	Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
}

// loadKey puts the key into the TPM under the root key that it was made under.
func (l *link) loadKey(k *key) (*object, error) {
	r, err := l.root(k.entry.SRK, k.entry.EK)
	if err != nil {
		return nil, err
	}
	return l.load(r, k.area, k.entry.Private)
}

// unauthorised tells a secret that is wrong from a TPM that has forgotten us.
func (l *link) unauthorised(k *key, err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCLockout):
		return l.tpm.lockedOut(0, err)
	case !errors.Is(err, tpm2.TPMRCAuthFail) && !errors.Is(err, tpm2.TPMRCBadAuth):
		return err
	case k.silent():
		// Nothing is demanded: our session or the key's place is another's now.
		return fmt.Errorf("%w: %w", errStale, err)
	}
	return fmt.Errorf("%w: %w", devicekey.ErrUnauthorised, err)
}

// signature checks what the TPM returned before anybody relies on it.
func (k *key) signature(digest []byte, from tpm2.TPMTSignature) ([]byte, error) {
	parts, err := from.Signature.ECDSA()
	if err != nil || from.SigAlg != tpm2.TPMAlgECDSA {
		return nil, fmt.Errorf("%w: not an ECDSA signature", errGarbage)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(parts.SignatureR.Buffer), new(big.Int).SetBytes(parts.SignatureS.Buffer),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if !ecdsa.VerifyASN1(k.public, digest, der) {
		return nil, fmt.Errorf("%w: its signature does not verify", errGarbage)
	}
	return der, nil
}

// current says whether the key is still what it was.
func (k *key) current() error {
	now, err := k.store.find(k.ref)
	if err != nil {
		return err
	}
	if !k.equal(now) {
		return devicekey.ErrUnauthorised // what it demands was changed
	}
	return nil
}

// derive makes a key's auth value of the secret it demands: always 32 bytes, and
// of no use for another key. The TPM would cut off trailing zeros.
func derive(secret devicekey.Secret, salt []byte) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte("countersign TPM key v1\x00"))
	mac.Write(secret)
	auth := mac.Sum(nil)
	auth[len(auth)-1] |= 1
	return auth
}

// Reauthorise changes what keys demand: all of them in one change of the room,
// or none.
func (s *Store) Reauthorise(ctx context.Context, refs []devicekey.Ref, from, to devicekey.Authorisation) error {
	if err := s.reauthorise(ctx, refs, from.Secret, to.Secret); err != nil {
		return fmt.Errorf("change what TPM keys demand: %w", err)
	}
	return nil
}

func (s *Store) reauthorise(ctx context.Context, refs []devicekey.Ref, from, to devicekey.Secret) error {
	if len(refs) == 0 {
		return nil
	}
	if len(from) == 0 || len(to) == 0 {
		return devicekey.ErrUnauthorised
	}
	var changes []*change
	seen := map[string]bool{}
	for _, ref := range refs {
		if seen[ref.ID] {
			continue
		}
		seen[ref.ID] = true
		k, err := s.find(ref)
		if err != nil {
			return err
		}
		if k.silent() {
			return fmt.Errorf("%s is a silent key: %w", k, devicekey.ErrUnsupported)
		}
		c := &change{before: k, salt: newSalt()}
		c.old, c.new = derive(from, k.entry.Salt), derive(to, c.salt)
		changes = append(changes, c)
	}
	after, err := run(ctx, s.tpm, op[[]*key]{
		do: func(l *link) ([]*key, error) { return l.change(changes) },
		done: func() {
			for _, c := range changes {
				clear(c.old)
				clear(c.new)
			}
		},
	})
	s.learn(changes[0].before, err)
	if err != nil {
		return err
	}
	return s.replace(changes, after)
}

// change is what happens to one key.
type change struct {
	before   *key
	salt     []byte
	old, new []byte
}

// change has the TPM make the private part of each key anew, around the new auth
// value. It keeps neither, so nothing has happened until they are saved.
func (l *link) change(changes []*change) ([]*key, error) {
	var after []*key
	for _, c := range changes {
		k := c.before
		o, err := l.loadKey(k)
		if err != nil {
			return nil, err
		}
		if err := l.mayTry(); err != nil {
			return nil, err
		}
		s, err := l.session()
		if err != nil {
			return nil, err
		}
		l.tried = true
		rsp, err := tpm2.ObjectChangeAuth{
			ObjectHandle: tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: s.with(c.old, encryptIn, encryptOut)},
			ParentHandle: l.storer.named(),
			NewAuth:      tpm2.TPM2BAuth{Buffer: c.new},
		}.Execute(l)
		if err != nil {
			return nil, l.unauthorised(k, err)
		}
		e := k.entry
		e.Salt, e.Private = c.salt, rsp.OutPrivate.Buffer
		changed, err := k.store.parse(e)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errGarbage, err)
		}
		after = append(after, changed)
	}
	return after, nil
}

// replace saves changed keys, unless another change came first.
func (s *Store) replace(changes []*change, after []*key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	for _, c := range changes {
		now, ok := s.keys[c.before.ref.ID]
		if !ok {
			return fmt.Errorf("%s: %w", c.before, devicekey.ErrNotFound)
		}
		if !now.equal(c.before) {
			return devicekey.ErrUnauthorised
		}
	}
	for _, k := range after {
		s.keys[k.ref.ID] = k
	}
	failed := s.save()
	if failed == nil {
		return nil
	}
	// The room is the old one or the new one, and "none" has to be true of an
	// error.
	s.forget()
	if err := s.load(); err != nil {
		return fmt.Errorf("save: %w", errors.Join(failed, err))
	}
	for _, k := range after {
		if now, ok := s.keys[k.ref.ID]; !ok || !now.equal(k) {
			return fmt.Errorf("save: %w", failed)
		}
	}
	return nil
}
