package notification

import (
	"errors"
	"fmt"
	"syscall"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// What is used of the Windows Runtime: by the tables of its objects, since there
// is no C compiler. The numbers are those of the headers of the Windows SDK; they
// never change, for a changed interface is a new one.

var (
	combase = windows.NewLazySystemDLL("combase.dll")

	procRoInitialize   = combase.NewProc("RoInitialize")
	procRoUninitialize = combase.NewProc("RoUninitialize")
	procRoActivate     = combase.NewProc("RoActivateInstance")
	procRoFactory      = combase.NewProc("RoGetActivationFactory")
	procCreateString   = combase.NewProc("WindowsCreateString")
	procDeleteString   = combase.NewProc("WindowsDeleteString")
)

const multithreaded = 1 // RO_INIT_MULTITHREADED

var (
	iidXMLDocument   = windows.GUID{Data1: 0xf7f3a506, Data2: 0x1e87, Data3: 0x42d6, Data4: [8]byte{0xbc, 0xfb, 0xb8, 0xc8, 0x09, 0xfa, 0x54, 0x94}}
	iidXMLDocumentIO = windows.GUID{Data1: 0x6cd0e74e, Data2: 0xee65, Data3: 0x4489, Data4: [8]byte{0x9e, 0xbf, 0xca, 0x43, 0xe8, 0x7b, 0xa6, 0x37}}
	iidManager       = windows.GUID{Data1: 0x50ac103f, Data2: 0xd235, Data3: 0x4598, Data4: [8]byte{0xbb, 0xef, 0x98, 0xfe, 0x4d, 0x1a, 0x3a, 0xd4}}
	iidManager2      = windows.GUID{Data1: 0x7ab93c52, Data2: 0x0e48, Data3: 0x4750, Data4: [8]byte{0xba, 0x9d, 0x1a, 0x41, 0x13, 0x98, 0x18, 0x47}}
	iidToastFactory  = windows.GUID{Data1: 0x04124b20, Data2: 0x82c6, Data3: 0x4229, Data4: [8]byte{0xb1, 0x09, 0xfd, 0x9e, 0xd4, 0x66, 0x2b, 0x53}}
)

const (
	classXML     = "Windows.Data.Xml.Dom.XmlDocument"
	classManager = "Windows.UI.Notifications.ToastNotificationManager"
	classToast   = "Windows.UI.Notifications.ToastNotification"
)

// The places in the tables. IUnknown has the first three, IInspectable the next
// three.
const (
	slotQuery   = 0
	slotRelease = 2

	slotLoadXML      = 6  // IXmlDocumentIO
	slotNotifierFor  = 7  // IToastNotificationManagerStatics
	slotHistory      = 6  // IToastNotificationManagerStatics2
	slotClearHistory = 12 // IToastNotificationHistory: ClearWithId
	slotCreateToast  = 6  // IToastNotificationFactory
	slotShow         = 6  // IToastNotifier
	slotHide         = 7
	slotSetting      = 8

	lastSlot = 12
)

// object is an object of the runtime: its table comes first.
type object struct{ table *[lastSlot + 1]uintptr }

// Of the functions below each calls methods of one form. Nobody calls one that
// the object's interface lacks. A pointer into Go's memory must become a number
// in the call itself, or what it points to may have moved.

// call calls a method that takes a handle, or nothing.
func (o *object) call(slot int, handle uintptr) error {
	r, _, _ := syscall.SyscallN(o.table[slot], uintptr(unsafe.Pointer(o)), handle)
	return hresult(r)
}

// number gets a number.
func (o *object) number(slot int) (n int32, err error) {
	r, _, _ := syscall.SyscallN(o.table[slot], uintptr(unsafe.Pointer(o)), uintptr(unsafe.Pointer(&n)))
	return n, hresult(r)
}

// get gets an object.
func (o *object) get(slot int) (out *object, err error) {
	r, _, _ := syscall.SyscallN(o.table[slot], uintptr(unsafe.Pointer(o)), uintptr(unsafe.Pointer(&out)))
	return some(out, r)
}

// with gets an object for a handle.
func (o *object) with(slot int, handle uintptr) (out *object, err error) {
	r, _, _ := syscall.SyscallN(o.table[slot], uintptr(unsafe.Pointer(o)), handle, uintptr(unsafe.Pointer(&out)))
	return some(out, r)
}

// query gets another interface of the object.
func (o *object) query(iid *windows.GUID) (out *object, err error) {
	r, _, _ := syscall.SyscallN(o.table[slotQuery], uintptr(unsafe.Pointer(o)), uintptr(unsafe.Pointer(iid)), uintptr(unsafe.Pointer(&out)))
	return some(out, r)
}

// handle is an object as an argument.
func (o *object) handle() uintptr { return uintptr(unsafe.Pointer(o)) }

func (o *object) release() {
	if o != nil {
		_ = o.call(slotRelease, 0) // gives a count
	}
}

var errNothing = errors.New("success, and no object")

// some is what a call has given, if it has.
func some(o *object, result uintptr) (*object, error) {
	if err := hresult(result); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errNothing
	}
	return o, nil
}

func hresult(r uintptr) error {
	if int32(r) >= 0 {
		return nil
	}
	return fmt.Errorf("error %#x of the Windows Runtime", uint32(r))
}

// withString calls with a string of the runtime.
func withString(s string, do func(h uintptr) error) error {
	units := utf16.Encode([]rune(s))
	var first *uint16
	if len(units) > 0 {
		first = &units[0]
	}
	var h uintptr
	r, _, _ := procCreateString.Call(uintptr(unsafe.Pointer(first)), uintptr(len(units)), uintptr(unsafe.Pointer(&h)))
	if err := hresult(r); err != nil {
		return err
	}
	defer procDeleteString.Call(h)
	return do(h)
}

// activate makes an object of a class.
func activate(class string) (out *object, err error) {
	err = withString(class, func(h uintptr) (err error) {
		var o *object
		r, _, _ := procRoActivate.Call(h, uintptr(unsafe.Pointer(&o)))
		out, err = some(o, r)
		return err
	})
	return out, err
}

// factory gets what makes the objects of a class.
func factory(class string, iid *windows.GUID) (out *object, err error) {
	err = withString(class, func(h uintptr) (err error) {
		var o *object
		r, _, _ := procRoFactory.Call(h, uintptr(unsafe.Pointer(iid)), uintptr(unsafe.Pointer(&o)))
		out, err = some(o, r)
		return err
	})
	return out, err
}

// initialize makes this thread one that may use the runtime.
func initialize() error {
	for _, p := range []*windows.LazyProc{procRoInitialize, procRoUninitialize, procRoActivate, procRoFactory, procCreateString, procDeleteString} {
		if err := p.Find(); err != nil {
			return err
		}
	}
	r, _, _ := procRoInitialize.Call(multithreaded)
	return hresult(r)
}

// register tells Windows who shows notes under our name, for this user.
func register() error {
	key, _, err := registry.CreateKey(registry.CURRENT_USER, `Software\Classes\AppUserModelId\`+appID, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer key.Close()
	return key.SetStringValue("DisplayName", appName)
}
