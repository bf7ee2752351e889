package winform

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// fixed measures a font whose letters are 8 by 16, and breaks anywhere.
var fixed = Ruler{
	Line: 16,
	Size: func(p Part) (int, int) { return 8 * utf8.RuneCountInString(p.Text), 16 },
	Wrapped: func(p Part, w int) int {
		inLine := max(1, w/8)
		return 16 * max(1, (utf8.RuneCountInString(p.Text)+inLine-1)/inLine)
	},
}

func question(long int) []Part {
	return []Part{
		{Kind: Notice, Text: "New place: Lisbon"},
		{Kind: Notice, Text: "New browser"},
		{Kind: Heading, Text: "Sign in to Payroll?"},
		{Kind: Name, Text: "organisation"}, {Kind: Value, Text: "id.example.com"},
		{Kind: Name, Text: "from"}, {Kind: Value, Text: strings.Repeat("x", long)},
		{Kind: Name, Text: "a name that is much longer than names are, and goes on"}, {Kind: Value, Text: "short"},
		{Kind: Label, Text: "Account"},
		{Kind: List, Rows: 3},
		{Kind: Notice, Text: "That PIN was wrong."},
		{Kind: Label, Text: "PIN"},
		{Kind: Entry},
		{Kind: Button, Text: "Not now"},
		{Kind: Button, Text: "This wasn't me"},
		{Kind: Button, Text: "Deny"},
		{Kind: Button, Text: "Approve"},
	}
}

// Everything is inside, nothing covers anything else, and each text has the room
// that it measured.
func TestArrange(t *testing.T) {
	for _, long := range []int{0, 10, 200, 400} {
		parts := question(long)
		boxes, w, h, err := Fit(parts, fixed, 24*16, 1024, 740)
		if err != nil {
			t.Fatalf("%d characters: %v", long, err)
		}
		if len(boxes) != len(parts) {
			t.Fatalf("%d boxes for %d parts", len(boxes), len(parts))
		}
		for i, b := range boxes {
			if b.X < 0 || b.Y < 0 || b.W <= 0 || b.H <= 0 || b.X+b.W > w || b.Y+b.H > h {
				t.Errorf("%d characters: %q sticks out: %+v in %d by %d", long, parts[i].Text, b, w, h)
			}
			if text, need := parts[i].Text, fixed.Wrapped(parts[i], b.W); text != "" && b.H < need {
				t.Errorf("%d characters: %q is cut off: %d of %d", long, text, b.H, need)
			}
			for j, c := range boxes[:i] {
				if b.X < c.X+c.W && c.X < b.X+b.W && b.Y < c.Y+c.H && c.Y < b.Y+b.H {
					t.Errorf("%d characters: %q covers %q", long, parts[i].Text, parts[j].Text)
				}
			}
			if i > 0 && parts[i].Kind != Button && b.Y < boxes[i-1].Y {
				t.Errorf("%d characters: %q stands above what comes before it", long, parts[i].Text)
			}
		}
	}
}

// No is as large as yes, and beside it.
func TestButtons(t *testing.T) {
	parts := question(10)
	boxes, _, _ := arrange(parts, fixed, 24*16)
	buttons := boxes[len(boxes)-4:]
	for i, b := range buttons[1:] {
		before := buttons[i]
		if b.W != before.W || b.H != before.H || b.Y != before.Y || b.X != before.X+before.W+fixed.Line/2 {
			t.Errorf("buttons %+v and %+v", before, b)
		}
	}
}

func TestFit(t *testing.T) {
	_, narrow, _, err := Fit(question(100), fixed, 24*16, 2000, 2000)
	if err != nil {
		t.Fatal(err)
	}
	_, wide, h, err := Fit(question(3000), fixed, 24*16, 2000, 700)
	if err != nil || h > 700 || wide <= narrow {
		t.Errorf("a long question is %d wide and %d high, a short one %d wide: %v", wide, h, narrow, err)
	}
	if _, _, _, err := Fit(question(100000), fixed, 24*16, 1024, 740); !errors.Is(err, ErrTall) {
		t.Errorf("what fits on no screen: %v", err)
	}
}
