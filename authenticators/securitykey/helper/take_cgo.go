//go:build cgo && !windows

package helper

import (
	"strings"

	"countersign.dev/authenticators/securitykey/wire"
)

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

// askPIN has the agent send the PIN. It is used once.
func (s *session) askPIN(left int) (wire.PIN, error) {
	s.event(wire.Reply{Event: wire.NeedPIN, TriesLeft: left})
	select {
	case pin := <-s.pins:
		for _, p := range [][]byte{pin.PIN, pin.Old} {
			if strings.ContainsRune(string(p), 0) || len(p) > wire.MaxPIN {
				return wire.PIN{}, fail(wire.PINRefused, "no PIN of a key")
			}
		}
		if len(pin.PIN) == 0 {
			return wire.PIN{}, fail(wire.BadRequest, "an empty PIN")
		}
		return pin, nil
	case <-s.ctx.Done():
		return wire.PIN{}, s.cause()
	}
}
