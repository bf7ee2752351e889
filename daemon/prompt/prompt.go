// Package prompt asks the person. It is one queue of pending questions with
// many front ends (command line, tray, notifications): every front end sees
// the same prompts, and the first decision wins.
//
// What is promised to the caller of Ask: an approval is only ever the result
// of one explicit, typed decision that names this prompt. Silence, expiry, a
// closed front end, an unknown action and the zero Answer approve nothing.
// And what is promised to the person: text from outside is cleaned before any
// front end sees it, and no prompt waits for somebody who cannot see it.
package prompt

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Verdict is what the person said. The zero value is no word at all.
type Verdict uint8

// The verdicts.
const (
	Unanswered Verdict = iota
	Denied
	Approved
)

// Answer is the person's answer to one prompt. Its zero value approves nothing.
type Answer struct {
	Prompt  string // id of the prompt that was answered
	Verdict Verdict
	Account string // the account it is for; empty when several fitted and a denial named none
	Number  string // the number the person picked, for prompts that need one
	Report  bool   // the person reported the request as not theirs
}

// Approved says whether the person approved.
func (a Answer) Approved() bool { return a.Verdict == Approved }

// Errors of Ask. All of them mean that the person did not answer.
var (
	ErrExpired    = errors.New("prompt expired")
	ErrNoFrontEnd = errors.New("no front end could show the prompt")
	ErrWithdrawn  = errors.New("prompt withdrawn")
	ErrTooMany    = errors.New("too many prompts are waiting")
)

// Errors of Decide, besides ErrExpired and ErrWithdrawn.
var (
	ErrUnknown        = errors.New("no such prompt")
	ErrDecided        = errors.New("prompt was decided already")
	ErrUnknownAction  = errors.New("unknown action")
	ErrAccountNeeded  = errors.New("several accounts fit: name one")
	ErrWrongAccount   = errors.New("the prompt is not for that account")
	ErrNumberRequired = errors.New("the prompt needs the number shown in the browser")
)

// Limits of the broker.
const (
	FrontEndWait = 30 * time.Second // how long a prompt waits for a front end
	MaxPending   = 100              // prompts at once
	settleWait   = 15 * time.Second // how long Decide waits for the outcome at the org
	remembered   = 64               // closed prompts kept to tell "expired" from "unknown"
)

// Prompt is one question. Text comes from outside as it is; the broker cleans it.
type Prompt struct {
	Account          string   // account id; empty when Choices is set
	Choices          []Choice // several accounts fit
	Kind             string
	App, Org, User   string
	Origin           string
	Location, IP     string
	NeedsNumber      bool
	UserVerification string // "none", "preferred", "required"
	ExpiresAt        time.Time
}

// Choice is one account that a prompt may be answered with.
type Choice struct{ Account, User string }

// Pending is a prompt that waits, as front ends see it: with an id, and all
// its text cleaned.
type Pending struct {
	ID string
	Prompt
	CreatedAt time.Time
}

// Action is what the person does with a prompt.
type Action string

// The actions. There are no others: what is not one of them is an error.
const (
	Approve Action = "approve"
	Deny    Action = "deny"
)

// Decision answers a prompt. Its zero value is refused.
type Decision struct {
	Action  Action
	Account string // which of the choices
	Number  string
	Report  bool // not mine: only with Deny
}

// Outcome is how a prompt ended: "approved", "denied", "expired", or "refused"
// by the org.
type Outcome struct{ ID, Outcome, Reason string }

// Observer hears of prompts coming and going. It is called with the queue
// locked, so that the order is right: it must not block or call back.
type Observer interface {
	PromptOpened(Pending)
	PromptClosed(Outcome)
}

// Broker is the queue. Use New.
type Broker struct {
	observer Observer
	now      func() time.Time

	mu       sync.Mutex
	pending  map[string]*entry
	recent   []*entry       // closed ones, oldest first, at most remembered
	attached map[string]int // front ends by name
}

