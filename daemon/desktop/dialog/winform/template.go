package winform

import (
	"encoding/binary"
	"errors"
	"unicode/utf16"
)

// Class is one of the system's own classes of controls.
type Class uint16

// The classes that are used.
const (
	ClassButton  Class = 0x80
	ClassEdit    Class = 0x81
	ClassStatic  Class = 0x82
	ClassListBox Class = 0x83
)

// Item is one control.
type Item struct {
	Class Class
	ID    uint16
	Style uint32
	Text  string
}

// Template is one window.
type Template struct {
	Style, ExStyle uint32
	Title          string
	Font           string // with DS_SETFONT in Style, else ""
	Points         uint16
	Items          []Item
}

// setFont is DS_SETFONT: the size and name of a font follow the title.
const setFont = 0x40

// What would not be read back as it was written.
var (
	errFont  = errors.New("a font and DS_SETFONT go together")
	errItems = errors.New("too many controls")
)

// Bytes is the template as CreateDialogIndirectParam reads it.
func (t Template) Bytes() ([]byte, error) {
	if (t.Font != "") != (t.Style&setFont != 0) {
		return nil, errFont
	}
	if len(t.Items) > 255 {
		return nil, errItems
	}
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, t.Style)
	b = binary.LittleEndian.AppendUint32(b, t.ExStyle)
	b = words(b, uint16(len(t.Items)), 0, 0, 0, 0) // how many, and no place
	b = words(b, 0, 0)                             // no menu, the usual class
	b = text(b, t.Title)
	if t.Font != "" {
		b = words(b, t.Points)
		b = text(b, t.Font)
	}
	for _, item := range t.Items {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		b = binary.LittleEndian.AppendUint32(b, item.Style)
		b = words(b, 0, 0) // no extended style
		b = words(b, 0, 0, 0, 0, item.ID)
		b = words(b, 0xffff, uint16(item.Class)) // a class by its number
		b = text(b, item.Text)
		b = words(b, 0) // no data
	}
	return b, nil
}

func words(b []byte, list ...uint16) []byte {
	for _, w := range list {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	return b
}

// text appends a string with its end. A zero would end it sooner, and 0xffff at
// its start would make it the number of a resource: neither is a character.
func text(b []byte, s string) []byte {
	for _, unit := range utf16.Encode([]rune(s)) {
		if unit == 0 || unit == 0xffff {
			unit = 0xfffd
		}
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return binary.LittleEndian.AppendUint16(b, 0)
}
