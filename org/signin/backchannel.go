package signin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// Errors of the back channel.
var (
	// ErrUnknownUser says that there is nobody by that name or id who may use
	// the client. The three are not told apart.
	ErrUnknownUser = errors.New("no such user")
	// ErrNoCIBAEnrolment says that the user has no device that takes such
	// requests.
	ErrNoCIBAEnrolment = errors.New("no device of the user takes requests over the back channel")
	// ErrThrottled says that the user's devices were rung in vain too often.
	ErrThrottled = errors.New("too many requests for this user")
	// ErrAuthorizationPending says that nobody has answered yet.
	ErrAuthorizationPending = errors.New("nobody has answered yet")
	// ErrDenied says that the person said no, that the answer was not good
	// enough, or that the policy lets nobody in this way.
	ErrDenied = errors.New("the sign-in was denied")
)

const (
	// maxBinding bounds a binding message, in characters.
	maxBinding = 250
	// collect is how long after the end of a request its approval may still be
	// fetched, so that one given at the last moment is not lost between two polls.
	collect = 30 * time.Second
)

// Backchannel asks for the approval of a user who is on no page of ours (CIBA).
// The caller has authenticated the client.
type Backchannel struct {
	ClientID            string
	AuthorizationServer string // "" is the org's own, or "default"
	Scopes              []string
	LoginHint           string // who is asked: by login,
	UserID              string // or by id
	BindingMessage      string // plain text, shown to the person
	ACRValues           []string
	ExpiresIn           time.Duration // 0, or more than a challenge lives: as long as a challenge lives
	ClientIP, UserAgent string
}

// StartBackchannel asks the user's devices and returns the id by which the
// client fetches the outcome, once, until a moment after expiresAt. It is a
// sign-in like any other: the app's policy says what suffices.
func (e *Engine) StartBackchannel(ctx context.Context, b Backchannel) (id okta.Secret, expiresAt time.Time, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("starting a back-channel sign-in: %w", err)
		}
	}()
	switch {
	case b.ClientID == "", (b.LoginHint == "") == (b.UserID == ""), len(b.LoginHint) > maxIdentifier,
		utf8.RuneCountInString(b.BindingMessage) > maxBinding, !utf8.ValidString(b.BindingMessage), b.ExpiresIn < 0:
		return "", time.Time{}, ErrRequest
	}
	life := okta.ChallengeLifetime
	if b.ExpiresIn > 0 {
		life = min(life, b.ExpiresIn)
	}
	now := e.d.Now()
	t := &transaction{
		id: ids.New(signinID), createdAt: now, expiresAt: now.Add(lifetime),
		intent: Intent{ClientID: b.ClientID, AuthorizationServer: b.AuthorizationServer, Mode: backchannel, Scopes: b.Scopes,
			LoginHint: b.LoginHint, ACRValues: b.ACRValues, ClientIP: b.ClientIP, UserAgent: b.UserAgent},
	}
	if err := e.findUser(ctx, t, b); err != nil {
		return "", time.Time{}, err
	}
	d, err := e.mayAsk(t)
	if err != nil {
		return "", time.Time{}, err
	}
	if err := e.factors.MayPush(ctx, t.user.ID); err != nil {
		return "", time.Time{}, throttled(err)
	}
	r := e.pushRequest(t, d)
	r.TransactionType, r.BindingMessage, r.Lifetime = okta.TransactionCIBA, b.BindingMessage, life
	if t.challenge, err = e.factors.NewPush(ctx, r); err != nil {
		return "", time.Time{}, err
	}
	t.state.Step, t.state.ChallengeID = StepChallenge, t.challenge.ID
	id = okta.Secret(ids.Secret())
	err = e.d.DB.Write(ctx, func(tx store.Tx) error {
		if err := e.sweep(ctx, tx, now, &t.lists); err != nil {
			return err
		}
		if err := insert(ctx, tx, t); err != nil {
			return err
		}
		if err := t.lists.add(factor.Insert(ctx, tx, t.challenge)); err != nil {
			return throttled(err)
		}
		return addHandle(ctx, tx, id, t.id, kindBack, "", now)
	})
	if err != nil {
		return "", time.Time{}, err
	}
	e.tell(t.lists)
	return id, t.challenge.ExpiresAt, nil
}

