package signin

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

const (
	// lifetime is how long a sign-in may take in all.
	lifetime = time.Hour
	// exitLifetime is how long a finished sign-in waits to be completed.
	exitLifetime = 5 * time.Minute
	// repeatWithin and maxExits bound how a finished sign-in repeats its result
	// to a browser whose polls overlapped.
	repeatWithin = time.Minute
	maxExits     = 4
	// maxHandles bounds the state handles of one sign-in (one per page load).
	maxHandles = 16
	// sweepEvery is how often expired rows are removed, by whoever starts next.
	sweepEvery = time.Minute

	signinID = "tx" // prefix of transaction ids
)

// Errors of the engine.
var (
	// ErrSessionExpired says that the handle leads nowhere (any more). It is the
	// same for unknown, expired, cancelled and completed ones.
	ErrSessionExpired = errors.New("the sign-in has expired")
	// ErrRequest says that a request makes no sense at its step.
	ErrRequest = errors.New("the request does not fit the sign-in")

	// errStale says that another step was faster; the step is tried again.
	errStale = errors.New("the sign-in has moved on")
	// errNoCode says that the code issuer refused, say because the client asked
	// for an assurance (acr_values) beyond what the policy asks for.
	errNoCode = errors.New("no interaction code")
)

// Engine runs sign-ins.
type Engine struct {
	d        Deps
	factors  *factor.Factors
	policies policy.Cache
	swept    atomic.Int64 // unix milliseconds of the last sweep
}

// New makes an engine.
func New(d Deps) (*Engine, error) {
	if d.DB == nil || d.Signing == nil || d.Hasher == nil || d.BaseURL == "" {
		return nil, errors.New("making the sign-in engine: database, signing keys, hasher and base URL are required")
	}
	d.BaseURL = strings.TrimSuffix(d.BaseURL, "/")
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Locate == nil {
		d.Locate = Locate
	}
	if d.Notify == nil {
		d.Notify = func([]string) {}
	}
	e := &Engine{d: d}
	e.factors = factor.New(factor.Deps{
		DB: d.DB, Signer: d.Signing, Hasher: d.Hasher, BaseURL: d.BaseURL, Now: d.Now, Log: d.Log,
		Notify: d.Notify, Reported: e.reported,
	})
	return e, nil
}

// touched collects whose pending lists a transaction changes.
type touched []string

// add takes what a function of package factor returns.
func (l *touched) add(enrolmentIDs []string, err error) error {
	*l = append(*l, enrolmentIDs...)
	return err
}

// tell tells who waits for pending lists, after the commit.
func (e *Engine) tell(l touched) {
	if len(l) == 0 {
		return
	}
	slices.Sort(l)
	e.d.Notify(slices.Compact(l))
}

// AnswerChallenge takes an authenticator's answer to the challenge id and says
// whether it approved (true) or denied (false). A refusal is an *okta.Error.
// It only records the answer: the browser that carried the challenge goes on
// with its next poll.
func (e *Engine) AnswerChallenge(ctx context.Context, id string, req okta.AnswerRequest) (approved bool, err error) {
	return e.factors.Answer(ctx, id, req)
}

