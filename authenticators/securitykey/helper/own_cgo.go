//go:build cgo

package helper

// What go-libfido2 has not, by the library itself: to wait for a touch without
// making anything, and to read a finger with its progress.

/*
#include <fido.h>
#include <fido/bio.h>
#include <stdlib.h>
#include <string.h>
*/
import "C"

import (
	"fmt"
	"sync"
	"time"
	"unsafe"

	"countersign.dev/authenticators/securitykey/wire"
)

// number is an error of the library.
type number int

func (n number) Error() string { return fmt.Sprintf("libfido2 error %d", int(n)) }

func check(r C.int) error {
	if r == C.FIDO_OK {
		return nil
	}
	return number(r)
}

// handle is an open key.
type handle struct {
	mu  sync.Mutex // guards dev, which is nil while it is not open
	dev *C.fido_dev_t
}

func (h *handle) cancel() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dev != nil {
		C.fido_dev_cancel(h.dev)
	}
}

// with opens the key for what do does with it.
func (h *handle) with(path string, timeout time.Duration, do func(*C.fido_dev_t) error) error {
	dev := C.fido_dev_new()
	if dev == nil {
		return number(C.FIDO_ERR_INTERNAL)
	}
	defer C.fido_dev_free(&dev)
	if err := check(C.fido_dev_set_timeout(dev, C.int(timeout.Milliseconds()))); err != nil {
		return err
	}
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	if err := check(C.fido_dev_open(dev, name)); err != nil {
		return err
	}
	h.mu.Lock()
	h.dev = dev
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.dev = nil
		h.mu.Unlock()
		C.fido_dev_close(dev)
	}()
	return do(dev)
}

// waitForTouch has the key blink until it is touched (CTAP 2.1, 6.9, or with older
// ones a command that fails after the touch, and U2F keys likewise). Nothing is
// made.
func (s *session) waitForTouch() error {
	var h handle
	return s.call(h.cancel, true, func() error {
		return h.with(s.req.Device, s.req.Patience(), func(dev *C.fido_dev_t) error {
			if err := check(C.fido_dev_get_touch_begin(dev)); err != nil {
				return err
			}
			for {
				var touched C.int
				if err := check(C.fido_dev_get_touch_status(dev, &touched, 50)); err != nil {
					return err
				}
				if touched != 0 {
					return nil
				}
				if s.ctx.Err() != nil {
					C.fido_dev_cancel(dev)
					return s.cause()
				}
			}
		})
	})
}

// sampleTime is how long a finger has for one sample.
const sampleTime = 15 * time.Second

// maxPoor is how many samples may be too poor to count.
const maxPoor = 20

// readFinger enrols a finger, and gives its id.
func (k *key) readFinger(pin string) (id []byte, err error) {
	var h handle
	secret := C.CString(pin)
	defer func() {
		C.memset(unsafe.Pointer(secret), 0, C.size_t(len(pin)))
		C.free(unsafe.Pointer(secret))
	}()
	err = k.call(h.cancel, false, func() error {
		return h.with(k.req.Device, k.req.Patience(), func(dev *C.fido_dev_t) error {
			template, enrolment := C.fido_bio_template_new(), C.fido_bio_enroll_new()
			defer C.fido_bio_template_free(&template)
			defer C.fido_bio_enroll_free(&enrolment)
			if template == nil || enrolment == nil {
				return number(C.FIDO_ERR_INTERNAL)
			}
			k.event(wire.Reply{Event: wire.Touch})
			wait := C.uint32_t(sampleTime.Milliseconds())
			if err := check(C.fido_bio_dev_enroll_begin(dev, template, enrolment, wait, secret)); err != nil {
				return err
			}
			id = C.GoBytes(unsafe.Pointer(C.fido_bio_template_id_ptr(template)), C.int(C.fido_bio_template_id_len(template)))
			for before, idle := 0, 0; ; {
				left := int(C.fido_bio_enroll_remaining_samples(enrolment))
				k.event(wire.Reply{Event: wire.Sample, Left: left})
				if left == 0 {
					return nil
				}
				if left >= before && before != 0 { // a poor sample; a key may not go on like that for ever
					if idle++; idle > maxPoor {
						C.fido_bio_dev_enroll_cancel(dev)
						return number(C.FIDO_ERR_USER_ACTION_TIMEOUT)
					}
				}
				before = left
				if k.ctx.Err() != nil {
					C.fido_bio_dev_enroll_cancel(dev)
					return k.cause()
				}
				if err := check(C.fido_bio_dev_enroll_continue(dev, template, enrolment, wait)); err != nil {
					C.fido_bio_dev_enroll_cancel(dev)
					return err
				}
			}
		})
	})
	return id, err
}
