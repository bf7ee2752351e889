package signin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// CancelReason says why the browser gave up on a challenge.
type CancelReason string

// The reasons the browser can send.
const (
	Unreachable  CancelReason = "OV_UNREACHABLE_BY_LOOPBACK"
	AgentError   CancelReason = "OV_RETURNED_ERROR"
	UserCanceled CancelReason = "USER_CANCELED"
)

// maxIdentifier bounds what is typed as a user name.
const maxIdentifier = 254

// Introspect opens the sign-in that a state token or an interaction handle
// leads to, and gives the page a state handle for its steps. A page that is
// loaded again does it again, and starts over, or brings the state handle it
// has kept, and goes on.
//
// page is the origin of that page, one that the org trusts, or "" when nothing
// trustworthy is known. A state token is bound to no page, so a Redirect
// sign-in goes on from the page that opens it: challenges made for its steps
// name this page, and no other can have them answered.
func (e *Engine) Introspect(ctx context.Context, entry okta.Secret, page string) (View, error) {
	if v, err := e.Poll(ctx, entry); !errors.Is(err, ErrSessionExpired) {
		return v, err
	}
	handle := okta.Secret(ids.Secret())
	var lists touched
	err := e.d.DB.Write(ctx, func(tx store.Tx) error {
		now := e.d.Now()
		t, err := loadByHandle(ctx, tx, entry, kindEntry)
		if err != nil {
			return err
		}
		if t.expired(now) {
			return ErrSessionExpired
		}
		if err := startOver(ctx, tx, t, &lists); err != nil {
			return err
		}
		if t.intent.Mode != Redirect || page == t.intent.PageOrigin {
			page = "" // the page that started it
		}
		if err := addHandle(ctx, tx, handle, t.id, kindStep, page, now); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM signin_handles WHERE signin_id = ? AND kind = 'step' AND digest NOT IN
			(SELECT digest FROM signin_handles WHERE signin_id = ? AND kind = 'step' ORDER BY created_at DESC, digest LIMIT ?)`,
			t.id, t.id, maxHandles)
		return err
	})
	if err != nil {
		return View{}, fmt.Errorf("opening a sign-in: %w", err)
	}
	e.tell(lists)
	return e.Poll(ctx, handle)
}

// startOver drops what another page has done with a sign-in. Its entry value is
// bound to no browser: whoever made it could have handed it to somebody else,
// and must not find here what that person has proven (session fixation). What
// has failed for good stays so.
func startOver(ctx context.Context, tx store.Tx, t *transaction, lists *touched) error {
	switch t.state.Step {
	case StepIdentify, StepFailed:
		return nil
	case StepDone:
		return ErrSessionExpired
	}
	t.state = state{Step: StepIdentify}
	if err := update(ctx, tx, t); err != nil {
		return err
	}
	if err := lists.add(factor.Withdraw(ctx, tx, t.id)); err != nil {
		return err
	}
	return keepHandle(ctx, tx, t.id, "")
}

// keepHandle voids all state handles of a sign-in but one: the page that acts
// has it from then on.
func keepHandle(ctx context.Context, tx store.Tx, id string, handle okta.Secret) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM signin_handles WHERE signin_id = ? AND kind = 'step' AND digest <> ?`, id, ids.Digest(handle.Reveal()))
	return err
}

// outcome is what a step has to say besides the new state: a message that is
// shown once, what is to be stored with it, and what is said once that is.
type outcome struct {
	message *Message
	changed bool
	also    func(store.Tx) error
	done    func()
}

// step runs one step of a sign-in: read, decide, prepare, commit over the
// version that was read. When another step was faster everything is done anew
// from what that one left.
func (e *Engine) step(ctx context.Context, handle okta.Secret, do func(*transaction) (outcome, error)) (View, error) {
	for range 5 {
		t, err := e.open(ctx, handle)
		if err != nil {
			return View{}, err
		}
		o, err := do(t)
		if err != nil {
			return View{}, err
		}
		if o.changed {
			switch err := e.commit(ctx, t, o.also); {
			case errors.Is(err, errStale):
				continue
			case errors.Is(err, errNoCode):
				e.d.Log.WarnContext(ctx, "sign-in refused at its end", "client_id", t.intent.ClientID, "user_id", t.state.UserID, "error", err)
				t.fail(accessDenied.Key)
			case err != nil:
				return View{}, err
			case o.done != nil:
				o.done()
			}
		}
		return e.view(t, cmp.Or(o.message, t.message)), nil
	}
	return View{}, fmt.Errorf("taking a step: %w", errStale)
}

// open reads a sign-in and its snapshot, of one moment.
func (e *Engine) open(ctx context.Context, handle okta.Secret) (*transaction, error) {
	var t *transaction
	err := e.d.DB.Read(ctx, func(tx store.Tx) (err error) {
		if t, err = loadByHandle(ctx, tx, handle, kindStep); err != nil {
			return err
		}
		return e.resnap(ctx, tx, t)
	})
	if err != nil {
		return nil, fmt.Errorf("reading a sign-in: %w", err)
	}
	if t.expired(e.d.Now()) {
		return nil, fmt.Errorf("reading a sign-in: %w", ErrSessionExpired)
	}
	return t, nil
}

// Identify says who wants to sign in. Unknown users get the same next step as
// known ones.
func (e *Engine) Identify(ctx context.Context, handle okta.Secret, identifier string) (View, error) {
	identifier = strings.TrimSpace(identifier)
	if len(identifier) > maxIdentifier {
		return View{}, fmt.Errorf("identifying: %w", ErrRequest)
	}
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		if t.state.Step != StepIdentify && t.state.Step != StepFastPass {
			return outcome{}, nil
		}
		if identifier == "" {
			return outcome{message: &identifierMissing}, nil
		}
		t.state = state{Step: StepPassword, Identifier: identifier}
		err := e.d.DB.Read(ctx, func(tx store.Tx) error {
			u, err := directory.UserByLogin(ctx, tx, identifier)
			if errors.Is(err, store.ErrNotFound) || err == nil && !u.Active() {
				return nil
			}
			if err != nil {
				return err
			}
			t.state.UserID = u.ID
			return e.resnap(ctx, tx, t)
		})
		if err != nil {
			return outcome{}, fmt.Errorf("identifying: %w", err)
		}
		// A policy that knows no password challenges at once; all others ask for
		// the password first, and deny, if they must, only afterwards.
		d := e.decide(t)
		if d.Outcome == policy.Denied {
			// Where strangers are challenged at once, being asked for a password
			// would tell that the name is somebody's.
			if s := e.decideForStranger(t); s.Outcome == policy.Incomplete && !s.Methods.Has(policy.Password) {
				d, t.state.UserID = s, ""
				t.user, t.groups, t.assigned, t.enrolments, t.keys = directory.User{}, nil, false, nil, nil
			}
		}
		if d.Outcome == policy.Incomplete && !d.Methods.Has(policy.Password) {
			err = e.ask(ctx, t, d)
		}
		return outcome{changed: true}, err
	})
}

