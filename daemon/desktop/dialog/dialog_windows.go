package dialog

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"countersign.dev/daemon/desktop/dialog/winform"
	"countersign.dev/ipc/api"
)

// Find finds Windows' own dialogs.
func Find() (Window, error) {
	if !visible() {
		return nil, ErrNone
	}
	return native{}, nil
}

// native shows dialogs of user32: each has a thread of its own, for windows
// belong to threads.
type native struct{}

func (native) Name() string { return "Windows" }

func (native) Ask(ctx context.Context, q Question) (Answer, error) {
	w := &window{ask: true, question: q, title: newPage(q).title, parts: form(q), width: 24}
	if err := w.run(ctx); err != nil {
		return Answer{}, err
	}
	return taken(ctx, q, w.answer, time.Now()), nil
}

func (native) Tell(ctx context.Context, title string, lines []string) error {
	w := &window{title: newPage(Question{Title: title}).title, parts: reading(lines), width: 36}
	return w.run(ctx)
}

// The windows that exist, by the number that Windows carries to their procedure:
// a Go pointer must not wait there.
var (
	windowsMu   sync.Mutex
	windowsByID = map[uintptr]*window{}
	windowsByUI = map[uintptr]*window{} // by handle
	lastID      uintptr
	procedure   = sync.OnceValue(func() uintptr { return syscall.NewCallback(dialogProc) })
)

// window is one dialog. All but run's caller is its thread.
type window struct {
	ask      bool
	question Question
	title    string
	parts    []winform.Part
	width    int // of the text, in lines' heights

	hwnd   uintptr
	shown  time.Time
	ready  bool
	over   bool
	failed error
	fonts  []uintptr
	answer Answer
}

// run shows the window until it is over.
func (w *window) run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its windows
		done <- w.loop(ctx)
	}()
	return <-done
}

func (w *window) loop(ctx context.Context) error {
	if procThreadDPI.Find() == nil {
		procThreadDPI.Call(systemAware)
	}
	template, err := w.template().Bytes()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	windowsMu.Lock()
	lastID++
	id := lastID
	windowsByID[id] = w
	windowsMu.Unlock()
	hwnd, _, err := procCreateDialog.Call(0, uintptr(unsafe.Pointer(&template[0])), 0, procedure(), id)
	runtime.KeepAlive(template)
	windowsMu.Lock()
	delete(windowsByID, id)
	windowsMu.Unlock()
	switch {
	case hwnd == 0:
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case w.failed != nil:
		w.end(Closed)
		return fmt.Errorf("%w: %w", ErrFailed, w.failed)
	}

	posted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(posted)
		procPostMessage.Call(hwnd, wmEnd, 0, 0)
	})
	w.show()
	var m message
	for !w.over {
		got, _, err := procGetMessage.Call(uintptr(unsafe.Pointer(&m)), 0, 0, 0)
		if int32(got) < 0 {
			w.failed = err
			w.end(Closed)
		}
		if int32(got) <= 0 {
			break
		}
		if taken, _, _ := procIsDialogMessage.Call(hwnd, uintptr(unsafe.Pointer(&m))); taken == 0 {
			procTranslateMessage.Call(uintptr(unsafe.Pointer(&m)))
			procDispatchMessage.Call(uintptr(unsafe.Pointer(&m)))
		}
	}
	if !stop() {
		<-posted // to a handle that is still ours
	}
	if w.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, w.failed)
	}
	return nil
}

// template is the window without places.
func (w *window) template() winform.Template {
	t := winform.Template{
		Style:   wsPopup | wsCaption | wsSysMenu | dsSetFont,
		ExStyle: wsExTopmost | wsExApp,
		Title:   w.title, Font: "Segoe UI", Points: 9,
	}
	first := true
	for _, p := range w.parts {
		item := winform.Item{ID: uint16(p.ID), Text: p.Text, Style: wsChild | wsVisible}
		switch p.Kind {
		case winform.Button:
			item.Class, item.Style = winform.ClassButton, item.Style|wsTabStop|bsPush
			if first { // Not now: what Enter presses in a window that has just come up
				item.Style |= wsGroup | bsDefPush
				first = false
			}
			if w.ask && pressed(p.ID) == Approve {
				item.Style |= wsDisabled // until it may be pressed
			}
		case winform.Entry:
			item.Class, item.Style = winform.ClassEdit, item.Style|wsTabStop|wsBorder|esAutoHScroll
			switch w.question.Entry {
			case Number:
				item.Style |= esNumber
			case PIN:
				item.Style |= esPassword
			}
		case winform.List:
			item.Class, item.Style = winform.ClassListBox, item.Style|wsTabStop|wsBorder|wsVScroll|lbsNotify|lbsNoIntegral
		case winform.Report:
			item.Class = winform.ClassEdit
			item.Style |= wsTabStop | wsBorder | wsVScroll | esMultiline | esReadOnly | esAutoVScroll
		default:
			item.Class, item.Style = winform.ClassStatic, item.Style|ssNoPrefix|ssEditControl
		}
		t.Items = append(t.Items, item)
	}
	return t
}

