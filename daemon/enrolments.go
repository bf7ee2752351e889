package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/daemon/weblogin"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

const (
	maxEnrolments  = 4                // waiting for a person at once
	keepEnrolments = 10 * time.Minute // how long an end is remembered for who asks late,
	maxEnded       = 16               // and how many are: the oldest is forgotten first
)

var (
	errTooManyEnrolments = errors.New("too many enrolments wait for a sign-in")
	errEnrolmentUnknown  = errors.New("no such enrolment")
	errWrongUser         = errors.New("another user signed in than was asked for")
)

// enrolments are the sign-ins in the browser that wait for a person, or have
// ended a moment ago.
type enrolments struct {
	mu   sync.Mutex
	held map[string]*enrolment
}

type enrolment struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at the end; then the rest may be read

	account api.Account
	err     error
	ended   time.Time
}

// add makes room for one more.
func (e *enrolments) add(now time.Time, cancel context.CancelFunc) (id string, one *enrolment, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	waiting, ended := 0, []string{}
	for id, one := range e.held {
		select {
		case <-one.done:
			ended = append(ended, id)
		default:
			waiting++
		}
	}
	slices.SortFunc(ended, func(a, b string) int { return e.held[b].ended.Compare(e.held[a].ended) })
	for n, id := range ended {
		if n >= maxEnded || now.Sub(e.held[id].ended) > keepEnrolments {
			delete(e.held, id)
		}
	}
	if waiting >= maxEnrolments {
		return "", nil, errTooManyEnrolments
	}
	if e.held == nil {
		e.held = map[string]*enrolment{}
	}
	id, one = strings.ToLower(rand.Text()[:12]), &enrolment{cancel: cancel, done: make(chan struct{})}
	e.held[id] = one
	return id, one, nil
}

func (e *enrolments) drop(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.held, id)
}

func (e *enrolments) get(id string) (*enrolment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if one, ok := e.held[id]; ok {
		return one, nil
	}
	return nil, explain(errEnrolmentUnknown)
}

// errand is what a person signs in for, in the browser.
type errand struct {
	event    string           // of the record of decisions
	done     string           // what was done to the account, for the record
	account  *account.Account // that it is about; nil for a new one
	login    string           // who is to sign in; "" for whoever it is
	prospect account.Prospect
	present  *present
	do       func(ctx context.Context, who account.Person) (*account.Account, error)
}

// BeginEnrolment asks the org how to sign in there, and opens the listener for
// what the browser brings back.
func (f front) BeginEnrolment(caller context.Context, in api.BeginEnrolment) (api.Enrolment, error) {
	return f.beginSignIn(caller, "enrolment", "", func(ctx context.Context, c *core, purpose string) (errand, error) {
		e := errand{event: "enrolment", login: prompt.Clean(in.Username, maxShown)}
		var err error
		if e.prospect, err = c.book.Prospect(ctx, in.Org); err != nil {
			return errand{}, err
		}
		about := audit.Record{Reason: prompt.Clean(e.prospect.Org.URL(), maxShown)}
		if e.present, err = f.present(caller, c, purpose, "Add an account at "+host(e.prospect.Org.URL()), about, in.PIN, in.Verification); err != nil {
			return errand{}, err
		}
		name := prompt.Clean(in.Name, maxShown)
		e.do = func(ctx context.Context, who account.Person) (*account.Account, error) {
			return c.book.EnrolSignedIn(ctx, e.prospect, who, name)
		}
		return e, nil
	})
}

// beginSignIn prepares an errand and begins its sign-in. The id of the enrolment
// is the purpose of whatever the person is verified for.
func (f front) beginSignIn(caller context.Context, event, about string, prepare func(ctx context.Context, c *core, purpose string) (errand, error)) (api.Enrolment, error) {
	c, err := f.open(caller)
	if err != nil {
		return api.Enrolment{}, err
	}
	defer f.d.quiet.Reset(quietAfter)
	waiting, cancel := context.WithCancel(f.d.ctx)
	id, one, err := f.d.enrolments.add(f.d.now(), cancel)
	if err != nil {
		cancel()
		return api.Enrolment{}, explain(err)
	}
	out, err := f.begin(caller, c, waiting, id, one, prepare)
	if err != nil {
		cancel()
		f.d.enrolments.drop(id)
		_ = f.d.record(c, audit.Record{Event: event, Outcome: "failed", Account: about, Reason: prompt.Clean(err.Error(), 160)})
		return api.Enrolment{}, explain(err)
	}
	return out, nil
}

func (f front) begin(caller context.Context, c *core, waiting context.Context, id string, one *enrolment,
	prepare func(ctx context.Context, c *core, purpose string) (errand, error)) (api.Enrolment, error) {
	ctx, cancel := context.WithTimeout(caller, orgWait)
	defer cancel()
	e, err := prepare(ctx, c, id)
	if err != nil {
		return api.Enrolment{}, err
	}
	p := e.prospect
	signIn, err := weblogin.Begin(weblogin.Options{
		Org: p.Org, Metadata: p.Metadata, ClientID: account.ClientID, Scopes: p.Scopes,
		Login: e.login, Proof: p.Proof, Now: f.d.now, Log: f.d.log,
	})
	if err != nil {
		e.present.done()
		return api.Enrolment{}, fmt.Errorf("open a listener for the sign-in: %w", err)
	}
	started := f.d.spawn(func() {
		defer one.cancel()
		defer e.present.done()
		a, err := f.afterSignIn(waiting, e, signIn)
		f.finishEnrolment(c, one, signIn, e, a, err)
	})
	if !started {
		e.present.done()
		signIn.Finish(weblogin.Ending{})
		return api.Enrolment{}, context.Canceled
	}
	return api.Enrolment{ID: id, Org: p.Org.URL(), URL: signIn.URL(), ExpiresAt: signIn.ExpiresAt().UTC()}, nil
}

