//go:build cgo

package helper

import "countersign.dev/authenticators/securitykey/wire"

// take holds the key, and refuses another one than the person was shown.
func (s *session) take() error {
	h, err := hold(s.req.Device)
	if err != nil {
		return err
	}
	if err := s.isExpected(h.identity()); err != nil {
		h.release()
		return err
	}
	if err := h.free(lockPatience); err != nil {
		h.release()
		return err
	}
	s.held = h
	return nil
}

// isExpected compares what is known without asking the key.
func (s *session) isExpected(now wire.Identity) error {
	want := s.req.Expect
	if want == nil {
		return nil
	}
	if want.Path != s.req.Device || want.Arrival != "" && want.Arrival != now.Arrival {
		return fail(wire.OtherKey, "arrived as %q, expected %q", now.Arrival, want.Arrival)
	}
	if known := now.VendorID != 0 || now.ProductID != 0; known && (want.VendorID != now.VendorID || want.ProductID != now.ProductID) {
		return fail(wire.OtherKey, "%04x:%04x, expected %04x:%04x", now.VendorID, now.ProductID, want.VendorID, want.ProductID)
	}
	return nil
}
