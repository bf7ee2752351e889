package posture

import (
	"encoding/xml"
	"errors"
	"strings"
)

var errPlist = errors.New("not a property list")

const maxPlistDepth = 32

// parsePlist reads an XML property list. Dictionaries become map[string]any,
// arrays []any, true and false bool, everything else its text.
func parsePlist(text string) (any, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	for {
		start, err := nextElement(dec)
		if err != nil || start == nil {
			return nil, errPlist
		}
		if start.Name.Local == "plist" {
			continue
		}
		return plistValue(dec, start, 0)
	}
}

// nextElement skips to the next start of an element; nil means that the one it
// is in has ended.
func nextElement(dec *xml.Decoder) (*xml.StartElement, error) {
	for {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			return &token, nil
		case xml.EndElement:
			return nil, nil
		}
	}
}

func plistValue(dec *xml.Decoder, start *xml.StartElement, depth int) (any, error) {
	if depth > maxPlistDepth {
		return nil, errPlist
	}
	switch start.Name.Local {
	case "dict":
		dict := map[string]any{}
		for {
			key, err := nextElement(dec)
			if err != nil {
				return nil, errPlist
			}
			if key == nil {
				return dict, nil
			}
			name, err := elementText(dec)
			if err != nil || key.Name.Local != "key" {
				return nil, errPlist
			}
			value, err := nextElement(dec)
			if err != nil || value == nil {
				return nil, errPlist
			}
			if _, twice := dict[name]; twice {
				return nil, errPlist
			}
			if dict[name], err = plistValue(dec, value, depth+1); err != nil {
				return nil, err
			}
		}
	case "array":
		list := []any{}
		for {
			element, err := nextElement(dec)
			if err != nil {
				return nil, errPlist
			}
			if element == nil {
				return list, nil
			}
			value, err := plistValue(dec, element, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
	case "true", "false":
		if _, err := elementText(dec); err != nil {
			return nil, err
		}
		return start.Name.Local == "true", nil
	case "string", "integer", "real", "date", "data":
		text, err := elementText(dec)
		if err != nil {
			return nil, err
		}
		return text, nil
	}
	return nil, errPlist
}

// elementText reads to the end of an element that holds text only.
func elementText(dec *xml.Decoder) (string, error) {
	var b strings.Builder
	for {
		token, err := dec.Token()
		if err != nil {
			return "", errPlist
		}
		switch token := token.(type) {
		case xml.CharData:
			b.Write(token)
		case xml.EndElement:
			return b.String(), nil
		case xml.StartElement:
			return "", errPlist
		}
	}
}

// member reads a member of a dictionary that has the type T.
func member[T any](dict any, name string) (T, bool) {
	m, _ := dict.(map[string]any)
	value, ok := m[name].(T)
	return value, ok
}
