package localapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// decode reads one JSON object into the struct that dst points to, and refuses
// what encoding/json lets pass: members by another spelling, twice or unknown,
// null for a value, bytes that are not UTF-8, anything after the object (D4).
// The bodies of this API are flat; a member that is itself an object does not
// fit any of them.
func decode(data []byte, dst any) error {
	if !utf8.Valid(data) {
		return errors.New("the body is not UTF-8")
	}
	fields := members(reflect.ValueOf(dst).Elem())
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return errors.New("the body is not a JSON object")
	}
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return errors.New("the body is not JSON")
		}
		field, ok := fields[name]
		if !ok {
			return errors.New("the body has an unknown or repeated member")
		}
		delete(fields, name)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return errors.New("the body is not JSON")
		}
		if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, field.Addr().Interface()) != nil {
			return fmt.Errorf("the member %s has the wrong type", name)
		}
		clear(raw) // it may be a PIN
	}
	if token, err := dec.Token(); err != nil || token != json.Delim('}') {
		return errors.New("the body is not JSON")
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("the body goes on after its end")
	}
	return nil
}

// members maps the JSON names of a struct to its fields.
func members(v reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value, v.NumField())
	for i := range v.NumField() {
		if name, _, ok := jsonName(v.Type().Field(i)); ok {
			fields[name] = v.Field(i)
		}
	}
	return fields
}

// jsonName reads a field's tag; ok is false for one that is not on the wire.
func jsonName(f reflect.StructField) (name string, optional, ok bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" || !f.IsExported() {
		return "", false, false
	}
	if name == "" {
		name = f.Name
	}
	return name, strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero"), true
}
