// Package challenge is the one pipeline that every challenge goes through,
// whichever way it came.
//
// Three parties: the org, which signs challenges; the person, who may be asked;
// and whoever carried the challenge here (a page in a browser, later a push),
// who is believed in nothing. The steps, in this order:
//
//	parse    form, size, type, algorithm; claims decoded, none used yet
//	account  which accounts it may be meant for
//	verify   the signature, with a key of that account's org
//	check    audience, time, addresses, origin
//	decide   which key, and whether the person is asked
//	ask      the prompt broker
//	claim    the transaction, on disk
//	prove    a key signs: the silent one, or the one that the person's
//	         verification has released
//	answer   the decision goes on record, then to the org
//	record   how it ended, if otherwise
//
// Nothing is shown before check has passed. A second delivery while the first
// is running joins it and gets its outcome. One transaction gets one signature
// at most, across restarts: the claim is on disk before anything is signed. It
// is not there before the person has decided: an agent that was stopped while
// it waited for them asks again.
//
// The package knows nothing of HTTP servers; transports know nothing of tokens.
package challenge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Kind is the way a challenge came. The zero value is none, and refused.
type Kind uint8

// The transports.
const (
	Loopback Kind = iota + 1 // a page posted it to the loopback server
	Push                     // pulled from the org
)

// Transport says how a challenge came and what is known of who brought it.
type Transport struct {
	Kind    Kind
	Origin  string // the page's origin as the browser said it; Loopback only
	Account string // id of the account it was pulled for; Push only
}

// Outcome is how a challenge ended. The zero value is a refusal.
type Outcome uint8

// The outcomes.
const (
	Failed          Outcome = iota // the agent could not do its part; nothing was approved
	Malformed                      // not a challenge
	NotMine                        // no account here fits
	Forged                         // not signed by the org, or not for this account
	ForeignOrigin                  // the page is not the one that the org made it for
	Expired                        // too late, or nobody answered in time
	AlreadyAnswered                // this transaction has had its signature
	NoFrontEnd                     // nobody could be asked; nothing was sent
	Withdrawn                      // whoever brought it went away before the person decided
	Locked                         // the keys are locked
	OrgUnreachable                 // the org could not be reached, or did not answer as an org
	OrgRefused                     // the org refused the answer
	Approved                       // the org took an approval
	Denied                         // the org took a denial
	Reported                       // the org took the report that the user was not verified
	Held                           // the person has had enough of these; nobody was asked
	Superseded                     // a newer one of its kind took its place
	Unsupported                    // a kind of transaction that the account has not enrolled for
)

var outcomes = [...]string{
	"failed", "malformed", "not_mine", "forged", "foreign_origin", "expired", "already_answered",
	"no_front_end", "withdrawn", "locked", "org_unreachable", "org_refused", "approved", "denied", "reported",
	"held", "superseded", "unsupported",
}

// String names the outcome for logs and the audit record.
func (o Outcome) String() string {
	if int(o) < len(outcomes) {
		return outcomes[o]
	}
	return outcomes[Failed]
}

// Delivered says whether the org has taken an answer.
func (o Outcome) Delivered() bool { return o == Approved || o == Denied || o == Reported }

// Result is an Outcome and its reason, for people.
type Result struct {
	Outcome Outcome
	Reason  string
}

// Accounts is what the pipeline needs of the book of accounts.
type Accounts interface {
	Match(c *okta.Challenge) []*account.Account
	Succeeded(id string)
	Refused(id string, e *okta.Error)
	SetPushesHeld(id string, held bool) error
}

// Posture tells what is known of this device. It decides what may be told: the
// names are as the org gave them.
type Posture interface {
	Signals(ctx context.Context, deviceID, clientInstanceID string, names []string) okta.DeviceSignals
	Sources(names []string) []okta.SignalResult
}

// OrgKeys finds the signing key of an org.
type OrgKeys interface {
	Key(ctx context.Context, issuer, kid string) (jose.JWK, error)
}

// DeviceKeys finds the keys of this device.
type DeviceKeys interface {
	Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error)
}

// Prompter asks the person.
type Prompter interface {
	Ask(ctx context.Context, p prompt.Prompt) (prompt.Answer, error)
	Settle(id, outcome, reason string)
	HoldBack(account string)
}

// Deliver hands a signed answer to the org of an account.
type Deliver func(ctx context.Context, a *account.Account, verificationURI string, r okta.AnswerRequest) error

// Config holds the parts of a pipeline; all are required except Verification,
// Held, Audiences and Log.
type Config struct {
	Accounts     Accounts
	Posture      Posture
	OrgKeys      OrgKeys
	Keys         DeviceKeys
	Verification Verification // nil: nobody can be verified
	Prompts      Prompter
	Held         func() bool // whether nothing is to be signed for now, unless the person says so; nil: never
	Deliver      Deliver
	Claims       *Claims
	Record       func(audit.Record) error // an error keeps an answer from being sent
	Audiences    []string                 // accepted besides the account's own client id
	Now          func() time.Time
	Log          *slog.Logger
}

