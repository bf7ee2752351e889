package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/ipc/api"
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

func (r *reach) look(ctx context.Context, c *core) []api.Problem {
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
			if p, bad := orgProblem(ctx, c, a); bad {
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
func orgProblem(ctx context.Context, c *core, a *account.Account) (api.Problem, bool) {
	org, err := c.book.Org(a.OrgURL)
	if err == nil {
		who, asked := org.Organization(ctx)
		switch err = asked; {
		case err == nil && who.ID == a.OrgID:
			return api.Problem{}, false
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