// Start begins a sign-in. When the intent names a session that already proves
// what the app's policy asks for, the sign-in is finished at once and the handle
// says so.
func (e *Engine) Start(ctx context.Context, in Intent) (Handle, error) {
	switch {
	case in.Mode != Redirect && in.Mode != InteractionCode,
		in.Mode == InteractionCode && e.d.Codes == nil,
		in.ClientID == "", in.PageOrigin == "":
		return Handle{}, fmt.Errorf("starting a sign-in: %w", ErrRequest)
	}
	now := e.d.Now()
	in.PageOrigin = strings.TrimSuffix(in.PageOrigin, "/")
	t := &transaction{id: ids.New(signinID), intent: in, createdAt: now, expiresAt: now.Add(lifetime), state: state{Step: StepIdentify}}
	session, err := e.session(ctx, t)
	if err != nil {
		return Handle{}, fmt.Errorf("starting a sign-in: %w", err)
	}

	entry := okta.Secret(ids.Secret())
	h := Handle{ExpiresAt: t.expiresAt}
	err = e.d.DB.Write(ctx, func(tx store.Tx) error {
		if err := e.sweep(ctx, tx, now, &t.lists); err != nil {
			return err
		}
		if err := insert(ctx, tx, t); err != nil {
			return err
		}
		if session != nil && in.Mode == Redirect {
			t.adopt(*session)
			h.Satisfied = true
			if err := e.resnap(ctx, tx, t); err != nil {
				return err
			}
			// Nothing could have changed so much that the session no longer
			// suffices, unless it did: then the page asks. So it does where the
			// session would tell of a key that is gone.
			if e.decide(t).Outcome == policy.Satisfied && t.mayFinish() && (t.state.EnrolmentID == "" || t.enrolmentActive(t.state.EnrolmentID)) {
				return e.finish(ctx, tx, t, entry)
			}
			t.state, h.Satisfied = state{Step: StepIdentify}, false
		}
		return addHandle(ctx, tx, entry, t.id, kindEntry, "", now)
	})
	if err != nil {
		return Handle{}, fmt.Errorf("starting a sign-in: %w", err)
	}
	e.tell(t.lists)
	if in.Mode == Redirect {
		h.StateToken = entry
	} else {
		h.InteractionHandle = entry
	}
	return h, nil
}

// session returns what the browser's session has proven, when it counts for
// this sign-in: it is asked for, young enough, and all the policy wants.
func (e *Engine) session(ctx context.Context, t *transaction) (*SessionFacts, error) {
	var found *SessionFacts
	err := e.d.DB.Read(ctx, func(tx store.Tx) error {
		if _, err := directory.AppByClientID(ctx, tx, t.intent.ClientID); err != nil {
			return err
		}
		in := &t.intent
		if in.SessionID == "" || e.d.Session == nil || in.Prompt == "login" || in.Prompt == PromptEnrol {
			return nil
		}
		s, ok, err := e.d.Session(ctx, tx, in.SessionID)
		if err != nil || !ok || s.UserID == "" {
			return err
		}
		if in.MaxAge != nil && e.d.Now().Sub(s.AuthTime) > time.Duration(*in.MaxAge)*time.Second {
			return nil
		}
		found = &s
		return nil
	})
	return found, err
}

