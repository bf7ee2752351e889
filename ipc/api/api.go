// Package api holds the wire types of the local API that the agent serves to
// the command line and the tray: HTTP/1.1 + JSON on a unix socket or named
// pipe under /v1, events as Server-Sent Events. Nothing else lives here.
//
// Members may be added, never removed or renamed: scripts read these documents
// through `countersign … --json`.
package api

import "time"

// Host is the only Host header the local API accepts.
const Host = "agent"

// Paths of the local API.
const (
	PathStatus       = "/v1/status"                         // GET Status
	PathAccounts     = "/v1/accounts"                       // GET AccountList; POST AddAccount -> Account
	PathAccount      = "/v1/accounts/{id}"                  // GET Account; PATCH RenameAccount -> Account; DELETE ?local_only=true
	PathResume       = "/v1/accounts/{id}/resume"           // POST -> Account: its pushes are no longer held back
	PathAccountKeys  = "/v1/accounts/{id}/keys"             // POST ChangeKeys -> Enrolment
	PathAcknowledge  = "/v1/accounts/{id}/acknowledge"      // POST -> Account: its notices have been seen
	PathKeys         = "/v1/keys"                           // GET KeyList
	PathEnrolments   = "/v1/enrolments"                     // POST BeginEnrolment -> Enrolment
	PathEnrolment    = "/v1/enrolments/{id}"                // GET waits for the end -> Account; DELETE cancels
	PathPrompts      = "/v1/prompts"                        // GET PromptList
	PathDecision     = "/v1/prompts/{id}/decision"          // POST Decision -> PromptOutcome
	PathShowPrompt   = "/v1/prompts/{id}/show"              // POST: open the dialog of a prompt on the desktop
	PathPause        = "/v1/pause"                          // POST Pause -> Hold; DELETE ends it
	PathVerification = "/v1/verification"                   // GET VerificationList
	PathMethod       = "/v1/verification/{id}"              // POST EnableVerification -> VerificationList; the id is the method
	PathPIN          = "/v1/pin"                            // POST SetPIN -> PINSet; DELETE RemovePIN -> VerificationList
	PathResetPIN     = "/v1/pin/reset"                      // POST ResetPIN -> PINReset
	PathCodes        = "/v1/codes"                          // GET CodeList
	PathCode         = "/v1/codes/{id}/code"                // POST GetCode -> Code; the id may be the name
	PathDevice       = "/v1/device"                         // GET Device
	PathAudit        = "/v1/audit"                          // GET application/x-ndjson of AuditRecord; ?follow=true; ?verify=true
	PathEvents       = "/v1/events"                         // GET text/event-stream of Event; ?front_end=cli|tray|…
	PathDoctor       = "/v1/doctor"                         // GET Report; ?topic=loopback
	PathShowDoctor   = "/v1/doctor/show"                    // POST: show the report in a window on the desktop
	PathSecurityKeys = "/v1/securitykeys"                   // GET SecurityKeyList
	PathSecurityKey  = "/v1/securitykeys/{id}"              // GET SecurityKey
	PathKeyPIN       = "/v1/securitykeys/{id}/pin"          // POST SetKeyPIN -> SecurityKey
	PathKeyCreds     = "/v1/securitykeys/{id}/credentials"  // POST KeyPIN -> KeyCredentialList; DELETE DeleteKeyCredential -> KeyCredentialList
	PathKeyFingers   = "/v1/securitykeys/{id}/fingerprints" // POST KeyPIN -> FingerprintList; PUT ChangeFingerprint -> FingerprintList
	PathKeyReset     = "/v1/securitykeys/{id}/reset"        // POST ResetKey
	PathKeyVerifies  = "/v1/securitykeys/{id}/verification" // POST KeyPIN -> VerificationList: let this key verify the person to the agent
	PathKeySignIn    = "/v1/securitykeys/signin"            // POST KeySignIn -> KeySignedIn
	PathOpenAPI      = "/v1/openapi.json"                   // GET
)

// Status is the agent at a glance.
type Status struct {
	Agent          Agent     `json:"agent"`
	DeviceKey      Component `json:"deviceKey"`
	VaultKey       Component `json:"vaultKey"`
	Loopback       Loopback  `json:"loopback"`
	FrontEnds      []string  `json:"frontEnds"`
	Accounts       int       `json:"accounts"`
	PendingPrompts int       `json:"pendingPrompts"`
	Problems       []Problem `json:"problems"`
	// Verification is how the person can be verified; GraceSeconds for how long
	// one counts.
	Verification []Verification `json:"verification,omitempty"`
	GraceSeconds int            `json:"verificationGraceSeconds,omitempty"`
	// Hold is set while nothing is asked and nothing is signed.
	Hold    *Hold   `json:"hold,omitempty"`
	Session Session `json:"session"`
}

