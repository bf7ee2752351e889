package prompt

import (
	"errors"
	"time"
)

// Verdict is what the person said. The zero value is no word at all.
type Verdict uint8

// The verdicts.
const (
	Unanswered Verdict = iota
	Denied
	Approved
	// Unverified: the person would not or could not be verified, where that was
	// asked for. It approves nothing; the org is told.
	Unverified
)

// Verification is the proof that the person was verified for one prompt. The
// queue asks it whether it is for the prompt that is decided, and hands it on;
// what it holds besides is between whoever verifies and whoever signs.
type Verification interface{ For(prompt string) bool }

// Answer is the person's answer to one prompt. Its zero value approves nothing.
type Answer struct {
	Prompt  string // id of the prompt that was answered
	Verdict Verdict
	Account string // the account it is for; empty when several fitted and a denial named none
	Number  string // the number the person picked, for prompts that need one
	Report  bool   // the person reported the request as not theirs
	// Verification is for this very prompt; nil when nobody was verified. An
	// approval of a prompt that requires verification has one. The caller of Ask
	// clears it when done.
	Verification Verification
}

// Approved says whether the person approved.
func (a Answer) Approved() bool { return a.Verdict == Approved }

// Errors of Ask. All of them mean that the person did not answer.
var (
	ErrExpired    = errors.New("prompt expired")
	ErrNoFrontEnd = errors.New("no front end could show the prompt")
	ErrWithdrawn  = errors.New("prompt withdrawn")
	ErrTooMany    = errors.New("too many prompts are waiting")
	// ErrElsewhere is a withdrawal: whoever asked knows the answer already, or
	// does not want it any more.
	ErrElsewhere error = withdrawal("answered on another device, or withdrawn")
	// ErrSuperseded ends a pushed prompt that a newer one of its kind has
	// replaced, or refuses one that is older than the one that waits.
	ErrSuperseded = errors.New("replaced by a newer request")
	// ErrHeld refuses a pushed prompt because the person had enough of them.
	ErrHeld = errors.New("held back: too many requests in a minute")
	// ErrReported is ErrHeld for one that waited when another was reported.
	ErrReported error = hold("held back: a sign-in of this account was reported")
)

// hold is an ErrHeld that says why.
type hold string

func (h hold) Error() string        { return string(h) }
func (h hold) Is(target error) bool { return target == ErrHeld }

// withdrawal is an ErrWithdrawn that says why.
type withdrawal string

func (w withdrawal) Error() string        { return string(w) }
func (w withdrawal) Is(target error) bool { return target == ErrWithdrawn }

// Errors of Decide, besides ErrExpired and ErrWithdrawn.
var (
	ErrUnknown        = errors.New("no such prompt")
	ErrDecided        = errors.New("prompt was decided already")
	ErrUnknownAction  = errors.New("unknown action")
	ErrAccountNeeded  = errors.New("several accounts fit: name one")
	ErrWrongAccount   = errors.New("the prompt is not for that account")
	ErrNumberRequired = errors.New("the prompt needs the number shown in the browser")
	ErrWrongNumber    = errors.New("not one of the numbers shown")
	// ErrVerificationRequired refuses an approval by somebody who was not
	// verified for that very prompt.
	ErrVerificationRequired = errors.New("the prompt needs your verification")
	// ErrOnHold refuses anything but a denial during a hold.
	ErrOnHold = errors.New("nothing is approved for now")
)

// What prompts say of user verification.
const (
	VerificationNone      = "none"
	VerificationPreferred = "preferred" // an approval without it counts for less
	VerificationRequired  = "required"  // no approval without it
)

// Limits of the broker.
const (
	FrontEndWait  = 30 * time.Second // how long a prompt that somebody waits for, waits for a front end
	MaxPending    = 100              // prompts at once
	MaxPerAccount = MaxPending / 2   // of one account: it cannot crowd out the others
	MaxPushed     = 3                // pushed prompts of one account in PushedWindow that were not approved
	PushedWindow  = time.Minute

	settleWait = 15 * time.Second // how long Decide waits for the outcome at the org
	remembered = 64               // closed prompts kept to tell "expired" from "unknown"
)

// Prompt is one question. Text comes from outside as it is; the broker cleans it.
type Prompt struct {
	Account          string   // account id; empty when Choices is set
	Choices          []Choice // several accounts fit
	Kind             string
	App, Org, User   string
	Origin           string
	Location, IP     string
	Client           string   // the browser or system that the sign-in comes from
	Unusual          []string // what is unusual about it, in words
	Transaction      string   // "" or "LOGIN": a sign-in; "CIBA": Message says what it is about
	Message          string
	Numbers          []string // when there are any, an approval names one of them
	NeedsNumber      bool     // set by the broker: there are Numbers
	UserVerification string   // VerificationNone, …; of Choices, the most that one of them needs
	IssuedAt         time.Time
	ExpiresAt        time.Time
	// Pushed says that nobody at this machine waits for the prompt. It stays
	// for a front end until it expires; a newer one of its kind replaces it;
	// and an account has only so many of them in a while (B1).
	Pushed bool

	// Key is the one that signs an approval; zero while several accounts fit.
	Key Key

	// How the person may be verified, when that is asked for.
	Methods     []string  // names of methods, the usual one first
	TriesLeft   int       // of the PIN, before a pause
	LockedUntil time.Time // of the PIN: no try before
}

// Key says what a prompt's approval is signed with.
type Key struct {
	Kind     string // of key store; "" when it is not known yet
	Hardware bool
	Demands  bool // it does nothing before the person was verified
}

// Choice is one account that a prompt may be answered with.
type Choice struct {
	Account, User    string
	UserVerification string // what an approval for this account needs
}

// Needs says what an approval for that account needs of user verification; the
// account does not matter without Choices. What is not known to need none or
// little needs all.
func (p *Prompt) Needs(account string) string {
	need := p.UserVerification
	for _, c := range p.Choices {
		if c.Account == account {
			need = c.UserVerification
		}
	}
	switch need {
	case VerificationNone, VerificationPreferred:
		return need
	}
	return VerificationRequired
}

// Pending is a prompt that waits, as front ends see it: with an id, and all
// its text cleaned.
type Pending struct {
	ID string
	Prompt
	CreatedAt time.Time
	// Repeats counts the requests of the same kind that came before or were
	// held back, and that this prompt stands for.
	Repeats int
}

// Action is what the person does with a prompt.
type Action string

// The actions. There are no others: what is not one of them is an error.
const (
	Approve Action = "approve"
	Deny    Action = "deny"
	// CancelVerification says that the person will not be verified: only for a
	// prompt that asks for it.
	CancelVerification Action = "cancel_verification"
)

// Decision answers a prompt. Its zero value is refused.
type Decision struct {
	Action  Action
	Account string // which of the choices
	Number  string
	Report  bool // not mine: only with Deny
	// Verification is that of the person for this prompt, if there was one.
	Verification Verification
}

// Outcome is how a prompt ended: "approved", "denied", "expired", or "refused"
// by the org.
type Outcome struct{ ID, Outcome, Reason string }