// Complete takes a finished Redirect sign-in: it is gone afterwards, so that a
// state token completes once.
func (e *Engine) Complete(ctx context.Context, stateToken okta.Secret) (Completed, error) {
	var c Completed
	err := e.d.DB.Write(ctx, func(tx store.Tx) error {
		now := e.d.Now()
		var id string
		var created int64
		err := tx.QueryRowContext(ctx, `SELECT signin_id, created_at FROM signin_handles WHERE digest = ? AND kind = ?`,
			ids.Digest(stateToken.Reveal()), kindExit).Scan(&id, &created)
		if errors.Is(err, sql.ErrNoRows) || err == nil && now.Sub(store.Time(created)) >= exitLifetime {
			return ErrSessionExpired
		}
		if err != nil {
			return err
		}
		t, err := loadByID(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := e.resnap(ctx, tx, t); err != nil {
			return err
		}
		if t.state.Step != StepDone || t.intent.Mode != Redirect || t.expired(now) || !t.mayFinish() {
			return ErrSessionExpired
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM signin_transactions WHERE id = ?`, id); err != nil {
			return err
		}
		c = t.completed()
		return nil
	})
	if err != nil {
		return Completed{}, fmt.Errorf("completing a sign-in: %w", err)
	}
	return c, nil
}

// sweep removes expired sign-ins, with their handles and challenges, and ends
// expired challenges.
func (e *Engine) sweep(ctx context.Context, tx store.Tx, now time.Time, lists *touched) error {
	last := e.swept.Load()
	if now.Sub(store.Time(last)) < sweepEvery || !e.swept.CompareAndSwap(last, store.Millis(now)) {
		return nil
	}
	if err := lists.add(factor.Sweep(ctx, tx, now)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM signin_transactions WHERE expires_at <= ?`, store.Millis(now)); err != nil {
		return fmt.Errorf("removing expired sign-ins: %w", err)
	}
	return nil
}

// transaction is a sign-in in memory: its row, and a snapshot of all that the
// step needs to know.
type transaction struct {
	id                   string
	intent               Intent
	state                state
	version              int64
	createdAt, expiresAt time.Time
	handle               okta.Secret // the state handle of this request
	page                 string      // origin of the page that holds it; "" for the one that started

	snapshot
	unsaved bool     // the challenge was made by this step
	message *Message // what this step has to say besides
	issued  Success  // what finish handed out
	lists   touched  // whose pending lists the commit changes
}

// pageOrigin is the origin of the page that takes this step.
func (t *transaction) pageOrigin() string {
	if t.page != "" {
		return t.page
	}
	return t.intent.PageOrigin
}

func (t *transaction) expired(now time.Time) bool { return !now.Before(t.expiresAt) }

// The kinds of handles.
const (
	kindEntry = "entry"
	kindStep  = "step"
	kindExit  = "exit"
	kindBack  = "back" // of a back channel's client
)

func insert(ctx context.Context, tx store.Tx, t *transaction) error {
	intent, err := json.Marshal(t.intent)
	if err != nil {
		return err
	}
	st, err := json.Marshal(t.state)
	if err != nil {
		return err
	}
	t.version = 1
	_, err = tx.ExecContext(ctx,
		`INSERT INTO signin_transactions (id, intent, state, version, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)`,
		t.id, string(intent), string(st), t.version, store.Millis(t.createdAt), store.Millis(t.expiresAt))
	return err
}

// update stores the state over the version it was read from.
func update(ctx context.Context, tx store.Tx, t *transaction) error {
	st, err := json.Marshal(t.state)
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `UPDATE signin_transactions SET state = ?, version = version + 1 WHERE id = ? AND version = ?`,
		string(st), t.id, t.version)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errStale, err)
	}
	t.version++
	return nil
}

func addHandle(ctx context.Context, tx store.Tx, secret okta.Secret, id, kind, page string, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO signin_handles (digest, signin_id, kind, page_origin, created_at) VALUES (?, ?, ?, ?, ?)`,
		ids.Digest(secret.Reveal()), id, kind, page, store.Millis(now))
	return err
}

const transactionColumns = `SELECT t.id, t.intent, t.state, t.version, t.created_at, t.expires_at, `

func loadByHandle(ctx context.Context, tx store.Tx, secret okta.Secret, kind string) (*transaction, error) {
	t, err := scan(tx.QueryRowContext(ctx, transactionColumns+
		`h.page_origin FROM signin_transactions t JOIN signin_handles h ON h.signin_id = t.id WHERE h.digest = ? AND h.kind = ?`, ids.Digest(secret.Reveal()), kind))
	if err != nil {
		return nil, err
	}
	if kind == kindStep {
		t.handle = secret
	}
	return t, nil
}

func loadByID(ctx context.Context, tx store.Tx, id string) (*transaction, error) {
	return scan(tx.QueryRowContext(ctx, transactionColumns+`'' FROM signin_transactions t WHERE t.id = ?`, id))
}

func scan(row *sql.Row) (*transaction, error) {
	t := &transaction{}
	var intent, st string
	var created, expires int64
	err := row.Scan(&t.id, &intent, &st, &t.version, &created, &expires, &t.page)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrSessionExpired
	}
	if err != nil {
		return nil, fmt.Errorf("looking up a sign-in: %w", err)
	}
	if err := json.Unmarshal([]byte(intent), &t.intent); err != nil {
		return nil, fmt.Errorf("reading sign-in %s: %w", t.id, err)
	}
	if err := json.Unmarshal([]byte(st), &t.state); err != nil {
		return nil, fmt.Errorf("reading sign-in %s: %w", t.id, err)
	}
	t.createdAt, t.expiresAt = store.Time(created), store.Time(expires)
	return t, nil
}
