package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

const (
	reachWait = 1500 * time.Millisecond // somebody waits for the status
	reachKeep = 3 * time.Second         // whoever asks often gets the last answer
)

// reach knows for a moment whether the orgs answer. They are asked only when a
// person or program asks the agent.
type reach struct {
	mu       sync.Mutex // held while asking, so that many callers ask once
	known    time.Time
	problems []api.Problem
}

func (r *reach) look(ctx context.Context, c *core, now func() time.Time) []api.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.known) < reachKeep {
		return r.problems
	}
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	orgs := map[string]*account.Account{}
	for _, a := range usableAccounts(c) {
		orgs[a.OrgURL] = a
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	r.problems = nil
	for _, a := range orgs {
		wg.Go(func() {
			if p, bad := orgProblem(ctx, c, a, now); bad {
				mu.Lock()
				defer mu.Unlock()
				r.problems = append(r.problems, p)
			}
		})
	}
	wg.Wait()
	r.known = time.Now()
	return r.problems
}

// forget makes the next look a fresh one, after the accounts have changed.
func (r *reach) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = time.Time{}
}

// orgProblem asks the org of an account who it is.
func orgProblem(ctx context.Context, c *core, a *account.Account, now func() time.Time) (api.Problem, bool) {
	org, err := c.book.Org(a.OrgURL)
	if err == nil {
		who, asked := org.Organization(ctx)
		switch err = asked; {
		case err == nil && who.ID == a.OrgID:
			off := clockOff(who, now())
			return api.Problem{Code: "clock_wrong", Message: clockWords(off, a.OrgURL) + "; sign-ins there fail until they agree", Hint: clockHint}, off != 0
		case err == nil:
			return api.Problem{Code: "other_org", Message: "another org answers at " + a.OrgURL + " than the one enrolled at", Hint: "ask the org's administrator"}, true
		}
	}
	p := api.Problem{Code: "org_unreachable", Message: err.Error()}
	var known *api.Error
	if errors.As(explain(err), &known) {
		p.Code, p.Message = known.Code, known.Message
	}
	p.Message += "; sign-ins there fail until it answers"
	p.Hint = "check the network, or ask the org's administrator: countersign doctor says more"
	return p, true
}

const clockHint = "set the clock of this computer; if it is right, tell the org's administrator"

// clockOff is how far this computer's clock is ahead of the org's, when that is
// more than challenges tolerate (B7); 0 when it is less, or not known.
func clockOff(who okta.Organization, now time.Time) time.Duration {
	if who.AnsweredAt.IsZero() {
		return 0
	}
	off := now.Sub(who.AnsweredAt).Round(time.Second)
	if off.Abs() <= okta.DeviceBindLeeway {
		return 0
	}
	return off
}

func clockWords(off time.Duration, orgURL string) string {
	way := "ahead of"
	if off < 0 {
		way = "behind"
	}
	return fmt.Sprintf("the clock of this computer is about %v %s that of %s", off.Abs().Round(time.Minute), way, orgURL)
}
