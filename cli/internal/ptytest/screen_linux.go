package ptytest

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"countersign.dev/cli/internal/layout"
)

// Screen is what a person sees at their end of a pseudo-terminal, and all that
// has scrolled off above. It understands what the command line sends to a
// terminal and nothing else: the rest is Odd.
type Screen struct {
	t     *testing.T
	ended chan struct{}

	mu         sync.Mutex
	cols, rows int
	lines      [][]rune // a wide character is followed by a 0
	row, col   int
	wrap       bool
	raw, rest  []byte // all that came; what is not understood yet
	odd        []string
}

// Watch shows what is written at the program's end, until the test ends. The
// terminal gets that size.
func Watch(t *testing.T, person, program *os.File, cols, rows int) *Screen {
	t.Helper()
	Resize(t, program, cols, rows)
	s := &Screen{t: t, ended: make(chan struct{}), cols: cols, rows: rows, lines: [][]rune{nil}, wrap: true}
	go func() {
		defer close(s.ended)
		buffer := make([]byte, 4096)
		for {
			n, err := person.Read(buffer)
			s.write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { person.Close(); <-s.ended })
	return s
}

// Size is that of the screen from now on.
func (s *Screen) Size(cols, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cols, s.rows = cols, rows
}

// Text is everything that can be read, scrolled off or not, without the spaces at
// the ends of lines.
func (s *Screen) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text(0)
}

// Visible is what has not scrolled off.
func (s *Screen) Visible() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text(s.top())
}

func (s *Screen) text(from int) string {
	var lines []string
	for _, l := range s.lines[from:] {
		lines = append(lines, strings.TrimRight(strings.ReplaceAll(string(l), "\x00", ""), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// Raw is every byte that came.
func (s *Screen) Raw() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.raw)
}

// Odd is what a terminal would have acted upon and nobody meant to send.
func (s *Screen) Odd() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.odd...)
}

// Sent waits until this is the last that came.
func (s *Screen) Sent(end string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !strings.HasSuffix(s.Raw(), end); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			raw := s.Raw()
			s.t.Fatalf("the last that came is %q, want %q", raw[max(0, len(raw)-60):], end)
		}
	}
}

// Shows waits until the text has all of these, and returns it.
func (s *Screen) Shows(words ...string) string {
	s.t.Helper()
	return s.wait(words, func(text, word string) bool { return strings.Contains(text, word) })
}

// Hides waits until the text has none of these.
func (s *Screen) Hides(words ...string) string {
	s.t.Helper()
	return s.wait(words, func(text, word string) bool { return !strings.Contains(text, word) })
}

func (s *Screen) wait(words []string, good func(text, word string) bool) string {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		text, missing := s.Text(), ""
		for _, word := range words {
			if !good(text, word) {
				missing = word
			}
		}
		if missing == "" {
			return text
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("it did not come to that with %q:\n%s", missing, text)
		}
	}
}

// top is the first line that has not scrolled off.
func (s *Screen) top() int { return max(len(s.lines)-s.rows, 0) }

var (
	whole = regexp.MustCompile(`^\x1b\[([?0-9;]*)([@-~])`)
	part  = regexp.MustCompile(`^\x1b(\[[?0-9;]*)?$`)
)

func (s *Screen) write(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, b...)
	s.rest = append(s.rest, b...)
	for len(s.rest) > 0 {
		n := s.one()
		if n == 0 {
			return
		}
		s.rest = s.rest[n:]
	}
}

// one acts on the first character or sequence of what came, and says how long it
// was; 0 when the rest of it has not come.
func (s *Screen) one() int {
	switch b := s.rest[0]; {
	case b == '\r':
		s.col = 0
		return 1
	case b == '\n':
		s.down()
		return 1
	case b == 0x1b:
		if m := whole.FindSubmatch(s.rest); m != nil {
			s.act(string(m[1]), m[2][0])
			return len(m[0])
		}
		if part.Match(s.rest) {
			return 0
		}
		s.odd = append(s.odd, string(s.rest[:min(len(s.rest), 8)]))
		return 1
	case b < 0x20 || b == 0x7f:
		s.odd = append(s.odd, string(s.rest[:1]))
		return 1
	case !utf8.FullRune(s.rest):
		return 0
	}
	r, n := utf8.DecodeRune(s.rest)
	if r == utf8.RuneError && n == 1 || 0x80 <= r && r < 0xa0 {
		s.odd = append(s.odd, string(s.rest[:n]))
		return n
	}
	s.put(r)
	return n
}

func (s *Screen) act(parameters string, final byte) {
	switch final {
	case 'A':
		n := 0
		for _, d := range parameters {
			n = 10*n + int(d-'0')
		}
		s.row = max(s.row-max(n, 1), s.top())
	case 'J':
		if s.row == s.top() && s.col == 0 && len(s.lines) > 1 {
			s.odd = append(s.odd, "all of the screen is erased, which some terminals keep as if it had scrolled off")
		}
		s.lines = s.lines[:s.row+1]
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
	case 'K':
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
	case 'm':
	case 'h', 'l':
		switch parameters {
		case "?7":
			s.wrap = final == 'h'
		case "?2004":
		default:
			s.odd = append(s.odd, parameters+string(final))
		}
	default:
		s.odd = append(s.odd, parameters+string(final))
	}
}

func (s *Screen) down() {
	s.row++
	if s.row == len(s.lines) {
		s.lines = append(s.lines, nil)
	}
}

func (s *Screen) put(r rune) {
	w := layout.Width(string(r))
	if w == 0 {
		return
	}
	if s.col+w > s.cols {
		if s.wrap {
			s.col = 0
			s.down()
		} else {
			s.col = s.cols - w
		}
	}
	l := s.lines[s.row]
	for len(l) < s.col+w {
		l = append(l, ' ')
	}
	l[s.col] = r
	if w == 2 {
		l[s.col+1] = 0
	}
	s.lines[s.row], s.col = l, s.col+w
}
