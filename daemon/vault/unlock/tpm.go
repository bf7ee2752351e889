package unlock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// sealed is the data key sealed to a TPM. Everything in it may be seen: the
// public parameters and the sealed key itself are the sealer's one blob, which
// says by itself how to read it.
type sealed struct {
	Blob []byte `json:"blob"`
}

// maxBlob is more than any TPM returns for 32 bytes.
const maxBlob = 4 << 10

// tpmTimeout bounds what is asked of the TPM without a deadline. A slow chip
// takes a second for it; a busy one has others to serve first.
const tpmTimeout = 30 * time.Second

func (s *sealed) check() error {
	if len(s.Blob) == 0 || len(s.Blob) > maxBlob {
		return errors.New("sealed key of the wrong size")
	}
	return nil
}

// seal has the TPM seal the key, and open it again.
func (m *Method) seal(ctx context.Context, key Key) error {
	if m.sealer == nil {
		return ErrNoSealer
	}
	ctx, cancel := within(ctx, tpmTimeout)
	defer cancel()
	secret := bytes.Clone(key.Bytes())
	defer clear(secret)
	blob, err := m.sealer.Seal(ctx, secret)
	if err != nil {
		return fmt.Errorf("seal the vault's key: %w", err)
	}
	s := &sealed{Blob: bytes.Clone(blob)}
	if err := s.check(); err != nil {
		return fmt.Errorf("seal the vault's key: the TPM returned a %w", err)
	}
	m.config.Kind, m.config.TPM = TPM, s
	back, err := m.unseal(ctx)
	if err != nil {
		return err
	}
	defer back.Wipe()
	if checkOf(back) != m.config.Check {
		return fmt.Errorf("seal the vault's key: the TPM returned another secret than it was given: %w", ErrWrongKey)
	}
	return nil
}

func (m *Method) unseal(ctx context.Context) (Key, error) {
	if m.sealer == nil {
		return Key{}, ErrNoSealer
	}
	ctx, cancel := within(ctx, tpmTimeout)
	defer cancel()
	b, err := m.sealer.Unseal(ctx, bytes.Clone(m.config.TPM.Blob))
	if err != nil {
		clear(b)
		return Key{}, fmt.Errorf("unseal the vault's key: %w", err)
	}
	key, err := keyFrom(b)
	if err != nil {
		return Key{}, fmt.Errorf("unseal the vault's key: %w: %w", ErrWrongKey, err)
	}
	return key, nil
}
