package unlock

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"golang.org/x/crypto/argon2"
)

// wrapped is the data key sealed under a passphrase, with all that is needed
// to open it but the passphrase.
type wrapped struct {
	KDF       string `json:"kdf"` // "argon2id"
	Salt      []byte `json:"salt"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Passes    uint32 `json:"passes"`
	Lanes     uint8  `json:"lanes"`
	Key       []byte `json:"key"` // AES-256-GCM: nonce, sealed data key, tag
}

// The cost of a new passphrase: the second recommendation of RFC 9106. Tests
// make it cheaper.
var (
	newMemoryKiB uint32 = 64 << 10
	newPasses    uint32 = 3
	newLanes     uint8  = 4
)

// The largest costs that are still taken for ours: a vault.json made by
// somebody else must not eat the machine.
const (
	maxMemoryKiB  = 1 << 20
	maxPasses     = 64
	maxLanes      = 64
	maxPassphrase = 4 << 10
	sealedKeySize = 12 + KeySize + 16
)

func (w *wrapped) check() error {
	switch {
	case w.KDF != "argon2id":
		return fmt.Errorf("unknown key derivation %q", w.KDF)
	case len(w.Salt) != 16:
		return errors.New("salt of the wrong size")
	case w.Passes < 1 || w.Passes > maxPasses || w.Lanes < 1 || w.Lanes > maxLanes,
		w.MemoryKiB < 8*uint32(w.Lanes) || w.MemoryKiB > maxMemoryKiB:
		return errors.New("costs of the key derivation out of bounds")
	case len(w.Key) != sealedKeySize:
		return errors.New("wrapped key of the wrong size")
	}
	return nil
}

// aead derives the wrapping key. Afterwards the memory Argon2id needed goes
// back to the system: otherwise an idle agent would keep it.
func (w *wrapped) aead(passphrase []byte) (cipher.AEAD, error) {
	key := argon2.IDKey(passphrase, w.Salt, w.Passes, w.MemoryKiB, w.Lanes, 32)
	defer clear(key)
	debug.FreeOSMemory()
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// wrapLabel is the associated data: the wrapped key of one vault does not
// open as that of another.
func wrapLabel(id string) []byte { return []byte("countersign wrapped vault key v1 " + id) }

func (m *Method) wrap(key Key, passphrase []byte) error {
	w := &wrapped{KDF: "argon2id", Salt: make([]byte, 16), MemoryKiB: newMemoryKiB, Passes: newPasses, Lanes: newLanes}
	rand.Read(w.Salt)
	aead, err := w.aead(passphrase)
	if err != nil {
		return err
	}
	w.Key = aead.Seal(nil, nil, key.Bytes(), wrapLabel(m.config.ID))
	m.config.Kind, m.config.Passphrase = Passphrase, w
	return nil
}

func (m *Method) unwrap(passphrase []byte) (Key, error) {
	aead, err := m.config.Passphrase.aead(passphrase)
	if err != nil {
		return Key{}, err
	}
	b, err := aead.Open(nil, nil, m.config.Passphrase.Key, wrapLabel(m.config.ID))
	if err != nil {
		return Key{}, ErrWrongPassphrase
	}
	return keyFrom(b)
}

// firstLine reads a passphrase: everything up to the first line break.
func firstLine(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPassphrase+1))
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	if len(data) > maxPassphrase {
		clear(data)
		return nil, errors.New("passphrase is too long")
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	clear(rest)
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return nil, ErrNoPassphrase
	}
	return line, nil
}
