// Package fingerprint verifies the user by a finger: through fprintd, which
// keeps the readers and the templates, on Linux. Other systems have no back end
// yet, and say so.
//
// What it proves: a finger that was enrolled for this Unix user touched the
// reader just now, as far as fprintd, the reader and root are honest. fprintd
// learns from the bus who asks, so nobody else's finger counts. It says yes or
// no; no key depends on the finger itself.
package fingerprint

import (
	"context"
	"time"

	"countersign.dev/authenticators/verification"
)

// scanFor is how long the reader waits for a finger.
const scanFor = 30 * time.Second

// lookFor is how long a look at the reader may take.
const lookFor = 3 * time.Second

// Verifier is the method. Each use connects anew; nothing runs in between.
type Verifier struct {
	busOwner int // whose the system bus must be; root's but in tests
}

var _ verification.Verifier = (*Verifier)(nil)

// New returns the method. It asks nobody.
func New() *Verifier { return &Verifier{} }

// Method is verification.Fingerprint.
func (*Verifier) Method() verification.Method { return verification.Fingerprint }

// State says whether there are a reader and enrolled fingers of this user.
func (v *Verifier) State(ctx context.Context) verification.State {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	s := v.state(ctx)
	s.Method = verification.Fingerprint
	return s
}

// Verify has the user touch the reader: nil only after fprintd said that the
// finger matches. Cancelling ctx gives the reader back.
func (v *Verifier) Verify(ctx context.Context, _ verification.Request) error {
	ctx, cancel := context.WithTimeout(ctx, scanFor)
	defer cancel()
	return v.verify(ctx)
}
