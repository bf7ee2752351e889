//go:build cgo && !windows

package helper

// Waiting for a touch without making anything, and reading a finger.

/*
#include <fido.h>
#include <fido/bio.h>
*/
import "C"

import (
	"time"
	"unsafe"

	"countersign.dev/authenticators/securitykey/wire"
)

// waitForTouch has the key blink until it is touched (CTAP 2.1, 6.9, or with older
// ones a command that fails after the touch, and U2F keys likewise). Nothing is
// made.
func (s *session) waitForTouch() error {
	if err := s.opened(); err != nil {
		return err
	}
	return s.slow(func() error {
		dev := s.line.dev
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
}

// sampleTime is how long a finger has for one sample.
const sampleTime = 15 * time.Second

// maxPoor is how many samples may be too poor to count.
const maxPoor = 20

// readFinger enrols a finger, and gives its id.
func (k *key) readFinger(pin string) (id []byte, err error) {
	err = k.quick(func() error {
		var words texts
		defer words.free()
		secret := words.c(pin)
		dev := k.line.dev
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
	return id, err
}