// Pipeline answers challenges. Use New.
type Pipeline struct {
	Config
	ctx  context.Context // ends when the agent stops; running challenges end with it
	stop context.CancelFunc

	refusals budget // of refused challenges that are recorded
	held     budget // of held and superseded ones
	network  signal // the network has changed for the better
}

// New makes a pipeline. Close it when it is no longer used.
func New(c Config) *Pipeline {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Record == nil {
		c.Record = func(audit.Record) error { return nil }
	}
	p := &Pipeline{Config: c}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// Stop withdraws what still waits for the person and cuts what is on its way.
func (p *Pipeline) Stop() { p.stop() }

// Close is Stop, and waits for the claims to be put in order.
func (p *Pipeline) Close() {
	p.stop()
	p.Claims.wait()
}

// Challenge is one challenge on its way through the pipeline. Each step fills
// in what the next ones need.
type Challenge struct {
	raw       string
	transport Transport

	token    *jose.Token
	claims   okta.Challenge
	issuer   string             // whose keys sign it
	accounts []*account.Account // one, or several when no user is known yet
	account  *account.Account   // the one it is answered for
	plans    map[string]plan    // by account
	plan     plan               // of the account
	asked    bool               // the person is, or was
	subject  subject            // of a push: what the person is asked about
	claim    *claim             // on its transaction
	prompt   string             // id of the prompt, if the person was asked
	consent  okta.Consent
	why      string       // of a report, for people
	keyType  okta.KeyType // of the key that signs
	number   string       // what the person picked, as the org wrote it
	reported bool         // the person said that it is not theirs
	recorded bool         // the decision is on record
	tries    int          // of handing the answer to the org
	until    time.Time    // the answer is of no use afterwards

	verification prompt.Verification   // as it came with the answer, to be wiped
	verified     verification.Verified // once it was looked at: for this prompt
}

// refusal ends a challenge early.
type refusal struct {
	outcome Outcome
	reason  error
}

func (r *refusal) Error() string { return r.outcome.String() + ": " + r.reason.Error() }
func (r *refusal) Unwrap() error { return r.reason }

func refuse(o Outcome, reason error) error { return &refusal{o, reason} }

// result turns the error of a step into a Result. An error that is no refusal
// is a failure of ours, and as such not an approval.
func result(err error) Result {
	var r *refusal
	if errors.As(err, &r) {
		return Result{r.outcome, r.reason.Error()}
	}
	return Result{Failed, err.Error()}
}

// Receive takes a challenge through all steps and says how it ended. ctx is
// the interest of whoever brought it: when the last one who waits has gone,
// the prompt is withdrawn, but an answer that is already on its way arrives.
func (p *Pipeline) Receive(ctx context.Context, raw string, t Transport) Result {
	c := &Challenge{raw: raw, transport: t}
	if p.ctx.Err() != nil {
		return Result{Failed, "the agent is stopping"}
	}
	if err := p.admit(ctx, c); err != nil {
		r := result(err)
		p.refused(c, r)
		return r
	}
	return p.Claims.once(ctx, p, c)
}

// admit runs the steps that decide whether this is a genuine challenge for an
// account of ours.
func (p *Pipeline) admit(ctx context.Context, c *Challenge) error {
	if err := parse(c); err != nil {
		return err
	}
	if c.accounts = p.Accounts.Match(&c.claims); c.transport.Kind == Push {
		c.accounts = pulledFor(c)
	}
	if len(c.accounts) == 0 {
		return refuse(NotMine, errors.New("no account of this user fits"))
	}
	if err := p.verify(ctx, c); err != nil {
		return err
	}
	return p.check(c)
}

// run is what the first delivery of an admitted challenge does. asking ends when
// nobody waits for the outcome any more.
func (p *Pipeline) run(ctx, asking context.Context, c *Challenge) Result {
	defer c.wipe()
	err := p.decide(ctx, c)
	switch {
	case err != nil:
	case c.asked:
		err = p.ask(asking, c)
	default:
		err = p.onHold(c)
	}
	if err == nil {
		err = p.answer(ctx, asking, c)
	}
	r := Result{Outcome: outcomeOf(c.consent)}
	switch {
	case r.Outcome == Reported:
		r.Reason = c.why
	case c.tries > 1:
		r.Reason = fmt.Sprintf("delivered after %d tries", c.tries)
	}
	if err != nil {
		r = result(err)
	}
	p.finished(c, r)
	return r
}

// outcomeOf names the outcome of a consent value that the org has taken.
func outcomeOf(consent okta.Consent) Outcome {
	switch consent {
	case okta.ConsentApproved, okta.ConsentApprovedUserVerification, okta.ConsentNone:
		return Approved
	case okta.ConsentDenied:
		return Denied
	case okta.ConsentUVPermanentlyUnavailable, okta.ConsentUVTemporarilyUnavailable, okta.ConsentCancelledUserVerification:
		return Reported
	}
	return Failed
}
