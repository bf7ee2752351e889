package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/fido"
	"countersign.dev/authenticators/verification/fingerprint"
	"countersign.dev/authenticators/verification/password"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

const (
	verifyWait = 2 * time.Minute  // for a person to do something
	changeWait = time.Minute      // for key stores to change what keys demand
	lookWait   = 3 * time.Second  // for readers and services to say how they are
	maxGrace   = 15 * time.Minute // as the service has it
)

// verifier is verification.Service, as far as the agent uses it.
type verifier interface {
	States(ctx context.Context) []verification.State
	Ready(ctx context.Context, role okta.KeyType) []verification.Method
	Verify(ctx context.Context, r verification.Request) (verification.Verified, error)
	SetPIN(ctx context.Context, pin devicekey.Secret, refs []devicekey.Ref) error
	SetPINBy(ctx context.Context, pin, keyPIN devicekey.Secret, refs []devicekey.Ref) error
	ChangePIN(ctx context.Context, old, new devicekey.Secret, refs []devicekey.Ref) error
	RemovePIN(ctx context.Context, old devicekey.Secret) error
	ForgetPIN(ctx context.Context, forget func(context.Context) error) error
	Enable(ctx context.Context, m verification.Method) error
	EnableBy(ctx context.Context, m verification.Method, keyPIN devicekey.Secret) error
	Disable(ctx context.Context, m verification.Method) error
	Forget()
}

// verifiedLately is what front ends are told of grace: by what the person was
// verified last. The service decides whether it counts.
type verifiedLately struct {
	mu     sync.Mutex
	method verification.Method
	at     time.Time
	ended  uint64             // how often all of it was forgotten
	next   context.Context    // ends when all of it is forgotten next; nil while nobody waits for that
	over   context.CancelFunc // of next
	locked time.Time          // the end of the lock that is on record already
	minute time.Time          // since when failures on record are counted
	failed int
}

// maxFailures bounds the failed verifications that a minute leaves on record: a
// program of the same user must not fill it.
const maxFailures = 20

func (v *verifiedLately) mayRecord(now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d := now.Sub(v.minute); d < 0 || d >= time.Minute {
		v.minute, v.failed = now, 0
	}
	v.failed++
	return v.failed <= maxFailures
}

func (v *verifiedLately) note(method verification.Method, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.method, v.at = method, at
}

// forget ends it all: also what is being verified now is not to be remembered.
func (v *verifiedLately) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.method, v.at = "", time.Time{}
	v.ended++
	if v.over != nil {
		v.over()
		v.next, v.over = nil, nil
	}
}

// within is ctx, which ends with errForgotten once all of that epoch was
// forgotten.
func (v *verifiedLately) within(ctx context.Context, epoch uint64) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended != epoch {
		cancel(errForgotten)
		return ctx, func() {}
	}
	if v.next == nil {
		v.next, v.over = context.WithCancel(context.Background())
	}
	stop := context.AfterFunc(v.next, func() { cancel(errForgotten) })
	return ctx, func() { stop(); cancel(nil) }
}

// epoch is what was forgotten so far.
func (v *verifiedLately) epoch() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended
}

// noteIn is note, unless all was forgotten since that epoch.
func (v *verifiedLately) noteIn(epoch uint64, method verification.Method, at time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended != epoch {
		return false
	}
	v.method, v.at = method, at
	return true
}

// counts says whether a verification may count still.
func (v *verifiedLately) counts(now time.Time, grace time.Duration) (verification.Method, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := now.Sub(v.at)
	return v.method, v.method != "" && d >= 0 && d < grace
}

// newLock says whether a lock that ends then is not on record yet: what is
// refused while it lasts must not fill the record.
func (v *verifiedLately) newLock(until time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if until.Sub(v.locked).Abs() < time.Second {
		return false
	}
	v.locked = until
	return true
}

