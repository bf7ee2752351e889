//go:build !linux

package password

import (
	"context"

	"countersign.dev/authenticators/verification"
)

func (*Verifier) state(context.Context) verification.State {
	return verification.State{State: "absent", Hint: "this system's password dialog cannot be used yet"}
}

func (v *Verifier) verify(context.Context) error {
	_, _ = v.busOwner, v.user // there is no bus
	return verification.ErrAbsent
}
