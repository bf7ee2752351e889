package layout

import (
	"slices"
	"strings"
	"testing"
)

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "Payroll": 7, "Zürich": 6, "東京": 4, "e\u0301": 1, "한글": 4, "🔑": 2, "…": 1, "ﾊﾝｶｸ": 4, "Ｆ": 2, "☎\ufe0f": 2, "\ufffd": 1,
	} {
		if got := Width(text); got != want {
			t.Errorf("%q is %d columns wide, want %d", text, got, want)
		}
	}
}

func TestPadAndCut(t *testing.T) {
	if got := Pad("東京", 6); got != "東京  " {
		t.Errorf("%q", got)
	}
	for _, row := range []struct {
		text  string
		width int
		want  string
	}{
		{"Payroll", 7, "Payroll"}, {"Payroll", 6, "Payro…"}, {"Payroll", 1, "…"}, {"Payroll", 0, ""},
		{"東京都", 6, "東京都"}, {"東京都", 5, "東京…"}, {"東京都", 4, "東…"}, {"東京都", 2, "…"},
	} {
		if got := Cut(row.text, row.width); got != row.want || Width(got) > row.width {
			t.Errorf("%q in %d columns: %q", row.text, row.width, got)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, row := range []struct {
		text        string
		width, rest int
		want        []string
	}{
		{"one two three", 0, 0, []string{"one two three"}},
		{"one two three", 7, 7, []string{"one two", "three"}},
		{"one two three", 3, 9, []string{"one", "two three"}},
		{"see https://id.example.com there", 10, 10, []string{"see", "https://id.example.com", "there"}},
		{"東京 大阪 京都", 9, 9, []string{"東京 大阪", "京都"}},
		{"", 5, 5, []string{""}},
	} {
		if got := Wrap(row.text, row.width, row.rest); !slices.Equal(got, row.want) {
			t.Errorf("%q in %d, %d: %q", row.text, row.width, row.rest, got)
		}
	}
}

// Nothing of what is folded is lost, and no line is too wide.
func FuzzFold(f *testing.F) {
	f.Add("see https://id.example.com/very/long there", 10)
	f.Add("東京都 🔑e\u0301", 3)
	f.Fuzz(func(t *testing.T, text string, width int) {
		if width < 2 || width > 1000 {
			width = 2
		}
		text = strings.ToValidUTF8(text, "?")
		lines := Fold(text, width)
		for _, line := range lines {
			if Width(line) > width {
				t.Fatalf("%q is wider than %d", line, width)
			}
		}
		bare := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if got := bare(strings.Join(lines, "")); got != bare(text) {
			t.Fatalf("%q became %q", text, got)
		}
		for _, width := range []int{0, 1, width} {
			if got := Width(Cut(text, width)); got > width {
				t.Fatalf("%q cut to %d is %d wide", text, width, got)
			}
		}
	})
}
