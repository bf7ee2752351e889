package unlock

import (
	"crypto/rand"
	"fmt"
	"log/slog"
)

// KeySize is the length of a data key.
const KeySize = 32

// Key is the vault's data key. It prints as "[redacted]" whatever the verb;
// its zero value is no key.
type Key struct{ b *[KeySize]byte }

const redacted = "[redacted]"

// newKey draws a fresh key.
func newKey() Key {
	k := Key{new([KeySize]byte)}
	rand.Read(k.b[:]) // never fails: the runtime aborts instead
	return k
}

// keyFrom copies b into a key and wipes b.
func keyFrom(b []byte) (Key, error) {
	defer clear(b)
	if len(b) != KeySize {
		return Key{}, fmt.Errorf("data key has %d bytes, not %d", len(b), KeySize)
	}
	return Key{(*[KeySize]byte)(append([]byte(nil), b...))}, nil
}

// IsZero says whether there is no key, or no longer.
func (k Key) IsZero() bool { return k.b == nil || *k.b == [KeySize]byte{} }

// Bytes is the key itself, not a copy: Wipe clears it too.
func (k Key) Bytes() []byte {
	if k.b == nil {
		return nil
	}
	return k.b[:]
}

// Clone is a copy with a life of its own.
func (k Key) Clone() Key {
	if k.b == nil {
		return Key{}
	}
	c := Key{new([KeySize]byte)}
	*c.b = *k.b
	return c
}

// Wipe clears the key in memory.
func (k Key) Wipe() {
	if k.b != nil {
		clear(k.b[:])
	}
}

func (k Key) String() string               { return redacted }
func (k Key) GoString() string             { return redacted }
func (k Key) Format(f fmt.State, _ rune)   { f.Write([]byte(redacted)) }
func (k Key) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
