package session

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	user32   = windows.NewLazySystemDLL("user32.dll")
	wtsapi32 = windows.NewLazySystemDLL("wtsapi32.dll")

	procRegisterClass = user32.NewProc("RegisterClassExW")
	procCreateWindow  = user32.NewProc("CreateWindowExW")
	procDestroyWindow = user32.NewProc("DestroyWindow")
	procDefWindowProc = user32.NewProc("DefWindowProcW")
	procGetMessage    = user32.NewProc("GetMessageW")
	procDispatch      = user32.NewProc("DispatchMessageW")
	procPostMessage   = user32.NewProc("PostMessageW")
	procPostQuit      = user32.NewProc("PostQuitMessage")
	procPowerRegister = user32.NewProc("RegisterSuspendResumeNotification")
	procPowerLeave    = user32.NewProc("UnregisterSuspendResumeNotification")

	procSessionRegister = wtsapi32.NewProc("WTSRegisterSessionNotification")
	procSessionLeave    = wtsapi32.NewProc("WTSUnRegisterSessionNotification")
	procSessionAsk      = wtsapi32.NewProc("WTSQuerySessionInformationW")
	procFree            = wtsapi32.NewProc("WTSFreeMemory")
)

const (
	wmDestroy        = 0x0002
	wmPowerBroadcast = 0x0218
	wmSessionChange  = 0x02b1
	wmEnd            = 0x8000 + 1 // ours

	messageOnly    = ^uintptr(2) // HWND_MESSAGE: a window that nobody sees
	thisSession    = 0           // NOTIFY_FOR_THIS_SESSION
	toWindow       = 0           // DEVICE_NOTIFY_WINDOW_HANDLE
	currentSession = 0xffffffff
	sessionInfoEx  = 25

	sourceWindows = "windows"

	// sleepWithin is how long the computer's sleep is held up; Windows itself
	// waits two seconds.
	sleepWithin = 1500 * time.Millisecond
)

// New makes a watcher of this user's screen.
func New(o Options) Watcher {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &watcher{log: o.Log, in: newInbox()}
}

// watcher hears Windows through a window that nobody sees. Windows lets a
// program of the same user send such news, too, so it is asked as well: see
// follow.
type watcher struct {
	log   *slog.Logger
	in    *inbox
	power uintptr // the registration for news of sleep; of the window's thread
}

// Look asks Windows again.
func (w *watcher) Look() { w.in.put(newsChanged) }

// Watch watches until ctx ends.
func (w *watcher) Watch(ctx context.Context, h Handler) {
	window := make(chan uintptr, 1)
	var thread sync.WaitGroup
	thread.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its window
		w.listen(window)
	})
	// What happens from here on is in the box before Windows is asked.
	hwnd := <-window
	follow(ctx, sourceWindows, w.in, askWindows, h)
	if hwnd != 0 {
		procPostMessage.Call(hwnd, wmEnd, 0, 0)
	}
	thread.Wait()
}

// The window of each watcher: Windows carries no Go pointer.
var (
	watchersMu sync.Mutex
	watchers   = map[uintptr]*watcher{}
	procedure  = sync.OnceValue(func() uintptr { return syscall.NewCallback(windowProc) })
)

// listen is the thread of the window.
func (w *watcher) listen(window chan<- uintptr) {
	hwnd, err := w.open()
	window <- hwnd
	if hwnd == 0 {
		w.log.Warn("nothing will be heard of the screen and of sleep", "error", err)
		return
	}
	var m struct {
		hwnd           uintptr
		message        uint32
		wParam, lParam uintptr
		time           uint32
		x, y           int32
		_              uint32
	}
	for {
		got, _, _ := procGetMessage.Call(uintptr(unsafe.Pointer(&m)), 0, 0, 0)
		if int32(got) <= 0 {
			return
		}
		procDispatch.Call(uintptr(unsafe.Pointer(&m)))
	}
}

// class is WNDCLASSEXW.
type class struct {
	size, style     uint32
	procedure       uintptr
	extra, winExtra int32
	instance        uintptr
	icon, cursor    uintptr
	background      uintptr
	menu, name      *uint16
	smallIcon       uintptr
}

// open makes the window and has Windows tell it things.
func (w *watcher) open() (uintptr, error) {
	for _, p := range []*windows.LazyProc{procRegisterClass, procCreateWindow, procGetMessage} {
		if err := p.Find(); err != nil {
			return 0, err
		}
	}
	name, err := windows.UTF16PtrFromString("CountersignSession")
	if err != nil {
		return 0, err
	}
	c := class{procedure: procedure(), name: name}
	c.size = uint32(unsafe.Sizeof(c))
	procRegisterClass.Call(uintptr(unsafe.Pointer(&c))) // a second time it exists, which will do
	hwnd, _, err := procCreateWindow.Call(0, uintptr(unsafe.Pointer(name)), 0, 0, 0, 0, 0, 0, messageOnly, 0, 0, 0)
	if hwnd == 0 {
		return 0, err
	}
	watchersMu.Lock()
	watchers[hwnd] = w
	watchersMu.Unlock()
	if procSessionRegister.Find() == nil {
		if ok, _, err := procSessionRegister.Call(hwnd, thisSession); ok == 0 {
			w.log.Warn("Windows will not tell of the screen", "error", err)
		}
	}
	if procPowerRegister.Find() == nil {
		if power, _, err := procPowerRegister.Call(hwnd, toWindow); power == 0 {
			w.log.Warn("Windows will not tell of sleep", "error", err)
		} else {
			w.power = power
		}
	}
	return hwnd, nil
}

// windowProc is the procedure of the windows.
func windowProc(hwnd, msg, wParam, lParam uintptr) uintptr {
	watchersMu.Lock()
	w := watchers[hwnd]
	watchersMu.Unlock()
	switch {
	case w == nil:
	case msg == wmSessionChange:
		if n := windowsSession[wParam]; n != 0 {
			w.in.put(n)
		}
		return 0
	case msg == wmPowerBroadcast:
		switch n := windowsPower[wParam]; n {
		case 0:
		case newsSleep:
			select {
			case <-w.in.put(n):
			case <-time.After(sleepWithin):
			}
		default:
			w.in.put(n)
		}
		return 1
	case msg == wmEnd:
		if w.power != 0 {
			procPowerLeave.Call(w.power)
		}
		if procSessionLeave.Find() == nil {
			procSessionLeave.Call(hwnd)
		}
		procDestroyWindow.Call(hwnd)
		return 0
	case msg == wmDestroy:
		watchersMu.Lock()
		delete(watchers, hwnd)
		watchersMu.Unlock()
		procPostQuit.Call(0)
		return 0
	}
	r, _, _ := procDefWindowProc.Call(hwnd, msg, wParam, lParam)
	return r
}

// askWindows asks what the session is like.
func askWindows() glance {
	if procSessionAsk.Find() != nil || procFree.Find() != nil {
		return glance{}
	}
	var info *[24]byte // what is read of it is inside these
	var size uint32
	ok, _, _ := procSessionAsk.Call(0, currentSession, sessionInfoEx, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)))
	if ok == 0 || info == nil {
		return glance{}
	}
	defer procFree.Call(uintptr(unsafe.Pointer(info)))
	return windowsGlance(info[:min(int(size), len(info))])
}
