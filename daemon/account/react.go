package account

import (
	"net/http"

	"countersign.dev/okta"
)

// Reaction is what a refusal of the org calls for. The zero value is to tell
// whoever asked, and to change nothing.
type Reaction int

// The reactions.
const (
	Surface    Reaction = iota // say so; nothing else follows from it
	RetryLater                 // the org is busy: again at RetryAt, or after a while
	Suspend                    // the org keeps the enrolment and will not use it now; the next success ends that
	Lost                       // the org has proven that the enrolment is gone
	NewDevice                  // the org has forgotten this device: once more, as a new one
	Phishing                   // the answer went to another page than the sign-in's: tell the person, never again
	NeedsUV                    // only a key that the person unlocks will do
)

// Occasion is what was being done when the org refused.
type Occasion int

// The occasions.
const (
	Using    Occasion = iota // an answer, a pending list, an update, a removal
	Creating                 // an enrolment on this device that the org may know
)

// reactions is the one table of what the codes of 2.7 call for. A status of 0
// stands for any; what is not in it is surfaced, or put off by its status. Two
// rules are above the spec's own: only 410 with a specific code proves that an
// enrolment is gone, since a path that is not found (E0000008) may be a proxy's
// word; and a suspended one is kept.
var reactions = map[okta.ErrorCode]struct {
	status          int
	using, creating Reaction
}{
	okta.CodeInvalidToken:        {401, Surface, NewDevice},
	okta.CodeTooManyRequests:     {0, RetryLater, RetryLater},
	okta.CodeDeviceSuspended:     {0, Suspend, Surface},
	okta.CodeDeviceDeleted:       {410, Lost, NewDevice},
	okta.CodeEnrolmentDeleted:    {410, Lost, Surface},
	okta.CodeUserSuspended:       {0, Suspend, Surface},
	okta.CodeUserDeleted:         {410, Lost, Surface},
	okta.CodeEnrolmentSuspended:  {0, Suspend, Surface},
	okta.CodeUVRequired:          {0, NeedsUV, NeedsUV},
	okta.CodeBioOrPINRequired:    {0, NeedsUV, NeedsUV},
	okta.CodeOriginMismatch:      {0, Phishing, Phishing},
	okta.CodeRegistrationPending: {0, RetryLater, RetryLater},
}

// React says what a refusal calls for.
func React(e *okta.Error, o Occasion) Reaction {
	if row, ok := reactions[e.Code]; ok && (row.status == 0 || row.status == e.HTTPStatus) {
		if o == Creating {
			return row.creating
		}
		return row.using
	}
	if s := e.HTTPStatus; s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s/100 == 5 {
		return RetryLater
	}
	return Surface
}

// Succeeded notes that the org took something of the account: whatever it held
// against it is over.
func (b *Book) Succeeded(id string) {
	if a, err := b.Get(id); err == nil && a.State == Suspended {
		b.note(id, Active)
	}
}

// Refused notes what a refusal of the org says about the account. React says
// what else it calls for.
func (b *Book) Refused(id string, e *okta.Error) {
	switch React(e, Using) {
	case Lost:
		b.note(id, Gone)
	case Suspend:
		b.note(id, Suspended)
	}
}
