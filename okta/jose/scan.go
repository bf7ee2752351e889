package jose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Limits of every JSON document this package admits.
const (
	maxDepth   = 16  // nested objects and arrays
	maxMembers = 512 // of one object; keeps the search for duplicates short
)

var errJSON = errors.New("not strict JSON")

// checkJSON says whether data is exactly one JSON value, nested at most
// maxDepth deep, valid UTF-8, without duplicate members at any depth. Names
// that differ only in case count as duplicates, since encoding/json would
// write both to the same field. It allocates nothing for ordinary documents.
func checkJSON(data []byte) error {
	var room [64]uint64
	s := scanner{data: data, names: room[:0]}
	s.space()
	if err := s.value(0); err != nil {
		return err
	}
	return s.end()
}

// scanner walks one JSON document.
type scanner struct {
	data  []byte
	pos   int
	names []uint64 // hashes of the member names of all open objects, a stack
}

func (s *scanner) fail() error { return fmt.Errorf("%w at byte %d", errJSON, s.pos) }

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// take skips c and reports whether it was there.
func (s *scanner) take(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// end accepts only white space up to the end.
func (s *scanner) end() error {
	s.space()
	if s.pos != len(s.data) {
		return s.fail()
	}
	return nil
}

func (s *scanner) value(depth int) error {
	if s.pos >= len(s.data) {
		return s.fail()
	}
	switch c := s.data[s.pos]; {
	case c == '"':
		_, err := s.str()
		return err
	case c == '{' || c == '[':
		if depth >= maxDepth {
			return fmt.Errorf("%w: nested more than %d deep", errJSON, maxDepth)
		}
		if c == '[' {
			return s.array(depth + 1)
		}
		return s.object(depth + 1)
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.fail()
}

func (s *scanner) object(depth int) error {
	s.pos++
	open := len(s.names)
	s.space()
	if s.take('}') {
		return nil
	}
	for {
		if err := s.member(open); err != nil {
			return err
		}
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.take('}') {
			s.names = s.names[:open]
			return nil
		}
		if !s.take(',') {
			return s.fail()
		}
		s.space()
	}
}

// member reads a name with its colon and refuses one that the object, whose
// names begin at open, already has.
func (s *scanner) member(open int) error {
	name, err := s.str()
	if err != nil {
		return err
	}
	h, err := foldedHash(name)
	if err != nil {
		return err
	}
	for _, other := range s.names[open:] {
		if other == h {
			return fmt.Errorf("%w %.40q", ErrDuplicate, name)
		}
	}
	if len(s.names)-open >= maxMembers {
		return fmt.Errorf("%w: more than %d members in one object", errJSON, maxMembers)
	}
	s.names = append(s.names, h)
	s.space()
	if !s.take(':') {
		return s.fail()
	}
	s.space()
	return nil
}

func (s *scanner) array(depth int) error {
	s.pos++
	s.space()
	if s.take(']') {
		return nil
	}
	for {
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.fail()
		}
		s.space()
	}
}

// str reads a string and returns what stands between the quotes, escapes and
// all.
func (s *scanner) str() ([]byte, error) {
	if !s.take('"') {
		return nil, s.fail()
	}
	start := s.pos
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[start : s.pos-1], nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, s.fail()
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, n := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && n == 1 {
				return nil, s.fail()
			}
			s.pos += n
		}
	}
	return nil, s.fail()
}

func (s *scanner) escape() error {
	rest := s.data[s.pos:]
	if len(rest) < 2 {
		return s.fail()
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
		if len(rest) < 6 {
			return s.fail()
		}
		for _, c := range rest[2:6] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return s.fail()
			}
		}
		s.pos += 6
		return nil
	}
	return s.fail()
}

func (s *scanner) number() error {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return s.fail()
	}
	if s.take('.') && !s.digits() {
		return s.fail()
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return s.fail()
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.fail()
	}
	s.pos += len(word)
	return nil
}

// foldedHash hashes a member name (FNV-1a) without regard to case, the way
// encoding/json finds the field for it. Two names with the same hash count as
// one: a collision, which no honest document has, is refused and never
// admitted.
func foldedHash(name []byte) (uint64, error) {
	if !plainASCII(name) {
		text, err := unescape(name)
		if err != nil {
			return 0, err
		}
		folded := make([]byte, 0, len(text))
		for _, r := range text {
			folded = utf8.AppendRune(folded, foldRune(r))
		}
		name = folded
	}
	h := uint64(14695981039346656037)
	for _, c := range name {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h, nil
}

func plainASCII(raw []byte) bool {
	for _, c := range raw {
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// foldRune returns the smallest of the runes that differ from r only in case;
// for ASCII letters that is the capital.
func foldRune(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}

// unescape returns the text of a string that str returned.
func unescape(raw []byte) (string, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw), nil
	}
	quoted := make([]byte, 0, len(raw)+2)
	quoted = append(append(append(quoted, '"'), raw...), '"')
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return "", fmt.Errorf("%w: %w", errJSON, err)
	}
	return text, nil
}

// DecodeStrict decodes one JSON value of at most limit bytes into dst. Unlike
// encoding/json it refuses duplicate members at any depth, invalid UTF-8 and
// deep nesting; unknown members are ignored.
func DecodeStrict(data []byte, dst any, limit int) error {
	if len(data) > limit {
		return fmt.Errorf("%w: over %d bytes of JSON", ErrTooLarge, limit)
	}
	if err := checkJSON(data); err != nil {
		if errors.Is(err, ErrDuplicate) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := json.Unmarshal(data, dst); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}
