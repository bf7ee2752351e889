// Package password verifies the user by the password of their account: through
// polkit, which has the desktop ask for it, on Linux. Other systems have no back
// end yet, and say so.
//
// What it proves: who sits at this session could authenticate as this Unix user
// just now, as far as polkit, PAM and root are honest; by password, or by
// whatever else PAM takes. The agent never sees the password.
//
// polkit knows the action dev.countersign.verify from
// packaging/polkit/dev.countersign.verify.policy, which an administrator
// installs. A polkit that says yes without asking proves nothing, so it is asked
// twice: without permission to ask the user it must not say yes. That refuses
// rules that allow the action outright, authorisations that are kept for a
// while, and root, whom polkit asks nothing.
package password

import (
	"context"
	"os"
	"time"

	"countersign.dev/authenticators/verification"
)

// askFor is how long the user has to type.
const askFor = 90 * time.Second

// lookFor is how long a look at polkit may take.
const lookFor = 3 * time.Second

// Verifier is the method. Each use connects anew; nothing runs in between.
type Verifier struct {
	busOwner int // whose the system bus must be; root's but in tests
	user     int // who is to be verified; the user of this process but in tests
}

var _ verification.Verifier = (*Verifier)(nil)

// New returns the method. It asks nobody.
func New() *Verifier { return &Verifier{user: os.Getuid()} }

// Method is verification.Password.
func (*Verifier) Method() verification.Method { return verification.Password }

// State says whether polkit would ask.
func (v *Verifier) State(ctx context.Context) verification.State {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	s := v.state(ctx)
	s.Method = verification.Password
	return s
}

// Verify has the desktop ask for the password: nil only after polkit said, having
// asked, that it was right. Cancelling ctx closes the dialog.
func (v *Verifier) Verify(ctx context.Context, _ verification.Request) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	return v.verify(ctx)
}