// Agent identifies the running daemon.
type Agent struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"startedAt"`
}

// Component is a key store or vault and how it is doing.
type Component struct {
	Kind  string `json:"kind"`
	State string `json:"state"` // "ready", "locked", "file_permissions_only", …
}

// Loopback is the server for browsers.
type Loopback struct {
	Port  int    `json:"port"`  // 0 when not listening
	State string `json:"state"` // "listening", "no_free_port"
}

// Problem is something wrong and how to mend it.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// AccountList is every account of this agent.
type AccountList struct {
	Accounts []Account `json:"accounts"`
}

// Account is one enrolment of one user at one org.
type Account struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Org        string   `json:"org"` // URL
	User       string   `json:"user"`
	UserID     string   `json:"userId"`
	Methods    []string `json:"methods"`
	Protection string   `json:"protection"` // "hardware" or "software"
	Attested   bool     `json:"attested"`
	// State is "active", "suspended", "gone", "enrolling", "removing", or
	// "keys_lost": it cannot sign here any more, and is replaced by adding the
	// account again.
	State     string    `json:"state"`
	CreatedAt time.Time `json:"createdAt"`
	// Development is set for an org reached by plain http on this machine.
	Development bool `json:"development,omitempty"`
	// PushesHeld says that a sign-in was reported: pushes are held back.
	PushesHeld bool `json:"pushesHeld,omitempty"`
	// EnrolmentID is the org's id of this enrolment.
	EnrolmentID string `json:"enrolmentId,omitempty"`
	// LoopbackOrigins are the page origins that may hand this account challenges.
	LoopbackOrigins []string `json:"loopbackOrigins,omitempty"`
	// Verification are the roles of its keys that demand the person's
	// verification: "userVerificationBioOrPin", "userVerification".
	Verification []string `json:"verification,omitempty"`
	// KeyChange is a change of its keys that is not settled yet: one of KeyActions.
	KeyChange string `json:"keyChange,omitempty"`
	// Notices are what happened to the person's other devices, until they are
	// acknowledged.
	Notices []Notice `json:"notices,omitempty"`
	// Notes are sentences about how an enrolment went, in its answer only.
	Notes []string `json:"notes,omitempty"`
}

// AddAccount enrols with an enrolment link (oktaverify://…).
type AddAccount struct {
	Link string `json:"link"`
	Name string `json:"name,omitempty"`
	// PIN, or another way to be verified, lets keys be made that demand it.
	PIN          PIN    `json:"pin,omitempty"`
	Verification string `json:"verification,omitempty"`
}

// BeginEnrolment enrols by a sign-in in the browser.
type BeginEnrolment struct {
	Org      string `json:"org"` // URL; without a scheme it is https
	Username string `json:"username,omitempty"`
	Name     string `json:"name,omitempty"`
	// PIN, or another way to be verified, lets keys be made that demand it. A
	// wrong one begins nothing.
	PIN          PIN    `json:"pin,omitempty"`
	Verification string `json:"verification,omitempty"`
}

// Enrolment is a sign-in for an enrolment that waits for the person.
type Enrolment struct {
	ID        string    `json:"id"`
	Org       string    `json:"org"` // URL
	URL       string    `json:"url"` // to open in a browser on this computer
	ExpiresAt time.Time `json:"expiresAt"`
}

// RenameAccount changes the name shown for an account.
type RenameAccount struct {
	Name string `json:"name"`
}

// PromptList is what waits for the person, newest first.
type PromptList struct {
	Prompts []Prompt `json:"prompts"`
	// Hold is set while nothing is shown; the list is empty then, whatever waits.
	Hold *Hold `json:"hold,omitempty"`
}

// Prompt is one sign-in that waits for the person. All text is already
// cleaned: one line, no control or direction characters, bounded length.
type Prompt struct {
	ID               string    `json:"id"`
	Account          string    `json:"account"`           // account id; empty while Choices is set
	Choices          []Choice  `json:"choices,omitempty"` // several accounts fit: the decision names one
	Kind             string    `json:"kind"`              // "signed_nonce", "push"
	App              string    `json:"app"`
	Org              string    `json:"org"`
	User             string    `json:"user"`
	Origin           string    `json:"origin"`
	Location         string    `json:"location"`
	IP               string    `json:"ip"`
	CreatedAt        time.Time `json:"createdAt"`
	ExpiresAt        time.Time `json:"expiresAt"`
	NeedsNumber      bool      `json:"needsNumber"`
	UserVerification string    `json:"userVerification"` // "none", "preferred", "required"; of choices, the most that one of them needs

	// How the person may be verified, when that is asked for.
	VerificationMethods []string  `json:"verificationMethods,omitempty"` // "pin", "fingerprint", …; the usual one first
	TriesLeft           int       `json:"triesLeft,omitempty"`           // wrong PINs that are left before a pause
	LockedUntil         time.Time `json:"lockedUntil,omitzero"`          // no PIN is taken before
	// Verified says that an earlier verification counts for this one still.
	Verified bool `json:"verified,omitempty"`
	// Key is the one that signs an approval; nil when that is not known yet,
	// since several accounts fit.
	Key *PromptKey `json:"key,omitempty"`

	// Of pushes.
	Numbers         []string  `json:"numbers,omitempty"`         // to pick from: the decision's number is one of them
	TransactionType string    `json:"transactionType,omitempty"` // "LOGIN", "CIBA"
	BindingMessage  string    `json:"bindingMessage,omitempty"`  // what a CIBA request is about
	Unusual         []string  `json:"unusual,omitempty"`         // what is unusual about it, to be said first
	Client          string    `json:"client,omitempty"`          // the system that the sign-in comes from
	Repeats         int       `json:"repeats,omitempty"`         // requests of the same kind that this one stands for
	RequestedAt     time.Time `json:"requestedAt,omitzero"`      // when the org says that it began
}

// Choice is one account a prompt may be answered with.
type Choice struct {
	Account          string `json:"account"`
	User             string `json:"user"`
	UserVerification string `json:"userVerification,omitempty"` // what an approval for this account needs
}

// Decision answers a prompt. Its zero value is refused: it approves nothing.
type Decision struct {
	Action  string `json:"action"` // one of Actions; anything else is an error
	Account string `json:"account,omitempty"`
	Number  string `json:"number,omitempty"`
	PIN     PIN    `json:"pin,omitempty"`
	// Verification is the method to be verified by, where the prompt asks for
	// that; with a PIN it is "pin" without being named. With "security_key" the
	// PIN is that of the key.
	Verification string `json:"verification,omitempty"`
	Report       bool   `json:"report,omitempty"`
}

// Actions are what can be done with a prompt: yes, no, and "I will not be
// verified", which is told to an organisation that asks for it and approves
// nothing.
var Actions = []string{"approve", "deny", "cancel_verification"}

// PromptOutcome is how a prompt ended.
type PromptOutcome struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome"` // "approved", "denied", "expired", "refused"
	Reason  string `json:"reason"`
}

