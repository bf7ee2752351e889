package dialog

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// What is used of user32 and gdi32. Lazy: a system without a desktop may lack
// them, and Find asks first.
var (
	user32 = windows.NewLazySystemDLL("user32.dll")
	gdi32  = windows.NewLazySystemDLL("gdi32.dll")

	procCreateDialog     = user32.NewProc("CreateDialogIndirectParamW")
	procDestroyWindow    = user32.NewProc("DestroyWindow")
	procGetMessage       = user32.NewProc("GetMessageW")
	procIsDialogMessage  = user32.NewProc("IsDialogMessageW")
	procTranslateMessage = user32.NewProc("TranslateMessage")
	procDispatchMessage  = user32.NewProc("DispatchMessageW")
	procPostMessage      = user32.NewProc("PostMessageW")
	procPostQuitMessage  = user32.NewProc("PostQuitMessage")
	procSendMessage      = user32.NewProc("SendMessageW")
	procGetDlgItem       = user32.NewProc("GetDlgItem")
	procSetWindowPos     = user32.NewProc("SetWindowPos")
	procShowWindow       = user32.NewProc("ShowWindow")
	procEnableWindow     = user32.NewProc("EnableWindow")
	procSetTimer         = user32.NewProc("SetTimer")
	procKillTimer        = user32.NewProc("KillTimer")
	procFlashWindowEx    = user32.NewProc("FlashWindowEx")
	procAdjustWindowRect = user32.NewProc("AdjustWindowRectEx")
	procSystemParameters = user32.NewProc("SystemParametersInfoW")
	procGetDC            = user32.NewProc("GetDC")
	procReleaseDC        = user32.NewProc("ReleaseDC")
	procDrawText         = user32.NewProc("DrawTextW")
	procThreadDPI        = user32.NewProc("SetThreadDpiAwarenessContext")
	procWindowStation    = user32.NewProc("GetProcessWindowStation")
	procObjectInfo       = user32.NewProc("GetUserObjectInformationW")

	procSelectObject = gdi32.NewProc("SelectObject")
	procDeleteObject = gdi32.NewProc("DeleteObject")
	procGetObject    = gdi32.NewProc("GetObjectW")
	procCreateFont   = gdi32.NewProc("CreateFontIndirectW")
)

const (
	wsPopup     = 0x80000000
	wsChild     = 0x40000000
	wsVisible   = 0x10000000
	wsDisabled  = 0x08000000
	wsCaption   = 0x00c00000
	wsBorder    = 0x00800000
	wsVScroll   = 0x00200000
	wsSysMenu   = 0x00080000
	wsGroup     = 0x00020000
	wsTabStop   = 0x00010000
	wsExTopmost = 0x00000008
	wsExApp     = 0x00040000
	dsSetFont   = 0x40

	ssNoPrefix    = 0x80   // an ampersand is one
	ssEditControl = 0x2000 // breaks words that are too long, like the measure
	esPassword    = 0x20
	esMultiline   = 0x04
	esAutoHScroll = 0x80
	esAutoVScroll = 0x40
	esReadOnly    = 0x800
	esNumber      = 0x2000
	lbsNotify     = 0x1
	lbsNoIntegral = 0x100
	bsPush        = 0
	bsDefPush     = 1

	wmDestroy     = 0x0002
	wmSetText     = 0x000c
	wmGetText     = 0x000d
	wmTextLength  = 0x000e
	wmClose       = 0x0010
	wmSetFont     = 0x0030
	wmGetFont     = 0x0031
	wmInitDialog  = 0x0110
	wmCommand     = 0x0111
	wmTimer       = 0x0113
	wmUser        = 0x0400
	wmEnd         = 0x8000 + 1 // ours: the question has ended
	dmSetDefID    = wmUser + 1
	emLimitText   = 0x00c5
	emSetSel      = 0x00b1
	bmSetStyle    = 0x00f4
	lbAddString   = 0x0180
	lbGetCurSel   = 0x0188
	bnClicked     = 0
	enChange      = 0x0300
	enSetFocus    = 0x0100
	lbnSelChange  = 1
	timerReady    = 1
	timerUntil    = 2
	longestTimer  = 0x7fffffff
	swNoActivate  = 4
	swpNoActivate = 0x10
	swpNoZOrder   = 0x04
	topmost       = ^uintptr(0) // HWND_TOPMOST
	flashTray     = 2
	spiWorkArea   = 0x30
	dtWordBreak   = 0x10
	dtCalcRect    = 0x400
	dtNoPrefix    = 0x800
	dtEditControl = 0x2000
	dtSingleLine  = 0x20
	uoiFlags      = 1
	wsfVisible    = 1
	systemAware   = ^uintptr(1) // DPI_AWARENESS_CONTEXT_SYSTEM_AWARE
)

type rect struct{ left, top, right, bottom int32 }

type message struct {
	hwnd           uintptr
	message        uint32
	wParam, lParam uintptr
	time           uint32
	x, y           int32
	_              uint32
}

type flashInfo struct {
	size    uint32
	hwnd    uintptr
	flags   uint32
	count   uint32
	timeout uint32
}

// logFont is LOGFONTW.
type logFont struct {
	height, width, escapement, orientation, weight int32
	italic, underline, strikeOut, charSet          byte
	outPrecision, clipPrecision, quality, pitch    byte
	face                                           [32]uint16
}

func send(hwnd uintptr, msg uint32, w, l uintptr) uintptr {
	r, _, _ := procSendMessage.Call(hwnd, uintptr(msg), w, l)
	return r
}

// sendText sends a message whose last argument is a text that ends with a zero.
func sendText(hwnd uintptr, msg uint32, w uintptr, text []uint16) uintptr {
	r, _, _ := procSendMessage.Call(hwnd, uintptr(msg), w, uintptr(unsafe.Pointer(&text[0])))
	return r
}

// workArea is the screen without the task bar.
func workArea() rect {
	r := rect{0, 0, 1024, 740}
	procSystemParameters.Call(spiWorkArea, 0, uintptr(unsafe.Pointer(&r)), 0)
	return r
}

// visible tells whether this process has a desktop that somebody sees: a service
// has none.
func visible() bool {
	if procWindowStation.Find() != nil || procObjectInfo.Find() != nil || procCreateDialog.Find() != nil {
		return false
	}
	station, _, _ := procWindowStation.Call()
	if station == 0 {
		return false
	}
	var flags struct {
		inherit, reserved int32
		flags             uint32
	}
	ok, _, _ := procObjectInfo.Call(station, uoiFlags, uintptr(unsafe.Pointer(&flags)), unsafe.Sizeof(flags), 0)
	return ok != 0 && flags.flags&wsfVisible != 0
}