// Password takes the password.
func (e *Engine) Password(ctx context.Context, handle okta.Secret, password okta.Secret) (View, error) {
	checked := "" // whose password is known to be right, so that a retry does not hash again
	known := ""   // browser of that person
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		if t.state.Step != StepPassword {
			return outcome{}, nil
		}
		if checked == "" || checked != t.state.UserID {
			var err error
			if known, err = e.knownBrowser(ctx, t); err != nil {
				return outcome{}, err
			}
			ok, err := e.factors.Password(ctx, t.user, t.state.Identifier, known, password)
			if errors.Is(err, factor.ErrThrottled) {
				return outcome{message: &tooManyTries}, nil
			}
			if err != nil {
				return outcome{}, err
			}
			if !ok {
				return outcome{message: &incorrectPassword}, nil
			}
			checked = t.state.UserID
		}
		t.prove(policy.Proof{Method: policy.Password, At: e.d.Now()}, "")
		login := t.state.Identifier
		return outcome{changed: true, also: func(tx store.Tx) error { return factor.ForgetTries(ctx, tx, login, known) }}, e.proceed(ctx, t)
	})
}

// Select chooses an authenticator and one of its methods. Only what the policy
// admits can be chosen, whatever the page asks for. No method is the first one
// that is offered.
func (e *Engine) Select(ctx context.Context, handle okta.Secret, authenticatorID, method string) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		switch t.state.Step {
		case StepSelect, StepChallenge, StepOffer, StepResend, StepCode, StepKey:
		default:
			return outcome{}, nil
		}
		d := e.decide(t)
		switch {
		case d.Outcome != policy.Incomplete:
			return outcome{changed: true}, e.proceed(ctx, t)
		case authenticatorID == t.org.Authenticators.OktaVerify:
			for _, m := range methods {
				if d.Methods.Has(m.is) && (method == "" || method == string(m.name)) {
					return outcome{changed: true}, e.begin(ctx, t, d, m.is)
				}
			}
		case authenticatorID == t.org.Authenticators.WebAuthn && d.Methods.Has(policy.WebAuthn):
			return outcome{changed: true}, e.begin(ctx, t, d, policy.WebAuthn)
		case authenticatorID == t.org.Authenticators.Password && d.Methods.Has(policy.Password):
			t.state.Step = StepPassword
			return outcome{changed: true}, nil
		}
		return outcome{}, fmt.Errorf("selecting an authenticator: %w", ErrRequest)
	})
}