// openVerification makes the service on top of the core's vault and keys.
func (d *Daemon) openVerification(c *core) error {
	c.fido = fido.New(fido.Options{Keys: d.keys, Rooms: d.vault, Watch: d.watchKey, Now: d.now})
	s, err := verification.Open(verification.Options{
		Rooms: d.vault, Keys: c.store, Methods: d.verifiers(c), Grace: d.config.VerificationGrace,
		InUse: func(role okta.KeyType) bool { return len(c.book.Demanding(d.ctx, role)) > 0 },
		Now:   d.now, Log: d.log,
	})
	if err != nil {
		return fmt.Errorf("read how you are verified: %w", err)
	}
	c.verification = s
	return nil
}

// verifiers are the ways to verify the person besides the PIN that this build
// has.
func (d *Daemon) verifiers(c *core) []verification.Verifier {
	return []verification.Verifier{fingerprint.New(), password.New(), c.fido}
}

// decide verifies the person first, where the prompt asks for it: a wrong
// PIN leaves the prompt open.
func (f front) decide(ctx context.Context, id string, d api.Decision) (prompt.Outcome, error) {
	decision := prompt.Decision{Action: prompt.Action(d.Action), Account: d.Account, Number: d.Number, Report: d.Report}
	verified, err := f.verify(ctx, id, d, decision)
	if err != nil {
		return prompt.Outcome{}, err
	}
	if verified != nil {
		decision.Verification = *verified
	}
	o, err := f.d.prompts.Decide(ctx, id, decision)
	if err != nil && verified != nil {
		verified.Wipe() // nobody else has it
	}
	return o, err
}

// verify verifies the person for an approval that takes it; nil when this one
// does not, or goes on without. A PIN that nobody asked for is not looked at:
// it neither counts nor tells anything.
func (f front) verify(ctx context.Context, id string, d api.Decision, decision prompt.Decision) (*verification.Verified, error) {
	if decision.Action != prompt.Approve {
		return nil, nil
	}
	epoch := f.d.lately.epoch() // first: a lock from here on counts
	p, err := f.d.prompts.Check(id, decision)
	if err != nil {
		return nil, err
	}
	method := verification.Method(d.Verification)
	var keyPIN devicekey.Secret
	switch {
	case method == verification.SecurityKey:
		keyPIN, d.PIN = devicekey.Secret(d.PIN), nil
	case len(d.PIN) > 0:
		if method != "" && method != verification.PIN {
			return nil, &api.Error{Status: http.StatusBadRequest, Code: "bad_verification", Message: "a PIN, and another way than the PIN"}
		}
		method = verification.PIN
	}
	need := p.Needs(d.Account)
	before, graced := f.d.lately.counts(f.d.now(), f.d.config.VerificationGrace)
	graced = graced && slices.Contains(p.Methods, string(before))
	switch {
	case need == prompt.VerificationNone:
		return nil, nil
	case method == "" && graced:
		method = before
	case method == "" && need == prompt.VerificationPreferred:
		return nil, nil
	case method == "", method == verification.PIN && len(d.PIN) == 0 && !graced:
		return nil, prompt.ErrVerificationRequired // no PIN is no wrong one
	case !slices.Contains(p.Methods, string(method)):
		return nil, &api.Error{Status: http.StatusConflict, Code: "verification_not_possible", Message: "this sign-in cannot be verified that way",
			Hint: "it takes one of: " + strings.Join(p.Methods, ", ")}
	}
	c, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(verifyWait, p.ExpiresAt.Sub(f.d.now())))
	if method != verification.PIN { // which takes no time
		defer f.d.withThePrompt(ctx, id, cancel)()
	}
	defer cancel()
	verified, err := f.d.verifyBy(ctx, c, epoch, audit.Record{Account: p.Account, App: p.App},
		verification.Request{Purpose: id, Reason: "Sign in to " + p.App, Method: method, PIN: devicekey.Secret(d.PIN), KeyPIN: keyPIN})
	switch {
	case err != nil && graced && len(d.PIN) == 0 && method == verification.PIN && need == prompt.VerificationPreferred:
		return nil, nil
	case err != nil && graced && len(d.PIN) == 0 && method == verification.PIN:
		return nil, prompt.ErrVerificationRequired // grace is over after all
	case err != nil:
		if _, over := f.d.prompts.Check(id, decision); over != nil && method != verification.PIN && !errors.Is(err, errForgotten) {
			err = over // which says more than that the verification was cancelled
		}
		return nil, err
	}
	return &verified, nil
}

