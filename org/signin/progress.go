package signin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// Step is where a sign-in stands.
type Step string

// The steps.
const (
	StepIdentify  Step = "identify"
	StepFastPass  Step = "fastpass" // a challenge whose answer tells who it is
	StepPassword  Step = "password"
	StepSelect    Step = "select"
	StepChallenge Step = "challenge" // a challenge for a known user
	StepOffer     Step = "offer"     // a push would be sent: the person says when
	StepResend    Step = "resend"    // a push came to nothing; another may be sent
	StepCode      Step = "code"      // a one-time code
	StepKey       Step = "key"       // a security key is asked
	StepSetUp     Step = "set-up"    // what may or must be enrolled
	StepEnrol     Step = "enrol"     // a new security key is asked
	StepDone      Step = "done"
	StepFailed    Step = "failed"
)

// challenges says whether a step waits for the answer to a challenge.
func (s Step) challenges() bool {
	return s == StepChallenge || s == StepFastPass || s == StepKey || s == StepEnrol
}

// state is what a sign-in remembers between its steps.
type state struct {
	Step        Step     `json:"step"`
	Identifier  string   `json:"identifier,omitempty"` // as typed
	UserID      string   `json:"userId,omitempty"`     // "" for unknown users too
	Proofs      []proof  `json:"proofs,omitempty"`
	ChallengeID string   `json:"challengeId,omitempty"`
	Problem     string   `json:"problem,omitempty"` // key of the message of StepFailed
	AuthTime    int64    `json:"authTime,omitempty"`
	EnrolmentID string   `json:"enrolmentId,omitempty"` // whose key signed
	DeviceID    string   `json:"deviceId,omitempty"`
	KeyID       string   `json:"keyId,omitempty"`
	Protection  string   `json:"protection,omitempty"`
	AMR         []string `json:"amr,omitempty"` // of the session, if that was enough
	FromSession bool     `json:"fromSession,omitempty"`
	SetUp       bool     `json:"setUp,omitempty"` // something was enrolled, or the person wants to do so later
	FinishedAt  int64    `json:"finishedAt,omitempty"`
	Exits       int      `json:"exits,omitempty"`
}

type proof struct {
	Method policy.Methods `json:"method"`
	Traits policy.Traits  `json:"traits,omitempty"`
	At     int64          `json:"at"`
	// Enrolment ties a possession proof to what must still be active at the end.
	Enrolment string `json:"enrolment,omitempty"`
}

func (st *state) proven(m policy.Methods) bool {
	return slices.ContainsFunc(st.Proofs, func(p proof) bool { return p.Method&m != 0 })
}

// snapshot is what the org knows about the app and the user, of one moment.
type snapshot struct {
	org        directory.OrgInfo
	app        directory.App
	set        *policy.Set
	user       directory.User // zero while unknown, or when not active
	groups     []string
	assigned   bool
	enrolments []device.Enrolment
	keys       []factor.SecurityKey
	rpID       string                     // under which keys are enrolled; "": there can be none
	newKeys    directory.WebAuthnSettings // which are wanted
	challenge  factor.Challenge           // the current one, if any
}

