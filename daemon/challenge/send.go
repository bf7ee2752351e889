package challenge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// The pauses between two tries to hand an answer over: doubled each time.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// send hands the signed answer to the org. One that a push asked for is sent
// again, as it is, while the network fails and the challenge lives: whoever
// approved it sits at another page, which waits. It is in memory only, so an
// agent that stops has tried. One that a page brought is sent once: that page
// waits for our reply, and asks for a new challenge when it fails.
func (p *Pipeline) send(ctx, wanted context.Context, c *Challenge, r okta.AnswerRequest) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		changed := p.network.next() // before the try: what changes meanwhile counts
		err := p.try(ctx, c, r)
		if err == nil || c.heard(err) {
			p.Accounts.Succeeded(c.account.ID)
			return nil
		}
		notBefore, again := mayArriveYet(err)
		if !again || c.transport.Kind != Push {
			return p.refusedBy(c, err)
		}
		if c.tries == 1 {
			p.Log.Info("the answer is not delivered yet", "account", c.account.ID, "until", c.until, "error", err)
		}
		rest := pause
		if wait := notBefore.Sub(p.Now()); wait > rest {
			rest, changed = wait, nil // the org's word: no network changes it
		}
		timer := time.NewTimer(min(rest, c.until.Sub(p.Now())))
		select {
		case <-timer.C:
		case <-changed:
			timer.Stop()
			pause = firstPause / 2
		case <-ctx.Done():
			timer.Stop()
			return c.undelivered("the agent stopped", err)
		case <-wanted.Done():
			timer.Stop()
			if errors.Is(context.Cause(wanted), prompt.ErrElsewhere) {
				return refuse(OrgUnreachable, fmt.Errorf("the org asks for it no more; no word that any of %d tries arrived: %w", c.tries, err))
			}
			return c.undelivered("the agent stopped listening to the org", err)
		}
		if !p.Now().Before(c.until) {
			return c.undelivered("it expired", err)
		}
	}
}

// heard says whether an org refuses a report for what it reports. It knows then
// all that there is to know, and tells the page why nobody is signed in.
func (c *Challenge) heard(err error) bool {
	var refused *okta.Error
	return outcomeOf(c.consent) == Reported && errors.As(err, &refused) && account.React(refused, account.Using) == account.NeedsUV
}

// undelivered ends the tries.
func (c *Challenge) undelivered(before string, err error) error {
	return refuse(OrgUnreachable, fmt.Errorf("could not be delivered before %s (tries: %d): %w", before, c.tries, err))
}

// try sends the answer once. Only the first try may reach into the leeway that
// the challenge has.
func (p *Pipeline) try(ctx context.Context, c *Challenge, r okta.AnswerRequest) error {
	if c.tries++; c.tries > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.until.Sub(p.Now()))
		defer cancel()
	}
	return p.Deliver(ctx, c.account, c.claims.VerificationURI, r)
}

// mayArriveYet says whether the same answer may be taken at another time, and
// the earliest one if the org named it. Whatever the org has said to it is
// final, unless it said that it is busy or broken.
func mayArriveYet(err error) (notBefore time.Time, ok bool) {
	var refused *okta.Error
	var odd *client.UnexpectedAnswer
	var unheard *client.Unreachable
	switch {
	case errors.As(err, &refused):
		return refused.RetryAt, busy(refused.HTTPStatus) && account.React(refused, account.Using) == account.RetryLater
	case errors.As(err, &odd):
		return time.Time{}, busy(odd.Status)
	}
	return time.Time{}, errors.As(err, &unheard)
}

func busy(status int) bool { return status == http.StatusTooManyRequests || status/100 == 5 }

// refusedBy says what became of an answer that the org has not taken, and notes
// what that says of the account.
func (p *Pipeline) refusedBy(c *Challenge, err error) error {
	var refused *okta.Error
	var odd *client.UnexpectedAnswer
	switch {
	case errors.As(err, &refused):
		p.Accounts.Refused(c.account.ID, refused)
		switch account.React(refused, account.Using) {
		case account.RetryLater:
			return refuse(OrgUnreachable, err)
		case account.Phishing:
			err = fmt.Errorf("the org says that the page is not its own, leave it: %w", err)
		case account.NeedsUV:
			err = fmt.Errorf("the org wants a key that is unlocked by PIN or fingerprint: %w", err)
		}
		return refuse(OrgRefused, c.perhapsBefore(err))
	case errors.As(err, &odd) && odd.Status/100 == 4 && !busy(odd.Status):
		return refuse(OrgRefused, c.perhapsBefore(err))
	}
	return refuse(OrgUnreachable, err)
}

// perhapsBefore says of an answer that was refused at a later try what cannot
// be told apart from here: the org takes one once.
func (c *Challenge) perhapsBefore(err error) error {
	if c.tries < 2 {
		return err
	}
	return fmt.Errorf("refused at try %d; an earlier one may have arrived: %w", c.tries, err)
}

// NetworkChanged says that the network may work again: answers that wait for it
// are sent at once.
func (p *Pipeline) NetworkChanged() { p.network.tell() }

// signal tells everybody who waits at the moment. The zero value is ready.
type signal struct {
	mu   sync.Mutex
	told chan struct{}
}

// next returns a channel that is closed by the next tell.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = make(chan struct{})
	}
	return s.told
}

func (s *signal) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != nil {
		close(s.told)
		s.told = nil
	}
}
