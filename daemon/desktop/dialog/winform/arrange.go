// Package winform is what a window of our own is made of on Windows: the template
// that it is created from, written in memory so that no resource file and no C
// compiler are needed, and the places of its parts.
//
// It knows bytes and boxes only, so it is tested anywhere. Where things stand is
// decided when the window exists and its texts can be measured: nothing that a
// person should read is cut off, or there is no window.
package winform

import "errors"

// ErrTall says that a question has more to say than fits on the screen. Nobody
// should approve what is cut off.
var ErrTall = errors.New("the question does not fit on the screen")

// Kind is a kind of part of a window.
type Kind uint8

// The kinds.
const (
	Heading Kind = iota + 1
	Notice       // stands out
	Name         // of a fact; its Value is the next part
	Value
	Quiet // a plain line
	Label // of an Entry or List
	Entry
	List
	Report // many lines to scroll through
	Button
)

// Part is a part of a window.
type Part struct {
	Kind Kind
	ID   int
	Text string
	Rows int // of a List or Report
}

// Box is where a part stands, in pixels.
type Box struct{ X, Y, W, H int }

// Ruler measures on the screen.
type Ruler struct {
	Line    int                         // the height of a line of text
	Size    func(p Part) (w, h int)     // of a text in one line
	Wrapped func(p Part, w int) (h int) // of a text in lines no longer than w
}

// arrange places the parts in a column of about that width and says how large
// the window is.
func arrange(parts []Part, r Ruler, width int) (boxes []Box, w, h int) {
	margin, gap := r.Line, r.Line/2
	names, buttons, across := 0, 0, 0
	for _, p := range parts {
		textWidth, _ := r.Size(p)
		switch p.Kind {
		case Name:
			names = max(names, textWidth)
		case Button:
			buttons++
			across = max(across, textWidth+2*r.Line, 5*r.Line)
		}
	}
	names = min(names, width/3)
	width = max(width, buttons*across+(buttons-1)*gap)

	y, x := margin, margin+width-buttons*across-(buttons-1)*gap
	var before Kind
	for _, p := range parts {
		if before != 0 && p.Kind != Value && p.Kind != Button {
			switch { // what belongs together stands together
			case p.Kind == Name && before == Value, before == Label:
				y += gap / 2
			case p.Kind == Notice && before == Notice, p.Kind == Quiet && before == Quiet:
			default:
				y += gap
			}
		}
		b := Box{X: margin, Y: y, W: width}
		switch p.Kind {
		case Name:
			b.W, b.H = names, r.Wrapped(p, names)
		case Value: // beside its name, which was placed last
			b.X, b.W = margin+names+r.Line, width-names-r.Line
			b.Y = boxes[len(boxes)-1].Y
			b.H = r.Wrapped(p, b.W)
			y = b.Y + max(b.H, boxes[len(boxes)-1].H)
		case Entry:
			_, h := r.Size(p)
			b.H = h + gap
		case List, Report:
			b.H = p.Rows*r.Line + gap
		case Button:
			if before != Button {
				y += margin
			}
			b = Box{X: x, Y: y, W: across, H: r.Line + gap + gap/2}
			x += across + gap
			h = b.Y + b.H + margin
		default:
			b.H = r.Wrapped(p, width)
		}
		if p.Kind != Name && p.Kind != Value && p.Kind != Button {
			y += b.H
		}
		boxes = append(boxes, b)
		before = p.Kind
	}
	return boxes, width + 2*margin, h
}

// Fit arranges the parts in a window that fits into a screen of that size, wider
// if it must be.
func Fit(parts []Part, r Ruler, width, screenW, screenH int) (boxes []Box, w, h int, err error) {
	for ; ; width += width / 2 {
		boxes, w, h = arrange(parts, r, width)
		switch {
		case w > screenW:
			return nil, 0, 0, ErrTall
		case h <= screenH:
			return boxes, w, h, nil
		}
	}
}
