package macos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/ebitengine/purego"
)

// The names under which macOS posts that the screen is locked, and that it is
// not. They are not documented; loginwindow posts them.
const (
	lockedName   = "com.apple.sessionagent.screenIsLocked"
	unlockedName = "com.apple.sessionagent.screenIsUnlocked"
)

// reuse has the news of a second name come through the descriptor of the first.
const reuse = 1 // NOTIFY_REUSE

var (
	notifyRegister func(name string, descriptor *int32, flags int32, token *int32) uint32
	notifyCancel   func(token int32) uint32

	notifyLibrary = sync.OnceValue(func() error {
		_, err := bind("/usr/lib/libSystem.B.dylib", map[string]any{
			"notify_register_file_descriptor": &notifyRegister, "notify_cancel": &notifyCancel,
		})
		return err
	})
)

// ScreenNews tells when the screen is locked or unlocked, until close is called
// and has returned. It comes through a descriptor, so no run loop is needed, nor
// the main thread.
func ScreenNews(tell func(locked bool)) (closeNews func(), err error) {
	if err := notifyLibrary(); err != nil {
		return nil, err
	}
	var descriptor, locked, unlocked int32
	if status := notifyRegister(lockedName, &descriptor, 0, &locked); status != 0 {
		return nil, fmt.Errorf("macOS will not tell of the screen (%d)", status)
	}
	if status := notifyRegister(unlockedName, &descriptor, reuse, &unlocked); status != 0 {
		notifyCancel(locked)
		return nil, fmt.Errorf("macOS will not tell of the screen (%d)", status)
	}
	// The library closes its own; of a copy that does not block, Go's reads end
	// when it is closed.
	own, err := syscall.Dup(int(descriptor))
	if err == nil {
		err = syscall.SetNonblock(own, true)
	}
	if err != nil {
		notifyCancel(unlocked)
		notifyCancel(locked)
		return nil, err
	}
	file := os.NewFile(uintptr(own), "notifications")
	var reader sync.WaitGroup
	reader.Go(func() {
		for token := make([]byte, 4); ; {
			if _, err := io.ReadFull(file, token); err != nil {
				return
			}
			switch int32(binary.BigEndian.Uint32(token)) {
			case locked:
				tell(true)
			case unlocked:
				tell(false)
			}
		}
	})
	return func() {
		_ = file.Close()
		reader.Wait()
		notifyCancel(unlocked)
		notifyCancel(locked)
	}, nil
}

// Of IOKit and of run loops.
var (
	ioRegister      func(context uintptr, port *uintptr, callback uintptr, notifier *uint32) uint32
	ioDeregister    func(notifier *uint32) int32
	ioAllow         func(kernelPort uint32, message uintptr) int32
	ioServiceClose  func(kernelPort uint32) int32
	ioPortSource    func(port uintptr) Ref
	ioPortDestroy   func(port uintptr)
	runLoopCurrent  func() Ref
	runLoopAdd      func(loop, source, mode Ref)
	runLoopRun      func(mode Ref, seconds float64, one bool) int32
	runLoopStop     func(loop Ref)
	runLoopMode     Ref
	powerCallback   uintptr
	errPower        = errors.New("macOS will not tell of sleep")
	listenersMu     sync.Mutex
	listeners       = map[uintptr]*listener{}
	lastListener    uintptr
	powerFrameworks = sync.OnceValue(func() error {
		handle, err := foundation()
		if err != nil {
			return err
		}
		if _, err = bind(frameworks+"IOKit.framework/IOKit", map[string]any{
			"IORegisterForSystemPower": &ioRegister, "IODeregisterForSystemPower": &ioDeregister,
			"IOAllowPowerChange": &ioAllow, "IOServiceClose": &ioServiceClose,
			"IONotificationPortGetRunLoopSource": &ioPortSource, "IONotificationPortDestroy": &ioPortDestroy,
		}); err != nil {
			return err
		}
		if _, err = bind(frameworks+"CoreFoundation.framework/CoreFoundation", map[string]any{
			"CFRunLoopGetCurrent": &runLoopCurrent, "CFRunLoopAddSource": &runLoopAdd,
			"CFRunLoopRunInMode": &runLoopRun, "CFRunLoopStop": &runLoopStop,
		}); err != nil {
			return err
		}
		runLoopMode, err = constant(handle, "kCFRunLoopDefaultMode")
		powerCallback = purego.NewCallback(heardPower)
		return err
	})
)

// listener is who is told of power.
type listener struct {
	kernel uint32
	tell   func(message uint32) (waits bool)
}

// heardPower is called by IOKit, on the thread of the listener's run loop.
func heardPower(context, _ uintptr, message uint32, argument uintptr) uintptr {
	listenersMu.Lock()
	l := listeners[context]
	listenersMu.Unlock()
	if l != nil && l.tell(message) {
		ioAllow(l.kernel, argument)
	}
	return 0
}

// PowerNews passes on the messages of IOKit about power until close is called
// and has returned. When tell returns true, the system is told to go on: it waits
// for that, and does not sleep before.
func PowerNews(tell func(message uint32) (waits bool)) (closeNews func(), err error) {
	if err := powerFrameworks(); err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	var loop Ref
	stopping, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // never unlocked: the run loop is the thread's
		l := &listener{tell: tell}
		listenersMu.Lock()
		lastListener++
		id := lastListener
		listeners[id] = l
		listenersMu.Unlock()
		defer func() {
			listenersMu.Lock()
			defer listenersMu.Unlock()
			delete(listeners, id)
		}()
		var port uintptr
		var notifier uint32
		if l.kernel = ioRegister(id, &port, powerCallback, &notifier); l.kernel == 0 {
			started <- errPower
			return
		}
		loop = runLoopCurrent()
		runLoopAdd(loop, ioPortSource(port), runLoopMode)
		started <- nil
		const long = 1e9 // seconds
		for {
			runLoopRun(runLoopMode, long, false)
			select {
			case <-stopping:
				ioDeregister(&notifier)
				ioServiceClose(l.kernel)
				ioPortDestroy(port)
				return
			default:
				time.Sleep(time.Second) // a loop that ends by itself has nothing to hear
			}
		}
	}()
	if err := <-started; err != nil {
		<-ended
		return nil, err
	}
	return func() {
		close(stopping)
		for { // a loop that does not run yet cannot be stopped yet
			runLoopStop(loop)
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}, nil
}
