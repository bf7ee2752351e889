package daemon

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/daemon/challenge"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	orgclient "countersign.dev/okta/client"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// nextPrompt waits for the event that shows one.
func nextPrompt(t *testing.T, events <-chan api.Event) api.Prompt {
	t.Helper()
	for e := range events {
		if e.Prompt != nil {
			return *e.Prompt
		}
	}
	t.Fatal("the events ended without a prompt")
	return api.Prompt{}
}

// subscribed is a front end that watches.
func (a *agent) subscribed(t *testing.T) (events <-chan api.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := a.client.Subscribe(ctx, "cli")
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan api.Event, 64)
	go func() {
		defer close(c)
		for e, err := range stream {
			if err != nil {
				return
			}
			c <- e
		}
	}()
	return c
}

// The second half of the main job, in one process: the org pushes a sign-in
// with a number, a person picks it, the org gets an answer by the push key.
func TestPushIsAnswered(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	org.PushChallenge(added.EnrolmentID, func(c *okta.Challenge) {
		c.Context.ChallengeTextItems = []string{"17", "42", "8"}
		c.Context.ClientLocation, c.Context.UnusualActivities = "Lisbon", []string{"ANOMALOUS_LOCATION"}
	})
	p := shownPrompt(t, a) // an org that cannot wait is asked at once when somebody comes
	if p.Kind != "push" || p.Account != added.ID || p.Location != "Lisbon" || !slices.Equal(p.Unusual, []string{"New place"}) || !slices.Equal(p.Numbers, []string{"17", "42", "8"}) {
		t.Fatalf("%+v", p)
	}
	var refused *api.Error
	_, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", Number: "43"})
	if !errors.As(err, &refused) || refused.Code != "wrong_number" {
		t.Fatalf("a number that is not shown: %v", err)
	}
	outcome, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve", Number: "42"})
	if err != nil || outcome.Outcome != "approved" {
		t.Fatalf("%+v, %v", outcome, err)
	}
	answers := org.Answers()
	if len(answers) != 1 || answers[0].Method != okta.MethodPush {
		t.Fatalf("%+v", answers)
	}
	token, err := jose.Parse(answers[0].ChallengeResponse, jose.Answer)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(*org.Enrolments()[0].Methods.Push.Keys.ProofOfPossession); err != nil {
		t.Fatal(err)
	}
	var claims okta.Answer
	if err := token.Claims(&claims); err != nil || claims.Context.SelectedChallengeItem != "42" || claims.Context.UserConsent != okta.ConsentApproved {
		t.Fatalf("%+v, %v", claims.Context, err)
	}
}

// B1: a report holds the account's pushes back, says so, and is taken back by
// the person alone; also after a restart.
func TestReportedAccount(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	org.PushChallenge(added.EnrolmentID, nil)
	p := shownPrompt(t, a)
	if outcome, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "deny", Report: true}); err != nil || outcome.Outcome != "denied" {
		t.Fatalf("%+v, %v", outcome, err)
	}
	held := func(a *agent) (problem bool) {
		t.Helper()
		s, err := a.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(s.Problems, func(p api.Problem) bool {
			return p.Code == "pushes_held" && strings.Contains(p.Hint, "countersign prompt resume "+added.ID)
		})
	}
	if !held(a) {
		t.Fatal("status does not say that pushes are held back")
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	b := startAgent(t, a.config)
	if !held(b) {
		t.Fatal("a restart lets pushes through")
	}
	report, err := b.client.Doctor(t.Context(), "")
	if err != nil || !slices.ContainsFunc(report.Checks, func(c api.Check) bool {
		return strings.HasPrefix(c.Name, "push ") && c.State == "warning" && strings.Contains(c.Message, "held back")
	}) {
		t.Fatalf("doctor: %+v, %v", report.Checks, err)
	}
	if got, err := b.client.ResumePushes(t.Context(), added.ID); err != nil || got.PushesHeld || held(b) {
		t.Fatalf("%+v, %v", got, err)
	}
	var events []string
	for _, r := range b.audit(t) {
		events = append(events, r.Event)
	}
	if !slices.Contains(events, "pushes_held") || !slices.Contains(events, "pushes_resumed") {
		t.Fatalf("%v", events)
	}
	if _, err := b.client.ResumePushes(t.Context(), "nobody"); err == nil {
		t.Fatal("resumed an account that does not exist")
	}
}

