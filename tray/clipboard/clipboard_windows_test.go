package clipboard

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

// pasted is the text on the clipboard; nothing when there is none.
func pasted(t *testing.T) (text string) {
	t.Helper()
	get := user32.NewProc("GetClipboardData")
	if err := with(func() error {
		h, _, _ := get.Call(unicodeText)
		if h == 0 {
			return nil
		}
		p, _, err := globalLock.Call(h)
		if p == 0 {
			return err
		}
		text = windows.UTF16PtrToString((*uint16)(*(*unsafe.Pointer)(unsafe.Pointer(&p))))
		globalUnlock.Call(h)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCopy(t *testing.T) {
	c, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"111111", "222222"} {
		if err := c.Copy(t.Context(), text); err != nil || pasted(t) != text {
			t.Fatalf("copied %s, there is %q, %v", text, pasted(t), err)
		}
	}
	c.Close()
	if got := pasted(t); got != "" {
		t.Errorf("after the end there is %q", got)
	}
	other, _ := Find()
	if err := c.Copy(t.Context(), "333333"); err != nil {
		t.Fatal(err)
	}
	if err := other.Copy(t.Context(), "theirs"); err != nil {
		t.Fatal(err)
	}
	c.Close() // what others have copied since is left alone
	if got := pasted(t); got != "theirs" {
		t.Errorf("theirs is %q", got)
	}
	other.Close()
}

// Programs that keep a history are asked to leave it out.
func TestNotForHistory(t *testing.T) {
	c, _ := Find()
	if err := c.Copy(t.Context(), "111111"); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	available := user32.NewProc("IsClipboardFormatAvailable")
	for _, name := range notForHistory {
		wide, err := windows.UTF16PtrFromString(name)
		if err != nil {
			t.Fatal(err)
		}
		format, _, _ := registerFormat.Call(uintptr(unsafe.Pointer(wide)))
		if there, _, _ := available.Call(format); there == 0 {
			t.Errorf("%s is not there", name)
		}
	}
}
