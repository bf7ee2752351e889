package challenge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// plan is what decide has decided for one account.
type plan struct {
	ask     bool
	need    string                // of the person's verification, in the prompt's words
	methods []verification.Method // by which the person could be verified
	report                        // what the org is told when the person is not asked
}

// decide chooses whether to ask, and for what (4.4): for the account, or for
// each one that fits.
func (p *Pipeline) decide(ctx context.Context, c *Challenge) error {
	c.keyType = okta.KeyProofOfPossession
	c.plans = map[string]plan{}
	for _, a := range c.accounts {
		if c.account != nil && a != c.account {
			continue
		}
		plan, err := p.planFor(ctx, c, a)
		if err != nil {
			return err
		}
		c.plans[a.ID] = plan
		c.asked = c.asked || plan.ask
	}
	if c.account == nil {
		if !c.asked {
			return refuse(NotMine, errors.New("several accounts fit and the org forbids to ask which"))
		}
		return nil
	}
	c.plan = c.plans[c.account.ID]
	c.consent, c.why = c.plan.consent, c.plan.why
	return nil
}

// planFor is the decision table. Only user verification by a key of its own
// counts. Where it is required and the account has such a key, the person is
// asked, whatever the org says of mediation: the verification is the
// interaction. Without one, or none that could be used now, the org gets an
// honest report instead of an approval; where it is preferred, presence has to
// do. Silence is for challenges that a proven page brought and that ask for
// silence in so many words; an unknown word is asked about. A push always asks:
// whoever knows the password can cause one, from anywhere.
func (p *Pipeline) planFor(ctx context.Context, c *Challenge, a *account.Account) (plan, error) {
	claims := &c.claims
	silent := claims.UserMediation == okta.NeedNone && c.transport.Kind == Loopback
	required := claims.UserVerification == okta.NeedRequired ||
		claims.UserVerification == "" && claims.UserVerificationRequirement != nil && *claims.UserVerificationRequirement
	switch preferred := claims.UserVerification == okta.NeedPreferred; {
	case required, preferred && !silent:
		methods, why, err := p.ways(ctx, c, a)
		switch {
		case err != nil:
			return plan{}, err
		case len(methods) == 0 && required:
			return plan{report: why}, nil
		case len(methods) == 0:
		case required:
			return plan{ask: true, need: prompt.VerificationRequired, methods: methods}, nil
		default:
			return plan{ask: true, need: prompt.VerificationPreferred, methods: methods}, nil
		}
	case silent:
		return plan{report: report{consent: okta.ConsentNone}}, nil
	}
	return plan{ask: true, need: prompt.VerificationNone}, nil
}

// ask puts the question to the person. No answer is not a denial: then nothing
// is sent.
func (p *Pipeline) ask(ctx context.Context, c *Challenge) error {
	answer, err := p.Prompts.Ask(ctx, p.question(ctx, c))
	c.verification = answer.Verification
	switch {
	case errors.Is(err, prompt.ErrNoFrontEnd), errors.Is(err, prompt.ErrTooMany):
		return refuse(NoFrontEnd, err)
	case errors.Is(err, prompt.ErrWithdrawn):
		return refuse(Withdrawn, err)
	case errors.Is(err, prompt.ErrHeld):
		return refuse(Held, err)
	case errors.Is(err, prompt.ErrSuperseded):
		return refuse(Superseded, err)
	case errors.Is(err, prompt.ErrExpired):
		return refuse(Expired, err)
	case err != nil:
		return err
	}
	c.prompt = answer.Prompt
	for _, a := range c.accounts {
		if a.ID == answer.Account {
			c.account, c.plan = a, c.plans[a.ID]
		}
	}
	switch answer.Verdict {
	case prompt.Approved:
		var ok bool
		if c.number, ok = c.subject.item(answer.Number); !ok {
			return errors.New("the decision names a number that was not offered")
		}
		if err := c.approved(answer.Verification); err != nil {
			return err
		}
	case prompt.Unverified:
		if c.plan.need != prompt.VerificationRequired && c.plan.need != prompt.VerificationPreferred {
			return errors.New("a verification was cancelled that nobody asked for")
		}
		c.consent, c.why = okta.ConsentCancelledUserVerification, "you chose not to be verified"
	case prompt.Denied:
		c.consent = okta.ConsentDenied
		if answer.Report {
			p.report(c)
		}
		if c.account == nil {
			c.account = c.accounts[0] // no to all of them: any may say it
		}
	default:
		return refuse(Expired, errors.New("no answer"))
	}
	if c.account == nil || answer.Account != "" && c.account.ID != answer.Account {
		return errors.New("the decision names an account that was not offered")
	}
	return nil
}

