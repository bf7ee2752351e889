package prompt

import (
	"strings"
	"unicode"
)

// Lengths in characters of the texts of a prompt.
const (
	maxName   = 80
	maxOrigin = 128
	maxReason = 160
)

// MaxMessage bounds the text that says what a request is about. Nobody should
// approve what they cannot read to its end, so a longer one is not to be asked.
const MaxMessage = 400

const maxMarks = 2 // combining marks in a row; more only serve to paint over neighbours

// Clean makes text from outside fit to show: one line of printable characters,
// no control, format or direction characters, no invisible letters, single
// blanks, at most limit characters. Too long a text ends with "…".
func Clean(s string, limit int) string {
	if len(s) > 16*limit {
		s = s[:16*limit] // no one needs more bytes for limit characters
	}
	var out strings.Builder
	length, marks, blank := 0, 0, false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r), unicode.Is(unicode.Z, r), r == '\u2800':
			blank = length > 0
			continue
		case !unicode.IsPrint(r), invisible(r):
			continue
		}
		if unicode.Is(unicode.M, r) {
			// A mark belongs to the letter before it; alone or in heaps it is noise.
			if marks++; marks > maxMarks || length == 0 || blank {
				continue
			}
		} else {
			marks = 0
		}
		if blank {
			out.WriteByte(' ')
			length, blank = length+1, false
		}
		out.WriteRune(r)
		if length++; length > limit {
			return cut(out.String(), limit)
		}
	}
	return out.String()
}

// cut shortens s to limit characters, the last of them "…".
func cut(s string, limit int) string {
	r := []rune(s)
	return strings.TrimRight(string(r[:limit-1]), " ") + "…"
}

// invisible holds letters and marks that count as printable but show nothing.
func invisible(r rune) bool {
	switch {
	case r == '\u115f', r == '\u1160', r == '\u3164', r == '\uffa0', r == '\u034f', r == '\u17b4', r == '\u17b5':
		return true
	case r >= '\ufe00' && r <= '\ufe0f', r >= 0xe0100 && r <= 0xe01ef: // variation selectors
		return true
	}
	return false
}
