package push

import (
	"errors"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

const (
	watchedPace   = 10 * time.Second // of plain orgs, while somebody is there; ± 20 %
	unwatchedPace = time.Minute
	suspendedPace = 5 * time.Minute
	spacing       = 3 * time.Second // between two questions that people cause

	// An answer sooner than that, after asking to wait, was no wait, above all
	// when it brings nothing. Some are normal, when things happen; an org that
	// does nothing else is slowed down to the pace of one that cannot wait.
	waited        = time.Second
	waitedForNone = 5 * time.Second
	hastyFree     = 5

	longestRateLimit = 10 * time.Minute
	shortest         = 250 * time.Millisecond
	// A question that was held this long has been heard, however it ended.
	heard = 10 * time.Second
)

// pause is how long a listener rests, and why.
type pause struct {
	length time.Duration
	state  string
	// firm pauses are the org's word: nobody's impatience shortens them.
	firm bool
	// every is the pace of an org that is polled.
	every time.Duration
}

// pace keeps what the next pause depends on.
type pace struct {
	failures int // in a row
	hasty    int // answers in a row that came too soon
}

// after decides on the rest after an answer.
func (p *pace) after(list client.PendingList, took time.Duration, changed, watched bool, random func() float64) pause {
	p.failures = 0
	every := unwatchedPace
	if watched {
		every = watchedPace
	}
	if !list.Waited {
		p.hasty = 0
		return pause{length: spread(every, random), state: Polling, every: every}
	}
	free, enough := hastyFree, waited
	if !changed {
		free, enough = 1, waitedForNone // the first question has nothing to compare with
	}
	if took >= enough {
		p.hasty = 0
		return pause{state: Connected}
	}
	p.hasty++
	if p.hasty <= free {
		return pause{state: Connected}
	}
	return pause{length: min(time.Second<<min(p.hasty-free-1, 6), every), state: Connected}
}

// failed decides on the rest after an error. It does not make hasty answers
// good: an org that gives one after the other is slowed down, too (E12).
func (p *pace) failed(err error, took, longest time.Duration, now time.Time, random func() float64) pause {
	if took >= heard {
		p.failures, p.hasty = 0, 0 // something in between cuts long waits
	}
	step := min(time.Second<<min(p.failures, 10), longest)
	p.failures++
	rest := max(time.Duration(random()*float64(step)), shortest)
	if until, limited := rateLimit(err); limited {
		if until.IsZero() {
			return pause{length: step, state: BackingOff, firm: true}
		}
		wait := min(max(until.Sub(now), step), longestRateLimit)
		return pause{length: wait + time.Duration(random()*float64(time.Second)), state: BackingOff, firm: true}
	}
	var refusal *okta.Error
	if errors.As(err, &refusal) && refusal.Suspended() {
		return pause{length: spread(suspendedPace, random), state: Suspended}
	}
	return pause{length: rest, state: BackingOff}
}

// rateLimit says whether the org asked for patience, and until when, as far as
// it said.
func rateLimit(err error) (until time.Time, ok bool) {
	var refusal *okta.Error
	var token *okta.TokenError
	switch {
	case errors.As(err, &refusal):
		return refusal.RetryAt, refusal.HTTPStatus == 429 || refusal.HTTPStatus == 503 && !refusal.RetryAt.IsZero()
	case errors.As(err, &token):
		return token.RetryAt, token.HTTPStatus == 429 || token.HTTPStatus == 503 && !token.RetryAt.IsZero()
	}
	return time.Time{}, false
}

// unauthorised says whether the org does not take what the account authorised
// itself with.
func unauthorised(err error) bool {
	var refusal *okta.Error
	var odd *client.UnexpectedAnswer
	return errors.As(err, &refusal) && refusal.HTTPStatus == 401 || errors.As(err, &odd) && odd.Status == 401
}

// spread is d give or take a fifth, so that not everybody asks at once.
func spread(d time.Duration, random func() float64) time.Duration {
	return d*4/5 + time.Duration(random()*float64(d)*2/5)
}