func (p *Pipeline) question(ctx context.Context, c *Challenge) prompt.Prompt {
	first := c.accounts[0]
	q := prompt.Prompt{
		Kind: string(uses[c.transport.Kind].method), App: c.claims.AppInstanceName, Org: first.OrgURL,
		Origin: c.transport.Origin, ExpiresAt: c.claims.ExpiresAt.Time(),
	}
	p.offer(ctx, c, &q)
	if c.transport.Kind == Push {
		p.describe(c, &q)
	}
	// A challenge may live an hour; no page waits that long for the person.
	if latest := p.Now().Add(okta.ChallengeLifetime); q.ExpiresAt.After(latest) {
		q.ExpiresAt = latest
	}
	if c.account != nil {
		q.Account, q.User = c.account.ID, c.account.Username
		q.Key = c.signer()
	} else {
		for _, a := range c.accounts {
			q.Choices = append(q.Choices, prompt.Choice{Account: a.ID, User: a.Username, UserVerification: c.plans[a.ID].choice()})
		}
	}
	return q
}

// signer says which key an approval would be signed with.
func (c *Challenge) signer() prompt.Key {
	m, ok := c.account.Method(uses[c.transport.Kind].method)
	if !ok {
		return prompt.Key{}
	}
	ref, demands := m.ProofOfPossession, false
	if c.plan.need == prompt.VerificationRequired {
		for _, role := range uvRoles {
			if key, ok := uvKey(m, role); ok {
				ref, demands = key, true
				break
			}
		}
	}
	return prompt.Key{Kind: string(ref.Kind), Hardware: ref.Kind.Hardware(), Demands: demands}
}

// answer claims, signs, records and sends. wanted ends when nobody waits for the
// outcome any more.
func (p *Pipeline) answer(ctx, wanted context.Context, c *Challenge) error {
	if c.consent == okta.ConsentDenied {
		// No is final, whether or not it can be signed and sent.
		if err := p.Claims.take(ctx, c.claim); err != nil {
			c.claim.untaken = false
			return err
		}
	}
	token, err := p.prove(ctx, c)
	c.wipe() // sending may take a while
	if err != nil {
		return err
	}
	// Before the org hears of it: no answer without a record, also when the agent
	// dies right after.
	if err := p.Record(c.record("challenge", Result{Outcome: outcomeOf(c.consent)})); err != nil {
		return refuse(Failed, fmt.Errorf("record the decision: %w", err))
	}
	c.recorded = true
	return p.send(ctx, wanted, c, okta.AnswerRequest{Method: uses[c.transport.Kind].method, ChallengeResponse: token})
}

// prove claims the transaction and makes the signed answer (3.3). The time is
// looked at once more: the person may have taken long.
func (p *Pipeline) prove(ctx context.Context, c *Challenge) (string, error) {
	if c.consent == "" {
		return "", errors.New("no consent value was decided")
	}
	now := p.Now()
	if err := c.claims.CheckTime(now, uses[c.transport.Kind].leeway); err != nil {
		return "", refuse(Expired, err)
	}
	m, ok := c.account.Method(uses[c.transport.Kind].method)
	if !ok {
		return "", errors.New("the method is gone")
	}
	switch {
	case c.consent != okta.ConsentApproved:
	case c.verified.For(c.prompt):
		if token, err := p.proveVerified(ctx, c, m, now); token != "" || err != nil {
			return token, err
		}
	case c.plan.need == prompt.VerificationRequired:
		// It was there when the person approved (C3): the machine slept, or the PIN
		// was changed.
		c.consent, c.why = okta.ConsentUVTemporarilyUnavailable, "your verification has ended before the answer was signed"
	}
	return p.sign(ctx, c, m, now, signature{okta.KeyProofOfPossession, m.ProofOfPossession, devicekey.Authorisation{}, c.consent, []string{}})
}

// onHold refuses during a hold what the person is not asked about. From the claim
// on, which comes next, an answer has begun and is brought to its end.
func (p *Pipeline) onHold(c *Challenge) error {
	if c.asked || p.Held == nil || !p.Held() {
		return nil
	}
	return refuse(Locked, errors.New("nothing is signed while the screen is locked or the agent is paused"))
}

// signature says by which key an answer is signed, and what it says of the
// person.
type signature struct {
	role    okta.KeyType
	key     devicekey.Ref
	auth    devicekey.Authorisation
	consent okta.Consent
	amr     []string
}

// sign claims the transaction and signs.
func (p *Pipeline) sign(ctx context.Context, c *Challenge, m account.Method, now time.Time, s signature) (string, error) {
	key, err := p.Keys.Open(ctx, s.key)
	switch {
	case errors.Is(err, devicekey.ErrLocked) && c.consent == okta.ConsentDenied:
		// Locked would be asked again; the person has said no.
		return "", refuse(Failed, fmt.Errorf("denied, and the org could not be told: %w", err))
	case errors.Is(err, devicekey.ErrLocked):
		return "", refuse(Locked, err)
	}
	if err != nil {
		return "", fmt.Errorf("open the key: %w", err)
	}
	if err := p.onHold(c); err != nil { // the key may have been long in coming
		return "", err
	}
	if err := p.Claims.take(ctx, c.claim); err != nil {
		return "", err
	}
	c.until = now.Add(okta.ChallengeLifetime) // as the answer says
	if end := c.claims.ExpiresAt.Time(); end.Before(c.until) {
		c.until = end
	}
	token, err := jose.Sign(ctx, devicekey.Signer(key, s.auth), c.token.Header.Type, p.claimsOf(ctx, c, m, now, s))
	if err != nil {
		return "", fmt.Errorf("sign the answer: %w", err)
	}
	c.keyType, c.consent = s.role, s.consent
	return token, nil
}