// dialogProc is the procedure of all windows: 1 for what was dealt with.
func dialogProc(hwnd, msg, wParam, lParam uintptr) uintptr {
	windowsMu.Lock()
	w := windowsByUI[hwnd]
	if w == nil && msg == wmInitDialog {
		if w = windowsByID[lParam]; w != nil {
			windowsByUI[hwnd] = w
		}
	}
	windowsMu.Unlock()
	if w == nil {
		return 0
	}
	switch msg {
	case wmInitDialog:
		w.hwnd = hwnd
		w.failed = w.lay()
		return 0 // the focus stays where it is
	case wmCommand:
		w.command(int(wParam&0xffff), int(wParam>>16&0xffff))
		return 1
	case wmTimer:
		procKillTimer.Call(hwnd, wParam) // it would come again and again
		switch wParam {
		case timerReady:
			w.ready = true
			w.refresh()
		case timerUntil:
			w.end(Closed)
		}
		return 1
	case wmClose, wmEnd:
		w.end(Closed)
		return 1
	case wmDestroy:
		windowsMu.Lock()
		delete(windowsByUI, hwnd)
		windowsMu.Unlock()
		for _, f := range w.fonts {
			procDeleteObject.Call(f)
		}
		w.over = true
		procPostQuitMessage.Call(0)
		return 1
	}
	return 0
}

// command is a press of a button, or a change of what was entered.
func (w *window) command(id, code int) {
	switch {
	case w.over:
	case id == idEntry && code == enChange, id == idChoices && code == lbnSelChange:
		w.refresh()
	case id == idText && code == enSetFocus: // would show all of it as selected
		procPostMessage.Call(w.item(id), emSetSel, 0, 0)
	case code != bnClicked:
	case id == idNotNow:
		w.end(Closed)
	case !w.ask:
	case pressed(id) == Deny, pressed(id) == Report && w.question.Report:
		w.end(pressed(id))
	case pressed(id) == Approve:
		// A press from elsewhere, e.g. by a message, finds the button ready or is
		// none.
		if !w.mayApprove() || sooner(w.shown, time.Now()) {
			return
		}
		if w.question.Entry == Number && w.length() > 0 {
			if _, wrong := number(w.typed()); wrong != "" {
				return // the entry takes digits only, so nobody typed this
			}
		}
		w.end(Approve)
	}
}

// end takes the window away with a verdict.
func (w *window) end(v Verdict) {
	if w.over {
		return
	}
	w.over = true
	w.answer.Verdict = v
	if v == Approve {
		w.answer.Choice = w.choice()
		switch w.question.Entry {
		case Number:
			w.answer.Number = string(w.typed())
		case PIN:
			w.answer.PIN = w.typed()
		}
	}
	if w.question.Entry == PIN {
		w.blot()
	}
	procDestroyWindow.Call(w.hwnd)
}

// refresh makes Approve pressable when it may be pressed, and the one that Enter
// presses when something was typed to be approved.
func (w *window) refresh() {
	if !w.ask || w.over {
		return
	}
	may := w.mayApprove()
	approve := w.item(idApprove)
	procEnableWindow.Call(approve, truth(may))
	chosen := may && w.length() > 0
	standard, other := idNotNow, idApprove
	if chosen {
		standard, other = other, standard
	}
	send(w.hwnd, dmSetDefID, uintptr(standard), 0)
	send(w.item(other), bmSetStyle, bsPush, 1)
	send(w.item(standard), bmSetStyle, bsDefPush, 1)
}

func (w *window) mayApprove() bool {
	return w.ready && complete(w.question, w.choice(), w.length())
}

func (w *window) item(id int) uintptr {
	h, _, _ := procGetDlgItem.Call(w.hwnd, uintptr(id))
	return h
}

// choice is the choice that is picked, or "".
func (w *window) choice() string {
	if len(w.question.Choices) == 0 {
		return ""
	}
	n := int32(send(w.item(idChoices), lbGetCurSel, 0, 0))
	if n < 0 || int(n) >= len(w.question.Choices) {
		return ""
	}
	return w.question.Choices[n].ID
}

// length is how much was typed.
func (w *window) length() int {
	if w.question.Entry == NoEntry {
		return 0
	}
	return int(send(w.item(idEntry), wmTextLength, 0, 0))
}

// typed is what was typed, with no copy of it left here.
func (w *window) typed() api.PIN {
	units := make([]uint16, maxTyped+1)
	defer clear(units)
	n := sendText(w.item(idEntry), wmGetText, uintptr(len(units)), units)
	b := make(api.PIN, 0, 3*maxTyped) // never grows: at most three bytes a unit
	for i := 0; i < int(n) && i < maxTyped; i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) && i+1 < int(n) {
			if pair := utf16.DecodeRune(r, rune(units[i+1])); pair != utf8.RuneError {
				r, i = pair, i+1
			}
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

// blot writes over a PIN in the control, as far as a program can.
func (w *window) blot() {
	n := min(w.length(), maxTyped)
	over := make([]uint16, n+1)
	for i := range n {
		over[i] = '0'
	}
	edit := w.item(idEntry)
	sendText(edit, wmSetText, 0, over)
	sendText(edit, wmSetText, 0, over[n:])
}

// What can be typed, in UTF-16 units.
const (
	maxDigits = 12
	maxTyped  = 80
)

func truth(b bool) uintptr {
	if b {
		return 1
	}
	return 0
}
