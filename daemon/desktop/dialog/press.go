package dialog

import (
	"context"
	"time"
)

// readyAfter is how long a window of our own stands before it can be approved: a
// person who was typing or clicking elsewhere when it came up has had no time to
// read it.
const readyAfter = 700 * time.Millisecond

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

// sooner tells whether an approval came before anybody could have read the
// question.
func sooner(shown, now time.Time) bool { return now.Sub(shown) < readyAfter }

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