// withThePrompt cancels what is done for a prompt when that waits no more: the
// touch of a reader is for the next one. wait is for after ctx.
func (d *Daemon) withThePrompt(ctx context.Context, id string, cancel context.CancelFunc) (wait func()) {
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-d.prompts.Ended(id):
			cancel()
		case <-ctx.Done():
		}
	})
	return watching.Wait
}

// verifyBy verifies the person, and records it when that fails. about says what
// for. What waits for the person ends once all of the epoch was forgotten: the
// touch that opens a locked screen answers nothing else. A PIN is here already.
func (d *Daemon) verifyBy(ctx context.Context, c *core, epoch uint64, about audit.Record, r verification.Request) (verification.Verified, error) {
	if r.Method != verification.PIN {
		var done context.CancelFunc
		ctx, done = d.lately.within(ctx, epoch)
		defer done()
	}
	verified, err := c.verification.Verify(ctx, r)
	if forgotten := context.Cause(ctx); err != nil && errors.Is(forgotten, errForgotten) {
		err = forgotten
	}
	if err == nil && !verified.For(r.Purpose) {
		verified.Wipe()
		err = errors.New("the verification is for something else")
	}
	if err != nil {
		d.lately.note("", time.Time{})
		untried := r.Method == verification.PIN && len(r.PIN) == 0 || errors.Is(err, securitykey.ErrPINNeeded)
		if !untried { // no PIN was no try
			d.recordUnverified(c, about, r.Method, err)
		}
		return verification.Verified{}, d.unverified(r.Method, err)
	}
	if !d.lately.noteIn(epoch, verified.Method(), verified.At()) {
		c.verification.Forget() // the screen was locked meanwhile
	}
	return verified, nil
}

// recordUnverified puts on record that somebody was not verified.
func (d *Daemon) recordUnverified(c *core, r audit.Record, method verification.Method, err error) {
	r.Event, r.Outcome, r.Reason = "verification", "failed", fmt.Sprintf("by %s: %v", method, err)
	var try *verification.TryError
	switch {
	case errors.As(err, &try) && errors.Is(err, verification.ErrTooMany):
		if !d.lately.newLock(try.Until) {
			return
		}
		r.Outcome, r.Reason = "locked", fmt.Sprintf("by %s: %s", method, d.untilWords(try.Until))
	case errors.As(err, &try):
		r.Outcome, r.Reason = "wrong", fmt.Sprintf("by %s: tries left: %d", method, try.Left)
		if !try.Until.IsZero() {
			d.lately.newLock(try.Until)
			r.Outcome, r.Reason = "locked", fmt.Sprintf("by %s: %s", method, d.untilWords(try.Until))
		}
	}
	if d.lately.mayRecord(d.now()) {
		_ = d.record(c, r)
	}
}

// untilWords says when the next try is possible: "until 14:03, in 2 min".
func (d *Daemon) untilWords(until time.Time) string {
	left := until.Sub(d.now())
	if until.IsZero() || left <= 0 {
		return "for a while"
	}
	if left <= 90*time.Second {
		return fmt.Sprintf("until %s, in %d s", until.Local().Format("15:04:05"), (left+time.Second-1)/time.Second)
	}
	return fmt.Sprintf("until %s, in %d min", until.Local().Format("15:04"), (left+time.Minute-1)/time.Minute)
}

