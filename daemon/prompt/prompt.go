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
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Observer hears of prompts coming and going. It is called with the queue
// locked, so that the order is right: it must not block or call back.
type Observer interface {
	PromptOpened(Pending) // again after a hold, for what still waits
	PromptClosed(Outcome)
	// HoldChanged says that a hold begins, or with nil that it ends.
	HoldChanged(*Hold)
}

// Broker is the queue. Use New.
type Broker struct {
	observer Observer
	now      func() time.Time

	mu       sync.Mutex
	pending  map[string]*entry
	recent   []*entry            // closed ones, oldest first, at most remembered
	attached map[string]int      // front ends by name
	pushed   map[string][]*entry // by account: see crowded
	held     map[string]bool     // accounts: see HoldBack
	hold     *Hold               // while nobody is to be asked; nil otherwise
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
	return &Broker{observer: observer, now: now, pending: map[string]*entry{}, attached: map[string]int{}, pushed: map[string][]*entry{}, held: map[string]bool{}}
}

type nobody struct{}

func (nobody) PromptOpened(Pending) {}
func (nobody) PromptClosed(Outcome) {}
func (nobody) HoldChanged(*Hold)    {}

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
			b.close(e, withdrawn(ctx))
		case <-expiry.C:
			b.close(e, ErrExpired)
		case <-presence.C:
			if !p.Pushed {
				b.closeUnseen(e)
			}
			if !isClosed(e.closed) {
				continue
			}
		}
		// Closed exactly once, by whoever came first: a decision that beat the
		// timer counts, one that lost has been told so.
		return b.take(e)
	}
}

// take hands a closed prompt's answer over. A verification goes to the caller
// alone.
func (b *Broker) take(e *entry) (Answer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := e.answer
	e.answer.Verification = nil
	return answer, e.ended
}

// withdrawn is the reason why ctx ended, as far as the person cares.
func withdrawn(ctx context.Context) error {
	var why withdrawal
	if errors.As(context.Cause(ctx), &why) {
		return why
	}
	return ErrWithdrawn
}

func (b *Broker) open(p Prompt) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if !p.ExpiresAt.After(now) {
		return nil, ErrExpired
	}
	e := &entry{
		view: view(p, rand.Text(), now), opened: time.Now(), seen: len(b.attached) > 0,
		closed: make(chan struct{}), settled: make(chan struct{}),
	}
	e.seen = e.seen && b.hold == nil
	if p.Pushed {
		if err := b.collapse(e); err != nil {
			return nil, err
		}
	}
	if len(b.pending) >= MaxPending || b.ofAccount(e.view.Account) >= MaxPerAccount {
		return nil, ErrTooMany
	}
	b.pending[e.view.ID] = e
	if p.Pushed {
		b.pushed[e.view.Account] = append(b.pushed[e.view.Account], e)
	}
	if b.hold == nil {
		b.observer.PromptOpened(e.view)
	}
	return e, nil
}

func view(p Prompt, id string, now time.Time) Pending {
	p.Kind, p.UserVerification = Clean(p.Kind, 32), Clean(p.UserVerification, 16)
	p.App, p.User, p.Location = Clean(p.App, maxName), Clean(p.User, maxName), Clean(p.Location, maxName)
	p.Org, p.Origin, p.IP = Clean(p.Org, maxOrigin), Clean(p.Origin, maxOrigin), Clean(p.IP, 64)
	p.Client, p.Transaction, p.Message = Clean(p.Client, maxName), Clean(p.Transaction, 16), Clean(p.Message, MaxMessage)
	p.Unusual, p.Numbers = cleanAll(p.Unusual, maxName), cleanAll(p.Numbers, 16)
	p.NeedsNumber = len(p.Numbers) > 0
	p.Choices = slices.Clone(p.Choices)
	for i := range p.Choices {
		p.Choices[i].User = Clean(p.Choices[i].User, maxName)
	}
	p.Methods = slices.Clone(p.Methods)
	p.ExpiresAt = p.ExpiresAt.UTC()
	if !p.IssuedAt.IsZero() {
		p.IssuedAt = p.IssuedAt.UTC()
	}
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

// Check says what Decide would say to d now, the verification aside, and
// returns the prompt. It changes nothing: whoever verifies the person does that
// before they type a PIN in vain.
func (b *Broker) Check(id string, d Decision) (Pending, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, err := b.find(id)
	if err != nil {
		return Pending{}, err
	}
	if err := b.holds(d); err != nil {
		return Pending{}, err
	}
	if _, err := e.weigh(d); err != nil {
		return Pending{}, err
	}
	return e.view, nil
}

func (b *Broker) decide(id string, d Decision) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, err := b.find(id)
	if err != nil {
		return nil, err
	}
	if err := b.holds(d); err != nil {
		return nil, err
	}
	answer, err := e.weigh(d)
	if err != nil {
		return nil, err
	}
	if answer.Approved() {
		switch {
		case d.Verification != nil && d.Verification.For(id):
			answer.Verification = d.Verification
		case d.Verification != nil, e.view.Needs(answer.Account) == VerificationRequired:
			return nil, ErrVerificationRequired
		}
	}
	e.answer = answer
	b.end(e, nil)
	return e, nil
}