func TestDoctorOnPushes(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	list := okta.AppAuthenticatorsPath + "/" + added.EnrolmentID + "/push/notifications"
	check := func(name, want string) (c api.Check) {
		t.Helper()
		deadline, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for deadline.Err() == nil {
			report, err := a.client.Doctor(deadline, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, c = range report.Checks {
				if strings.HasPrefix(c.Name, name) && strings.Contains(c.Message, want) {
					return c
				}
			}
		}
		t.Fatalf("doctor never says %q of %s", want, name)
		return c
	}
	if c := check("push ", "asks about every"); c.State != "ok" || !strings.Contains(c.Message, "last contact") {
		t.Errorf("%+v", c)
	}
	org.Reply(list, oktatest.Reply{Status: 500, Body: `{"errorCode":"E0000009"}`})
	a.nudge()
	if c := check("push ", "after an error"); c.State != "warning" {
		t.Errorf("%+v", c)
	}
}

// Only what a moment may mend is handed over again: nothing that was decided,
// refused or sent.
func TestPushesWorthAnotherTry(t *testing.T) {
	for o := challenge.Outcome(0); o < 200; o++ {
		want := o == challenge.NoFrontEnd || o == challenge.Locked || o == challenge.OrgUnreachable
		if worthAnotherTry(o) != want {
			t.Errorf("%v: %v", o, !want)
		}
	}
}

// The agent ends while a push waits for the person. After the start it waits for
// them again; once answered, it does not.
func TestPushOutlivesTheAgent(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	org.PushChallenge(added.EnrolmentID, nil)
	first := shownPrompt(t, a)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	b := startAgent(t, a.config)
	again := shownPrompt(t, b)
	if again.ID == first.ID || again.App != first.App || again.Account != first.Account {
		t.Fatalf("%+v after %+v", again, first)
	}
	if outcome, err := b.client.DecidePrompt(t.Context(), again.ID, api.Decision{Action: "approve"}); err != nil || outcome.Outcome != "approved" {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	// Still on the list, as if the org had not got the answer.
	c := startAgent(t, a.config)
	if outcome := challenged(t, c, added.ID, org); outcome != challenge.AlreadyAnswered || len(org.Answers()) != 1 {
		t.Fatalf("the answered push: %v, %d answers", outcome, len(org.Answers()))
	}
}

// shownPrompt waits for a prompt, seen or not.
func shownPrompt(t *testing.T, a *agent) api.Prompt {
	t.Helper()
	events := a.subscribed(t)
	list, err := a.client.Prompts(t.Context(), "cli")
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Prompts) > 0 {
		return list.Prompts[0]
	}
	return nextPrompt(t, events)
}

// challenged hands the first push on the org's list to the agent's pipeline.
func challenged(t *testing.T, a *agent, account string, org *oktatest.Org) challenge.Outcome {
	t.Helper()
	return a.core.Load().pipeline.Receive(t.Context(), org.Pending()[0], challenge.Transport{Kind: challenge.Push, Account: account}).Outcome
}

// An approval meets an org that is down. Each return of the network sends it
// again, and the person learns how it went.
func TestApprovalIsSentAgain(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	org.PushChallenge(added.EnrolmentID, nil)
	p := shownPrompt(t, a)
	org.ReplyToAnswers(503, `{"errorCode":"E0000009"}`)
	type told struct {
		api.PromptOutcome
		err error
	}
	decided := make(chan told, 1)
	go func() {
		outcome, err := a.client.DecidePrompt(t.Context(), p.ID, api.Decision{Action: "approve"})
		decided <- told{outcome, err}
	}()
	// Left to the pauses, the sixth try would come after 31 seconds.
	deadline, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	for n := 1; n < 7; n++ {
		for len(org.Answers()) < n {
			if deadline.Err() != nil {
				t.Fatalf("%d tries", len(org.Answers()))
			}
			runtime.Gosched()
		}
		if n == 6 {
			org.Reply("/idp/authenticators/", oktatest.Reply{})
		}
		a.core.Load().push.Reconnect()
	}
	got := <-decided
	answers := org.Answers()
	if got.err != nil || got.Outcome != "approved" || !strings.HasPrefix(got.Reason, "delivered after ") || len(answers) < 7 {
		t.Fatalf("%+v, %d answers", got, len(answers))
	}
	for _, one := range answers {
		if one.ChallengeResponse != answers[0].ChallengeResponse {
			t.Fatal("signed more than once")
		}
	}
	records := a.audit(t)
	if last := records[len(records)-1]; last.Event != "answer_delivered" || last.Outcome != "approved" || last.Account != added.ID || last.Reason != got.Reason {
		t.Fatalf("%+v", last)
	}
}

// A look at the list is no activity: nothing is given back after it, which would
// wake an idle agent up between two long polls. A push is.
func TestPollsAreNoActivity(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	c := a.core.Load()
	owner, err := c.book.Get(added.ID)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := owner.Method(okta.MethodPush)
	a.quiet.Stop()
	for range 3 {
		auth, err := c.push.Authorize(t.Context(), owner, false)
		if err == nil {
			_, err = c.push.List(t.Context(), owner, auth, m.PendingURL, orgclient.PendingRequest{Wait: true})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if a.quiet.Stop() {
		t.Fatal("a poll has armed the give-back")
	}
	c.push.Receive(t.Context(), added.ID, org.SignChallenge("other", nil))
	if !a.quiet.Stop() {
		t.Fatal("a push has not")
	}
}
