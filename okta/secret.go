package okta

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a bearer token, a password or another text that must not appear in
// logs, errors or documents. Every way of printing it says "[redacted]"; only
// Reveal gives it away, so that each use can be found.
//
// One gap is fmt's own: it does not call the methods of unexported fields, so
// a struct that keeps a Secret in one needs a String and a GoString itself.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret.
func (s Secret) Reveal() string { return string(s) }

// Equal compares in constant time. An empty secret equals nothing, not even
// another empty one.
func (s Secret) Equal(other Secret) bool {
	return s != "" && subtle.ConstantTimeCompare([]byte(s), []byte(other)) == 1
}

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, since %x and %q would bypass String.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler: a secret is decoded from documents,
// but a document that carries one is built with Reveal.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler, for map keys and attributes.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SharedSecret is a secret whose one purpose is to travel in a document: it
// prints like a Secret and encodes as itself.
type SharedSecret string

// Reveal returns the secret.
func (s SharedSecret) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (s SharedSecret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s SharedSecret) GoString() string { return redacted }

// Format implements fmt.Formatter, since %x and %q would bypass String.
func (s SharedSecret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (s SharedSecret) LogValue() slog.Value { return slog.StringValue(redacted) }
