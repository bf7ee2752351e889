package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/describe"
)

// screen is where people read. On anything but a terminal it has no colours and
// no width.
type screen struct {
	w      io.Writer
	colour bool
	width  int      // 0: unlimited
	tty    *os.File // the terminal; nil when it is none
}

// sink remembers that something could not be written: an answer that went
// nowhere must not end with "done".
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil && s.err == nil {
		s.err = err
	}
	return n, err
}

func newScreen(w io.Writer) screen {
	s := screen{w: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return s
	}
	s.tty = f
	s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.width = width
	}
	return s
}

// Colours only repeat what the words say.
const (
	dim    = layout.Dim
	bold   = layout.Bold
	green  = layout.Green
	yellow = layout.Yellow
	red    = layout.Red
)

func (s screen) paint(code, text string) string { return layout.Paint(s.colour, code, text) }

func (s screen) line(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

// hang prints text after a lead that is wide columns wide, colours not counted.
// What does not fit on a terminal goes on below, under the text's beginning, or
// further left where that leaves too little room.
func (s screen) hang(lead string, wide int, text string) {
	under := wide
	if s.width > 0 && s.width-wide < 24 && wide+layout.Width(text) > s.width {
		if wide > 12 {
			s.line("%s", strings.TrimRight(lead, " "))
			lead, wide = "  ", 2
		}
		under = 2
	}
	for _, line := range layout.Wrap(text, s.width-wide, s.width-under) {
		s.line("%s%s", lead, line)
		lead = strings.Repeat(" ", under)
	}
}

// paragraph prints text in one colour, in as many lines as it takes.
func (s screen) paragraph(code, text string) {
	for _, line := range layout.Wrap(text, s.width, s.width) {
		s.line("%s", s.paint(code, line))
	}
}

// fields prints names and values in two columns; a name without a value is
// left out.
func (s screen) fields(indent string, pairs ...string) { s.columns(indent, widest(pairs), pairs) }

// widest is how wide the names are of those pairs that have a value.
func widest(pairs []string) int {
	n := 0
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			n = max(n, layout.Width(pairs[i]))
		}
	}
	return n
}

// columns prints pairs with names so many columns wide.
func (s screen) columns(indent string, widest int, pairs []string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			s.hang(indent+s.paint(dim, layout.Pad(pairs[i], widest))+"  ", len(indent)+widest+2, pairs[i+1])
		}
	}
}

// table prints rows under dim headers. On a narrow terminal the widest columns
// give way; on a very narrow one each row becomes a block.
func (s screen) table(headers []string, rows [][]string) {
	if s.width > 0 && s.width < 11*len(headers) {
		for i, row := range rows {
			if i > 0 {
				s.line("")
			}
			var pairs []string
			for j, cell := range row {
				pairs = append(pairs, strings.ToLower(headers[j]), cell)
			}
			s.fields("", pairs...)
		}
		return
	}
	widths := make([]int, len(headers))
	for _, row := range append([][]string{headers}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], layout.Width(cell))
		}
	}
	if s.width > 0 {
		shrink(widths, s.width-2*(len(widths)-1))
	}
	print := func(row []string, code string) {
		var b strings.Builder
		for i, cell := range row {
			cell = layout.Cut(cell, widths[i])
			if i < len(row)-1 {
				cell = layout.Pad(cell, widths[i]+2)
			}
			b.WriteString(cell)
		}
		s.line("%s", s.paint(code, strings.TrimRight(b.String(), " ")))
	}
	print(headers, dim)
	for _, row := range rows {
		print(row, "")
	}
}

// shrink takes from the widest column until all fit; no column goes below 8.
func shrink(widths []int, room int) {
	for {
		total, widest := 0, 0
		for i, w := range widths {
			total += w
			if w > widths[widest] {
				widest = i
			}
		}
		if total <= room || widths[widest] <= 8 {
			return
		}
		widths[widest]--
	}
}

// clean makes text from outside safe to show: one line, no control characters,
// nothing that turns the direction of writing, bounded length. An org, an app
// or a page must not be able to draw on the person's terminal (B9).
func clean(s string) string { return describe.Clean(s, 200) }

// writeJSON prints one document on one line. Characters that a terminal would
// act upon are escaped: the same document, and safe to look at.
func writeJSON(w io.Writer, value any) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeUnsafe(strings.TrimSuffix(b.String(), "\n"))+"\n")
	return err
}

func escapeUnsafe(document string) string {
	if !strings.ContainsFunc(document, describe.Unsafe) {
		return document
	}
	var b strings.Builder
	for _, r := range document {
		switch {
		case !describe.Unsafe(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
