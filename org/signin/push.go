package signin

import (
	"context"
	"errors"
	"fmt"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// reportID prefixes the ids of what people report.
const reportID = "rep"

// push sends a push to the user's devices, or says that too many were sent in
// vain; then the other ways are offered.
func (e *Engine) push(ctx context.Context, t *transaction, d policy.Decision) error {
	switch err := e.factors.MayPush(ctx, t.user.ID); {
	case errors.Is(err, factor.ErrPushThrottled):
		t.state.Step, t.message = StepSelect, &pushThrottled
		e.d.Log.WarnContext(ctx, "pushes held back", "user_id", t.user.ID, "client_id", t.intent.ClientID)
		return nil
	case err != nil:
		return err
	}
	unusual, known, err := e.unusual(ctx, t)
	if err != nil {
		return err
	}
	r := e.pushRequest(t, d)
	r.Context.UnusualActivities, r.Context.RiskLevel = unusual, riskLevels[min(len(unusual), len(riskLevels)-1)]
	r.TransactionType, r.AskNumber, r.Lifetime = okta.TransactionLogin, t.org.NumberChallenge.Asks(!known), okta.ChallengeLifetime
	c, err := e.factors.NewPush(ctx, r)
	if err != nil {
		return err
	}
	t.challenge, t.state.ChallengeID, t.unsaved, t.state.Step = c, c.ID, true, StepChallenge
	return nil
}

var riskLevels = [...]string{"LOW", "MEDIUM", "HIGH"}

// pushRequest says what every push of a sign-in is about.
func (e *Engine) pushRequest(t *transaction, d policy.Decision) factor.PushRequest {
	origin := t.pageOrigin()
	if t.intent.Mode == backchannel {
		origin = ""
	}
	where := e.d.Locate(t.intent.ClientIP)
	return factor.PushRequest{
		SigninID: t.id, Org: t.org, User: t.user, Enrolments: e.pushable(t), AppLabel: t.app.Label, PageOrigin: origin,
		UserVerification: d.PushVerification,
		Context: okta.ChallengeContext{
			ClientOS: clientOS(t.intent.UserAgent), ClientIP: t.intent.ClientIP, ClientLocation: where, ShowUserLocation: where != "",
		},
	}
}

// pushable lists the enrolments whose push could satisfy the policy. A device
// that cannot is not rung: whatever it answered would end the challenge for the
// others too.
func (e *Engine) pushable(t *transaction) []device.Enrolment {
	var list []device.Enrolment
	f := e.facts(t)
	for _, en := range t.enrolments {
		f.Candidates = t.candidatesOf(en)
		if policy.Evaluate(t.set, &f).Methods.Has(policy.Push) {
			list = append(list, en)
		}
	}
	return list
}

// Resend sends the push once more, while the page waits or after it came to
// nothing.
func (e *Engine) Resend(ctx context.Context, handle okta.Secret) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		switch {
		case t.state.Step == StepChallenge && t.challenge.Method == okta.MethodPush:
			// What was answered meanwhile counts.
			if t.challenge.Status != factor.Pending {
				return e.poll(ctx, t)
			}
		case t.state.Step != StepResend:
			return outcome{}, nil
		}
		d := e.decide(t)
		switch {
		case d.Outcome != policy.Incomplete:
			return outcome{changed: true}, e.proceed(ctx, t)
		case !d.Methods.Has(policy.Push):
			return outcome{changed: true}, e.ask(ctx, t, d)
		}
		waiting := t.state
		if err := e.push(ctx, t, d); err != nil {
			return outcome{}, err
		}
		if t.message != nil && waiting.Step == StepChallenge {
			t.state = waiting // the one that is out there still counts
			return outcome{}, nil
		}
		return outcome{changed: true}, nil
	})
}

// SetAutoPush remembers whether the person wants pushes sent without being
// asked. It is for whoever has proven something, and does nothing at steps that
// have no push.
func (e *Engine) SetAutoPush(ctx context.Context, handle okta.Secret, on bool) error {
	t, err := e.open(ctx, handle)
	if err != nil {
		return err
	}
	switch t.state.Step {
	case StepOffer, StepResend, StepChallenge, StepSelect:
	default:
		return nil
	}
	if len(t.state.Proofs) == 0 || t.user.ID == "" || t.user.AutoPush == on {
		return nil
	}
	if err := e.d.DB.Write(ctx, func(tx store.Tx) error { return directory.SetAutoPush(ctx, tx, t.user.ID, on, e.d.Now()) }); err != nil {
		return fmt.Errorf("taking a step: %w", err)
	}
	return nil
}

// reported takes somebody's word that a push was not theirs: whoever began the
// sign-in ends here, and does not get to try again with it.
func (e *Engine) reported(ctx context.Context, tx store.Tx, r factor.Report) error {
	t, err := loadByID(ctx, tx, r.Challenge.SigninID)
	if err != nil {
		return err
	}
	t.fail(reportedByUser.Key)
	t.state.ChallengeID = ""
	if err := update(ctx, tx, t); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO push_reports (id, user_id, enrolment_id, challenge_id, client_id, client_ip, user_agent, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		ids.New(reportID), r.UserID, r.EnrolmentID, r.Challenge.ID, t.intent.ClientID, t.intent.ClientIP, t.intent.UserAgent, store.Millis(r.At)); err != nil {
		return fmt.Errorf("storing a report: %w", err)
	}
	return nil
}
