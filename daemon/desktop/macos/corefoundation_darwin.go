package macos

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Ref is a reference to an object of Core Foundation; 0 is none. Whoever makes
// one releases it.
type Ref uintptr

// frameworks is where they are. The files are not on the disk: the loader has
// them in its cache.
const frameworks = "/System/Library/Frameworks/"

// bind loads a framework, or a library by its whole path, and fills functions in,
// by name.
func bind(library string, functions map[string]any) (uintptr, error) {
	handle, err := purego.Dlopen(library, purego.RTLD_LAZY|purego.RTLD_GLOBAL)
	if err != nil {
		return 0, fmt.Errorf("load %s: %w", library, err)
	}
	for name, function := range functions {
		address, err := purego.Dlsym(handle, name)
		if err != nil {
			return 0, fmt.Errorf("load %s: %w", library, err)
		}
		purego.RegisterFunc(function, address)
	}
	return handle, nil
}

// constant reads a constant that is a reference.
func constant(handle uintptr, name string) (Ref, error) {
	address, err := purego.Dlsym(handle, name)
	if err != nil {
		return 0, err
	}
	return **(**Ref)(unsafe.Pointer(&address)), nil
}

// Of Core Foundation.
var (
	cfRelease          func(Ref)
	cfGetTypeID        func(Ref) uint
	cfStringTypeID     func() uint
	cfBooleanTypeID    func() uint
	cfNumberTypeID     func() uint
	cfBooleanGetValue  func(Ref) bool
	cfNumberGetValue   func(n Ref, kind int, out *int64) bool
	cfStringCreate     func(allocator Ref, bytes *byte, n int, encoding uint32, external bool) Ref
	cfStringGetLength  func(Ref) int
	cfStringGetCString func(s Ref, buffer *byte, size int, encoding uint32) bool
	cfDictionaryCreate func(allocator Ref, capacity int, keys, values uintptr) Ref
	cfDictionarySet    func(dictionary, key, value Ref)
	cfDictionaryGet    func(dictionary, key Ref) Ref
	cfArrayCreate      func(allocator Ref, capacity int, values uintptr) Ref
	cfArrayAppend      func(array, value Ref)

	keyCallbacks, valueCallbacks, arrayCallbacks uintptr
	booleanTrue                                  Ref
)

const (
	utf8Encoding = 0x08000100
	int64Number  = 4 // kCFNumberSInt64Type
)

// foundation loads Core Foundation, once.
var foundation = sync.OnceValues(func() (uintptr, error) {
	handle, err := bind(frameworks+"CoreFoundation.framework/CoreFoundation", map[string]any{
		"CFRelease": &cfRelease, "CFGetTypeID": &cfGetTypeID, "CFStringGetTypeID": &cfStringTypeID,
		"CFBooleanGetTypeID": &cfBooleanTypeID, "CFNumberGetTypeID": &cfNumberTypeID,
		"CFBooleanGetValue": &cfBooleanGetValue, "CFNumberGetValue": &cfNumberGetValue,
		"CFStringCreateWithBytes": &cfStringCreate, "CFStringGetLength": &cfStringGetLength,
		"CFStringGetCString": &cfStringGetCString, "CFDictionaryCreateMutable": &cfDictionaryCreate,
		"CFDictionarySetValue": &cfDictionarySet, "CFDictionaryGetValue": &cfDictionaryGet,
		"CFArrayCreateMutable": &cfArrayCreate, "CFArrayAppendValue": &cfArrayAppend,
	})
	if err != nil {
		return 0, err
	}
	for name, address := range map[string]*uintptr{
		"kCFTypeDictionaryKeyCallBacks": &keyCallbacks, "kCFTypeDictionaryValueCallBacks": &valueCallbacks,
		"kCFTypeArrayCallBacks": &arrayCallbacks,
	} {
		if *address, err = purego.Dlsym(handle, name); err != nil {
			return 0, err
		}
	}
	booleanTrue, err = constant(handle, "kCFBooleanTrue")
	return handle, err
})

func release(r Ref) {
	if r != 0 {
		cfRelease(r)
	}
}

// text makes a string. What is not UTF-8 has been replaced long ago; if it has
// not, there is no string.
func text(s string) Ref {
	b := []byte(s)
	if len(b) == 0 {
		b = []byte{0}
	}
	return cfStringCreate(0, &b[0], len(s), utf8Encoding, false)
}

// bytes reads a string of at most limit characters into memory that can be
// cleared; nil for a longer one, and for what is no string.
func bytes(s Ref, limit int) []byte {
	if s == 0 || cfGetTypeID(s) != cfStringTypeID() || cfStringGetLength(s) > limit {
		return nil
	}
	b := make([]byte, 3*limit+1) // at most three bytes for each of UTF-16's units
	if !cfStringGetCString(s, &b[0], len(b), utf8Encoding) {
		clear(b)
		return nil
	}
	n := 0
	for n < len(b) && b[n] != 0 {
		n++
	}
	return b[:n]
}

// truth reads a boolean, or a number that is not zero.
func truth(r Ref) bool {
	switch {
	case r == 0:
		return false
	case cfGetTypeID(r) == cfBooleanTypeID():
		return cfBooleanGetValue(r)
	case cfGetTypeID(r) == cfNumberTypeID():
		var n int64
		return cfNumberGetValue(r, int64Number, &n) && n != 0
	}
	return false
}
