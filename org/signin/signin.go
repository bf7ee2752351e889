// Package signin is the one engine that signs people in.
//
// A sign-in is a transaction: somebody starts it (the authorize endpoint, an
// embedded page), a browser takes it through its steps, an authenticator may
// answer a challenge in between, and in the end it has either proven what the
// app's policy asks for or it has not. The engine knows the steps and asks the
// policy after each; package policy knows the rules, package factor checks
// proofs. The IDX API, the pages and OAuth are facades over it: none of them
// has a second copy of the rules.
//
// What is promised: every step is one database transaction that checks the
// version it started from, so of two racing steps one wins and the other sees
// its result; nothing reaches success unless policy.Evaluate says satisfied in
// the very transaction that finishes; secrets (state handles, state tokens) are
// stored as digests; signing and password hashing happen outside transactions.
package signin

import (
	"context"
	"log/slog"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

// Mode says how a finished sign-in leaves the engine. The zero value is none
// and is refused.
type Mode int

// The modes.
const (
	_ Mode = iota
	// Redirect is the org's own page, started by a state token: the browser is
	// sent to /login/token/redirect, which calls Complete.
	Redirect
	// InteractionCode is an embedded page, started by an interaction handle: it
	// gets an interaction code for the token endpoint.
	InteractionCode
	// backchannel has no page: a client names a user, and the org asks that
	// user's devices (StartBackchannel, CompleteBackchannel).
	backchannel
)

// Intent is what a sign-in is for.
type Intent struct {
	ClientID            string   `json:"clientId"`
	AuthorizationServer string   `json:"authorizationServer,omitempty"` // "" is the org's own, or "default"
	Mode                Mode     `json:"mode"`
	RedirectURI         string   `json:"redirectUri,omitempty"`
	State               string   `json:"state,omitempty"`
	Nonce               string   `json:"nonce,omitempty"`
	CodeChallenge       string   `json:"codeChallenge,omitempty"`
	ResponseMode        string   `json:"responseMode,omitempty"`
	Scopes              []string `json:"scopes,omitempty"`
	MaxAge              *int     `json:"maxAge,omitempty"` // seconds; a session older than that proves nothing
	Prompt              string   `json:"prompt,omitempty"` // "login" ignores the session, and so does PromptEnrol
	LoginHint           string   `json:"loginHint,omitempty"`
	ACRValues           []string `json:"acrValues,omitempty"`
	// PageOrigin is the origin of the page that started the sign-in: the org's
	// own for Redirect, the Origin header of /interact for InteractionCode. It
	// goes into the challenge, and an answer from another origin is phishing.
	PageOrigin string `json:"pageOrigin"`
	// Browser names the browser that a Redirect sign-in started in, where alone
	// it may be completed (session.Browser). The engine carries it, and
	// remembers where somebody has signed in before.
	Browser   string `json:"browser,omitempty"`
	ClientIP  string `json:"clientIp,omitempty"`
	UserAgent string `json:"userAgent,omitempty"`
	// SessionID is the browser's session, whose proofs may count. It is used by
	// Start and not stored.
	SessionID okta.Secret `json:"-"`
}

// Handle starts the browser's part of a sign-in.
type Handle struct {
	StateToken        okta.Secret // Redirect mode
	InteractionHandle okta.Secret // InteractionCode mode
	ExpiresAt         time.Time
	// Satisfied says that the session already proves what the policy asks for:
	// in Redirect mode StateToken may be given to Complete at once, without a page.
	Satisfied bool
}

// Completed is a sign-in that reached success.
type Completed struct {
	Intent        Intent
	UserID        string
	AMR           []string
	AuthTime      time.Time
	EnrolmentID   string // the authenticator enrolment that answered, if one did
	DeviceID      string
	KeyID         string
	KeyProtection string // HARDWARE or SOFTWARE, as enrolled
	// FromSession says that an existing session was enough and nothing was asked.
	FromSession bool
}

// CodeIssuer makes interaction codes. It is called inside the engine's
// finishing write transaction.
type CodeIssuer interface {
	IssueInteractionCode(ctx context.Context, tx store.Tx, c Completed) (string, error)
}

// Signer signs a token with the org's current key; signingkey.Ring is one.
type Signer interface {
	Sign(ctx context.Context, typ string, claims any) (string, error)
}

// SessionFacts is what an existing browser session has proven.
type SessionFacts struct {
	UserID        string
	AMR           []string
	AuthTime      time.Time
	EnrolmentID   string
	DeviceID      string
	KeyID         string
	KeyProtection string
}

// Deps is what the engine works with. DB, Signing, Hasher and BaseURL are required.
type Deps struct {
	DB      *store.DB
	Signing Signer
	Hasher  *directory.Hasher
	Codes   CodeIssuer // nil: InteractionCode sign-ins are refused
	// Session looks up a live session; nil: sessions prove nothing.
	Session func(ctx context.Context, tx store.Tx, id okta.Secret) (SessionFacts, bool, error)
	// Notify is told, after each commit that changes them, whose pending lists
	// have changed: by enrolment id. It must not block. nil: nobody waits.
	Notify func(enrolmentIDs []string)
	// Locate says where a client address is, in words for the person, or "".
	// nil: Locate.
	Locate        func(clientIP string) string
	BaseURL       string // of the org, without a trailing slash
	LoopbackPorts []int
	Now           func() time.Time // nil: time.Now
	Log           *slog.Logger     // nil: discards
}