// unverified puts what is left after a failed verification into words; other
// errors are for explain.
func (d *Daemon) unverified(method verification.Method, err error) error {
	var try *verification.TryError
	pin := method == verification.PIN
	if pin && devicekey.Lost(err) {
		return &api.Error{Status: http.StatusConflict, Code: "pin_lost", Message: "the PIN cannot be checked any more: its keys" + lostWords(err), Hint: "set a new one: countersign pin set"}
	}
	if !errors.As(err, &try) {
		return err
	}
	e := &api.Error{Status: http.StatusForbidden, Code: "not_verified", Message: "you were not recognised", TriesLeft: try.Left, Until: try.Until}
	switch {
	case pin:
		e.Code, e.Message = "wrong_pin", "the PIN is wrong"
	case method == verification.SecurityKey:
		e.Code, e.Message = "wrong_key_pin", "the PIN of the security key is wrong"
	}
	switch {
	case errors.Is(err, verification.ErrTooMany), !try.Until.IsZero():
		e.Status, e.Code, e.TriesLeft = http.StatusLocked, "verification_locked", 0
		e.Message = "too many wrong tries: locked " + d.untilWords(try.Until)
		if pin {
			e.Code, e.Message = "pin_locked", "too many wrong PINs: the PIN is locked "+d.untilWords(try.Until)
			e.Hint = "if you have forgotten it: countersign pin reset"
		}
	case try.Left == 1:
		e.Message += ", 1 try left"
	default:
		e.Message += fmt.Sprintf(", %d tries left", try.Left)
	}
	return e
}

// states asks how the ways to verify the person are doing.
func (c *core) states(ctx context.Context) []api.Verification {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	list := []api.Verification{}
	for _, s := range c.verification.States(ctx) {
		hint := strings.TrimPrefix(s.Hint, verification.ErrAbsent.Error()+": ") // the state says so
		list = append(list, api.Verification{Method: string(s.Method), State: s.State, TriesLeft: s.Left, Until: s.Until, Hint: prompt.Clean(hint, 160)})
	}
	return list
}

func (f front) verificationList(ctx context.Context, c *core) api.VerificationList {
	return api.VerificationList{Verification: c.states(ctx), GraceSeconds: int(f.d.config.VerificationGrace / time.Second)}
}

// Verification is how the person can be verified.
func (f front) Verification(ctx context.Context) (api.VerificationList, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.VerificationList{}, err
	}
	return f.verificationList(ctx, c), nil
}

// pinIsSet says whether the person has a PIN, whatever state it is in.
func (c *core) pinIsSet(ctx context.Context) bool {
	for _, s := range c.states(ctx) {
		if s.Method == string(verification.PIN) {
			return s.State != "not_set"
		}
	}
	return false
}

// promptsNow brings what prompts say of the PIN up to date.
func (f front) promptsNow(ctx context.Context, list []api.Prompt) {
	c := f.d.core.Load()
	asks := func(p api.Prompt) bool { return len(p.VerificationMethods) > 0 }
	if c == nil || !slices.ContainsFunc(list, asks) {
		return
	}
	var pin api.Verification
	for _, s := range c.states(ctx) {
		if s.Method == string(verification.PIN) {
			pin = s
		}
	}
	before, graced := f.d.lately.counts(f.d.now(), f.d.config.VerificationGrace)
	for i := range list {
		p := &list[i]
		p.Verified = graced && slices.Contains(p.VerificationMethods, string(before))
		if slices.Contains(p.VerificationMethods, string(verification.PIN)) {
			p.TriesLeft, p.LockedUntil = pin.TriesLeft, pin.Until
		}
	}
}

// verification says whether the person can be verified.
func (x *examination) verification(ctx context.Context) {
	const name = "verification"
	c := x.d.core.Load()
	if c == nil {
		return
	}
	var ready []string
	asleep := true
	for _, s := range c.states(ctx) {
		switch {
		case s.State == "ready":
			ready = append(ready, s.Method)
		case s.State == "lockout":
			asleep = false
			x.warn(name, fmt.Sprintf("%s: too many wrong tries, locked %s", s.Method, x.d.untilWords(s.Until)), "wait, or use another way")
		case s.State == "unavailable" && s.Method == string(verification.PIN):
			asleep = false // of other ways it is not known whether they are set up
			x.fail(name, "the PIN cannot be used", s.Hint)
		}
	}
	switch {
	case len(ready) > 0:
		x.ok(name, "ready: "+strings.Join(ready, ", "))
	case asleep:
		x.ok(name, "no PIN is set, nor another way to verify you: sign-ins that demand that are refused; to change it: countersign pin set")
	}
}
