// Package layout fits text into the columns of a terminal. It counts columns,
// not characters: a character may take two of them, or none. Where terminals
// differ it counts too many rather than too few, so that a line never runs over.
package layout

import (
	"strings"
	"unicode"
)

// Width is how many columns text takes.
func Width(text string) int {
	n := 0
	for _, r := range text {
		n += columns(r)
	}
	return n
}

// columns is how many columns a character takes.
func columns(r rune) int {
	switch {
	case r < 0x300: // Latin
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me), 0xfe00 <= r && r <= 0xfe0f:
		return 0 // drawn over the one before
	case wide(r):
		return 2
	}
	return 1
}

// wide says whether a character takes two columns: East Asian ones, and whatever
// may be drawn as an emoji.
func wide(r rune) bool {
	switch {
	case 0x1100 <= r && r <= 0x115f, 0x231a <= r && r <= 0x231b, 0x2329 <= r && r <= 0x232a, 0x23e9 <= r && r <= 0x23f3:
		return true
	case 0x25fd <= r && r <= 0x25fe, 0x2600 <= r && r <= 0x27bf, 0x2b00 <= r && r <= 0x2bff, 0x2e80 <= r && r <= 0xa4cf:
		return true
	case 0xa960 <= r && r <= 0xa97c, 0xac00 <= r && r <= 0xd7a3, 0xf900 <= r && r <= 0xfaff, 0xfe10 <= r && r <= 0xfe6f:
		return true
	case 0xff01 <= r && r <= 0xff60, 0xffe0 <= r && r <= 0xffe6, 0x16fe0 <= r && r <= 0x18fff, 0x1aff0 <= r && r <= 0x1b2ff:
		return true
	case 0x1f000 <= r && r <= 0x1faff, 0x20000 <= r && r <= 0x3fffd:
		return true
	}
	return false
}

// Pad fills text up with spaces to so many columns.
func Pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-Width(text)))
}

// Cut shortens text to at most so many columns, and shows that it did.
func Cut(text string, width int) string {
	if Width(text) <= width {
		return text
	}
	head, _ := split(text, width-1)
	if width < 1 {
		return ""
	}
	return head + "…"
}

// split takes as much of text as fits into so many columns.
func split(text string, width int) (head, rest string) {
	n := 0
	for i, r := range text {
		if n += columns(r); n > width {
			return text[:i], text[i:]
		}
	}
	return text, ""
}

// Wrap breaks text between words; a word that is too long stays whole, so that
// it can be copied. The first line may have another width than the rest; no
// width breaks nothing.
func Wrap(text string, width, rest int) []string {
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	line, used := "", 0
	for i, word := range strings.Split(text, " ") {
		w := Width(word)
		if i > 0 && used+1+w > width && line != "" {
			lines, width = append(lines, line), rest
			line, used = word, w
			continue
		}
		if line != "" {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+w
	}
	return append(lines, line)
}

// Fold is Wrap for text that must be seen whole: a word that is too long is
// broken as well.
func Fold(text string, width int) []string {
	if width < 2 { // a wide character takes two
		width = 2
	}
	var lines []string
	for _, line := range Wrap(text, width, width) {
		for Width(line) > width {
			var head string
			head, line = split(line, width)
			lines = append(lines, head)
		}
		lines = append(lines, line)
	}
	return lines
}
