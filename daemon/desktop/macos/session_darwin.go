package macos

import "sync"

var cgSessionCopy func() Ref

var graphics = sync.OnceValue(func() error {
	if _, err := foundation(); err != nil {
		return err
	}
	_, err := bind(frameworks+"CoreGraphics.framework/CoreGraphics", map[string]any{"CGSessionCopyCurrentDictionary": &cgSessionCopy})
	return err
})

// Screen asks whether this process belongs to a desktop, and whether its screen
// is locked or shows somebody else's desktop.
func Screen() (known, locked bool) {
	if graphics() != nil {
		return false, false
	}
	session := cgSessionCopy()
	if session == 0 {
		return false, false
	}
	defer release(session)
	look := func(name string) Ref {
		key := text(name)
		defer release(key)
		return cfDictionaryGet(session, key)
	}
	away := look("kCGSSessionOnConsoleKey")
	return true, truth(look("CGSSessionScreenIsLocked")) || away != 0 && !truth(away)
}
