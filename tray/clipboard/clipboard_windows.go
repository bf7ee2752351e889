package clipboard

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	user32           = windows.NewLazySystemDLL("user32.dll")
	kernel32         = windows.NewLazySystemDLL("kernel32.dll")
	openClipboard    = user32.NewProc("OpenClipboard")
	closeClipboard   = user32.NewProc("CloseClipboard")
	emptyClipboard   = user32.NewProc("EmptyClipboard")
	setClipboardData = user32.NewProc("SetClipboardData")
	sequenceNumber   = user32.NewProc("GetClipboardSequenceNumber")
	registerFormat   = user32.NewProc("RegisterClipboardFormatW")
	globalAlloc      = kernel32.NewProc("GlobalAlloc")
	globalLock       = kernel32.NewProc("GlobalLock")
	globalUnlock     = kernel32.NewProc("GlobalUnlock")
	globalFree       = kernel32.NewProc("GlobalFree")
	notForHistory    = []string{"ExcludeClipboardContentFromMonitorProcessing", "CanIncludeInClipboardHistory", "CanUploadToCloudClipboard"}
)

const (
	unicodeText = 13 // CF_UNICODETEXT
	moveable    = 2  // GMEM_MOVEABLE
	tries       = 10 // others have the clipboard open for moments
	between     = 20 * time.Millisecond
)

// Clipboard is the session's.
type Clipboard struct {
	mu       sync.Mutex // guards what follows
	sequence uintptr    // after we wrote; 0 when nothing of ours may be there
	timer    *time.Timer
}

// Find returns the clipboard.
func Find() (*Clipboard, error) { return &Clipboard{}, nil }

// with opens the clipboard, which belongs to a thread.
func with(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := 0; ; i++ {
		ok, _, err := openClipboard.Call(0)
		if ok != 0 {
			break
		}
		if i == tries {
			return fmt.Errorf("open the clipboard: %w", err)
		}
		time.Sleep(between)
	}
	defer closeClipboard.Call()
	return f()
}

// set gives one format to the system, which owns it from then on.
func set(format uintptr, data []byte) error {
	h, _, err := globalAlloc.Call(moveable, uintptr(len(data)))
	if h == 0 {
		return fmt.Errorf("copy: %w", err)
	}
	p, _, err := globalLock.Call(h)
	if p == 0 {
		globalFree.Call(h)
		return fmt.Errorf("copy: %w", err)
	}
	copy(unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), len(data)), data)
	globalUnlock.Call(h)
	if ok, _, err := setClipboardData.Call(format, h); ok == 0 {
		globalFree.Call(h)
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// Copy puts text on the clipboard, in place of what is there.
func (c *Clipboard) Copy(_ context.Context, text string) error {
	wide, err := windows.UTF16FromString(text)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = with(func() error {
		emptyClipboard.Call()
		for _, name := range notForHistory {
			wideName, err := windows.UTF16PtrFromString(name)
			if err != nil {
				return err
			}
			if format, _, _ := registerFormat.Call(uintptr(unsafe.Pointer(wideName))); format != 0 {
				_ = set(format, make([]byte, 4)) // a DWORD of zero says no; the first one says so by being there
			}
		}
		return set(unicodeText, unsafe.Slice((*byte)(unsafe.Pointer(&wide[0])), 2*len(wide)))
	})
	if err != nil {
		return err
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.sequence, _, _ = sequenceNumber.Call()
	c.timer = time.AfterFunc(Kept, c.Close)
	return nil
}

// Close takes away what was copied, if nothing else has been since.
func (c *Clipboard) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sequence == 0 {
		return
	}
	c.timer.Stop()
	_ = with(func() error {
		if now, _, _ := sequenceNumber.Call(); now == c.sequence {
			emptyClipboard.Call()
		}
		return nil
	})
	c.sequence = 0
}