// Launch asks the agent on this machine who it is, before a user is named.
func (e *Engine) Launch(ctx context.Context, handle okta.Secret) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		if t.state.Step != StepIdentify {
			return outcome{}, nil
		}
		t.state = state{Step: StepFastPass}
		d := e.decide(t)
		if !d.Methods.Has(policy.SignedNonce) {
			d.UserVerification, d.UserMediation = okta.NeedNone, okta.NeedRequired
		}
		return outcome{changed: true}, e.newChallenge(ctx, t, d)
	})
}

// Poll says where the sign-in stands and moves it on when the challenge has
// been answered. While nothing changes it writes nothing and shows the
// identical challenge.
func (e *Engine) Poll(ctx context.Context, handle okta.Secret) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) { return e.poll(ctx, t) })
}

func (e *Engine) poll(ctx context.Context, t *transaction) (outcome, error) {
	switch t.state.Step {
	case StepDone:
		if !t.repeatable(e.d.Now()) || !t.mayFinish() || e.decide(t).Outcome != policy.Satisfied {
			return outcome{}, ErrSessionExpired
		}
		return outcome{changed: true}, nil // finish issues its result again
	case StepKey, StepEnrol:
		return e.pollKey(ctx, t)
	case StepFastPass, StepChallenge:
	default:
		return outcome{}, nil
	}
	switch t.challenge.Status {
	case factor.Pending:
		if e.d.Now().Before(t.challenge.ExpiresAt) {
			return outcome{}, nil
		}
		t.again()
		return outcome{changed: true, message: &timedOut}, nil
	case factor.Expired:
		t.again()
		return outcome{changed: true, message: &timedOut}, nil
	case factor.Approved:
		return outcome{changed: true}, e.accept(ctx, t)
	case factor.Denied:
		t.again()
		return outcome{changed: true, message: &deniedByUser}, nil
	case factor.Failed:
		if t.challenge.Result.Reason == factor.Phishing {
			// Somebody relays this sign-in; it ends here, for both ends.
			t.fail(phishing.Key)
			return outcome{changed: true}, nil
		}
		t.again()
		return outcome{changed: true, message: failure(t.challenge.Method, t.challenge.Result)}, nil
	default: // withdrawn, or gone
		t.back()
		return outcome{changed: true}, nil
	}
}

