package dialog

import (
	"context"
	"time"
)

// Ready is how long a window stands before it can be approved: a person who was
// typing or clicking elsewhere when it came up has had no time to read it.
const Ready = 700 * time.Millisecond

// The ids of the buttons of a window of our own. What Escape and the close box
// send (2, IDCANCEL) is Not now; 1 (IDOK), which Enter sends where nothing else
// is the default, is nobody's.
const (
	idNotNow  = 2
	idApprove = 100 + iota
	idDeny
	idReport
	idEntry
	idChoices
	idText // and those after it
)

// pressed is the verdict of a button of a window of our own: any other id is
// none.
func pressed(id int) Verdict {
	switch id {
	case idApprove:
		return Approve
	case idDeny:
		return Deny
	case idReport:
		return Report
	}
	return Closed
}

// The answers of a CFUserNotification, in the lowest two bits of what it gives
// back. Return presses the default button, and Escape may press the alternate
// one, so neither approves.
const (
	cfDefault   = 0 // Not now
	cfAlternate = 1 // Deny
	cfOther     = 2 // Approve
	cfCancelled = 3 // by time or by us

	cfAnswer = 3
)

// answered is the verdict of a CFUserNotification that asks for approval.
func answered(flags uint64) Verdict {
	switch flags & cfAnswer {
	case cfOther:
		return Approve
	case cfAlternate:
		return Deny
	}
	return Closed
}

// picked is the place in a pop-up that a CFUserNotification gives back; its
// first entry is no choice.
func picked(flags uint64, choices []Choice) string {
	if n := flags >> 24 & 0xff; n > 0 && n <= uint64(len(choices)) {
		return choices[n-1].ID
	}
	return ""
}

// sooner tells whether an approval came before anybody could have read the
// question.
func sooner(shown, now time.Time) bool { return now.Sub(shown) < Ready }

// complete tells whether an approval has what the question asks for.
func complete(q Question, choice string, typed int) bool {
	known := len(q.Choices) == 0
	for _, c := range q.Choices {
		known = known || c.ID == choice
	}
	return known && (q.Entry == NoEntry || q.Optional || typed > 0)
}

// taken is an answer as the caller gets it: none once the question has ended,
// and only with what belongs to an approval.
func taken(ctx context.Context, q Question, a Answer, now time.Time) Answer {
	over := ctx.Err() != nil || !q.Until.IsZero() && !now.Before(q.Until)
	if over || a.Verdict != Approve {
		clear(a.PIN)
		a = Answer{Verdict: a.Verdict}
		if over {
			a.Verdict = Closed
		}
	}
	return a
}