// CodeList is everything this agent has one-time codes for. There are no seeds
// in it: they never leave the agent.
type CodeList struct {
	Codes []CodeEntry `json:"codes"`
}

// CodeEntry is what one sequence of codes is for.
type CodeEntry struct {
	ID      string `json:"id"`
	Name    string `json:"name"`    // the user's login
	Issuer  string `json:"issuer"`  // host of the org
	Account string `json:"account"` // account id
	State   string `json:"state"`   // of the account
}

// GetCode asks for a code. It says nothing yet; a body is asked for because
// giving a code is an act, and an empty POST is too easily made by accident.
type GetCode struct{}

// Code is the code of this moment.
type Code struct {
	Name             string `json:"name"`
	Issuer           string `json:"issuer"`
	Code             string `json:"code"`
	ExpiresInSeconds int    `json:"expiresInSeconds"` // whole seconds that are left of it
}

// Device is all that an org can be told of this device, as it would be told. A
// challenge is answered with those of the signals that it asks for.
type Device struct {
	Signals []Signal `json:"signals"`
}

// Signal is one fact about the device. What is not known is not told.
type Signal struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Known bool   `json:"known"`
}

// AuditRecord is one line of the record of decisions.
type AuditRecord struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Account string    `json:"account"`
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason"`
	Prev    string    `json:"prev"`
	Hash    string    `json:"hash"`
	// Further facts about the event; no secrets, no tokens.
	Origin      string `json:"origin,omitempty"`
	App         string `json:"app,omitempty"`
	Transaction string `json:"transaction,omitempty"`
	KeyType     string `json:"keyType,omitempty"`
}

// Event is one element of the event stream. Type names the event; the member
// that belongs to it is set. "hold" begins a hold, or ends it when Hold is nil:
// what front ends showed before it is to be put away when it begins, and prompts
// that still wait come again when it ends.
type Event struct {
	ID      uint64         `json:"id"`
	Type    string         `json:"type"` // "hello", "prompt", "prompt_closed", "account", "notice", "audit", "status", "hold", "security_key"
	Time    time.Time      `json:"time"`
	Prompt  *Prompt        `json:"prompt,omitempty"`
	Outcome *PromptOutcome `json:"outcome,omitempty"`
	Account *Account       `json:"account,omitempty"`
	Notice  *Notice        `json:"notice,omitempty"`
	Hold    *Hold          `json:"hold,omitempty"`
	Key     *KeyEvent      `json:"securityKey,omitempty"`
	Audit   *AuditRecord   `json:"audit,omitempty"`
}

// Report is the result of a self-examination.
type Report struct {
	Checks []Check `json:"checks"`
}

// Check is one thing doctor looked at.
type Check struct {
	Name    string `json:"name"`
	State   string `json:"state"` // "ok", "warning", "failed"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error is the body of every refusal: {"error":{…}}.
type Error struct {
	Code    string `json:"code"` // snake_case
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Status  int    `json:"-"` // HTTP status
	// Of "wrong_pin", "pin_locked", "wrong_key_pin" and "key_pin_needed": the tries that are left, and when the next
	// one is possible.
	TriesLeft int       `json:"triesLeft,omitempty"`
	Until     time.Time `json:"until,omitzero"`
	// Key is the id of the security key that it is about, and Product its name,
	// where the caller did not name one.
	Key     string `json:"key,omitempty"`
	Product string `json:"product,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// ErrorBody wraps an Error on the wire.
type ErrorBody struct {
	Error *Error `json:"error"`
}
