package crash

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

// B6, C4: agent and org die at any moment of what they do. Afterwards every
// account is there and its keys work; no sign-in was approved twice, unasked or
// without a record; what was claimed stays claimed.
func TestB6KilledAtRandom(t *testing.T) {
	kills, seed := size(t)
	t.Logf("CRASH_SEED=%d, %d kills", seed, kills)
	o := newOrdeal(t)
	// The first accounts are there before anything goes wrong.
	for _, user := range []string{harness.Alice, harness.Bob} {
		link, err := o.stage.Org.EnrolmentLink(t.Context(), user)
		must(t, err)
		a, err := o.local.AddAccount(t.Context(), api.AddAccount{Link: link})
		must(t, err)
		o.accounts[a.ID] = state{enrolment: a.EnrolmentID}
	}

	ctx, stop := context.WithCancel(t.Context())
	wait := o.traffic(ctx, seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	for n := range kills {
		o.await(int64(4+dice.IntN(16)), time.Duration(dice.IntN(60))*time.Millisecond)
		what := dice.IntN(5)
		if what != 0 {
			o.agent.Kill()
		}
		if what <= 1 || what == 4 {
			o.stage.Org.Kill()
		}
		if what <= 1 || what == 4 {
			if err := o.stage.Org.Restart(t.Context()); err != nil {
				t.Errorf("kill %d: %v", n, err)
				break
			}
		}
		if what != 0 {
			if err := o.agent.Restart(t.Context()); err != nil {
				t.Errorf("kill %d: %v", n, err)
				break
			}
		}
	}
	o.await(40, 0) // nobody is killed any more
	stop()
	wait()
	t.Log(o.counts)

	o.settled()
	o.claimsHold()
	o.consentHolds()
	o.accountsHold()
}

// await waits until the traffic has made some steps, and a moment more; a
// program that is slow to come back is not waited for.
func (o *ordeal) await(steps int64, more time.Duration) {
	until := o.done.Load() + steps
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for o.done.Load() < until {
		select {
		case <-tick.C:
		case <-patience.C:
			return
		}
	}
	<-time.After(more) // anywhere in the next steps
}

// settled gives both a clean start, and the agent the time to finish or undo
// what was under way.
func (o *ordeal) settled() {
	o.t.Helper()
	must(o.t, o.agent.Stop())
	must(o.t, o.agent.Restart(o.t.Context()))
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	var list []string
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		// News of enrolments that came and went is for the person, who reads it.
		accounts, err := o.local.Accounts(ctx)
		must(o.t, err)
		for _, a := range accounts.Accounts {
			if len(a.Notices) > 0 {
				_, err := o.local.Acknowledge(ctx, a.ID)
				must(o.t, err)
			}
		}
		s, err := o.local.Status(ctx)
		must(o.t, err)
		list = nil
		for _, p := range s.Problems {
			list = append(list, p.Code+": "+p.Message)
		}
		if len(list) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			o.t.Fatalf("the agent still reports %v", list)
		}
	}
}

// claimsHold hands over again what the agent has answered: no second signature.
func (o *ordeal) claimsHold() {
	o.t.Helper()
	for _, h := range o.taken {
		switch got := o.hand(o.t.Context(), h.token); got {
		case http.StatusConflict, http.StatusGatewayTimeout: // answered before, or too old by now
		default:
			o.t.Errorf("a challenge that was answered is handed over again: %d", got)
		}
	}
}

// challenge is one at the org, with the sign-in it belongs to.
type challenge struct{ id, status, intent, state string }

func (o *ordeal) challenges() (list []challenge) {
	o.t.Helper()
	db, err := harness.OpenOrgDatabase(o.state)
	must(o.t, err)
	defer db.Close()
	rows, err := db.QueryContext(o.t.Context(), `SELECT c.id, c.status, s.intent, s.state FROM challenges c JOIN signin_transactions s ON s.id = c.signin_id`)
	must(o.t, err)
	defer rows.Close()
	for rows.Next() {
		var c challenge
		must(o.t, rows.Scan(&c.id, &c.status, &c.intent, &c.state))
		list = append(list, c)
	}
	must(o.t, rows.Err())
	return list
}

// consentHolds compares the org's challenges with what the person said and with
// the agent's record.
func (o *ordeal) consentHolds() {
	o.t.Helper()
	recorded, approved := map[string]int{}, map[string]int{}
	records, err := o.local.Audit(o.t.Context(), client.AuditOptions{Verify: true})
	must(o.t, err)
	for r, err := range records {
		must(o.t, err)
		recorded[r.Transaction]++
		if r.Event == "challenge" && r.Outcome == "approved" { // the decision; its late delivery is another event
			approved[r.Transaction]++
		}
	}
	for id, n := range approved {
		if n > 1 {
			o.t.Errorf("%s is recorded as approved %d times", id, n)
		}
	}
	tally := map[string]int{}
	for _, c := range o.challenges() {
		tally[c.status]++
		if c.status != "APPROVED" && c.status != "DENIED" {
			continue
		}
		say, known := "", false
		for nonce, s := range o.said {
			if strings.Contains(c.intent+c.state, nonce) {
				say, known = s, true
			}
		}
		switch {
		case !known:
			o.t.Errorf("%s is %s, and nobody began it", c.id, c.status)
		case say == unclear:
		case c.status == "APPROVED" && say != approve, c.status == "DENIED" && say != deny && say != wrong:
			o.t.Errorf("%s is %s, and the person said %s", c.id, c.status, say)
		}
		if recorded[c.id] == 0 {
			o.t.Errorf("%s is %s, and the agent has no record of it", c.id, c.status)
		}
	}
	o.t.Log(tally)
	if tally["APPROVED"] == 0 {
		o.t.Error("nothing was approved: this proves nothing")
	}
}

// accountsHold compares the accounts of both sides, and uses every key.
func (o *ordeal) accountsHold() {
	o.t.Helper()
	ctx := o.t.Context()
	list, err := o.local.Accounts(ctx)
	must(o.t, err)
	here := map[string]string{} // enrolment by account
	for _, a := range list.Accounts {
		if a.State != "active" {
			o.t.Errorf("the account %s is %s", a.ID, a.State)
		}
		here[a.ID] = a.EnrolmentID
	}
	for id, s := range o.accounts {
		switch got, there := here[id]; {
		case s.removed && there:
			o.t.Errorf("the account %s was removed and is back", id)
		case !s.removing && got != s.enrolment:
			o.t.Errorf("the account %s is lost: %q, was %q", id, got, s.enrolment)
		}
	}
	if got, want := o.enrolments(), slices.Sorted(maps.Values(here)); !slices.Equal(got, want) {
		o.t.Errorf("the org has the enrolments %v, the agent %v", got, want)
	}
	// A removal is signed with the account's own key.
	for id := range here {
		if err := o.local.RemoveAccount(ctx, id, false); err != nil {
			o.t.Errorf("the key of %s: %v", id, err)
		}
	}
	if left := o.enrolments(); len(left) != 0 {
		o.t.Errorf("left at the org: %v", left)
	}
}

func (o *ordeal) enrolments() (list []string) {
	o.t.Helper()
	db, err := harness.OpenOrgDatabase(o.state)
	must(o.t, err)
	defer db.Close()
	rows, err := db.QueryContext(o.t.Context(), `SELECT id FROM enrolments WHERE status <> 'DELETED' ORDER BY id`)
	must(o.t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		must(o.t, rows.Scan(&id))
		list = append(list, id)
	}
	must(o.t, rows.Err())
	return list
}