// accept adds what an approved challenge proves, and learns from it who it is
// when that was the question.
func (e *Engine) accept(ctx context.Context, t *transaction) error {
	r := t.challenge.Result
	p, ok := t.challenge.Proof()
	if !ok || r.UserID == "" || (t.state.UserID != "" && t.state.UserID != r.UserID) {
		t.fail(accessDenied.Key)
		return nil
	}
	if !t.state.proven(policy.SignedNonce) || p.Method == policy.SignedNonce { // else the stronger one stays
		t.state.EnrolmentID, t.state.DeviceID, t.state.KeyID, t.state.Protection = r.EnrolmentID, r.DeviceID, r.KeyID, string(r.Protection)
	}
	t.prove(p, r.EnrolmentID)
	t.state.ChallengeID = ""
	if t.state.UserID == "" {
		t.state.UserID = r.UserID
		if err := e.d.DB.Read(ctx, func(tx store.Tx) error { return e.resnap(ctx, tx, t) }); err != nil {
			return err
		}
		t.state.Identifier = t.user.Login
	}
	return e.proceed(ctx, t)
}

// back leaves a challenge: to the choice for a known user, to the start
// otherwise.
func (t *transaction) back() {
	if t.state.Step == StepFastPass {
		t.state = state{Step: StepIdentify}
		return
	}
	t.state.Step = StepSelect
}

// again leaves a challenge that came to nothing. A push may be sent once more
// from where the person is.
func (t *transaction) again() {
	if t.state.Step == StepChallenge && t.challenge.Method == okta.MethodPush {
		t.state.Step = StepResend
		return
	}
	t.back()
}

// CancelPoll ends the challenge that the browser could not deliver or does not
// want to wait for.
func (e *Engine) CancelPoll(ctx context.Context, handle okta.Secret, reason CancelReason) (View, error) {
	var message *Message
	switch reason {
	case Unreachable:
		message = &unreachable
	case AgentError:
		message = &agentError
	case UserCanceled:
	default:
		return View{}, fmt.Errorf("cancelling a challenge: %w", ErrRequest)
	}
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		if t.state.Step != StepFastPass && t.state.Step != StepChallenge {
			return outcome{}, nil
		}
		// The browser may have lost the agent's reply to an answer that the org
		// has long taken; unless the person cancelled, the answer counts.
		if t.challenge.Status != factor.Pending && reason != UserCanceled {
			return e.poll(ctx, t)
		}
		t.back()
		return outcome{changed: true, message: message}, nil
	})
}

// Cancel starts the sign-in afresh, with a new state handle; all earlier ones
// are void.
func (e *Engine) Cancel(ctx context.Context, handle okta.Secret) (View, error) {
	next := okta.Secret(ids.Secret())
	var lists touched
	err := e.d.DB.Write(ctx, func(tx store.Tx) error {
		now := e.d.Now()
		t, err := loadByHandle(ctx, tx, handle, kindStep)
		if err != nil {
			return err
		}
		if t.expired(now) || t.state.Step == StepDone || t.state.Problem == reportedByUser.Key {
			return ErrSessionExpired
		}
		t.state = state{Step: StepIdentify}
		if err := update(ctx, tx, t); err != nil {
			return err
		}
		if err := lists.add(factor.Withdraw(ctx, tx, t.id)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM signin_handles WHERE signin_id = ? AND kind = 'step'`, t.id); err != nil {
			return err
		}
		return addHandle(ctx, tx, next, t.id, kindStep, t.page, now)
	})
	if err != nil {
		return View{}, fmt.Errorf("cancelling a sign-in: %w", err)
	}
	e.tell(lists)
	return e.Poll(ctx, next)
}
