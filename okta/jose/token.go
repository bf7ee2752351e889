package jose

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	gojose "github.com/go-jose/go-jose/v4"
)

// Header is what a token says about its own signature.
type Header struct {
	Algorithm Algorithm
	Type      string // "" when absent
	KeyID     string // an opaque index into keys the caller already trusts
}

// maxKeyID bounds the kid: it is an index, not a message.
const maxKeyID = 256

// Token is a token that has the right form. Its claims are unverified until
// Verify has returned nil.
type Token struct {
	Header   Header
	parsed   *gojose.JSONWebSignature
	payload  []byte
	verified bool
}

// base64url admits no padding and no stray bits in the last character; line
// breaks, which the decoder skips, are looked for apart.
var base64url = base64.RawURLEncoding.Strict()

// Parse checks the form of a token: size, three segments of strict base64url,
// a header with no other members than alg, typ and kid, an algorithm and a
// type that use allows, and a payload that is one JSON object without
// duplicate members. It verifies nothing.
func Parse(token string, use Use) (*Token, error) { return parse(token, use, parseHeader) }

func parse(token string, use Use, parseHeader func([]byte) (Header, error)) (*Token, error) {
	if len(token) > use.MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(token), use.MaxSize)
	}
	head, rest, _ := strings.Cut(token, ".")
	body, sig, found := strings.Cut(rest, ".")
	if !found || head == "" || body == "" || sig == "" || strings.IndexByte(sig, '.') >= 0 {
		return nil, fmt.Errorf("%w: not three segments", ErrMalformed)
	}
	if strings.ContainsAny(token, "\r\n") {
		return nil, fmt.Errorf("%w: line break", ErrMalformed)
	}
	raw, err := base64url.DecodeString(head)
	if err != nil {
		return nil, fmt.Errorf("%w: header is not base64url", ErrMalformed)
	}
	t := &Token{}
	if t.Header, err = parseHeader(raw); err != nil {
		return nil, err
	}
	if !use.allowsAlgorithm(t.Header.Algorithm) {
		return nil, fmt.Errorf("%w: %.16q", ErrAlgorithm, t.Header.Algorithm)
	}
	if !use.allowsType(t.Header.Type) {
		return nil, fmt.Errorf("%w: %.40q", ErrType, t.Header.Type)
	}
	if !strictEnd(body) || !strictEnd(sig) {
		return nil, fmt.Errorf("%w: payload or signature is not base64url", ErrMalformed)
	}
	// From here on go-jose's reading of the token counts: what it verifies is
	// what it decoded. It may find no other algorithm than we did.
	if t.parsed, err = gojose.ParseSignedCompact(token, []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(t.Header.Algorithm)}); err != nil {
		return nil, fmt.Errorf("%w: payload or signature is not base64url", ErrMalformed)
	}
	t.payload = t.parsed.UnsafePayloadWithoutVerification()
	if err := checkObject(t.payload); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return t, nil
}

// strictEnd refuses stray bits in the last character of a segment, which the
// decoder of go-jose does not look at: a token has one spelling.
func strictEnd(segment string) bool {
	_, err := base64url.DecodeString(segment[len(segment)-len(segment)%4:])
	return err == nil
}

// parseHeader reads a flat object whose members are strings and known. Members
// that bring a key along (jwk, jku, x5u, x5c, x5t), change the encoding (b64,
// zip) or demand more (crit) are unknown like any other.
func parseHeader(data []byte) (Header, error) {
	var h Header
	if err := checkObject(data); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	s := scanner{data: data}
	s.space()
	s.pos++ // the brace that checkObject saw
	for {
		s.space()
		if s.take('}') {
			return h, nil
		}
		s.take(',')
		s.space()
		name, err := s.str()
		if err != nil {
			return h, fmt.Errorf("%w: header: %w", ErrMalformed, err)
		}
		var dst *string
		switch string(name) {
		case "alg":
			dst = (*string)(&h.Algorithm)
		case "typ":
			dst = &h.Type
		case "kid":
			dst = &h.KeyID
		default:
			return h, fmt.Errorf("%w: member %.40q", ErrHeader, name)
		}
		s.space()
		s.take(':')
		s.space()
		value, err := s.str()
		if err != nil {
			return h, fmt.Errorf("%w: header member %s is not a string", ErrMalformed, name)
		}
		if *dst, err = unescape(value); err != nil {
			return h, fmt.Errorf("%w: header: %w", ErrMalformed, err)
		}
		if len(*dst) > maxKeyID {
			return h, fmt.Errorf("%w: header member %s is too long", ErrMalformed, name)
		}
	}
}

// checkObject is checkJSON for a document that must be an object.
func checkObject(data []byte) error {
	err := checkJSON(data)
	switch {
	case err == nil:
	case errors.Is(err, ErrDuplicate):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	s := scanner{data: data}
	s.space()
	if !s.take('{') {
		return fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	return nil
}

// Claims decodes the payload into dst. Unknown members are ignored. The claims
// are what somebody wrote, not what is true, until Verify has succeeded.
func (t *Token) Claims(dst any) error {
	if err := json.Unmarshal(t.payload, dst); err != nil {
		return fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	return nil
}

// Verify checks the signature with key. The key decides which algorithm may
// have been used: the header's must be one of them.
func (t *Token) Verify(key JWK) error {
	pub, algorithms, err := key.verifier()
	if err != nil {
		return err
	}
	if !slices.Contains(algorithms, t.Header.Algorithm) {
		return fmt.Errorf("%w: %.16q with a key for %v", ErrAlgorithm, t.Header.Algorithm, algorithms)
	}
	if _, err := t.parsed.Verify(pub); err != nil {
		return ErrSignature
	}
	t.verified = true
	return nil
}

// Verified says whether Verify has succeeded.
func (t *Token) Verified() bool { return t.verified }