func (p *Pipeline) claimsOf(ctx context.Context, c *Challenge, m account.Method, now time.Time, s signature) okta.Answer {
	a := okta.Answer{
		Issuer: c.account.EnrolmentID, Subject: c.account.UserID, Audience: c.claims.Issuer,
		ID: account.UUID(), IssuedAt: okta.DateOf(now),
		ExpiresAt: okta.DateOf(now.Add(okta.ChallengeLifetime)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		TransactionID: c.claims.TransactionID, Nonce: c.claims.Nonce,
		MethodEnrolmentID: m.ID, KeyType: s.role, AMR: s.amr,
		DeviceSignals:   p.Posture.Signals(ctx, c.account.Device.ID, c.account.Device.ClientInstanceID, c.claims.Signals),
		Context:         okta.AnswerContext{UserConsent: s.consent, TransactionType: okta.TransactionLogin},
		Integrations:    p.Posture.Sources(names(c.claims.Integrations, func(i okta.Integration) string { return i.Name })),
		SignalProviders: p.Posture.Sources(names(c.claims.SignalProviders, func(s okta.SignalProvider) string { return s.Name })),
	}
	switch c.transport.Kind {
	case Loopback:
		a.Context.OriginHeader, a.Context.BindingType = c.transport.Origin, okta.BindingLoopback
	case Push:
		a.Context.TransactionType, a.Context.SelectedChallengeItem = c.subject.transaction, c.number
	}
	a.Context.Reported = c.reported && s.consent == okta.ConsentDenied
	return a
}

// names lists the names of what a challenge asks for.
func names[T any](asked []T, name func(T) string) []string {
	list := make([]string, len(asked))
	for i, one := range asked {
		list[i] = name(one)
	}
	return list
}

// refused notes a challenge that was turned away. What the org has not signed
// goes to the log only, and what it has signed is recorded up to a budget:
// pages can send both as often as they like, and the record must not be theirs
// to fill.
func (p *Pipeline) refused(c *Challenge, r Result) {
	p.Log.Info("challenge refused", "outcome", r.Outcome.String(), "reason", r.Reason, "origin", c.transport.Origin)
	budget := &p.refusals
	if r.Outcome == Held {
		budget = &p.held
	}
	if c.token != nil && c.token.Verified() && budget.spend(p.Now()) {
		_ = p.Record(c.record("challenge_refused", r)) // whoever records says so when it fails
	}
}

// finished records how an admitted challenge ended, unless that is what the
// record says already, and tells the front ends.
func (p *Pipeline) finished(c *Challenge, r Result) {
	// What nobody was asked about can come as often as a stranger likes.
	rare := r.Outcome != Held && r.Outcome != Superseded
	switch {
	case c.recorded && r.Outcome.Delivered():
		if c.tries > 1 {
			late := c.record("answer_delivered", r)
			late.Reason = r.Reason
			_ = p.Record(late)
		}
	case rare || p.held.spend(p.Now()):
		_ = p.Record(c.record("challenge", r)) // nothing was approved, or it is on record that it was
	}
	if c.prompt != "" {
		p.Prompts.Settle(c.prompt, decisionWord(r.Outcome), r.Reason)
	}
	p.Log.Debug("challenge ended", "outcome", r.Outcome.String(), "reason", r.Reason, "transaction", prompt.Clean(c.claims.TransactionID, 128))
}

// decisionWord says in the words of the local API what became of a decision.
func decisionWord(o Outcome) string {
	switch o {
	case Approved, Denied:
		return o.String()
	case Expired:
		return "expired"
	}
	return "refused"
}

func (c *Challenge) record(event string, r Result) audit.Record {
	rec := audit.Record{
		Event: event, Outcome: r.Outcome.String(), Reason: prompt.Clean(r.Reason, 160),
		Origin: prompt.Clean(c.transport.Origin, 128), App: prompt.Clean(c.claims.AppInstanceName, 80),
		Transaction: prompt.Clean(c.claims.TransactionID, 128), KeyType: string(c.keyType),
	}
	if c.account != nil {
		rec.Account = c.account.ID
	}
	switch {
	case r.Outcome.Delivered() && !c.asked:
		rec.Reason = "not asked"
		if r.Outcome == Reported {
			rec.Reason += ": " + prompt.Clean(c.why, 140)
		}
	case r.Outcome == Reported:
		rec.Reason = prompt.Clean(c.why, 160)
	case r.Outcome == Denied && c.reported:
		rec.Reason = "reported as not theirs"
	}
	return rec
}

// budget bounds what is recorded in a minute.
type budget struct {
	mu    sync.Mutex
	since time.Time
	spent int
}

const maxRefusals = 20 // recorded in a minute

func (b *budget) spend(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.since); d < 0 || d >= time.Minute {
		b.since, b.spent = now, 0
	}
	b.spent++
	return b.spent <= maxRefusals
}
