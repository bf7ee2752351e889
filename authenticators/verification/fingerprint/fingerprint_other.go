//go:build !linux

package fingerprint

import (
	"context"

	"countersign.dev/authenticators/verification"
)

func (*Verifier) state(context.Context) verification.State {
	return verification.State{State: "absent", Hint: "this system's fingerprint reader cannot be used yet"}
}

func (v *Verifier) verify(context.Context) error {
	_ = v.busOwner // there is no bus
	return verification.ErrAbsent
}
