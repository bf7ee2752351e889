package dialog

import (
	"time"
	"unicode/utf16"
	"unsafe"

	"countersign.dev/daemon/desktop/dialog/winform"
)

// lay gives the controls their fonts and places, now that their texts can be
// measured.
func (w *window) lay() error {
	normal := send(w.hwnd, wmGetFont, 0, 0)
	bold, large := w.font(normal, 1, 700), w.font(normal, 1.45, 600)
	font := func(p winform.Part) uintptr {
		switch {
		case p.Kind == winform.Notice:
			return bold
		case p.Kind == winform.Heading, p.Kind == winform.Entry && w.question.Entry == Number:
			return large
		}
		return normal
	}
	dc, _, _ := procGetDC.Call(w.hwnd)
	defer procReleaseDC.Call(w.hwnd, dc)
	measure := func(p winform.Part, width int32, flags uintptr) rect {
		before, _, _ := procSelectObject.Call(dc, font(p))
		defer procSelectObject.Call(dc, before)
		text := p.Text
		if text == "" {
			text = "0"
		}
		units := utf16.Encode([]rune(text))
		r := rect{right: width}
		procDrawText.Call(dc, uintptr(unsafe.Pointer(&units[0])), uintptr(len(units)),
			uintptr(unsafe.Pointer(&r)), dtCalcRect|dtNoPrefix|flags)
		return r
	}
	line := int(measure(winform.Part{Kind: winform.Value}, 0, dtSingleLine).bottom)
	r := winform.Ruler{
		Line: max(line, 8),
		Size: func(p winform.Part) (int, int) {
			m := measure(p, 0, dtSingleLine)
			return int(m.right) + 1, int(m.bottom)
		},
		Wrapped: func(p winform.Part, width int) int {
			return int(measure(p, int32(width), dtWordBreak|dtEditControl).bottom)
		},
	}

	const style, exStyle = wsPopup | wsCaption | wsSysMenu, wsExTopmost | wsExApp
	area := workArea()
	var frame rect
	procAdjustWindowRect.Call(uintptr(unsafe.Pointer(&frame)), style, 0, exStyle)
	frameW, frameH := int(frame.right-frame.left), int(frame.bottom-frame.top)
	screenW, screenH := int(area.right-area.left), int(area.bottom-area.top)
	boxes, width, height, err := winform.Fit(w.parts, r, w.width*r.Line, screenW-frameW, screenH-frameH)
	if err != nil {
		return err
	}
	for i, p := range w.parts {
		control, b := w.item(p.ID), boxes[i]
		send(control, wmSetFont, font(p), 0)
		procSetWindowPos.Call(control, 0, uintptr(b.X), uintptr(b.Y), uintptr(b.W), uintptr(b.H), swpNoZOrder|swpNoActivate)
	}
	for _, c := range w.question.Choices {
		name := newPage(Question{Heading: c.Name}).heading
		sendText(w.item(idChoices), lbAddString, 0, append(utf16.Encode([]rune(name)), 0))
	}
	switch w.question.Entry {
	case Number:
		send(w.item(idEntry), emLimitText, maxDigits, 0)
	case PIN:
		send(w.item(idEntry), emLimitText, maxTyped, 0)
	}
	x := int(area.left) + max(0, screenW-width-frameW)/2
	y := int(area.top) + max(0, screenH-height-frameH)/3
	procSetWindowPos.Call(w.hwnd, topmost, uintptr(x), uintptr(y), uintptr(width+frameW), uintptr(height+frameH), swpNoActivate)
	return nil
}

// show brings the window up without taking the focus, which may be where
// somebody types, and lights its button in the task bar.
func (w *window) show() {
	w.shown = time.Now()
	w.refresh()
	procShowWindow.Call(w.hwnd, swNoActivate)
	flash := flashInfo{hwnd: w.hwnd, flags: flashTray, count: 3}
	flash.size = uint32(unsafe.Sizeof(flash))
	procFlashWindowEx.Call(uintptr(unsafe.Pointer(&flash)))
	procSetTimer.Call(w.hwnd, timerReady, uintptr(readyAfter/time.Millisecond)+20, 0)
	if !w.question.Until.IsZero() {
		left := min(max(time.Until(w.question.Until), 0)/time.Millisecond+1, longestTimer)
		procSetTimer.Call(w.hwnd, timerUntil, uintptr(left), 0)
	}
}

// font is a font like another, of another size and weight; that one where it
// cannot be had. It lives as long as the window.
func (w *window) font(like uintptr, scale float64, weight int32) uintptr {
	var f logFont
	if n, _, _ := procGetObject.Call(like, unsafe.Sizeof(f), uintptr(unsafe.Pointer(&f))); n == 0 {
		return like
	}
	f.height, f.weight = int32(float64(f.height)*scale), weight
	made, _, _ := procCreateFont.Call(uintptr(unsafe.Pointer(&f)))
	if made == 0 {
		return like
	}
	w.fonts = append(w.fonts, made)
	return made
}