type entry struct {
	view   Pending
	opened time.Time     // with a monotonic reading
	seen   bool          // a front end has had the chance to show it
	closed chan struct{} // closed when the prompt leaves the queue
	ended  error         // why it ended without an answer; nil while pending and when decided
	answer Answer

	settled chan struct{} // closed by Settle
	outcome Outcome
}

// New makes an empty queue. now is the wall clock; observer may be nil.
func New(now func() time.Time, observer Observer) *Broker {
	if now == nil {
		now = time.Now
	}
	if observer == nil {
		observer = nobody{}
	}
	return &Broker{observer: observer, now: now, pending: map[string]*entry{}, attached: map[string]int{}}
}

type nobody struct{}

func (nobody) PromptOpened(Pending) {}
func (nobody) PromptClosed(Outcome) {}

// Ask queues p and waits for the person. It returns an Answer after an
// explicit decision only; otherwise the zero Answer and the reason. Cancelling
// ctx withdraws the prompt. The caller reports what became of the answer with
// Settle.
func (b *Broker) Ask(ctx context.Context, p Prompt) (Answer, error) {
	e, err := b.open(p)
	if err != nil {
		return Answer{}, err
	}
	expiry := time.NewTimer(e.view.ExpiresAt.Sub(e.view.CreatedAt))
	defer expiry.Stop()
	presence := time.NewTimer(FrontEndWait)
	defer presence.Stop()
	for {
		select {
		case <-e.closed:
		case <-ctx.Done():
			b.close(e, ErrWithdrawn)
		case <-expiry.C:
			b.close(e, ErrExpired)
		case <-presence.C:
			b.closeUnseen(e)
			if !isClosed(e.closed) {
				continue
			}
		}
		// Closed exactly once, by whoever came first: a decision that beat the
		// timer counts, one that lost has been told so.
		return e.answer, e.ended
	}
}

func (b *Broker) open(p Prompt) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if !p.ExpiresAt.After(now) {
		return nil, ErrExpired
	}
	if len(b.pending) >= MaxPending {
		return nil, ErrTooMany
	}
	e := &entry{
		view: view(p, rand.Text(), now), opened: time.Now(), seen: len(b.attached) > 0,
		closed: make(chan struct{}), settled: make(chan struct{}),
	}
	b.pending[e.view.ID] = e
	b.observer.PromptOpened(e.view)
	return e, nil
}

func view(p Prompt, id string, now time.Time) Pending {
	p.Kind, p.UserVerification = Clean(p.Kind, 32), Clean(p.UserVerification, 16)
	p.App, p.User, p.Location = Clean(p.App, maxName), Clean(p.User, maxName), Clean(p.Location, maxName)
	p.Org, p.Origin, p.IP = Clean(p.Org, maxOrigin), Clean(p.Origin, maxOrigin), Clean(p.IP, 64)
	p.Choices = slices.Clone(p.Choices)
	for i := range p.Choices {
		p.Choices[i].User = Clean(p.Choices[i].User, maxName)
	}
	p.ExpiresAt = p.ExpiresAt.UTC()
	return Pending{ID: id, Prompt: p, CreatedAt: now.UTC()}
}

// Decide applies the person's decision to the prompt with that id and waits,
// for a bounded time, for what became of it. Anything but one exact approval
// of a pending prompt is refused with an error and changes nothing.
func (b *Broker) Decide(ctx context.Context, id string, d Decision) (Outcome, error) {
	e, err := b.decide(id, d)
	if err != nil {
		return Outcome{}, err
	}
	limit := time.NewTimer(settleWait)
	defer limit.Stop()
	select {
	case <-e.settled:
		return e.outcome, nil
	case <-ctx.Done():
	case <-limit.C:
	}
	o := outcomeOf(e)
	o.Reason = "the org has not confirmed it yet"
	return o, nil
}

