package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"path/filepath"

	"countersign.dev/daemon/vault/unlock"
)

// A sealed room: magic and version (8 bytes), generation (8, big endian), then
// nonce, ciphertext and tag.
const (
	magic      = "CSVAULT\x01"
	headerSize = len(magic) + 8
	overhead   = 12 + 16
	maxSealed  = int64(headerSize + overhead + MaxRoom)

	sealedSuffix = ".sealed"
	backupSuffix = ".bak"
)

// Reasons why a room does not open.
var (
	errTruncated  = errors.New("it is truncated")
	errFormat     = errors.New("it is no sealed room of a version known to this agent")
	errUnopenable = errors.New("its seal is broken, or it belongs to another room or vault")
)

func newSeal(key unlock.Key) (cipher.AEAD, error) {
	k, err := subKey(key, "rooms")
	if err != nil {
		return nil, err
	}
	defer clear(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func sealRoom(seal cipher.AEAD, room string, generation uint64, plain []byte) []byte {
	b := make([]byte, 0, headerSize+overhead+len(plain))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, generation)
	return seal.Seal(b, nil, plain, label(b, room))
}

func openRoom(seal cipher.AEAD, room string, data []byte) (plain []byte, generation uint64, err error) {
	if len(data) < headerSize+overhead {
		return nil, 0, errTruncated
	}
	header, sealed := data[:headerSize], data[headerSize:]
	if string(header[:len(magic)]) != magic {
		return nil, 0, errFormat
	}
	plain, err = seal.Open(nil, nil, sealed, label(header, room))
	if err != nil {
		return nil, 0, errUnopenable
	}
	return plain, binary.BigEndian.Uint64(header[len(magic):]), nil
}

// label is the associated data: the header as it stands in the file, and the
// name the file must have.
func label(header []byte, room string) []byte {
	return append(append(make([]byte, 0, headerSize+len(room)), header...), room...)
}

// validRoom allows short names of lower-case letters, digits and hyphens: no
// path leads out of the folder, and no name is taken twice on a file system
// that ignores case.
func validRoom(room string) bool {
	if room == "" || len(room) > 32 || room[0] == '-' {
		return false
	}
	for _, r := range room {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}

func (v *Vault) path(name string) string { return filepath.Join(v.dir.Path(), name) }
