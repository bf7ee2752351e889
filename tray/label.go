package tray

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"countersign.dev/ipc/describe"
)

// Panels draw menus as wide as their longest line; some cut it. Nothing that a
// person decides upon is cut: it goes on in the next line.
const (
	maxLabel = 64  // characters of a line
	maxText  = 640 // characters of one text, before it is cut
)

// label is one line, cut where it must be.
func label(s string) string {
	s = strings.Join(strings.Fields(describe.Clean(s, maxText)), " ")
	if utf8.RuneCountInString(s) <= maxLabel {
		return s
	}
	return strings.TrimRight(string([]rune(s)[:maxLabel-1]), " …") + "…"
}

// text is entries that only say something, as many lines as it takes.
func text(s string) []Entry {
	var list []Entry
	for _, line := range wrap(describe.Clean(s, maxText)) {
		list = append(list, Entry{Label: line})
	}
	return list
}

// few is text with at most n lines, for what nobody decides upon.
func few(s string, n int) []Entry {
	list := text(s)
	if len(list) > n {
		list = list[:n]
		list[n-1].Label = label(list[n-1].Label + strings.Repeat("…", maxLabel))
	}
	return list
}

// wrap breaks a text into lines, between words where that is possible.
func wrap(s string) []string {
	var lines []string
	line, length := "", 0
	flush := func() {
		if line != "" {
			lines = append(lines, line)
		}
		line, length = "", 0
	}
	for _, word := range strings.Fields(s) {
		for {
			room := maxLabel
			if length > 0 {
				room -= length + 1
			}
			n := utf8.RuneCountInString(word)
			if n <= room {
				if length > 0 {
					line, length = line+" ", length+1
				}
				line, length = line+word, length+n
				break
			}
			if length > 0 {
				flush()
				continue
			}
			runes := []rune(word)
			line = string(runes[:maxLabel])
			flush()
			word = string(runes[maxLabel:])
		}
	}
	flush()
	return lines
}

// sentence begins with a capital letter.
func sentence(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + s[size:]
}