// findUser reads who is asked for.
func (e *Engine) findUser(ctx context.Context, t *transaction, b Backchannel) error {
	return e.d.DB.Read(ctx, func(tx store.Tx) error {
		find, name := directory.UserByID, b.UserID
		if name == "" {
			find, name = directory.UserByLogin, b.LoginHint
		}
		u, err := find(ctx, tx, name)
		if errors.Is(err, store.ErrNotFound) {
			return ErrUnknownUser
		}
		if err != nil {
			return err
		}
		t.state.UserID, t.state.Identifier = u.ID, u.Login
		if err := e.resnap(ctx, tx, t); err != nil {
			return err
		}
		if !t.mayFinish() {
			return ErrUnknownUser
		}
		return nil
	})
}

// mayAsk says how the user's devices are asked, if any can be and their
// approval would be all that the policy wants: nobody is rung in vain.
func (e *Engine) mayAsk(t *transaction) (policy.Decision, error) {
	f := e.facts(t)
	if len(f.Candidates) == 0 {
		return policy.Decision{}, ErrNoCIBAEnrolment
	}
	d := policy.Evaluate(t.set, &f)
	enough := slices.ContainsFunc(f.Candidates, func(c policy.Candidate) bool {
		with := f
		with.Proofs = []policy.Proof{{Method: c.Method, Traits: c.Traits, At: f.Now}}
		return policy.Evaluate(t.set, &with).Outcome == policy.Satisfied
	})
	if !d.Methods.Has(policy.Push) || !enough {
		return policy.Decision{}, ErrDenied
	}
	return d, nil
}

func throttled(err error) error {
	if errors.Is(err, factor.ErrPushThrottled) {
		return ErrThrottled
	}
	return err
}

// CompleteBackchannel tells the client the outcome: ErrAuthorizationPending
// while nobody has answered, ErrDenied, ErrSessionExpired for what is over,
// fetched, somebody else's or unknown. An approval is consumed: it counts once.
func (e *Engine) CompleteBackchannel(ctx context.Context, id okta.Secret, clientID string) (Completed, error) {
	var c Completed
	var lists touched
	err := e.d.DB.Write(ctx, func(tx store.Tx) error {
		now := e.d.Now()
		t, err := loadByHandle(ctx, tx, id, kindBack)
		if err != nil {
			return err
		}
		if t.intent.Mode != backchannel || t.intent.ClientID != clientID || t.expired(now) {
			return ErrSessionExpired
		}
		if err := e.resnap(ctx, tx, t); err != nil {
			return err
		}
		if t.state.Step != StepChallenge {
			return ErrDenied // reported
		}
		late := !now.Before(t.challenge.ExpiresAt)
		switch t.challenge.Status {
		case factor.Pending:
			if late {
				return ErrSessionExpired
			}
			return ErrAuthorizationPending
		case factor.Approved:
			if !now.Before(t.challenge.ExpiresAt.Add(collect)) {
				return ErrSessionExpired
			}
		case factor.Denied, factor.Failed:
			return ErrDenied
		default:
			return ErrSessionExpired
		}
		r := t.challenge.Result
		p, ok := t.challenge.Proof()
		if !ok || r.UserID == "" || r.UserID != t.state.UserID {
			return ErrDenied
		}
		t.prove(p, r.EnrolmentID)
		t.state.EnrolmentID, t.state.DeviceID, t.state.KeyID, t.state.Protection = r.EnrolmentID, r.DeviceID, r.KeyID, string(r.Protection)
		if err := e.finish(ctx, tx, t, ""); err != nil {
			if errors.Is(err, errStale) { // what was approved does not suffice, or no longer
				return ErrDenied
			}
			return err
		}
		lists = t.lists
		c = t.completed()
		_, err = tx.ExecContext(ctx, `DELETE FROM signin_transactions WHERE id = ?`, t.id)
		return err
	})
	if err != nil {
		return Completed{}, fmt.Errorf("completing a back-channel sign-in: %w", err)
	}
	e.tell(lists)
	return c, nil
}
