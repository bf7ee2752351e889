//go:build cgo && !linux && !windows

package helper

import (
	"time"

	"countersign.dev/authenticators/securitykey/wire"
)

// held is only a path where the system has no more to say.
type held struct{ path string }

const lockPatience = 0

func hold(path string) (*held, error) { return &held{path}, nil }

func (h *held) release() {}

func (h *held) free(time.Duration) error { return nil }

func (h *held) gone(time.Duration) bool { return false }

func (h *held) identity() wire.Identity { return wire.Identity{Path: h.path} }

// confine has nothing to work with here.
func (s *session) confine() error {
	s.log = append(s.log, "no sandbox on this system")
	return nil
}
