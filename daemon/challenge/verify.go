package challenge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
)

// Verification says how the person could be verified now. It is asked what to
// offer; what releases a key is the verification.Verified that comes with the
// answer to a prompt, and nothing else.
type Verification interface {
	Ready(ctx context.Context, role okta.KeyType) []verification.Method
	States(ctx context.Context) []verification.State
}

// readyWait bounds what is asked of fingerprint readers and their like before
// the person is asked.
const readyWait = 3 * time.Second

// uvRoles are the roles of keys that demand verification, the one that says more
// of it first.
var uvRoles = [...]okta.KeyType{okta.KeyUserVerification, okta.KeyUserVerificationBioOrPIN}

// uvMethods is the order in which methods are offered.
var uvMethods = [...]verification.Method{verification.PIN, verification.Fingerprint, verification.Password, verification.SecurityKey}

// uvKey finds a method's key for a role of uvRoles.
func uvKey(m account.Method, role okta.KeyType) (devicekey.Ref, bool) {
	var ref *devicekey.Ref
	switch role {
	case okta.KeyUserVerification:
		ref = m.UserVerification
	case okta.KeyUserVerificationBioOrPIN:
		ref = m.UserVerificationBioOrPIN
	}
	if ref == nil || ref.ID == "" {
		return devicekey.Ref{}, false
	}
	return *ref, true
}

// report is what the org is told, and why, when verification comes to nothing
// (3.3.1). Its zero value says nothing.
type report struct {
	consent okta.Consent
	why     string // for people
}

// reportOn sorts the failure of a key.
func reportOn(err error) report {
	if devicekey.Lost(err) {
		return report{okta.ConsentUVPermanentlyUnavailable, "the key that your verification unlocks is lost: " + err.Error()}
	}
	return report{okta.ConsentUVTemporarilyUnavailable, "the key that your verification unlocks cannot be used now: " + err.Error()}
}

// hopeful is the report on several keys: one that may come back is enough to
// try again.
func hopeful(before, now report) report {
	if before.consent == okta.ConsentUVTemporarilyUnavailable {
		return before
	}
	return now
}

// ways are the methods by which the person could release a key of an account
// now; without any, the report says why not. An error means that the keys are
// locked.
func (p *Pipeline) ways(ctx context.Context, c *Challenge, a *account.Account) ([]verification.Method, report, error) {
	m, _ := a.Method(uses[c.transport.Kind].method)
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	var ready []verification.Method
	var why report
	for _, role := range uvRoles {
		ref, ok := uvKey(m, role)
		if !ok {
			continue
		}
		switch _, err := p.Keys.Open(ctx, ref); {
		case errors.Is(err, devicekey.ErrLocked):
			return nil, why, refuse(Locked, err)
		case err != nil:
			p.Log.Warn("a verification key cannot be used", "account", a.ID, "role", string(role), "error", err)
			why = hopeful(why, reportOn(err))
			continue
		}
		var methods []verification.Method
		if p.Verification != nil {
			methods = p.Verification.Ready(ctx, role)
		}
		for _, method := range methods {
			if method.Satisfies(role) { // whatever the other side says
				ready = append(ready, method)
			}
		}
		why = hopeful(why, report{okta.ConsentUVTemporarilyUnavailable, "no way to verify you is ready"})
	}
	if why.consent == "" {
		why = report{okta.ConsentUVPermanentlyUnavailable, "the account has no verification key"}
	}
	var offered []verification.Method
	for _, method := range uvMethods {
		if slices.Contains(ready, method) {
			offered = append(offered, method)
		}
	}
	return offered, why, nil
}

// choice is what an approval for the account takes, when it is one of several.
func (p plan) choice() string {
	if !p.ask {
		return prompt.VerificationNone // it has nothing to verify with: the org is told
	}
	return p.need
}

// offer tells the prompt how the person may be verified, and what it takes.
func (p *Pipeline) offer(ctx context.Context, c *Challenge, q *prompt.Prompt) {
	q.UserVerification = prompt.VerificationNone
	strength := map[string]int{prompt.VerificationNone: 0, prompt.VerificationPreferred: 1, prompt.VerificationRequired: 2}
	for _, method := range uvMethods {
		for _, plan := range c.plans {
			if strength[plan.need] > strength[q.UserVerification] {
				q.UserVerification = plan.need
			}
			if slices.Contains(plan.methods, method) && !slices.Contains(q.Methods, string(method)) {
				q.Methods = append(q.Methods, string(method))
			}
		}
	}
	if !slices.Contains(q.Methods, string(verification.PIN)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	for _, s := range p.Verification.States(ctx) {
		if s.Method == verification.PIN {
			q.TriesLeft, q.LockedUntil = s.Left, s.Until
		}
	}
}

// approved takes the person's approval for what it is. A verification has to be
// for this very prompt, and of the one type that nobody but the verification
// service can make; anything else approves nothing (C3).
func (c *Challenge) approved(v prompt.Verification) error {
	c.consent = okta.ConsentApproved
	if !c.plan.ask {
		// One of several accounts, and one that has nothing to verify with.
		c.consent, c.why = c.plan.consent, c.plan.why
		return nil
	}
	switch verified, ok := v.(verification.Verified); {
	case c.plan.need == prompt.VerificationNone:
	case v == nil && c.plan.need == prompt.VerificationPreferred:
	case v == nil:
		return errors.New("approved without the verification that it takes")
	case !ok || !verified.For(c.prompt):
		return errors.New("the verification is not for this prompt")
	default:
		c.verified = verified
	}
	return nil
}

// wipe clears the secrets of the person's verification.
func (c *Challenge) wipe() {
	if v, ok := c.verification.(verification.Verified); ok {
		v.Wipe()
	}
	c.verification, c.verified = nil, verification.Verified{}
}

// amr is how an answer says that the person was verified (3.3).
var amr = map[verification.Method]string{verification.PIN: "pin", verification.Fingerprint: "fpt"}

// proveVerified signs by a key that the person's verification releases. Without
// a token and an error none did, and the silent key tells the org so.
func (p *Pipeline) proveVerified(ctx context.Context, c *Challenge, m account.Method, now time.Time) (string, error) {
	var why report
	for _, role := range uvRoles {
		ref, ok := uvKey(m, role)
		if !ok {
			continue
		}
		auth, ok := c.verified.Authorise(role)
		if !ok {
			continue
		}
		how := amr[c.verified.Method()]
		if how == "" {
			how = "none"
		}
		token, err := p.sign(ctx, c, m, now, signature{role, ref, auth, okta.ConsentApprovedUserVerification, []string{how}})
		if err == nil {
			return token, nil
		}
		if refused := (*refusal)(nil); errors.As(err, &refused) || ctx.Err() != nil {
			return "", err
		}
		p.Log.Warn("a verification key did not sign", "account", c.account.ID, "role", string(role), "error", err)
		why = hopeful(why, reportOn(err))
	}
	if why.consent == "" {
		why = report{okta.ConsentUVTemporarilyUnavailable, fmt.Sprintf("verification by %s unlocks no key of this account", c.verified.Method())}
	}
	// Where verification is only preferred, the person has approved all the same.
	c.consent = okta.ConsentApproved
	if c.plan.need != prompt.VerificationPreferred {
		c.consent, c.why = why.consent, why.why
	}
	return "", nil
}