// resnap reads the snapshot anew.
func (e *Engine) resnap(ctx context.Context, tx store.Tx, t *transaction) (err error) {
	s := snapshot{rpID: factor.RPID(e.d.BaseURL)}
	if s.org, err = directory.Org(ctx, tx); err != nil {
		return err
	}
	if s.app, err = directory.AppByClientID(ctx, tx, t.intent.ClientID); err != nil {
		return err
	}
	if s.set, err = e.policies.Load(ctx, tx, s.app.PolicyID); err != nil {
		return err
	}
	if t.state.Step == StepEnrol {
		w, err := directory.OrgWebAuthn(ctx, tx)
		if err != nil {
			return err
		}
		s.newKeys = w.Settings
	}
	if t.state.UserID != "" {
		if err := s.readUser(ctx, tx, t); err != nil {
			return err
		}
	}
	if t.state.ChallengeID != "" {
		s.challenge, err = factor.ByID(ctx, tx, t.state.ChallengeID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	t.snapshot = s
	return nil
}

func (s *snapshot) readUser(ctx context.Context, tx store.Tx, t *transaction) (err error) {
	u, err := directory.UserByID(ctx, tx, t.state.UserID)
	if errors.Is(err, store.ErrNotFound) || err == nil && !u.Active() {
		return nil // as if unknown: mayFinish says no
	}
	if err != nil {
		return err
	}
	s.user = u
	if s.groups, err = directory.Groups(ctx, tx, u.ID); err != nil {
		return err
	}
	if s.assigned, err = directory.Assigned(ctx, tx, u.ID, t.intent.ClientID); err != nil {
		return err
	}
	if s.enrolments, err = device.OfUser(ctx, tx, u.ID); err != nil {
		return err
	}
	s.keys, err = factor.KeysOfUser(ctx, tx, u.ID)
	return err
}

// mayFinish says whether the user may use the app at all. The policy says the
// rest.
func (t *transaction) mayFinish() bool { return t.user.ID != "" && t.user.Active() && t.assigned }

// facts is what the policy decides by.
func (e *Engine) facts(t *transaction) policy.Facts {
	f := policy.Facts{Now: e.d.Now(), Started: t.createdAt, UserID: t.user.ID, Groups: t.groups}
	for _, p := range t.state.Proofs {
		// What a since suspended enrolment proved no longer counts.
		if p.Enrolment == "" || t.enrolmentActive(p.Enrolment) {
			f.Proofs = append(f.Proofs, policy.Proof{Method: p.Method, Traits: p.Traits, At: store.Time(p.At)})
		}
	}
	f.Candidates, f.Enrolled = t.candidates()
	return f
}

// decide asks the policy.
func (e *Engine) decide(t *transaction) policy.Decision {
	f := e.facts(t)
	return policy.Evaluate(t.set, &f)
}

func (t *transaction) enrolmentActive(id string) bool {
	return slices.ContainsFunc(t.enrolments, func(en device.Enrolment) bool { return en.ID == id && en.Active() }) ||
		t.org.Authenticators.WebAuthn != "" && slices.ContainsFunc(t.keys, func(k factor.SecurityKey) bool { return k.ID == id })
}

// decideForStranger says what the policy would have decided if nobody had the
// name that was typed.
func (e *Engine) decideForStranger(t *transaction) policy.Decision {
	s := *t
	s.state.UserID = ""
	s.user, s.groups, s.assigned, s.enrolments, s.keys = directory.User{}, nil, false, nil, nil
	return e.decide(&s)
}

// proceed sets the step that follows from what is proven, and prepares the
// challenge if that is a challenge. It runs outside of any transaction; what it
// decides is checked again when it is committed.
func (e *Engine) proceed(ctx context.Context, t *transaction) error {
	if len(t.state.Proofs) > 0 && !t.mayFinish() {
		t.fail(notAssigned.Key)
		if t.user.ID == "" {
			t.fail(accessDenied.Key)
		}
		return nil
	}
	switch d := e.decide(t); d.Outcome {
	case policy.Satisfied:
		t.state.Step = StepDone
		if e.offersSetUp(t) {
			t.state.Step = StepSetUp
		}
		return nil
	case policy.Incomplete:
		return e.ask(ctx, t, d)
	default:
		if d.Reason == policy.NoAuthenticator {
			if _, ok := e.mayEnrol(t); ok {
				t.state.Step = StepSetUp
				return nil
			}
			t.fail(noAuthenticator.Key)
		} else {
			t.fail(accessDenied.Key)
		}
		return nil
	}
}

// ask goes to the step that asks for more: the password first, then the one
// method there is or the choice between several.
func (e *Engine) ask(ctx context.Context, t *transaction, d policy.Decision) error {
	switch {
	case d.Methods.Has(policy.Password):
		t.state.Step = StepPassword
	case d.Methods.Count() == 1:
		if d.Methods.Has(policy.Push) && !t.user.AutoPush {
			t.state.Step = StepOffer
			return nil
		}
		return e.begin(ctx, t, d, d.Methods)
	default:
		t.state.Step = StepSelect
	}
	return nil
}

// begin goes to the step of a possession method.
func (e *Engine) begin(ctx context.Context, t *transaction, d policy.Decision, m policy.Methods) error {
	switch m {
	case policy.Push:
		return e.push(ctx, t, d)
	case policy.TOTP:
		t.state.Step = StepCode
		return nil
	case policy.WebAuthn:
		return e.askKey(ctx, t, d)
	default:
		return e.challengeUser(ctx, t, d)
	}
}

func (e *Engine) challengeUser(ctx context.Context, t *transaction, d policy.Decision) error {
	if err := e.newChallenge(ctx, t, d); err != nil {
		return err
	}
	t.state.Step = StepChallenge
	return nil
}

// newChallenge signs a challenge; the commit of the step stores it.
func (e *Engine) newChallenge(ctx context.Context, t *transaction, d policy.Decision) error {
	typed := ""
	if len(t.state.Proofs) == 0 {
		typed = t.state.Identifier
	}
	c, err := e.factors.NewSignedNonce(ctx, factor.Request{
		SigninID: t.id, Org: t.org, User: t.user, Typed: typed, AppLabel: t.app.Label, PageOrigin: t.pageOrigin(),
		UserVerification: d.UserVerification, UserMediation: d.UserMediation,
	})
	if err != nil {
		return err
	}
	t.challenge, t.state.ChallengeID, t.unsaved = c, c.ID, true
	return nil
}

func (t *transaction) fail(problem string) { t.state.Step, t.state.Problem = StepFailed, problem }

// prove adds a proof, replacing an earlier one of the same method.
func (t *transaction) prove(p policy.Proof, enrolmentID string) {
	t.state.Proofs = slices.DeleteFunc(t.state.Proofs, func(q proof) bool { return q.Method == p.Method })
	t.state.Proofs = append(t.state.Proofs, proof{Method: p.Method, Traits: p.Traits, At: store.Millis(p.At), Enrolment: enrolmentID})
}

func (t *transaction) completed() Completed {
	st := &t.state
	return Completed{
		Intent: t.intent, UserID: st.UserID, AMR: st.amr(), AuthTime: store.Time(st.AuthTime),
		EnrolmentID: st.EnrolmentID, DeviceID: st.DeviceID, KeyID: st.KeyID, KeyProtection: st.Protection,
		FromSession: st.FromSession,
	}
}

// finish ends a sign-in inside the write transaction that commits it. It is the
// only way to success, and asks the policy once more with what is true now.
// entry, if not empty, becomes the value that completes a Redirect sign-in.
func (e *Engine) finish(ctx context.Context, tx store.Tx, t *transaction, entry okta.Secret) error {
	proofs := t.state.Proofs
	if err := e.resnap(ctx, tx, t); err != nil {
		return err
	}
	if len(proofs) == 0 || !t.mayFinish() || e.decide(t).Outcome != policy.Satisfied {
		return errStale
	}
	now := e.d.Now()
	t.state.Step, t.state.ChallengeID = StepDone, ""
	if t.state.FinishedAt == 0 {
		t.state.FinishedAt = store.Millis(now)
		if t.state.AuthTime == 0 {
			t.state.AuthTime = store.Millis(now)
		}
	}
	t.state.Exits++
	if err := t.lists.add(factor.Withdraw(ctx, tx, t.id)); err != nil {
		return err
	}
	if err := update(ctx, tx, t); err != nil {
		return err
	}
	if err := rememberPlace(ctx, tx, t, now); err != nil {
		return err
	}
	if t.intent.Mode == backchannel {
		return nil
	}
	if t.intent.Mode == InteractionCode {
		code, err := e.d.Codes.IssueInteractionCode(ctx, tx, t.completed())
		if err != nil {
			return fmt.Errorf("%w: %w", errNoCode, err)
		}
		t.issued.InteractionCode = okta.Secret(code)
		return nil
	}
	if entry == "" {
		entry = okta.Secret(ids.Secret())
	}
	t.issued.StateToken = entry
	return addHandle(ctx, tx, entry, t.id, kindExit, "", now)
}

// repeatable says whether a finished sign-in still tells its result.
func (t *transaction) repeatable(now time.Time) bool {
	return t.state.Exits < maxExits && now.Sub(store.Time(t.state.FinishedAt)) < repeatWithin
}

// commit stores what a step did to t, over the version it started from.
func (e *Engine) commit(ctx context.Context, t *transaction, also func(store.Tx) error) error {
	t.lists = nil
	err := e.d.DB.Write(ctx, func(tx store.Tx) error {
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		if err := keepHandle(ctx, tx, t.id, t.handle); err != nil {
			return err
		}
		if t.state.Step == StepDone {
			return e.finish(ctx, tx, t, "")
		}
		if !t.state.Step.challenges() {
			t.state.ChallengeID, t.challenge = "", factor.Challenge{}
		}
		if err := update(ctx, tx, t); err != nil {
			return err
		}
		if t.unsaved && t.state.ChallengeID != "" {
			return t.lists.add(factor.Insert(ctx, tx, t.challenge))
		}
		return t.lists.add(factor.Withdraw(ctx, tx, t.id))
	})
	if err == nil {
		e.tell(t.lists)
	}
	if refused := (*factor.KeyError)(nil); errors.Is(err, factor.ErrKeyRaced) || errors.As(err, &refused) {
		err = errStale // the step finds out what is left of it
	}
	if errors.Is(err, factor.ErrPushThrottled) {
		err = errStale // others were faster; the step finds out and says so
	}
	if err != nil && !errors.Is(err, errStale) {
		return fmt.Errorf("storing the step: %w", err)
	}
	return err
}