// afterSignIn waits for the person and does what they signed in for. What they
// cancel is the wait: once they have signed in, it comes to its end.
func (f front) afterSignIn(waiting context.Context, e errand, s *weblogin.SignIn) (*account.Account, error) {
	grant, err := s.Wait(waiting)
	if err != nil {
		return nil, err
	}
	defer f.d.quiet.Reset(quietAfter)
	defer f.d.reach.forget()
	defer func() {
		if err := grant.Revoke(f.d.ctx); err != nil {
			f.d.log.Info("token of a sign-in not revoked", "org", e.prospect.Org.URL(), "error", err)
		}
	}()
	if e.account != nil && grant.UserID != e.account.UserID {
		return nil, explainKeys(account.ErrOtherUser, e.account)
	}
	if e.account == nil && e.login != "" && grant.Username != "" && !account.SameUser(e.login, grant.Username) {
		return nil, fmt.Errorf("%w: %s, not %s", errWrongUser, grant.Username, e.login)
	}
	if err := e.present.refresh(f.d.ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(f.d.ctx, orgWait)
	defer cancel()
	return e.do(ctx, account.Person{UserID: grant.UserID, Username: grant.Username, Authorization: grant.Authorization, Presence: e.present.presence()})
}

// finishEnrolment tells everybody how it ended: the record, whoever waits, and
// the page in the browser.
func (f front) finishEnrolment(c *core, one *enrolment, s *weblogin.SignIn, e errand, a *account.Account, err error) {
	end := weblogin.Ending{Org: host(e.prospect.Org.URL()), Keys: e.account != nil}
	record := audit.Record{Event: e.event}
	if e.account != nil {
		record.Account = e.account.ID
	}
	if err != nil {
		record.Outcome, record.Reason = "failed", prompt.Clean(err.Error(), 160)
		one.err = explainSignIn(err)
		var known *api.Error
		if errors.As(one.err, &known) {
			end.Why = sentence(known.Message)
			if e.account != nil {
				words := *known
				words.Hint = strings.Replace(words.Hint, "nothing was added", "nothing was changed", 1)
				one.err = &words
			}
		}
	} else {
		record.Outcome, record.Account, record.Reason = "done", a.ID, a.OrgURL
		if e.account != nil {
			record.Reason = e.done + " at " + a.OrgURL
		}
		one.account = *c.view(f.d.ctx, a)
		end.User = cmp.Or(one.account.User, one.account.Name)
	}
	_ = f.d.record(c, record)
	one.ended = f.d.now()
	close(one.done)
	s.Finish(end)
}

// AwaitEnrolment waits for the end of an enrolment.
func (f front) AwaitEnrolment(ctx context.Context, id string) (api.Account, error) {
	one, err := f.d.enrolments.get(id)
	if err != nil {
		return api.Account{}, err
	}
	select {
	case <-one.done:
		return one.account, one.err
	case <-ctx.Done():
		return api.Account{}, context.Cause(ctx)
	}
}

// CancelEnrolment ends the wait for the person.
func (f front) CancelEnrolment(ctx context.Context, id string) error {
	one, err := f.d.enrolments.get(id)
	if err != nil {
		return err
	}
	one.cancel()
	select {
	case <-one.done:
	case <-ctx.Done():
	}
	return nil
}

// explainSignIn adds what errors mean to somebody who signed in to be enrolled.
func explainSignIn(err error) error {
	var refused *weblogin.RefusedError
	var oauth *okta.TokenError
	var refusal *okta.Error
	var known *api.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused) && refused.Code == "access_denied":
		return &api.Error{Status: http.StatusForbidden, Code: "sign_in_denied", Message: refused.Error(), Hint: "nothing was added; ask the org's administrator if you did not refuse it yourself"}
	case errors.As(err, &refused):
		return &api.Error{Status: http.StatusForbidden, Code: "sign_in_refused", Message: refused.Error(), Hint: "the org's rules do not let you add this computer in this way; ask its administrator"}
	case errors.As(err, &oauth):
		return &api.Error{Status: http.StatusConflict, Code: "sign_in_not_accepted", Message: "the org did not accept the sign-in: " + prompt.Clean(oauth.Error(), 160), Hint: "try again"}
	case errors.As(err, &refusal) && refusal.HTTPStatus == http.StatusUnauthorized:
		return &api.Error{Status: http.StatusConflict, Code: "sign_in_not_accepted", Message: "the org does not take the token that it gave: " + prompt.Clean(refusal.Error(), 160), Hint: "try again"}
	case errors.As(err, &refusal) && refusal.Code == okta.CodeForbidden:
		return &api.Error{Status: http.StatusForbidden, Code: "recent_sign_in_needed", Message: "the org did not let this sign-in add a computer: " + prompt.Clean(refusal.Error(), 160), Hint: "it wants a sign-in of the last minutes: try again, and sign in without a break"}
	}
	return explain(err)
}

// host is an org as people know it.
func host(orgURL string) string {
	if u, err := url.Parse(orgURL); err == nil && u.Host != "" {
		return prompt.Clean(u.Host, maxShown)
	}
	return prompt.Clean(orgURL, maxShown)
}

// sentence makes an error's text one that stands alone.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
