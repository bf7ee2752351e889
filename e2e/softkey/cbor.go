package softkey

import (
	"bytes"
	"errors"

	"github.com/fxamacker/cbor/v2"
)

var (
	encoding = must(cbor.CTAP2EncOptions().EncMode())
	// What CTAP 2.1, section 8, allows: four levels, no key twice, no tags, nothing
	// of indefinite length.
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options that are constants
	}
	return v
}

// encode is for values that are made here.
func encode(v any) []byte { return must(encoding.Marshal(v)) }

// decode reads a request's parameters into v. It takes nothing but the canonical
// encoding.
func decode(in []byte, v any) error {
	if len(in) == 0 {
		return MissingParameter
	}
	var any any
	if decoding.Unmarshal(in, &any) != nil {
		return InvalidCBOR
	}
	if again, err := encoding.Marshal(any); err != nil || !bytes.Equal(again, in) {
		return InvalidCBOR
	}
	if err := decoding.Unmarshal(in, v); err != nil {
		if wrong := (*cbor.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			return UnexpectedType
		}
		return InvalidCBOR
	}
	return nil
}

// descriptor names a credential.
type descriptor struct {
	ID   []byte `cbor:"id"`
	Type string `cbor:"type"`
}

func described(id []byte) descriptor { return descriptor{ID: id, Type: "public-key"} }

// User is whom a credential is for.
type User struct {
	ID          []byte `cbor:"id"`
	Name        string `cbor:"name,omitempty"`
	DisplayName string `cbor:"displayName,omitempty"`
}

// RelyingParty is where a credential is for.
type RelyingParty struct {
	ID   string `cbor:"id"`
	Name string `cbor:"name,omitempty"`
}
