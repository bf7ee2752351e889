//go:build !cgo

package helper

import "countersign.dev/authenticators/securitykey/wire"

// supported says whether this build can talk to keys.
const supported = false

func (s *session) operate() (*wire.Result, error) { return nil, fail(wire.NotBuilt, "") }

func (s *session) explain(err error) error { return err }
