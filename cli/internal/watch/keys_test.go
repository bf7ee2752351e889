package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// names spells keys, for tests.
var names = map[kind]string{
	other: "?", enter: "Enter", escape: "Esc", backspace: "Backspace", erase: "Erase", tab: "Tab", backTab: "BackTab",
	up: "Up", down: "Down", left: "Left", right: "Right", pageUp: "PageUp", pageDown: "PageDown",
	interrupt: "Interrupt", endOfFile: "End", suspend: "Suspend", redraw: "Redraw",
}

func spell(keys []key) string {
	var list []string
	for _, k := range keys {
		s := names[k.kind]
		if k.kind == text {
			s = string(k.char)
		}
		if k.pasted {
			s += "*"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func TestKeys(t *testing.T) {
	for _, row := range []struct {
		name, bytes, want string
		flushed           string // when nothing more comes
	}{
		{"letters", "adq", "a d q", ""},
		{"several bytes each", "ü東🔑", "ü 東 🔑", ""},
		{"Enter", "\r\n", "Enter Enter", ""},
		{"controls", "\x03\x04\x1a\x15\x0c\x7f\x08\t", "Interrupt End Suspend Erase Redraw Backspace Backspace Tab", ""},
		{"controls that mean nothing", "\x00\x01\x1c\x1f", "? ? ? ?", ""},
		{"arrows", "\x1b[A\x1b[B\x1b[C\x1b[D\x1bOA\x1bOB\x1bOC\x1bOD", "Up Down Right Left Up Down Right Left", ""},
		{"pages, tabs, keypad", "\x1b[5~\x1b[6~\x1b[Z\x1bOM", "PageUp PageDown BackTab Enter", ""},
		{"arrows with Ctrl", "\x1b[1;5A\x1b[1;2D", "? ?", ""},
		{"Escape", "\x1b", "", "Esc"},
		{"Escape twice", "\x1b\x1b", "Esc", "Esc"},
		{"with Alt", "\x1ba\x1bd", "? ?", ""},
		{"Escape and a control", "\x1b\x03\x1b\r", "Interrupt Esc Enter", ""},
		{"function keys of the Linux console", "\x1b[[A\x1b[[D", "? ?", ""},
		{"a mouse left on", "\x1b[Mad\r", "?", ""},
		{"another way to report it", "\x1b[<0;1;1M\x1b[<0;1;1m", "? ?", ""},
		{"answers of a terminal", "\x1b[?1;2c\x1b[24;80R\x1b[I", "? ? ?", ""},
		{"a title", "\x1b]0;a\rd\x07\x1b]0;a\rd\x1b\\", "? ?", ""},
		{"a device's own string", "\x1bPa\rd\x1b\\\x1b_a\x1b\\", "? ?", ""},
		{"a string without an end", "\x1b]a\rd", "", "?"},
		{"a string of five thousand", "\x1b]" + strings.Repeat("a", 4097), "?", ""},
		{"Ctrl-C in a string", "\x1b]a\x03", "Interrupt", ""},
		{"broken off", "\x1b[1\x1b[A\x1b[\ra", "? Up ? Enter a", ""},
		{"half a sequence", "\x1b[", "", "?"},
		{"half of O", "\x1bO", "", "?"},
		{"O and a control", "\x1bO\r", "? Enter", ""},
		{"a long sequence", "\x1b[" + strings.Repeat("1", 5000) + "A", "?", ""},
		{"no UTF-8", "\xff\xc3a\x80\xc3\xc3\xbc", "? ? a ? ? ü", ""},
		{"controls of C1", "\u009b\u0085", "? ?", ""},
		{"a paste", "\x1b[200~a\rd\x1b[Aü\x7f\x1b[201~d", "?* a* ?* d* ?* ü* ?* ?* d", ""},
		{"a paste that does not end", "\x1b[200~a\rd\x03d", "?* a* ?* d* Interrupt d", ""},
		{"a paste in a paste", "\x1b[200~\x1b[200~a\x1b[201~b", "?* ?* a* ?* b", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var p parser
			if got := spell(p.feed([]byte(row.bytes))); got != row.want {
				t.Errorf("%q: %s, want %s", row.bytes, got, row.want)
			}
			if got := spell(p.flush()); got != row.flushed || p.waits() {
				t.Errorf("flushed %s, want %s", got, row.flushed)
			}
			// However it is cut, the same comes out.
			var one parser
			var keys []key
			for _, b := range []byte(row.bytes) {
				keys = append(keys, one.feed([]byte{b})...)
			}
			if got := spell(keys); got != row.want {
				t.Errorf("byte by byte: %s, want %s", got, row.want)
			}
		})
	}
}

// Whatever comes, Ctrl-C gets through, the keyboard is never dead afterwards, and
// it does not matter how the bytes are cut.
func FuzzKeys(f *testing.F) {
	for _, seed := range []string{"a\r", "\x1b[A\x1bOD\x1b[200~a\x1b[201~", "\x1b]0;x\x07\x1b[M...", "\xff\xc3\x1b", "ü\x1b\x1b["} {
		f.Add([]byte(seed), 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, parts parser
		first := whole.feed(b)
		cut = min(max(cut, 0), len(b))
		second := append(parts.feed(b[:cut]), parts.feed(b[cut:])...)
		if !slices.Equal(first, second) {
			t.Fatalf("%q cut at %d: %s, and whole %s", b, cut, spell(second), spell(first))
		}
		if len(first) > 2*len(b) {
			t.Fatalf("%d keys of %d bytes", len(first), len(b))
		}
		for _, k := range first {
			if k.pasted && k.kind != text && k.kind != other {
				t.Fatalf("%q: a paste presses %s", b, names[k.kind])
			}
			if k.kind == text && (k.char < 0x20 || 0x7f <= k.char && k.char < 0xa0) {
				t.Fatalf("%q: %q passes for text", b, k.char)
			}
			if k.kind != text && k.char != 0 {
				t.Fatalf("%q: %+v", b, k)
			}
		}
		for name, end := range map[string]func() []key{
			"Ctrl-C": func() []key { return whole.feed([]byte{0x03, 'x'})[0:1] },
			"time":   func() []key { parts.flush(); return parts.feed([]byte{0x03}) },
		} {
			if got := end(); fmt.Sprint(got) != fmt.Sprint([]key{{kind: interrupt}}) {
				t.Fatalf("%q, then %s: %+v", b, name, got)
			}
		}
		if got := whole.feed([]byte("d")); len(got) != 1 || got[0] != (key{kind: text, char: 'd'}) {
			t.Fatalf("%q, then Ctrl-C: d is %+v", b, got)
		}
	})
}