// find returns a prompt that may be decided. The caller holds the lock.
func (b *Broker) find(id string) (*entry, error) {
	e, ok := b.pending[id]
	if !ok {
		return nil, b.whyNot(id)
	}
	if b.expired(e) {
		b.end(e, ErrExpired)
		return nil, ErrExpired
	}
	return e, nil
}

// weigh turns a decision into the answer that it is, the verification aside.
func (e *entry) weigh(d Decision) (Answer, error) {
	answer := Answer{Prompt: e.view.ID, Account: e.view.Account, Number: d.Number, Report: d.Report}
	switch d.Action {
	case Approve:
		answer.Verdict = Approved
	case Deny:
		answer.Verdict = Denied
	case CancelVerification:
		answer.Verdict = Unverified
	default:
		return Answer{}, ErrUnknownAction
	}
	if len(e.view.Choices) > 0 {
		answer.Account = d.Account
	}
	denied := answer.Verdict == Denied
	switch {
	case len(e.view.Choices) > 0 && d.Account == "" && !denied:
		return Answer{}, ErrAccountNeeded
	case d.Account != "" && !e.offers(d.Account):
		return Answer{}, ErrWrongAccount
	case answer.Verdict == Unverified && e.view.Needs(answer.Account) == VerificationNone:
		return Answer{}, ErrUnknownAction // there is none to cancel
	case answer.Approved() && e.view.NeedsNumber && d.Number == "":
		return Answer{}, ErrNumberRequired
	case answer.Approved() && e.view.NeedsNumber && !slices.Contains(e.view.Numbers, d.Number):
		return Answer{}, ErrWrongNumber
	case !denied && d.Report:
		return Answer{}, ErrUnknownAction // a report is never an approval
	}
	if !answer.Approved() || !e.view.NeedsNumber {
		answer.Number = "" // nobody asked for one
	}
	return answer, nil
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

// Ended is closed once the prompt with that id does not wait any more.
func (b *Broker) Ended(id string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, waits := b.pending[id]; waits {
		return e.closed
	}
	ended := make(chan struct{})
	close(ended)
	return ended
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

// List returns the pending prompts, newest first, and none during a hold.
// Whoever lists them counts as a front end for each of them.
func (b *Broker) List() []Pending { return b.list(true) }

// Waiting is List for somebody who shows them to nobody.
func (b *Broker) Waiting() []Pending { return b.list(false) }

func (b *Broker) list(shown bool) []Pending {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Pending, 0, len(b.pending))
	if b.hold != nil {
		return list
	}
	for _, e := range slices.Backward(b.inOrder()) {
		if b.expired(e) {
			continue // its own timer is about to say so
		}
		e.seen = e.seen || shown
		list = append(list, e.view)
	}
	return list
}

// inOrder returns the pending prompts, oldest first. The caller holds the lock.
func (b *Broker) inOrder() []*entry {
	return slices.SortedFunc(maps.Values(b.pending), func(x, y *entry) int {
		if c := x.view.CreatedAt.Compare(y.view.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(y.view.ID, x.view.ID)
	})
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
	b.show()
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
	if e.view.Pushed && (!e.seen || e.answer.Approved()) {
		b.forgive(e)
	}
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
	case e.answer.Verdict == Unverified:
		o.Outcome = "refused"
	}
	return o
}

// cleanAll cleans each text and drops what is empty then.
func cleanAll(texts []string, limit int) []string {
	var list []string
	for _, t := range texts {
		if t = Clean(t, limit); t != "" {
			list = append(list, t)
		}
	}
	return list
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
