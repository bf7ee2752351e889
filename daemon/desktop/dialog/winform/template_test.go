package winform

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"unicode/utf16"
)

// read is the other side: what Windows makes of a template, by its description
// of DLGTEMPLATE and DLGITEMTEMPLATE.
func read(t *testing.T, b []byte) Template {
	t.Helper()
	at := 0
	word := func() uint16 { at += 2; return binary.LittleEndian.Uint16(b[at-2:]) }
	long := func() uint32 { at += 4; return binary.LittleEndian.Uint32(b[at-4:]) }
	str := func() string {
		var units []uint16
		for u := word(); u != 0; u = word() {
			units = append(units, u)
		}
		return string(utf16.Decode(units))
	}
	zeros := func(n int) {
		for range n {
			if w := word(); w != 0 {
				t.Fatalf("%#x before byte %d, want 0", w, at)
			}
		}
	}
	got := Template{Style: long(), ExStyle: long()}
	items := word()
	zeros(6)
	got.Title = str()
	if got.Style&setFont != 0 {
		got.Points, got.Font = word(), str()
	}
	for range items {
		at = (at + 3) &^ 3
		item := Item{Style: long()}
		zeros(6)
		item.ID = word()
		if w := word(); w != 0xffff {
			t.Fatalf("a class by name: %#x", w)
		}
		item.Class, item.Text = Class(word()), str()
		zeros(1)
		got.Items = append(got.Items, item)
	}
	if at != len(b) {
		t.Fatalf("%d bytes left over", len(b)-at)
	}
	return got
}

func TestBytes(t *testing.T) {
	want := Template{
		Style: 0x80c80040, ExStyle: 8, Title: "Countersign – odd", Font: "Segoe UI", Points: 9,
		Items: []Item{
			{ClassStatic, 100, 0x50000080, "Sign in to Payroll & Søns?"},
			{ClassEdit, 101, 0x50010000, ""},
			{ClassListBox, 102, 0x50010000, ""},
			{ClassButton, 103, 0x50010000, "x"}, // an odd number of words, so that the next is aligned
			{ClassButton, 104, 0x50010001, "𝕏"},
		},
	}
	b, err := want.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, b)
	if !slices.Equal(got.Items, want.Items) {
		t.Errorf("items\n got %+v\nwant %+v", got.Items, want.Items)
	}
	got.Items, want.Items = nil, nil
	if got.Style != want.Style || got.ExStyle != want.ExStyle || got.Title != want.Title || got.Font != want.Font || got.Points != want.Points {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The first bytes as they are described, so that reader and writer cannot err
// alike.
func TestHead(t *testing.T) {
	b, err := Template{Style: 0x04030201, ExStyle: 0x08070605, Title: "A", Items: []Item{{ClassStatic, 7, 9, "B"}}}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{
		1, 2, 3, 4, 5, 6, 7, 8, 1, 0, // styles, one control
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'A', 0, 0, 0, // place, menu, class, title
		0, 0, // aligned
		9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, // style, place, id
		0xff, 0xff, 0x82, 0, 'B', 0, 0, 0, 0, 0,
	}
	if !bytes.Equal(b, want) {
		t.Errorf("got\n% x, want\n% x", b, want)
	}
}

func TestTextStaysText(t *testing.T) {
	b, err := Template{Title: "a\x00b", Items: []Item{{ClassStatic, 1, 0, "\uffff\u0064"}}}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, b)
	if got.Title != "a\ufffdb" || got.Items[0].Text != "\ufffdd" {
		t.Errorf("title %q, text %q", got.Title, got.Items[0].Text)
	}
}

func TestRefused(t *testing.T) {
	for name, template := range map[string]Template{
		"font without style": {Font: "Segoe UI"},
		"style without font": {Style: setFont},
		"too many":           {Items: make([]Item, 256)},
	} {
		if _, err := template.Bytes(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
