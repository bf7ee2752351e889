package desktop

import (
	"errors"

	"golang.org/x/sys/windows"
)

// Alone makes sure that this is the only tray of the session, for as long as the
// program runs or until release. ErrTaken says that it is not.
func Alone() (release func(), err error) {
	name, err := windows.UTF16PtrFromString(`Local\countersign-tray`) // Local is the session
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateMutex(nil, false, name)
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		_ = windows.CloseHandle(h)
		return nil, ErrTaken
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = windows.CloseHandle(h) }, nil
}