func (b *Broker) decide(id string, d Decision) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.pending[id]
	if !ok {
		return nil, b.whyNot(id)
	}
	if b.expired(e) {
		b.end(e, ErrExpired)
		return nil, ErrExpired
	}
	answer := Answer{Prompt: id, Account: e.view.Account, Number: d.Number, Report: d.Report}
	switch d.Action {
	case Approve:
		answer.Verdict = Approved
	case Deny:
		answer.Verdict = Denied
	default:
		return nil, ErrUnknownAction
	}
	if len(e.view.Choices) > 0 {
		answer.Account = d.Account
	}
	switch {
	case len(e.view.Choices) > 0 && d.Account == "" && answer.Approved():
		return nil, ErrAccountNeeded
	case d.Account != "" && !e.offers(d.Account):
		return nil, ErrWrongAccount
	case answer.Approved() && e.view.NeedsNumber && d.Number == "":
		return nil, ErrNumberRequired
	case answer.Approved() && d.Report:
		return nil, ErrUnknownAction // a report is never an approval
	}
	e.answer = answer
	b.end(e, nil)
	return e, nil
}

// offers says whether a decision may name that account.
func (e *entry) offers(account string) bool {
	if len(e.view.Choices) == 0 {
		return account == e.view.Account
	}
	return slices.ContainsFunc(e.view.Choices, func(c Choice) bool { return c.Account == account })
}

// expired looks at both clocks: the wall clock, which runs on while the
// machine sleeps, and the monotonic one, which nobody can set back.
func (b *Broker) expired(e *entry) bool {
	lifetime := e.view.ExpiresAt.Sub(e.view.CreatedAt)
	return !b.now().Before(e.view.ExpiresAt) || time.Since(e.opened) >= lifetime
}

// Settle tells what became of an answered prompt, e.g. that the org refused
// it. The first word counts.
func (b *Broker) Settle(id, outcome, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.recent {
		if e.view.ID == id && !isClosed(e.settled) {
			e.outcome = Outcome{ID: id, Outcome: outcome, Reason: Clean(reason, maxReason)}
			close(e.settled)
		}
	}
}

// List returns the pending prompts, newest first. Whoever lists them counts
// as a front end for each of them.
func (b *Broker) List() []Pending {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Pending, 0, len(b.pending))
	for _, e := range b.pending {
		if b.expired(e) {
			continue // its own timer is about to say so
		}
		e.seen = true
		list = append(list, e.view)
	}
	slices.SortFunc(list, func(x, y Pending) int {
		if c := y.CreatedAt.Compare(x.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return list
}

// Len counts the pending prompts without looking at them.
func (b *Broker) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending)
}

// Attach registers a front end that hears of every prompt until detach is
// called. Calling detach twice does nothing.
func (b *Broker) Attach(name string) (detach func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name = Clean(name, 32)
	b.attached[name]++
	for _, e := range b.pending {
		e.seen = true
	}
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.attached[name]--; b.attached[name] == 0 {
			delete(b.attached, name)
		}
	})
}

// FrontEnds names the attached front ends, sorted.
func (b *Broker) FrontEnds() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.attached))
	for n := range b.attached {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (b *Broker) close(e *entry, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end(e, why)
}

func (b *Broker) closeUnseen(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !e.seen {
		b.end(e, ErrNoFrontEnd)
	}
}

// end takes e off the queue, once. The caller holds the lock.
func (b *Broker) end(e *entry, why error) {
	if isClosed(e.closed) {
		return
	}
	e.ended = why
	close(e.closed)
	delete(b.pending, e.view.ID)
	if len(b.recent) == remembered {
		b.recent = slices.Delete(b.recent, 0, 1)
	}
	b.recent = append(b.recent, e)
	b.observer.PromptClosed(outcomeOf(e))
}

// whyNot explains why a prompt that is not pending cannot be decided.
func (b *Broker) whyNot(id string) error {
	for _, e := range b.recent {
		if e.view.ID != id {
			continue
		}
		if e.ended != nil {
			return e.ended
		}
		return ErrDecided
	}
	return ErrUnknown
}

func outcomeOf(e *entry) Outcome {
	o := Outcome{ID: e.view.ID, Outcome: "expired"}
	switch {
	case e.ended != nil:
		o.Reason = e.ended.Error()
	case e.answer.Verdict == Approved:
		o.Outcome = "approved"
	case e.answer.Verdict == Denied:
		o.Outcome = "denied"
	}
	return o
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
